//! Frames between the NICs, the gateway, and its own stack.

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
use pkd_gateway::{
    Action, Address, Counters, Drop, EthernetAddress, FLOWS, FlashFloor, GRANTS, Gateway, Interface, MARKS,
    Network, Port, RULES, Tables,
};
use static_cell::{ConstStaticCell, StaticCell};

use crate::{FRAME, MTU, Panel, Random, Shared, UsualConfig, now, own};

/// Frames that are looked at before other tasks have their turn.
const BURST: usize = 16;
/// Milliseconds between two looks at what is due.
const TICK: u64 = 100;
/// Ticks between two looks at counters, for the log.
const LOOK: u32 = 100;

/// The NICs of a board.
pub enum Nics<D> {
    /// One, for one-arm gateways and trunks.
    One(D),
    /// Two, for inline ones.
    Two {
        /// Where the strangers are.
        outside: D,
        /// Where the protected hosts are.
        inside: D,
    },
}

/// What a board brings.
pub struct Setup<D, S, P> {
    /// All of the same MTU, [`FRAME`] or at least [`MTU`].
    pub nics: Nics<D>,
    /// The floor, already read.
    pub floor: FlashFloor<S>,
    /// The owner's decisions, see [`configure`](crate::configure).
    pub config: &'static UsualConfig,
    /// The address of the gateway's own stack.
    pub hardware: [u8; 6],
    /// Random numbers, for what must not be guessed.
    pub random: Random,
    /// Light and watchdog.
    pub panel: P,
}

/// Everything that frames pass through. Its owner runs it for ever.
pub struct Wire<D, S, P> {
    nics: Nics<D>,
    hub: Hub<S, P>,
    ticker: Ticker,
}

/// What both NICs share.
struct Hub<S, P> {
    gateway: &'static Shared,
    floor: FlashFloor<S>,
    own: channel::Runner<'static, MTU>,
    stack: Stack<'static>,
    panel: P,
    scratch: &'static mut [u8; FRAME],
    link: Option<LinkState>,
    ticks: u32,
    /// The counters as the log has them.
    logged: Counters,
}

/// Starts the tasks of the own stack, and gives the wire to be run. To be called once.
///
/// # Panics
/// When called again.
pub fn start<D: Driver, S: NorFlash, P: Panel>(spawner: Spawner, setup: Setup<D, S, P>) -> Wire<D, S, P> {
    static TABLES: ConstStaticCell<Tables<FLOWS, GRANTS, RULES, MARKS>> = ConstStaticCell::new(Tables::new());
    static SCRATCH: ConstStaticCell<[u8; FRAME]> = ConstStaticCell::new([0; FRAME]);
    static GATEWAY: StaticCell<Shared> = StaticCell::new();
    static CHANNEL: StaticCell<channel::State<MTU, 2, 2>> = StaticCell::new();
    static RESOURCES: StaticCell<StackResources<{ own::SOCKETS }>> = StaticCell::new();

    let Setup { nics, floor, config, hardware, random, panel } = setup;
    if let Some(floor) = floor.floor() {
        defmt::info!("the floor in flash is {}", floor.0);
    } else {
        defmt::info!("no floor in flash yet");
    }
    let gateway = Gateway::new(TABLES.take(), config, EthernetAddress(hardware), floor.floor());
    let gateway: &'static Shared = GATEWAY.init(Mutex::new(RefCell::new(gateway)));
    let (runner, device) =
        channel::new(CHANNEL.init(channel::State::new()), HardwareAddress::Ethernet(hardware));
    let (stack, network) =
        embassy_net::new(device, own::config(config), RESOURCES.init(StackResources::new()), random());
    own::spawn(spawner, network, stack, gateway, config, random);
    let hub = Hub {
        gateway,
        floor,
        own: runner,
        stack,
        panel,
        scratch: SCRATCH.take(),
        link: None,
        ticks: 0,
        logged: Counters::default(),
    };
    Wire { nics, hub, ticker: Ticker::every(Duration::from_millis(TICK)) }
}

impl<D: Driver, S: NorFlash, P: Panel> Wire<D, S, P> {
    /// Passes frames, and what is due by time.
    pub async fn run(mut self) -> ! {
        poll_fn(|context| -> Poll<()> {
            self.poll(context);
            Poll::Pending
        })
        .await;
        // The future above is never ready.
        loop {
            core::future::pending::<()>().await;
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) {
        let Self { nics, hub, ticker } = self;
        let mut busy = true;
        for _ in 0..BURST {
            busy = match nics {
                Nics::One(nic) => pump(nic, None, Port::Outside, context, hub),
                Nics::Two { outside, inside } => {
                    let out = pump(outside, Some(inside), Port::Outside, context, hub);
                    pump(inside, Some(outside), Port::Inside, context, hub) || out
                }
            };
            busy |= hub.send_own(nics, context);
            if !busy {
                break;
            }
        }
        while pin!(ticker.next()).poll(context).is_ready() {
            hub.tick(nics, context);
        }
        if busy {
            context.waker().wake_by_ref();
        }
    }
}

/// One frame from this NIC; `false`: there is none.
fn pump<D: Driver, S: NorFlash, P: Panel>(
    nic: &mut D,
    other: Option<&mut D>,
    port: Port,
    context: &mut Context<'_>,
    hub: &mut Hub<S, P>,
) -> bool {
    let Some((received, free)) = nic.receive(context) else { return false };
    received.consume(|frame| {
        let action = hub.judge(port, frame);
        let (to, local) = match action {
            Action::Drop(_) => (None, None),
            Action::Forward(to) => (Some(to), None),
            Action::Local { skip } => (None, Some(skip)),
            Action::ForwardAndLocal(to) => (Some(to), Some(0)),
            Action::ForwardAndUntagged(to) => (Some(to), Some(pkd_gateway::TAG)),
        };
        match (to, other) {
            (Some(to), _) if to == port => free.consume(frame.len(), |out| out.copy_from_slice(frame)),
            // A NIC that cannot send now loses the frame, as a switch would.
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
            hub.give_own(frame.get(skip..).unwrap_or_default());
        }
    });
    true
}

impl<S: NorFlash, P: Panel> Hub<S, P> {
    fn judge(&mut self, port: Port, frame: &mut [u8]) -> Action {
        let (action, floor, knocked) = self.gateway.lock(|gateway| {
            let mut gateway = gateway.borrow_mut();
            let action = gateway.on_frame(now(), port, frame);
            match action {
                Action::Drop(Drop::Knock(_)) => (action, gateway.floor_to_save(), gateway.take_knocked()),
                _ => (action, None, None),
            }
        });
        if let Some(floor) = floor {
            // Before the next frame is looked at: a reset must not bring the knock back.
            let saved = self.floor.save(floor);
            self.gateway.lock(|gateway| match saved {
                Ok(()) => gateway.borrow_mut().floor_saved(floor),
                Err(error) => {
                    defmt::error!("the floor is not saved: {}", defmt::Debug2Format(&error));
                    gateway.borrow_mut().floor_failed();
                }
            });
        }
        if let Some(knocked) = knocked {
            defmt::info!("rule {}: {} may pass", knocked.rule, defmt::Display2Format(&knocked.address));
        }
        action
    }

    /// To the own stack, if it has room.
    fn give_own(&mut self, frame: &[u8]) {
        if let Some(room) = self.own.try_rx_buf().and_then(|room| room.get_mut(..frame.len())) {
            room.copy_from_slice(frame);
            self.own.rx_done(frame.len());
        }
    }

    /// A frame of the own stack, if it has one and the NICs have room.
    fn send_own<D: Driver>(&mut self, nics: &mut Nics<D>, context: &mut Context<'_>) -> bool {
        let Poll::Ready(frame) = self.own.poll_tx_buf(context) else { return false };
        for copy in 0.. {
            let out = self.gateway.lock(|gateway| gateway.borrow().on_own_frame(frame, copy, self.scratch));
            let Some((port, length)) = out else { break };
            send(nics, port, self.scratch.get(..length).unwrap_or_default(), context);
        }
        self.own.tx_done();
        true
    }

    fn tick<D: Driver>(&mut self, nics: &mut Nics<D>, context: &mut Context<'_>) {
        self.ticks = self.ticks.wrapping_add(1);
        self.panel.feed_watchdog();
        let link = match nics {
            Nics::One(nic) => nic.link_state(context),
            Nics::Two { outside, inside } => {
                let states = (outside.link_state(context), inside.link_state(context));
                if states == (LinkState::Down, LinkState::Down) { LinkState::Down } else { LinkState::Up }
            }
        };
        if self.link != Some(link) {
            self.link = Some(link);
            defmt::info!("link {}", if link == LinkState::Up { "up" } else { "down" });
            self.own.set_link_state(match link {
                LinkState::Up => LinkState::Up,
                LinkState::Down => LinkState::Down,
            });
        }
        let given = self.stack.config_v4().map(|config| Interface {
            network: Network { address: config.address.address(), prefix: config.address.prefix_len() },
            router: config.gateway,
        });
        let waiting = self.gateway.lock(|gateway| {
            let mut gateway = gateway.borrow_mut();
            if gateway.config().address == Address::Dhcp && gateway.interface() != given {
                if let Some(interface) = given {
                    defmt::info!("own address {}", defmt::Display2Format(&interface.network.address));
                }
                gateway.set_interface(given);
            }
            gateway.time(now()).is_none()
        });
        if self.ticks.is_multiple_of(LOOK) {
            self.log_counters();
        }
        // Slowly while all is well, twice as fast while the time is not known.
        let turns = if waiting { 5 } else { 10 };
        self.panel.set_light((self.ticks / turns).is_multiple_of(2));
        while let Some((port, length)) =
            self.gateway.lock(|gateway| gateway.borrow_mut().on_tick(now(), self.scratch))
        {
            send(nics, port, self.scratch.get(..length).unwrap_or_default(), context);
        }
    }
}

impl<S, P> Hub<S, P> {
    /// Logs what has changed since the last time.
    fn log_counters(&mut self) {
        let counters = self.gateway.lock(|gateway| *gateway.borrow().counters());
        if counters == self.logged {
            return;
        }
        defmt::info!(
            "so far {} frames forwarded, {} local, {} flows",
            counters.forwarded,
            counters.local,
            counters.flows
        );
        for why in Drop::ALL {
            let count = counters.dropped(why);
            if count != self.logged.dropped(why) {
                defmt::info!("so far {=str} {}", why.word(), count);
            }
        }
        self.logged = counters;
    }
}

fn send<D: Driver>(nics: &mut Nics<D>, port: Port, frame: &[u8], context: &mut Context<'_>) {
    let nic = match (nics, port) {
        (Nics::One(nic), _) => nic,
        (Nics::Two { outside, .. }, Port::Outside) => outside,
        (Nics::Two { inside, .. }, Port::Inside) => inside,
    };
    if let Some(free) = nic.transmit(context) {
        free.consume(frame.len(), |out| out.copy_from_slice(frame));
    }
}
