//! What checks and packets cost, for `make bench`: run under QEMU's `-icount shift=0`, where an instruction takes a nanosecond
//! of the guest's clock. Prints `VM test-figure: NAME NUMBER UNIT`; each number is an average over many.

use std::{
    hint::black_box,
    net::UdpSocket,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use pkd_core::{
    Key, KnockId, Packet, Port, Reason, ReplayCache, ReplayStore as _, Rule, Tag, UnixMillis, UnixSeconds,
    Verdict, Window,
    format2::{self, Addresses, Bindings, Request},
};
use pkd_tests::Report;
use sha2::block_api::compress256;

use crate::{
    firewall::{Back, Firewall},
    gateway,
    network::{Family, coarse_millis, now, shell, wait},
    packet::{KEY, PORT, TAG, knock, knock_with},
    status::{CAPACITY, Status},
};

/// Checks of each kind, and of how many packets a rate is made.
const CHECKS: u32 = 2_000;
const PACKETS: u32 = 2_000;
/// Users with one tag, each with a rule.
const USERS: [u32; 2] = [16, 256];
/// Few enough to wait in a queue.
const PACKETS_FOR_MANY: u32 = 800;
type Cache = ReplayCache<CAPACITY>;

pub(crate) fn show(report: &mut Report) {
    report.check("figures: checks", checks);
    report.check("figures: checks of format 2", checks_of_format2);
    report.check("figures: packets through xt_pkd", packets);
    report.check("figures: packets of format 2 through xt_pkd", packets_of_format2);
    report.check("figures: packets through xt_pknock", pknock);
    // Last: the kernel has caches to free after it.
    report.check("figures: packets through rules of many users", many_users);
}

fn figure(name: &str, value: f64, unit: &str) {
    println!("vm-figure: {name} {value:.0} {unit}");
}

/// Nanoseconds, so instructions, of each round.
fn each(rounds: u32, mut act: impl FnMut(usize)) -> f64 {
    let begin = Instant::now();
    (0..rounds as usize).for_each(&mut act);
    begin.elapsed().as_secs_f64() * 1e9 / f64::from(rounds)
}

/// `Rule::verify` by verdict, beside the two SHA-256 blocks that it cannot do without.
fn checks() -> Result<String> {
    let start = 1_800_000_000;
    let rule = Rule::new(Key::parse(KEY)?, Tag::parse(TAG)?, Window::from_secs(3_600));
    let knocks = (0..CHECKS).map(|row| knock(start + u64::from(row))).collect::<Result<Vec<_>>>()?;
    let forged: Vec<_> = knocks
        .iter()
        .map(|knock| {
            let mut knock = *knock;
            knock[55] ^= 1;
            knock
        })
        .collect();
    let other = (0..CHECKS).map(|_| knock_with(KEY, "none", start, PORT)).collect::<Result<Vec<_>>>()?;
    let empty = each(CHECKS, |row| {
        black_box(row);
    });
    let blocks = black_box([[7_u8; 64]; 2]);
    let bare = each(CHECKS, |_| {
        let mut state = black_box([0; 8]);
        compress256(&mut state, &blocks);
        black_box(state);
    }) - empty;
    figure("two-blocks", bare, "instructions");
    let mut cache = Cache::new(UnixSeconds(0));
    let mut check = |name: &str, payload: &dyn Fn(usize) -> Vec<u8>, expected: Verdict| -> Result<()> {
        let payloads: Vec<Vec<u8>> = (0..CHECKS as usize).map(payload).collect();
        let mut wrong = 0;
        let took = each(CHECKS, |row| {
            let packet = Packet { destination_port: Port(PORT), payload: black_box(&payloads[row]) };
            if rule.verify(&mut cache, UnixSeconds(start), &packet) != expected {
                wrong += 1;
            }
        });
        ensure!(wrong == 0, "{name}: {wrong} checks do not end with {expected:?}");
        figure(name, took - empty, "instructions");
        Ok(())
    };
    check("check-forged", &|row| forged[row].to_vec(), Verdict::Ignore(Reason::Digest))?;
    check("check-accepted", &|row| knocks[row].to_vec(), Verdict::Accept)?;
    check("check-replayed", &|row| knocks[row].to_vec(), Verdict::Ignore(Reason::Replay))?;
    check("check-other-tag", &|row| other[row].to_vec(), Verdict::Ignore(Reason::Tag))?;
    check("check-no-knock", &|row| knocks[row][..20].to_vec(), Verdict::Ignore(Reason::Length))?;
    figure("cache", f64::from(u32::try_from(size_of::<Cache>())?), "bytes");
    Ok(format!("{CHECKS} of each kind"))
}

type Cache2 = ReplayCache<CAPACITY, UnixMillis>;

/// Makes the payload of a number.
type Payload<'a> = &'a dyn Fn(usize) -> Vec<u8>;

/// `format2::Rule::verify` by verdict.
fn checks_of_format2() -> Result<String> {
    let start = UnixMillis(1_800_000_000_000);
    let (v4, v6) = (
        Addresses::V4 { source: &[198, 51, 100, 7], destination: &[203, 0, 113, 9] },
        Addresses::V6 { source: &[7; 16], destination: &[9; 16] },
    );
    let rule = format2::Rule::new(&Key::parse(KEY)?, Tag::parse(TAG)?, Window::from_secs(10), Bindings::NONE);
    let hints = rule.hints(start);
    let knock = |row: usize, bindings, addresses: &Addresses<'_>| {
        let time = UnixMillis(start.0 + row as u64);
        let params = format2::KnockParams { time, nonce: [7; 12], bindings, request: Request::Open };
        format2::Knock::seal(rule.keys(), &params, Port(PORT), addresses).to_vec()
    };
    let flipped = |row, byte: usize| {
        let mut knock = knock(row, Bindings::NONE, &v4);
        knock[byte] ^= 1;
        knock
    };
    let empty = each(CHECKS, |row| {
        black_box(row);
    });
    let check_in = |cache: &Cache2,
                    name: &str,
                    payload: Payload<'_>,
                    addresses: &Addresses<'_>,
                    expected: Verdict|
     -> Result<()> {
        let payloads: Vec<Vec<u8>> = (0..CHECKS as usize).map(payload).collect();
        let mut cache = cache.clone();
        let mut wrong = 0;
        let took = each(CHECKS, |row| {
            let packet = Packet { destination_port: Port(PORT), payload: black_box(&payloads[row]) };
            if rule.verify(&hints, &mut cache, start, &packet, addresses, &[]) != expected {
                wrong += 1;
            }
        });
        ensure!(wrong == 0, "{name}: {wrong} checks do not end with {expected:?}");
        figure(name, took - empty, "instructions");
        Ok(())
    };
    let empty_cache = Cache2::new(UnixMillis(0));
    let check = |name: &str, payload: Payload<'_>, addresses: &Addresses<'_>, expected: Verdict| {
        check_in(&empty_cache, name, payload, addresses, expected)
    };
    // Of knocks at every eighth of the forgeries' times, so that a search for each of those ends elsewhere. The last is
    // later than all forgeries.
    let mut full = empty_cache.clone();
    for row in 0..=CAPACITY as u64 {
        ensure!(full.record(KnockId::kept(UnixMillis(start.0 + 8 * row - 8), row), rule.window()), "{row}");
    }
    let both = Bindings::SOURCE | Bindings::DESTINATION;
    let ignored = Verdict::Ignore;
    check("check2-accepted", &|row| knock(row, Bindings::NONE, &v4), &v4, Verdict::Accept)?;
    check("check2-accepted-bound", &|row| knock(row, both, &v4), &v4, Verdict::Accept)?;
    check("check2-accepted-ipv6", &|row| knock(row, both, &v6), &v6, Verdict::Accept)?;
    // The worst that a forger can do with what was captured.
    check("check2-forged", &|row| flipped(row, 31), &v4, ignored(Reason::Filter))?;
    check_in(&full, "check2-forged-full", &|row| flipped(row, 31), &v4, ignored(Reason::Filter))?;
    check("check2-other-hint", &|row| flipped(row, 3), &v4, ignored(Reason::Tag))?;
    check("check2-no-knock", &|row| flipped(row, 0)[..20].to_vec(), &v4, ignored(Reason::Length))?;
    Ok(format!("{CHECKS} of each kind"))
}

/// Sends datagrams to the loopback, where the last rule drops them, and gives the nanoseconds of each.
fn through(rules: &[&str], payload: &dyn Fn(usize) -> Vec<u8>) -> Result<f64> {
    let firewall = Firewall::new(Family::V4, Back::Legacy);
    firewall.flush()?;
    for rule in rules {
        firewall.run(&format!("-A INPUT -p udp --dport {PORT} {rule}"))?;
    }
    firewall.run(&format!("-A INPUT -p udp --dport {PORT} -j DROP"))?;
    let payloads: Vec<Vec<u8>> = (0..PACKETS as usize).map(payload).collect();
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(("127.0.0.1", PORT))?;
    let mut lost = 0;
    let took = each(PACKETS, |row| {
        if socket.send(&payloads[row]).is_err() {
            lost += 1;
        }
    });
    let counters = firewall.run("-L INPUT -v -x -n")?;
    let dropped = counters.lines().find(|line| line.contains("DROP")).context("no last rule")?;
    let dropped: u32 = dropped.split_whitespace().next().unwrap_or_default().parse()?;
    ensure!(lost == 0 && dropped == PACKETS, "{dropped} of {PACKETS} came to the last rule: {counters}");
    firewall.flush()?;
    Ok(took)
}

fn rate(name: &str, nanoseconds: f64) {
    figure(name, nanoseconds, "instructions");
}

fn packets() -> Result<String> {
    shell("modprobe xt_pkd")?;
    gateway::restore("floor 0")?;
    let time = now()?;
    let mut forgery = knock(time)?;
    forgery[55] ^= 1;
    let other = knock_with(KEY, "none", time, PORT)?;
    let forged = |row: usize| {
        let mut forgery = forgery;
        forgery[12..20].copy_from_slice(&row.to_le_bytes().repeat(2)[..8]);
        forgery.to_vec()
    };
    let rule = format!("-m pkd --key {KEY} --tag {TAG} --window 3600 -j ACCEPT");
    rate("packet-bare", through(&[], &forged)?);
    let before = Status::read()?;
    rate("packet-forged", through(&[&rule], &forged)?);
    rate("packet-other-tag", through(&[&rule], &|_| other.to_vec())?);
    rate("packet-short", through(&[&rule], &|_| vec![0; 20])?);
    let after = Status::read()?;
    for name in ["Digest", "Tag"] {
        let moved = after.counters[name] - before.counters[name];
        ensure!(moved == u64::from(PACKETS), "{moved} packets are counted as {name}");
    }
    Ok(format!("{PACKETS} of each kind"))
}

/// The same of format 2: knocks, forgeries with a captured hint and time, and datagrams of a knock's length.
fn packets_of_format2() -> Result<String> {
    gateway::restore("floor2-ms 0")?;
    let keys = format2::Keys::new(&Key::parse(KEY)?, Tag::parse(TAG)?);
    let time = coarse_millis()?;
    let addresses = Addresses::V4 { source: &[127, 0, 0, 1], destination: &[127, 0, 0, 1] };
    let seal = |row: usize| {
        let time = UnixMillis(time + row as u64);
        let (bindings, request) = (Bindings::SOURCE, Request::Open);
        let params = format2::KnockParams { time, nonce: [7; 12], bindings, request };
        format2::Knock::seal(&keys, &params, Port(PORT), &addresses)
    };
    let captured = seal(0);
    let forged = |row: usize| {
        let mut forgery = captured;
        forgery[24..32].copy_from_slice(&row.to_le_bytes().repeat(2)[..8]);
        forgery.to_vec()
    };
    let noise = |row: usize| {
        let mut noise = forged(row);
        noise[..4].copy_from_slice(&row.to_le_bytes()[..4]);
        noise
    };
    let rule = format!("-m pkd --key {KEY} --tag {TAG} --format 2");
    let before = Status::read()?;
    rate("packet2-forged", through(&[&rule], &forged)?);
    rate("packet2-noise", through(&[&rule], &noise)?);
    // Last, because they raise the floor over the forgeries' time.
    rate("packet2-accepted", through(&[&rule], &|row| seal(row).to_vec())?);
    let moved = Status::read()?.moved_since(&before);
    let all = u64::from(PACKETS);
    ensure!(moved == [("Accept", all), ("Filter", all), ("Tag", all)], "{moved:?}");
    Ok(format!("{PACKETS} of each kind"))
}

/// Classic forgeries with the right tag and time, which cost each rule a digest; and noise for format 2.
fn many_users() -> Result<String> {
    let classic = knock(now()?)?;
    let forged = |row: usize| {
        let mut forgery = classic;
        forgery[12..20].copy_from_slice(&row.to_le_bytes().repeat(2)[..8]);
        forgery.to_vec()
    };
    for users in USERS {
        rate(&format!("packet-users-{users}"), through_users(users, "--window 3600", &forged)?);
        rate(&format!("packet2-users-{users}"), through_users(users, "--format 2", &forged)?);
    }
    Ok(format!("{PACKETS_FOR_MANY} of each kind"))
}

/// Like [`through`], for a rule of each user, all with one tag; until all of them have looked at all datagrams, because the kernel
/// leaves what takes it long to a thread.
fn through_users(users: u32, options: &str, payload: &dyn Fn(usize) -> Vec<u8>) -> Result<f64> {
    let firewall = Firewall::new(Family::V4, Back::Legacy);
    firewall.flush()?;
    for user in 0..users {
        firewall.run(&format!(
            "-A INPUT -p udp --dport {PORT} -m pkd --key user{user} --tag {TAG} {options} -j ACCEPT"
        ))?;
    }
    firewall.run(&format!("-A INPUT -p udp --dport {PORT} -j DROP"))?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(("127.0.0.1", PORT))?;
    let looks = u64::from(users * PACKETS_FOR_MANY);
    let before = Status::read()?.total();
    let begin = Instant::now();
    for row in 0..PACKETS_FOR_MANY as usize {
        socket.send(&payload(row))?;
    }
    let looked = |status: &Status| status.total() - before >= looks;
    wait(Duration::from_mins(2), Status::read, looked).context("not all rules looked at all datagrams")?;
    let took = begin.elapsed().as_secs_f64() * 1e9 / f64::from(PACKETS_FOR_MANY);
    firewall.flush()?;
    Ok(took)
}

/// The match of xtables-addons, where this guest has it.
fn pknock() -> Result<String> {
    if shell("modprobe xt_pknock").is_err() {
        return Ok("not in this guest".to_owned());
    }
    let rule =
        format!("-m pknock --knockports {PORT} --name bench --opensecret {KEY} --closesecret no -j ACCEPT");
    // Nothing of its knocks' own length, 65 bytes, is sent: in the version of Debian 12 (3.23), on Linux 6.1, the first one ends
    // in a fault of `crypto_shash_update`, and the kernel stops.
    rate("pknock-short", through(&[&rule], &|_| vec![0; 20])?);
    Ok(format!("{PACKETS} of each kind"))
}
