//! Moves frames between the NICs, the gateway and its network stack.

use core::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
};

use embassy_executor::Spawner;
use embassy_net::{Stack, StackResources};
use embassy_net_driver::{Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_net_driver_channel as channel;
use embassy_sync::blocking_mutex::Mutex;
use embassy_time::{Duration, Ticker};
use embedded_storage::nor_flash::NorFlash;
use pkd_core::Verdict;
use pkd_gateway::{
    Action, Address, Counters, EthernetAddress, FLOWS, FlashFloors, Floors, GRANTS, Gateway, Interface,
    KNOCKS, KnockOutcome, KnockSender, Light, Network, Port, RULES, Tables,
};
use static_cell::{ConstStaticCell, StaticCell};

#[cfg(feature = "update")]
use crate::UpdateLayout;
use crate::{FRAME, FreeStack, Indicators, MTU, Random, SharedGateway, Stored, Updates, net_stack, now};

/// How many frames are handled before other tasks run.
const FRAMES_PER_POLL: usize = 16;
/// Milliseconds between ticks.
const TICK_MS: u64 = 100;
/// Ticks between two log entries of the counters.
const COUNTER_LOG_TICKS: u32 = 100;

/// The NICs of a board.
pub enum Interfaces<D> {
    /// One NIC, for one-arm mode or a trunk.
    One(D),
    /// Two NICs, for inline mode.
    Two {
        /// The NIC of the untrusted side.
        outside: D,
        /// The NIC of the protected hosts.
        inside: D,
    },
}

/// What a board provides.
pub struct Setup<D, S, P> {
    /// The NICs. Both have the same MTU: [`FRAME`], or at least [`MTU`].
    pub interfaces: Interfaces<D>,
    /// What [`load`](crate::load) returned.
    pub stored: Stored<S, P>,
    /// The MAC address of the network stack.
    pub hardware: [u8; 6],
    /// The source of random numbers for SNTP cookies and the network stack.
    pub random: Random,
    /// How much of the stack was never used, for the log and the counters.
    pub free_stack: FreeStack,
}

/// The path of all frames. The board runs it forever, see [`run`](Self::run).
pub struct Datapath<D, S, P> {
    interfaces: Interfaces<D>,
    pipeline: Pipeline<S, P>,
    ticker: Ticker,
}

/// What all NICs share.
struct Pipeline<S, P> {
    gateway: &'static SharedGateway,
    floors: FlashFloors<S>,
    stack_channel: channel::Runner<'static, MTU>,
    stack: Stack<'static>,
    indicators: P,
    scratch: &'static mut [u8; FRAME],
    link: Option<LinkState>,
    /// What the LED shows.
    light: Option<Light>,
    ticks: u32,
    /// The counters as last logged.
    logged: Counters,
    free_stack: FreeStack,
    /// The free part of the stack as last logged.
    logged_free_stack: u32,
    /// What receives images.
    #[cfg_attr(not(feature = "update"), expect(dead_code, reason = "there is none"))]
    updates: Option<&'static Updates>,
    /// Whether the running image was found to work.
    #[cfg(feature = "update")]
    is_confirmed: bool,
}

/// Starts the tasks of the network stack, and returns the datapath. Call it once.
///
/// # Panics
/// If it is called again.
// Inlined, what it builds would stay on the stack below everything that runs later.
#[inline(never)]
pub fn start<D: Driver, S: NorFlash, P: Indicators>(
    spawner: Spawner,
    setup: Setup<D, S, P>,
) -> Datapath<D, S, P> {
    start_all(spawner, setup, None)
}

/// The same, on a board that can be updated over the network.
///
/// # Panics
/// If it is called again.
#[cfg(feature = "update")]
#[inline(never)]
pub fn start_with_updates<D: Driver, S: NorFlash, P: Indicators>(
    spawner: Spawner,
    setup: Setup<D, S, P>,
    layout: UpdateLayout,
) -> Datapath<D, S, P> {
    static UPDATES: StaticCell<Updates> = StaticCell::new();
    start_all(spawner, setup, Some(UPDATES.init_with(|| Updates::new(layout))))
}

fn start_all<D: Driver, S: NorFlash, P: Indicators>(
    spawner: Spawner,
    setup: Setup<D, S, P>,
    updates: Option<&'static Updates>,
) -> Datapath<D, S, P> {
    static TABLES: ConstStaticCell<Tables<FLOWS, GRANTS, RULES, KNOCKS>> =
        ConstStaticCell::new(Tables::new());
    static SCRATCH: ConstStaticCell<[u8; FRAME]> = ConstStaticCell::new([0; FRAME]);
    static GATEWAY: StaticCell<SharedGateway> = StaticCell::new();
    static CHANNEL: ConstStaticCell<channel::State<MTU, 2, 2>> = ConstStaticCell::new(channel::State::new());
    static RESOURCES: ConstStaticCell<StackResources<{ net_stack::SOCKETS }>> =
        ConstStaticCell::new(StackResources::new());

    let Setup { interfaces, stored, hardware, random, free_stack } = setup;
    let Stored { config, floors, indicators } = stored;
    log_floors(floors.floors());
    let gateway = Gateway::new(TABLES.take(), config, EthernetAddress(hardware), floors.floors());
    let gateway: &'static SharedGateway = GATEWAY.init(Mutex::new(RefCell::new(gateway)));
    let (runner, device) = channel::new(CHANNEL.take(), HardwareAddress::Ethernet(hardware));
    let (stack, network) = embassy_net::new(device, net_stack::config(config), RESOURCES.take(), random());
    let served = net_stack::Served { gateway, config, free_stack, updates };
    net_stack::spawn(spawner, network, stack, served, random);
    let pipeline = Pipeline {
        gateway,
        floors,
        stack_channel: runner,
        stack,
        indicators,
        scratch: SCRATCH.take(),
        link: None,
        light: None,
        ticks: 0,
        logged: Counters::default(),
        free_stack,
        logged_free_stack: u32::MAX,
        updates,
        #[cfg(feature = "update")]
        is_confirmed: false,
    };
    Datapath { interfaces, pipeline, ticker: Ticker::every(Duration::from_millis(TICK_MS)) }
}

fn log_floors(floors: Floors) {
    if let Some(time) = floors.classic {
        defmt::info!("floor in flash: {} s, of classic knocks", time.0);
    }
    if let Some(time) = floors.format2 {
        defmt::info!("floor in flash: {} ms, of format 2", time.0);
    }
    if floors == Floors::default() {
        defmt::info!("no floor in flash");
    }
}

impl<D: Driver, S: NorFlash, P: Indicators> Datapath<D, S, P> {
    /// Handles frames and ticks, forever.
    pub async fn run(mut self) -> ! {
        poll_fn(|context| -> Poll<()> {
            self.poll(context);
            Poll::Pending
        })
        .await;
        // The future above never completes.
        loop {
            core::future::pending::<()>().await;
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) {
        let Self { interfaces, pipeline, ticker } = self;
        let mut busy = true;
        for _ in 0..FRAMES_PER_POLL {
            busy = match interfaces {
                Interfaces::One(nic) => receive_one(nic, None, Port::Outside, context, pipeline),
                Interfaces::Two { outside, inside } => {
                    let out = receive_one(outside, Some(inside), Port::Outside, context, pipeline);
                    receive_one(inside, Some(outside), Port::Inside, context, pipeline) || out
                }
            };
            busy |= pipeline.send_from_stack(interfaces, context);
            if !busy {
                break;
            }
        }
        #[cfg(feature = "update")]
        if let Some(updates) = pipeline.updates {
            updates.work(pipeline.floors.flash(), context.waker());
        }
        while pin!(ticker.next()).poll(context).is_ready() {
            pipeline.tick(interfaces, context);
        }
        if busy {
            context.waker().wake_by_ref();
        }
    }
}

/// Handles one frame from this NIC. Returns `false` if there is none.
fn receive_one<D: Driver, S: NorFlash, P: Indicators>(
    nic: &mut D,
    other: Option<&mut D>,
    port: Port,
    context: &mut Context<'_>,
    pipeline: &mut Pipeline<S, P>,
) -> bool {
    let Some((received, free)) = nic.receive(context) else { return false };
    received.consume(|frame| {
        let action = pipeline.process(port, frame);
        let (to, local) = match action {
            Action::Drop(_) | Action::Knock(_) => (None, None),
            Action::Forward(to) => (Some(to), None),
            Action::Local { skip } => (None, Some(skip)),
            Action::ForwardAndLocal(to) => (Some(to), Some(0)),
            Action::ForwardAndUntagged(to) => (Some(to), Some(pkd_gateway::VLAN_TAG_LENGTH)),
        };
        match (to, other) {
            (Some(to), _) if to == port => free.consume(frame.len(), |out| out.copy_from_slice(frame)),
            // If the NIC cannot send now, the frame is lost, as on a switch.
            (Some(_), Some(other)) => {
                if let Some(free) = other.transmit(context) {
                    free.consume(frame.len(), |out| out.copy_from_slice(frame));
                }
            }
            (None, _) | (Some(_), None) => {}
        }
        if let Some(skip) = local {
            if matches!(action, Action::ForwardAndUntagged(_)) {
                pkd_gateway::untag(frame);
            }
            pipeline.deliver_to_stack(frame.get(skip..).unwrap_or_default());
        }
    });
    true
}

impl<S: NorFlash, P: Indicators> Pipeline<S, P> {
    fn process(&mut self, port: Port, frame: &mut [u8]) -> Action {
        let action = self.gateway.lock(|gateway| gateway.borrow_mut().on_frame(now(), port, frame));
        if let Action::Knock(outcome) = action {
            self.finish_knock(outcome);
        }
        action
    }

    /// Saves the floors, then logs who may connect.
    fn finish_knock(&mut self, outcome: KnockOutcome) {
        if let Some(floors) = outcome.save_floors {
            let saved = self.floors.save(floors);
            self.gateway.lock(|gateway| match saved {
                Ok(()) => gateway.borrow_mut().floors_saved(floors),
                Err(error) => {
                    defmt::error!("cannot save the floor: {}", defmt::Display2Format(&error));
                    gateway.borrow_mut().floors_failed();
                }
            });
        }
        if let Some(KnockSender { address, rule }) = outcome.sender {
            let may = if outcome.verdict == Verdict::Accept { "may" } else { "may no longer" };
            defmt::info!("rule {}: {} {=str} connect", rule, defmt::Display2Format(&address), may);
        }
    }

    /// Passes a frame to the network stack, if it has room.
    fn deliver_to_stack(&mut self, frame: &[u8]) {
        self.gateway.lock(|gateway| gateway.borrow_mut().before_stack(frame));
        if let Some(buffer) = self.stack_channel.try_rx_buf().and_then(|buffer| buffer.get_mut(..frame.len()))
        {
            buffer.copy_from_slice(frame);
            self.stack_channel.rx_done(frame.len());
        }
    }

    /// Sends one frame of the network stack. Returns `false` if there is none.
    fn send_from_stack<D: Driver>(
        &mut self,
        interfaces: &mut Interfaces<D>,
        context: &mut Context<'_>,
    ) -> bool {
        let Poll::Ready(frame) = self.stack_channel.poll_tx_buf(context) else { return false };
        for copy in 0.. {
            let out = self.gateway.lock(|gateway| {
                let mut gateway = gateway.borrow_mut();
                let (port, length) = gateway.on_stack_frame(frame, copy, self.scratch)?;
                Some((port, gateway.complete_request(self.scratch, length)))
            });
            let Some((port, length)) = out else { break };
            send(interfaces, port, self.scratch.get(..length).unwrap_or_default(), context);
        }
        self.stack_channel.tx_done();
        true
    }

    fn tick<D: Driver>(&mut self, interfaces: &mut Interfaces<D>, context: &mut Context<'_>) {
        self.ticks = self.ticks.wrapping_add(1);
        self.indicators.feed_watchdog();
        let link = match interfaces {
            Interfaces::One(nic) => nic.link_state(context),
            Interfaces::Two { outside, inside } => {
                let states = (outside.link_state(context), inside.link_state(context));
                if states == (LinkState::Down, LinkState::Down) { LinkState::Down } else { LinkState::Up }
            }
        };
        if self.link != Some(link) {
            self.link = Some(link);
            defmt::info!("link {}", if link == LinkState::Up { "up" } else { "down" });
            self.stack_channel.set_link_state(match link {
                LinkState::Up => LinkState::Up,
                LinkState::Down => LinkState::Down,
            });
        }
        let given = self.stack.config_v4().map(|config| Interface {
            network: Network { address: config.address.address(), prefix: config.address.prefix_len() },
            router: config.gateway,
        });
        let light = self.gateway.lock(|gateway| {
            let mut gateway = gateway.borrow_mut();
            if gateway.config().address == Address::Dhcp && gateway.interface() != given {
                if let Some(interface) = given {
                    defmt::info!("IP address {}", defmt::Display2Format(&interface.network.address));
                }
                gateway.set_interface(given);
            }
            gateway.light(now())
        });
        if self.light != Some(light) {
            self.light = Some(light);
            defmt::info!("light: {=str}", light.as_str());
        }
        if self.ticks.is_multiple_of(COUNTER_LOG_TICKS) {
            self.log_counters();
            self.log_free_stack();
        }
        self.indicators.set_led(light.is_on(self.ticks));
        #[cfg(feature = "update")]
        if let Some(updates) = self.updates.filter(|_| !self.is_confirmed && light == Light::Normal) {
            self.is_confirmed = true;
            updates.confirm(self.floors.flash());
        }
        while let Some((port, length)) =
            self.gateway.lock(|gateway| gateway.borrow_mut().on_tick(now(), self.scratch))
        {
            send(interfaces, port, self.scratch.get(..length).unwrap_or_default(), context);
        }
    }
}

impl<S, P> Pipeline<S, P> {
    /// Logs how much of the stack was never used, if it is less than at the last call.
    fn log_free_stack(&mut self) {
        let free = (self.free_stack)();
        if free < self.logged_free_stack {
            defmt::info!("stack: {} bytes were never used", free);
            self.logged_free_stack = free;
        }
    }

    /// Logs the counters that have changed since the last call.
    fn log_counters(&mut self) {
        let counters = self.gateway.lock(|gateway| *gateway.borrow().counters());
        if counters == self.logged {
            return;
        }
        defmt::info!(
            "counters: forwarded {} local {} flows {}",
            counters.forwarded,
            counters.local,
            counters.flows
        );
        for ((label, count), (_, logged)) in counters.labelled().zip(self.logged.labelled()) {
            if count != logged {
                defmt::info!("counters: {=str} {}", label, count);
            }
        }
        self.logged = counters;
    }
}

fn send<D: Driver>(interfaces: &mut Interfaces<D>, port: Port, frame: &[u8], context: &mut Context<'_>) {
    let nic = match (interfaces, port) {
        (Interfaces::One(nic), _) => nic,
        (Interfaces::Two { outside, .. }, Port::Outside) => outside,
        (Interfaces::Two { inside, .. }, Port::Inside) => inside,
    };
    if let Some(free) = nic.transmit(context) {
        free.consume(frame.len(), |out| out.copy_from_slice(frame));
    }
}
