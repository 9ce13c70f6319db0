//! An inline gateway while things happen, and the judge that watches it.

use pkd_gateway::{Action, Config, Instant, Mode, Port, Protect};

use crate::{
    attacks::{self, Cast, NAS6},
    frame::{self, Host, Path},
    frame6::{Host6, udp6},
    harness::{
        CLIENT, GATEWAY, KNOCK_PORT, Knock2, NAS, READY, RULES, START, STRANGER, Small, SmallTables, TTL,
        format2, inline, millis, seal6,
    },
    overseer::{Orders, Overseer},
};

pub(crate) const PRINTER: Host = Host::new(9, [192, 168, 1, 21]);
const CAST: Cast =
    Cast { nas: NAS, printer: PRINTER, attacker: STRANGER, gateway: GATEWAY, knock_port: KNOCK_PORT };
pub(crate) const CLIENT6: Host6 =
    Host6 { hardware: CLIENT.hardware, address: std::net::Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 1) };

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Frame {
        side: Port,
        frame: Vec<u8>,
    },
    /// The client knocks, over IPv4 or IPv6, or asks to close.
    Knock {
        v6: bool,
        close: bool,
    },
    /// Milliseconds pass.
    Wait(u64),
}

/// A gateway that forwards to the inside, a judge of what it does, and the time.
pub(crate) fn watch(protect: Protect, events: &[Event]) -> Result<usize, String> {
    let config = config(protect);
    let mut tables = SmallTables::new();
    let mut gateway = Small::new(&mut tables, &config, GATEWAY.hardware, START.into());
    gateway.set_time(Instant(0), millis(START)).map_err(|error| error.to_string())?;
    for mut introduction in attacks::introductions(CAST) {
        let _action = gateway.on_frame(READY, Port::Inside, &mut introduction);
    }
    let mut overseer = Overseer::new(orders(&config, protect));
    let (mut now, mut let_in) = (READY, 0);
    for event in events {
        match event {
            Event::Wait(millis) => now = Instant(now.0 + millis),
            Event::Knock { v6, close } => {
                let (mut frame, address) = if *v6 {
                    let to = Host6 { hardware: NAS.hardware, address: NAS6 };
                    let sealed = seal6("BOTH", now, CLIENT6.address, NAS6);
                    (
                        udp6(CLIENT6, to, (5_000, KNOCK_PORT), &sealed).frame(CLIENT6, to),
                        CLIENT6.address.into(),
                    )
                } else {
                    let knock =
                        if *close { Knock2::close("BOTH", CLIENT) } else { Knock2::open("BOTH", CLIENT) };
                    let path = Path { from: CLIENT, from_port: 5_000, to: NAS, to_port: KNOCK_PORT };
                    (frame::udp(path, &knock.seal(now)), CLIENT.address.into())
                };
                if let Action::Knock(outcome) = gateway.on_frame(now, Port::Outside, &mut frame)
                    && let Some(sender) = outcome.sender
                {
                    if sender.address != address {
                        return Err(format!("a grant for {}", sender.address));
                    }
                    overseer.knocked(address, now.0, outcome.verdict == pkd_core::Verdict::Accept);
                }
            }
            Event::Frame { side, frame } => {
                let mut bytes = frame.clone();
                let action = gateway.on_frame(now, *side, &mut bytes);
                let is_forwarded = matches!(
                    action,
                    Action::Forward(_) | Action::ForwardAndLocal(_) | Action::ForwardAndUntagged(_)
                );
                if is_forwarded && bytes != *frame {
                    return Err(format!("a bridge has changed {frame:02x?}"));
                }
                match (is_forwarded, side) {
                    (false, _) => {}
                    (true, Port::Inside) => overseer.went_out(frame),
                    (true, Port::Outside) => {
                        let_in += 1;
                        overseer.came_in(frame, now.0).map_err(|why| format!("{why}: {frame:02x?}"))?;
                    }
                }
            }
        }
    }
    Ok(let_in)
}

fn config(protect: Protect) -> Config<RULES> {
    let mut config = format2(inline());
    attacks::configure(&mut config, CAST, protect);
    config.rules[1].services = (0..3).fold(pkd_gateway::Services::NONE, pkd_gateway::Services::with);
    config
}

fn orders(config: &Config<RULES>, protect: Protect) -> Orders {
    let Mode::Inline(inline) = config.mode else { panic!("{:?}", config.mode) };
    let protocol =
        |service: &pkd_gateway::Service| if service.protocol == pkd_gateway::Protocol::Tcp { 6 } else { 17 };
    Orders {
        hosts: vec![NAS.address.into(), NAS6.into()],
        hardware: vec![NAS.hardware.0],
        services: config
            .services
            .iter()
            .map(|service| (protocol(service), service.inside.address, service.port))
            .collect(),
        whole_host: protect == Protect::Host,
        ethertypes: inline.pass.ethertypes.iter().copied().filter(|ethertype| *ethertype != 0).collect(),
        protocols: inline.pass.protocols.iter().copied().filter(|protocol| *protocol != 0).collect(),
        // Grants end at a step of the table's clock.
        ttl: u64::from(TTL) * 1_000 + 64,
    }
}
