//! Moves frames between the NICs, the gateway and its network stack.

use core::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
};

use embassy_executor::Spawner;
use embassy_net::Stack;
use embassy_net_driver::{Driver, HardwareAddress, LinkState};
use embassy_net_driver_channel as channel;
use embassy_sync::blocking_mutex::Mutex;
use embassy_time::{Duration, Ticker};
use embedded_storage::nor_flash::NorFlash;
use pkd_board::Nic;
use pkd_core::Verdict;
use pkd_gateway::{
    Action, Address, Counters, EthernetAddress, FLOWS, FlashFloors, Floors, GRANTS, Gateway, Interface,
    KNOCKS, KnockOutcome, KnockSender, Light, Network, Port, RULES, Tables,
};
use static_cell::{ConstStaticCell, StaticCell};

use crate::{FRAME, FreeStack, Indicators, MTU, Random, SharedGateway, Stored, Updates, net_stack, now};
#[cfg(feature = "update")]
use crate::{Identity, Reset};

/// How many frames are handled before other tasks run.
const FRAMES_PER_POLL: usize = 16;
/// Milliseconds between ticks.
const TICK_MS: u64 = 100;
/// Ticks between two log entries of the counters.
const COUNTER_LOG_TICKS: u32 = 100;

/// The NICs of a board.
pub enum Interfaces<D> {
    /// One NIC, for one-arm mode or a trunk.
    One(Nic<D>),
    /// Two NICs, for inline mode.
    Two {
        /// The NIC of the untrusted side.
        outside: Nic<D>,
        /// The NIC of the protected hosts.
        inside: Nic<D>,
    },
}

impl<D: Driver> Interfaces<D> {
    /// Calls `function` for each NIC, and returns whether all answers are `true`.
    fn all(&mut self, mut function: impl FnMut(&mut Nic<D>) -> bool) -> bool {
        match self {
            Self::One(nic) => function(nic),
            Self::Two { outside, inside } => {
                let out = function(outside);
                function(inside) && out
            }
        }
    }
}

/// What a board provides.
pub struct Setup<D, S, P> {
    /// The NICs.
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
    #[cfg(feature = "serial")]
    serial: Serial,
    stack_channel: channel::Runner<'static, MTU>,
    stack: Stack<'static>,
    indicators: P,
    scratch: &'static mut [u8; FRAME],
    link: Option<LinkState>,
    /// What the network stack got by DHCP, whether or not the gateway uses it.
    lease: Option<Interface>,
    /// What the LED shows.
    light: Option<Light>,
    /// Whether all NICs worked at the last tick.
    alive: bool,
    /// Frames that were too long for their NIC, and wrong answers of NICs, as last logged.
    troubles: (u32, u32),
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

/// What the serial line's requests need.
#[cfg(feature = "serial")]
struct Serial {
    board: &'static pkd_board::Board,
    buffer: &'static mut pkd_board::slots::Buffer,
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

/// The same, on a board that can be updated over the network: the table has the place of its slots. `running` is its
/// [`identity`](crate::identity), in a `static`.
///
/// # Panics
/// If it is called again.
#[cfg(feature = "update")]
#[inline(never)]
pub fn start_with_updates<D: Driver, S: NorFlash, P: Indicators>(
    spawner: Spawner,
    setup: Setup<D, S, P>,
    running: &'static Identity,
    reset: Reset,
) -> Datapath<D, S, P> {
    static UPDATES: StaticCell<Updates> = StaticCell::new();
    let board = setup.stored.board;
    let updates = board.updates.map(|layout| &*UPDATES.init_with(|| Updates::new(running, layout, reset)));
    start_all(spawner, setup, updates)
}

fn start_all<D: Driver, S: NorFlash, P: Indicators>(
    spawner: Spawner,
    setup: Setup<D, S, P>,
    updates: Option<&'static Updates>,
) -> Datapath<D, S, P> {
    static TABLES: ConstStaticCell<Tables<FLOWS, GRANTS, RULES, KNOCKS>> =
        ConstStaticCell::new(Tables::new());
    static SCRATCH: ConstStaticCell<[u8; FRAME]> = ConstStaticCell::new([0; FRAME]);
    #[cfg(feature = "serial")]
    static BUFFER: ConstStaticCell<pkd_board::slots::Buffer> =
        ConstStaticCell::new([0; pkd_gateway::CONFIG_LIMIT]);
    static GATEWAY: StaticCell<SharedGateway> = StaticCell::new();
    static CHANNEL: ConstStaticCell<channel::State<MTU, 2, 2>> = ConstStaticCell::new(channel::State::new());

    let Setup { interfaces, stored, hardware, random, free_stack } = setup;
    let Stored { board, config, floors, indicators } = stored;
    #[cfg(not(feature = "serial"))]
    let _ = board;
    log_floors(floors.floors());
    if config.update.is_some() && updates.is_none() {
        defmt::warn!("[update] is ignored: this image has no bootloader");
    }
    let mut gateway = Gateway::new(TABLES.take(), config, EthernetAddress(hardware), floors.floors());
    gateway.set_loop_cookie(random());
    let gateway: &'static SharedGateway = GATEWAY.init(Mutex::new(RefCell::new(gateway)));
    let (runner, device) = channel::new(CHANNEL.take(), HardwareAddress::Ethernet(hardware));
    let served = net_stack::Served { gateway, config, free_stack, updates };
    let stack = net_stack::start(spawner, device, served, random);
    let pipeline = Pipeline {
        gateway,
        floors,
        #[cfg(feature = "serial")]
        serial: Serial { board, buffer: BUFFER.take() },
        stack_channel: runner,
        stack,
        indicators,
        scratch: SCRATCH.take(),
        link: None,
        lease: None,
        light: None,
        alive: true,
        troubles: (0, 0),
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
    nic: &mut Nic<D>,
    other: Option<&mut Nic<D>>,
    port: Port,
    context: &mut Context<'_>,
    pipeline: &mut Pipeline<S, P>,
) -> bool {
    nic.receive(context, |frame, place, context| {
        let action = pipeline.process(port, frame);
        let (to, local) = match action {
            Action::Drop(_) | Action::Knock(_) => (None, None),
            Action::Forward(to) => (Some(to), None),
            Action::Local { skip } => (None, Some(skip)),
            Action::ForwardAndLocal(to) => (Some(to), Some(0)),
            Action::ForwardAndUntagged(to) => (Some(to), Some(pkd_gateway::VLAN_TAG_LENGTH)),
        };
        // If the NIC cannot send a frame, it is lost, as on a switch.
        let _sent = match (to, other) {
            (Some(to), _) if to == port => place.send(frame),
            (Some(_), Some(other)) => other.send(context, frame),
            (None, _) | (Some(_), None) => false,
        };
        if let Some(skip) = local {
            if matches!(action, Action::ForwardAndUntagged(_)) {
                pkd_gateway::untag(frame);
            }
            pipeline.deliver_to_stack(frame.get(skip..).unwrap_or_default());
        }
    })
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
                    say!("cannot save the floor: {error}");
                    gateway.borrow_mut().floors_failed();
                }
            });
        }
        if let Some(KnockSender { address, rule }) = outcome.sender {
            let may = if outcome.verdict == Verdict::Accept { "may" } else { "may no longer" };
            defmt::info!("rule {}: {} {=str} connect", rule, defmt::Display2Format(&address), may);
            say!("rule {rule}: {address} {may} connect");
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
        let is_down = interfaces.all(|nic| nic.link_state(context) == LinkState::Down);
        let link = if is_down { LinkState::Down } else { LinkState::Up };
        // Drivers look at their NICs on their own, or when they are asked for the link's state.
        self.guard(interfaces.all(Nic::on_tick));
        #[cfg(feature = "serial")]
        self.serve();
        if self.link != Some(link) {
            self.link = Some(link);
            defmt::info!("link {}", if link == LinkState::Up { "up" } else { "down" });
            say!("link {}", if link == LinkState::Up { "up" } else { "down" });
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
            if gateway.config().address == Address::Dhcp && self.lease != given {
                self.lease = given;
                match (gateway.set_interface(given), given) {
                    (Err(error), _) => {
                        defmt::error!("{}", defmt::Display2Format(&error));
                        say!("{error}");
                    }
                    (Ok(()), Some(interface)) => {
                        defmt::info!("IP address {}", defmt::Display2Format(&interface.network.address));
                        say!("IP address {}", interface.network.address);
                    }
                    (Ok(()), None) => {}
                }
            }
            gateway.light(now())
        });
        if self.light != Some(light) {
            self.light = Some(light);
            defmt::info!("light: {=str}", light.as_str());
            say!("{}", light.as_str());
        }
        if self.ticks.is_multiple_of(COUNTER_LOG_TICKS) {
            self.log_counters();
            self.log_troubles(interfaces);
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

impl<S, P: Indicators> Pipeline<S, P> {
    /// Feeds the watchdog if all NICs work. If one does not, the board is reset, which also resets the NICs.
    fn guard(&mut self, alive: bool) {
        if self.alive && !alive {
            defmt::error!("a NIC no longer responds: the watchdog will reset the board");
            say!("a NIC no longer responds: the watchdog will reset the board");
        }
        self.alive = alive;
        if alive {
            self.indicators.feed_watchdog();
        }
    }
}

#[cfg(feature = "serial")]
impl<S: NorFlash, P> Pipeline<S, P> {
    /// Does what the serial line has asked for.
    fn serve(&mut self) {
        let Self { gateway, floors, serial: Serial { board, buffer }, free_stack, .. } = self;
        crate::desk::serve(floors.flash(), board, buffer, |answer| {
            use core::fmt::Write as _;
            writeln!(answer, "board {}, version {}", board.name, env!("CARGO_PKG_VERSION"))?;
            gateway.lock(|gateway| {
                let gateway = gateway.borrow();
                writeln!(answer, "configuration created {}", gateway.config().created.0)?;
                match gateway.interface() {
                    Some(interface) => writeln!(answer, "address {}", interface.network.address)?,
                    None => writeln!(answer, "no address yet")?,
                }
                match gateway.time(now()) {
                    Some(time) => writeln!(answer, "time {}", time.0)?,
                    None => writeln!(answer, "no time yet")?,
                }
                gateway.write_metrics(now(), answer)
            })?;
            writeln!(answer, "pkd_stack_free_bytes {}", free_stack())
        });
    }
}

impl<S, P> Pipeline<S, P> {
    /// Logs how many frames were too long for their NIC, and how often a NIC's answers were wrong, if there were more since the
    /// last call.
    fn log_troubles<D: Driver>(&mut self, interfaces: &mut Interfaces<D>) {
        let (mut too_long, mut faults) = (0_u32, 0_u32);
        interfaces.all(|nic| {
            too_long = too_long.saturating_add(nic.too_long());
            faults = faults.saturating_add(nic.faults());
            true
        });
        if (too_long, faults) != self.troubles {
            defmt::warn!(
                "NIC: {} frames too long to be sent, {} answers that cannot be right",
                too_long,
                faults
            );
            say!("NIC: {too_long} frames too long to be sent, {faults} answers that cannot be right");
            self.troubles = (too_long, faults);
        }
    }

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
    // If the NIC cannot send a frame, it is lost, as on a switch.
    let _sent = nic.send(context, frame);
}
