//! Compares the kernel's verdicts on generated datagrams with those of pkd-core.
//!
//! They go over loopback, where a packet has met the rule when the call that sent it returns, and meet it before
//! anything of the kernel would put fragments together.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use pkd_core::{
    Key, Knock, KnockParams, Packet, Port, Reason, ReplayCache, Rule, Tag, UnixSeconds, Verdict, Window,
};
use pkd_tests::Report;

use crate::{
    firewall::{Back, Firewall},
    gateway,
    network::{Family, wait},
    status::{CAPACITY, Status},
    wire::Wire,
};

/// Datagrams of one round.
const ROUND: usize = 12_500;

/// What each round's rule has for a window, in seconds; one is for all times.
const WINDOWS: [u32; 4] = [10, 0, 300, u32::MAX];

const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn checks(report: &mut Report) {
    for family in [Family::V4, Family::V6] {
        for window in WINDOWS {
            let name = format!(
                "{}, window {window}: the kernel says of {ROUND} datagrams what pkd-core says",
                family.name()
            );
            report.check(&name, || round(family, window));
        }
    }
}

fn round(family: Family, window: u32) -> Result<String> {
    let rule = Rule::new(Key::parse("0x00ff55")?, Tag::parse("DIFF")?, Window::from_secs(window));
    gateway::load()?;
    gateway::reload()?;
    let firewall = Firewall::new(family, Back::Legacy);
    firewall.run(&format!(
        "-t mangle -A PREROUTING -i lo -p udp -m pkd --key 0x00ff55 --tag DIFF --window {window}"
    ))?;
    // Nobody is to answer.
    firewall.run("-t mangle -A PREROUTING -i lo -p udp -j DROP")?;
    let mut model = ReplayCache::<CAPACITY>::new(UnixSeconds(0));
    let mut maker =
        Maker { random: u64::from(window) << 8 | u64::from(family == Family::V6), made: Vec::new() };
    let wire = Wire::open(family)?;
    let mut expected = [0_u64; 6];
    let mut last = Status::read()?;
    for row in 0..ROUND {
        let made = maker.next(&rule, coarse()?);
        let packet = made.packet(family)?;
        let before = coarse()?;
        wire.send(&packet).with_context(|| format!("row {row}: {made:?}"))?;
        let status = wait(LIMIT, Status::read, |status| status.total() != last.total())
            .with_context(|| format!("row {row}, no counter moved: {made:?}"))?;
        let after = coarse()?;
        let moved: Vec<&str> = VERDICTS
            .iter()
            .filter(|(name, _)| status.counters[name] != last.counters[name])
            .map(|(name, _)| *name)
            .collect();
        ensure!(
            status.total() == last.total() + 1 && moved.len() == 1,
            "row {row}: {moved:?} moved at {made:?}"
        );
        // Where the second passed meanwhile, either will do.
        let says: Vec<_> = (before..=after)
            .map(|now| {
                let mut cache = model.clone();
                let verdict = made.verdict(&rule, &mut cache, UnixSeconds(now));
                (name(verdict), cache)
            })
            .collect();
        let Some((verdict, cache)) = says.iter().find(|(verdict, _)| *verdict == moved[0]) else {
            let said: Vec<_> = says.iter().map(|(verdict, _)| *verdict).collect();
            anyhow::bail!(
                "row {row}: the kernel says {}, pkd-core {said:?} of {made:?} at {before}",
                moved[0]
            );
        };
        let place =
            VERDICTS.iter().position(|(name, _)| name == verdict).context("a verdict without a place")?;
        expected[place] += 1;
        model = cache.clone();
        last = status;
        let cache = last.cache()?;
        let (floor, newest) = (model.floor().0, model.newest().map_or(0, |time| time.0));
        ensure!(
            (cache.floor, cache.newest) == (floor, newest),
            "row {row}: {cache:?}, not floor {floor} and newest {newest} after {made:?}"
        );
    }
    firewall.flush()?;
    // Without a clock every time is in the window.
    let possible = VERDICTS.iter().zip(expected).filter(|((name, _), _)| window != 0 || *name != "Window");
    for ((name, _), count) in possible {
        ensure!(count > 50, "only {count} got {name}");
    }
    let counted: Vec<_> =
        VERDICTS.iter().zip(expected).map(|((name, _), count)| format!("{name} {count}")).collect();
    Ok(counted.join(", "))
}

const VERDICTS: [(&str, Verdict); 6] = [
    ("Accept", Verdict::Accept),
    ("Length", Verdict::Ignore(Reason::Length)),
    ("Tag", Verdict::Ignore(Reason::Tag)),
    ("Window", Verdict::Ignore(Reason::Window)),
    ("Replay", Verdict::Ignore(Reason::Replay)),
    ("Digest", Verdict::Ignore(Reason::Digest)),
];

fn name(verdict: Verdict) -> &'static str {
    VERDICTS.iter().find(|(_, known)| *known == verdict).map_or("none", |(name, _)| name)
}

/// The clock that the module reads: that of the last tick.
fn coarse() -> Result<u64> {
    Ok(clock_gettime(ClockId::CLOCK_REALTIME_COARSE)?.tv_sec().try_into()?)
}

/// How a datagram travels.
#[derive(Clone, Copy, Debug)]
enum Wrapping {
    Plain,
    /// IPv4 options, or an extension header of IPv6, of so many bytes.
    Options(u8),
    /// A fragment header: where it begins, in units of 8 bytes, and whether more follow.
    Fragment {
        offset: u16,
        more: bool,
    },
}

#[derive(Clone, Debug)]
struct Made {
    port: u16,
    /// The length field of the UDP header.
    claimed: u16,
    /// All behind the UDP header.
    payload: Vec<u8>,
    wrapping: Wrapping,
}

impl Made {
    /// A datagram is judged where all of it is there; everything else has the wrong length.
    fn verdict(&self, rule: &Rule, cache: &mut ReplayCache<CAPACITY>, now: UnixSeconds) -> Verdict {
        let whole = self.claimed == 64 && self.payload.len() >= 56;
        if !whole || matches!(self.wrapping, Wrapping::Fragment { .. }) {
            return Verdict::Ignore(Reason::Length);
        }
        let packet = Packet { destination_port: Port(self.port), payload: &self.payload[..56] };
        rule.verify(cache, now, &packet)
    }

    /// The bytes from the IP header on; from loopback to loopback.
    fn packet(&self, family: Family) -> Result<Vec<u8>> {
        let mut datagram = Vec::new();
        for field in [40_001, self.port, self.claimed, 0] {
            datagram.extend(u16::to_be_bytes(field));
        }
        datagram.extend(&self.payload);
        let (offset, more) = match self.wrapping {
            Wrapping::Fragment { offset, more } => (offset, more),
            _ => (0, false),
        };
        if more {
            // All fragments but the last have a multiple of 8 bytes.
            datagram.resize(datagram.len().next_multiple_of(8), 0);
        }
        let mut packet = Vec::new();
        match family {
            Family::V4 => {
                let options =
                    if let Wrapping::Options(bytes) = self.wrapping { usize::from(bytes) } else { 0 };
                let header = 20 + options;
                packet.extend([0x40 | u8::try_from(header / 4)?, 0]);
                packet.extend(u16::try_from(header + datagram.len())?.to_be_bytes());
                packet.extend([0x70, 0x6b]);
                packet.extend((offset | u16::from(more) << 13).to_be_bytes());
                packet.extend([64, 17, 0, 0]);
                packet.extend(Ipv4Addr::LOCALHOST.octets().repeat(2));
                // One byte each that does nothing (RFC 791).
                packet.resize(header, 1);
            }
            Family::V6 => {
                let extension: Option<(u8, Vec<u8>)> = match self.wrapping {
                    Wrapping::Plain => None,
                    // Destination options, filled by one that does nothing (RFC 8200, 4.2).
                    Wrapping::Options(bytes) => {
                        let length = usize::from(bytes).next_multiple_of(8);
                        let mut header =
                            vec![17, u8::try_from(length / 8 - 1)?, 1, u8::try_from(length - 4)?];
                        header.resize(length, 0);
                        Some((60, header))
                    }
                    Wrapping::Fragment { .. } => {
                        let field = offset << 3 | u16::from(more);
                        let [high, low] = field.to_be_bytes();
                        Some((44, vec![17, 0, high, low, 0, 0, 0, 7]))
                    }
                };
                let (kind, header) = extension.unwrap_or((17, Vec::new()));
                packet.extend([0x60, 0, 0, 0]);
                packet.extend(u16::try_from(header.len() + datagram.len())?.to_be_bytes());
                packet.extend([kind, 64]);
                packet.extend(Ipv6Addr::LOCALHOST.octets().repeat(2));
                packet.extend(header);
            }
        }
        packet.extend(datagram);
        Ok(packet)
    }
}

/// Makes datagrams: the same ones in every run, but for the time.
struct Maker {
    random: u64,
    /// Good knocks of before, for replays.
    made: Vec<(u16, [u8; 56])>,
}

impl Maker {
    /// `SplitMix64`.
    fn number(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }

    fn small(&mut self, end: u16) -> u16 {
        u16::try_from(self.below(end.into())).unwrap_or(0)
    }

    fn time(&mut self, window: u32, now: u64) -> u64 {
        let around = |base: u64, by: u64| base.wrapping_add(by).wrapping_sub(2);
        match self.below(16) {
            0 => around(now.wrapping_add(window.into()), self.below(5)),
            1 => around(now.wrapping_sub(window.into()), self.below(5)),
            2 => self.number(),
            3 => [0, 1, u64::MAX, 1 << 31, 1 << 32, u64::MAX - u64::from(window)][usize::from(self.small(6))],
            4 => now.wrapping_sub(self.below(2 * u64::from(window) + 2)),
            // Without a clock only what is later than all before counts.
            _ if window == 0 => now + self.made.len() as u64 + self.below(3),
            _ => around(now, self.below(5)),
        }
    }

    fn next(&mut self, rule: &Rule, now: u64) -> Made {
        let mut nonce = [0; 12];
        nonce.fill_with(|| self.byte());
        let port = [40_000, 1, 65_535, self.small(u16::MAX)][usize::from(self.small(4))];
        let window = rule.window().as_secs();
        let kind = self.below(16);
        // u64::MAX shuts a rule without a clock for good, so there it comes late in a round.
        let mut time = self.time(window, now);
        if window == 0 && time > now + (1 << 20) && self.below(1_000) > 0 {
            time = now;
        }
        let other = Key::from_bytes([7; Key::LENGTH]);
        let key = if kind == 0 { &other } else { rule.key() };
        let tag = if kind == 1 { Tag([self.byte(), b'I', b'F', b'F']) } else { rule.tag() };
        let params = KnockParams { key, tag, time: UnixSeconds(time), nonce };
        let (mut port, mut payload) = (port, Knock::seal(&params, Port(port)).to_vec());
        if kind > 1 && self.below(4) == 0 {
            self.made.push((port, payload.as_slice().try_into().unwrap_or([0; 56])));
        }
        let mut says = 64;
        match kind {
            2 if !self.made.is_empty() => {
                let old = usize::try_from(self.below(self.made.len() as u64)).unwrap_or(0);
                (port, payload) = (self.made[old].0, self.made[old].1.to_vec());
            }
            3 => payload[usize::from(self.small(56))] ^= 1 << self.small(8),
            4 => {
                payload.truncate(self.small(56).into());
                says = 8 + u16::try_from(payload.len()).unwrap_or(0);
            }
            // As above, with another length in the header.
            5 => payload.truncate(self.small(56).into()),
            6 => says = [0, 8, 63, 65, 120, u16::MAX][usize::from(self.small(6))],
            7 => {
                let more = 1 + usize::from(self.small(60));
                payload.resize(56 + more, 0x5a);
                if self.below(2) == 0 {
                    says = 64 + u16::try_from(more).unwrap_or(0);
                }
            }
            8 => port ^= 1,
            _ => {}
        }
        let wrapping = match self.below(20) {
            0..=2 => Wrapping::Options([4, 8, 20, 24, 40][usize::from(self.small(5))]),
            3 => Wrapping::Fragment { offset: 0, more: true },
            4 => Wrapping::Fragment { offset: 1 + self.small(30), more: self.below(2) == 0 },
            _ => Wrapping::Plain,
        };
        Made { port, claimed: says, payload, wrapping }
    }
}
