//! A benchmark image: the instructions that `Gateway::on_frame` and `Rule::verify` need, counted by QEMU.
//!
//! With `-icount shift=0` each instruction takes one nanosecond. The timer ticks at 25 MHz, so it has a resolution of 40
//! instructions; over a thousand frames the error is below one.

#![no_std]
#![no_main]

// Its critical section is linked by name.
use cortex_m as _;
use defmt_semihosting as _;

mod classic;
mod format2;

use core::{
    net::{Ipv4Addr, SocketAddrV4},
    ops::Range,
    panic::PanicInfo,
    ptr,
};

use cortex_m_rt::entry;
use pkd_core::{
    Key, Knock, KnockParams, Port as UdpPort, Tag, UnixMillis, UnixSeconds, Verdict, Window,
    format2::{Addresses, Bindings, Keys, Knock as Knock2},
};
use pkd_gateway::{
    Action, Address, Config, DropReason, Endpoint, EthernetAddress, FLOWS, Format, GRANTS, Gateway, Instant,
    Interface, KNOCKS, KnockOutcome, Mode, Network, Port, Protocol, RULES, Rule, Service, Services, Tables,
    TimeServer, TimeSource,
};
use static_cell::{ConstStaticCell, StaticCell};

const GATEWAY: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const NAS: [u8; 4] = [192, 168, 1, 20];
const OWN_ADDRESS: [u8; 4] = [192, 168, 1, 9];
const CLIENT: [u8; 4] = [203, 0, 113, 7];
const KNOCK_PORT: u16 = 40_000;
const TAG: Tag = Tag(*b"SSHK");
const SSH: u16 = 2_222;
const NOW: Instant = Instant(20_000);
const START: UnixSeconds = UnixSeconds(1_800_000_000);
const START_MILLIS: UnixMillis = UnixMillis(1_800_000_000_000);
/// Frames of each kind.
const FRAMES: u32 = 1_000;
/// Instructions per tick of the timer.
const INSTRUCTIONS_PER_TICK: u32 = 40;

/// The dual timer's first counter (Arm DDI 0479, section 4.4). It counts down.
mod timer {
    pub(super) const LOAD: usize = 0x4000_2000;
    pub(super) const VALUE: usize = 0x4000_2004;
    pub(super) const CONTROL: usize = 0x4000_2008;
    /// 32 bits, enabled.
    pub(super) const ON: u32 = 1 << 7 | 1 << 1;
}

/// No interrupt is unmasked, but cortex-m-rt requires a table.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
#[used]
static __INTERRUPTS: [usize; 1] = [0];

fn ticks() -> u32 {
    // SAFETY: the timer exists on this board, and reading has no side effects.
    !unsafe { ptr::read_volatile(ptr::with_exposed_provenance(timer::VALUE)) }
}

fn write(register: usize, value: u32) {
    // SAFETY: the timer exists on this board, and does not access memory.
    unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(register), value) }
}

/// Writes the Ethernet and IPv4 headers, with the header checksum.
fn ipv4(frame: &mut [u8], from: [u8; 4], to: [u8; 4], protocol: u8) {
    let length = u16::try_from(frame.len() - 14).unwrap_or(0).to_be_bytes();
    frame[..6].copy_from_slice(&GATEWAY.0);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 3]);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14..34].copy_from_slice(&[
        0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    frame[26..30].copy_from_slice(&from);
    frame[30..34].copy_from_slice(&to);
    let checksum = !fold(sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}

/// The sum of RFC 1071, over an even number of bytes.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum()
}

fn fold(sum: u32) -> u16 {
    let folded = (sum & 0xffff) + (sum >> 16);
    u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}

fn ports(frame: &mut [u8], from: u16, to: u16) {
    frame[34..36].copy_from_slice(&from.to_be_bytes());
    frame[36..38].copy_from_slice(&to.to_be_bytes());
}

fn config(format: Format) -> Config<RULES> {
    let network = Network { address: Ipv4Addr::from(OWN_ADDRESS), prefix: 24 };
    let mut config = Config {
        created: UnixSeconds(0),
        mode: Mode::OneArm,
        address: Address::Static(Interface { network, router: None }),
        knock_port: KNOCK_PORT,
        own_addresses: heapless::Vec::new(),
        address6: None,
        grant_prefix: 128,
        hosts: heapless::Vec::new(),
        answer_ping: false,
        time: TimeSource::Sntp(TimeServer {
            at: SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 1), 123),
            interval: 64,
        }),
        update: None,
        counters_network: None,
        counters_port: 0,
        services: heapless::Vec::new(),
        rules: heapless::Vec::new(),
    };
    let service = Service {
        name: heapless::String::new(),
        protocol: Protocol::Tcp,
        port: SSH,
        inside: Endpoint { address: Ipv4Addr::from(NAS).into(), port: 22 },
    };
    let rule = Rule { knock: knocks(), format, ttl: 600, services: Services::NONE.with(0) };
    if config.services.push(service).is_err() || config.rules.push(rule).is_err() {
        defmt::panic!("there is room for one of each");
    }
    config
}

/// A window wider than the rounds are many.
fn knocks() -> pkd_core::Rule {
    pkd_core::Rule::new(Key::from_bytes([7; Key::LENGTH]), TAG, Window::from_secs(3_600))
}

/// Different in each round.
fn nonce(number: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    nonce
}

type StandardTables = Tables<FLOWS, GRANTS, RULES, KNOCKS>;
type StandardGateway<'a> = Gateway<'a, FLOWS, GRANTS, RULES, KNOCKS>;

/// Makes the frame a knock from the client.
fn datagram(frame: &mut [u8], payload: &[u8]) {
    ipv4(frame, CLIENT, OWN_ADDRESS, 17);
    ports(frame, 5_000, KNOCK_PORT);
    frame[38..42].copy_from_slice(&[0, 64, 0, 0]);
    frame[42..].copy_from_slice(payload);
    // The pseudo-header, then the UDP header and payload (RFC 768).
    let pseudo = 17 + 64 + sum(&frame[26..34]);
    let checksum = !fold(pseudo + sum(&frame[34..]));
    frame[40..42].copy_from_slice(&checksum.to_be_bytes());
}

/// The average instructions per frame. `make` writes each frame; its cost is subtracted.
fn measure(
    gateway: &mut StandardGateway<'_>,
    frame: &mut [u8],
    numbers: Range<u32>,
    is_expected: impl Fn(Action) -> bool,
    mut make: impl FnMut(&mut [u8], u32),
) -> u32 {
    let frames = numbers.end - numbers.start;
    let start = ticks();
    for number in numbers.clone() {
        make(frame, number);
        core::hint::black_box(&mut *frame);
    }
    let overhead = ticks().wrapping_sub(start);
    let start = ticks();
    for number in numbers.clone() {
        make(frame, number);
        let action = gateway.on_frame(NOW, Port::Outside, core::hint::black_box(&mut *frame));
        if !is_expected(action) {
            defmt::panic!("frame {}: {}", number, defmt::Debug2Format(&action));
        }
    }
    let both = ticks().wrapping_sub(start);
    both.saturating_sub(overhead) * INSTRUCTIONS_PER_TICK / frames
}

/// Rounds for measurements without frames.
const ROUNDS: u32 = 1_000;

/// The average instructions per round.
fn measure_rounds(mut run: impl FnMut(u32)) -> u32 {
    let start = ticks();
    for number in 0..ROUNDS {
        core::hint::black_box(number);
    }
    let empty = ticks().wrapping_sub(start);
    let start = ticks();
    for number in 0..ROUNDS {
        run(core::hint::black_box(number));
    }
    ticks().wrapping_sub(start).saturating_sub(empty) * INSTRUCTIONS_PER_TICK / ROUNDS
}

/// Knocks of format 2 that a gateway accepts.
#[inline(never)]
fn measure_format2(tables: &mut StandardTables, frame: &mut [u8]) {
    static CONFIG: StaticCell<Config<RULES>> = StaticCell::new();
    let config = CONFIG.init(config(Format::Format2 { require: Bindings::SOURCE }));
    let mut gateway = Gateway::new(tables, config, GATEWAY, UnixMillis(1).into());
    if gateway.set_time(Instant(0), START_MILLIS).is_err() {
        defmt::panic!("the time was rejected");
    }
    let accepted = |action| matches!(action, Action::Knock(KnockOutcome { verdict: Verdict::Accept, .. }));
    let keys = Keys::new(knocks().key(), TAG);
    let addresses = Addresses::V4 { source: &CLIENT, destination: &OWN_ADDRESS };
    let mut knock = |numbers: Range<u32>| {
        measure(&mut gateway, &mut frame[..98], numbers, accepted, |frame, number| {
            let params = format2::params(number, Bindings::SOURCE);
            datagram(frame, &Knock2::seal(&keys, &params, UdpPort(KNOCK_PORT), &addresses));
        })
    };
    let room = u32::try_from(KNOCKS).unwrap_or(0);
    let (first, later) = (knock(0..room), knock(room..FRAMES));
    defmt::info!("benchmark: knock2 {} full2 {}", first, later);
}

#[entry]
fn main() -> ! {
    static TABLES: ConstStaticCell<StandardTables> = ConstStaticCell::new(Tables::new());
    static CONFIG: StaticCell<Config<RULES>> = StaticCell::new();
    static FRAME: ConstStaticCell<[u8; 1_400]> = ConstStaticCell::new([0; 1_400]);
    write(timer::LOAD, u32::MAX);
    write(timer::CONTROL, timer::ON);

    let config = CONFIG.init(config(Format::Classic));
    let tables = TABLES.take();
    let mut gateway = Gateway::new(tables, config, GATEWAY, UnixSeconds(1).into());
    if gateway.set_time(Instant(0), START_MILLIS).is_err() {
        defmt::panic!("the time was rejected");
    }
    let frame = FRAME.take();
    // The NAS answers the gateway's question.
    let mut question = [0; 64];
    while gateway.on_tick(NOW, &mut question).is_some() {}
    let arp = &mut frame[..42];
    arp[..6].copy_from_slice(&GATEWAY.0);
    arp[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    arp[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    arp[22..28].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    arp[28..32].copy_from_slice(&NAS);
    arp[32..38].copy_from_slice(&GATEWAY.0);
    arp[38..42].copy_from_slice(&OWN_ADDRESS);
    if gateway.on_frame(NOW, Port::Outside, arp) != (Action::Local { skip: 0 }) {
        defmt::panic!("the NAS's address was not learned");
    }

    let accepted = |action| matches!(action, Action::Knock(KnockOutcome { verdict: Verdict::Accept, .. }));
    let key = Key::from_bytes([7; Key::LENGTH]);
    let mut knock = |numbers: Range<u32>| {
        measure(&mut gateway, &mut frame[..98], numbers, accepted, |frame, number| {
            let time = UnixSeconds(START.0 + u64::from(number));
            let params = KnockParams { key: &key, tag: TAG, time, nonce: nonce(number) };
            datagram(frame, &Knock::seal(&params, UdpPort(KNOCK_PORT)));
        })
    };
    // First while the cache has room, then while every knock evicts another.
    let room = u32::try_from(KNOCKS).unwrap_or(0);
    let (first, later) = (knock(0..room), knock(room..FRAMES));
    // A flow, opened with the grant.
    let syn = |frame: &mut [u8], flags: u8| {
        ipv4(frame, CLIENT, OWN_ADDRESS, 6);
        ports(frame, 5_001, SSH);
        frame[46..48].copy_from_slice(&[0x50, flags]);
    };
    let mut forward = |length: usize| {
        measure(
            &mut gateway,
            &mut frame[..length],
            0..FRAMES,
            |action| action == Action::Forward(Port::Outside),
            |frame, number| {
                syn(frame, if number == 0 { 2 } else { 16 });
            },
        )
    };
    let (small, large) = (forward(68), forward(1_400));
    // A stranger's SYN: the search covers all grants.
    let stranger = measure(
        &mut gateway,
        &mut frame[..68],
        0..FRAMES,
        |action| action == Action::Drop(DropReason::NoGrant),
        |frame, _| {
            ipv4(frame, [198, 51, 100, 1], OWN_ADDRESS, 6);
            ports(frame, 5_001, SSH);
            frame[46..48].copy_from_slice(&[0x50, 2]);
        },
    );
    defmt::info!(
        "benchmark: knock {} full {} small {} large {} stranger {}",
        first,
        later,
        small,
        large,
        stranger
    );
    measure_format2(tables, frame);
    classic::log();
    format2::log();
    semihosting::process::exit(0)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    defmt::error!("panic: {}", defmt::Display2Format(info));
    semihosting::process::exit(101)
}
