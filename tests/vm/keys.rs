//! Many rules and many keys. Unprivileged users can be root of a network namespace, so neither may slow down the machine.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use pkd_tests::Report;

use crate::{
    gateway,
    namespace::{self, LOOPBACK, STATUS},
    network::{self, wait},
    packet::{self, PORT},
    status::Status,
};

const TAG: &str = "MANY";
const LIMIT: Duration = Duration::from_secs(30);
const RULES: usize = 20_000;
/// The most keys of a namespace, unless the module is told otherwise.
const KEYS: usize = 2_048;

pub(crate) fn checks(report: &mut Report) {
    report.check("20,000 rules with keys chosen to meet in one bucket do not hold up packets", crowd);
    report.check("one key more than may be in use is refused, and the reason is told", refuses_more);
}

fn rule(key: u64) -> String {
    format!("-A PREROUTING -i lo -p udp -m pkd --key 0x{key:016x} --tag {TAG}")
}

/// How long it takes to load rules with these keys, in turn, and how long a datagram with none of them takes to pass.
fn pass(keys: &[u64]) -> Result<(Duration, Duration)> {
    namespace::inside(|firewall| {
        // These rules look up their cache for each packet.
        let firewall = firewall.of_revision_0();
        let rules: String = keys.iter().cycle().take(RULES).map(|key| rule(*key) + "\n").collect();
        let start = Instant::now();
        firewall.restore(&format!(
            "*mangle\n:PREROUTING ACCEPT [0:0]\n{rules}-A PREROUTING -i lo -p udp -j DROP\nCOMMIT\n"
        ))?;
        let loading = start.elapsed();
        fs::write(STATUS, "floor 0\n")?;
        let socket = packet::udp(LOOPBACK)?;
        let mut passing = Duration::MAX;
        for sent in 1..=5 {
            let payload = packet::knock_with("none of them", TAG, network::now()?, PORT)?;
            let start = Instant::now();
            socket.send_to(&payload, &SocketAddr::new(LOOPBACK, PORT).into())?;
            let took = start.elapsed();
            let digest = || Ok(Status::parse(&fs::read_to_string(STATUS)?)?.counters["Digest"]);
            let expected = sent * RULES as u64;
            // Over loopback it has met all rules by now, unless a busy kernel has left that to a thread of its own.
            if digest()? == expected {
                passing = passing.min(took);
            }
            let digest = wait(LIMIT, digest, |digest| *digest >= expected)?;
            ensure!(digest == expected, "{digest} rules looked at datagram {sent}, of {expected}");
        }
        ensure!(passing < Duration::MAX, "no datagram met the rules while it was sent");
        Ok((loading, passing))
    })
}

fn crowd() -> Result<String> {
    gateway::load()?;
    gateway::reload()?;
    let (_, one) = pass(&[0])?;
    let met: Vec<u64> = (0..).filter(|key| bucket(*key) == 0).take(KEYS).collect();
    let (loading, many) = pass(&met)?;
    // An unkeyed hash with 64 buckets takes 50 times as long. This many caches miss the CPU's cache, hence the margin.
    ensure!(many < 15 * one, "{many:?}, and {one:?} with one key");
    Ok(format!("{loading:.1?} to load, {many:.1?} to pass, {one:.1?} with one key"))
}

/// The bucket of a key before hashes had a secret: `hash_32()` of Bob Jenkins' lookup3, as the kernel has it, for 6 bits.
fn bucket(key: u64) -> u32 {
    let mut bytes = [0; 48];
    bytes[..8].copy_from_slice(&key.to_be_bytes());
    bytes[40..44].copy_from_slice(TAG.as_bytes());
    let words = bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap_or_default()));
    let words: Vec<u32> = words.collect();
    let (blocks, last) = words[..11].split_at(9);
    let [mut a, mut b, mut c] = [0xdead_beef_u32.wrapping_add(44); 3];
    for block in blocks.chunks_exact(3) {
        (a, b, c) = (a.wrapping_add(block[0]), b.wrapping_add(block[1]), c.wrapping_add(block[2]));
        for [rotate_a, rotate_b, rotate_c] in [[4, 6, 8], [16, 19, 4]] {
            (a, c) = (a.wrapping_sub(c) ^ c.rotate_left(rotate_a), c.wrapping_add(b));
            (b, a) = (b.wrapping_sub(a) ^ a.rotate_left(rotate_b), a.wrapping_add(c));
            (c, b) = (c.wrapping_sub(b) ^ b.rotate_left(rotate_c), b.wrapping_add(a));
        }
    }
    (a, b) = (a.wrapping_add(last[0]), b.wrapping_add(last[1]));
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    c.wrapping_mul(0x61c8_8647) >> 26
}

fn refuses_more() -> Result<String> {
    gateway::load()?;
    gateway::unload()?;
    network::shell("modprobe xt_pkd max_keys=3")?;
    let said = namespace::inside(|firewall| {
        let add = |key| firewall.run(&format!("-t mangle {}", rule(key)));
        // The number of rules is not limited.
        for key in [1, 2, 3, 3, 2, 1] {
            add(key)?;
        }
        let line = format!("-t mangle {}", rule(4));
        let said = firewall.refuses(&line.split(' ').collect::<Vec<_>>())?;
        ensure!(said.contains("Too many users"), "{said}");
        network::shell("dmesg | grep 'xt_pkd: rule refused: 3 keys are in use'")
            .context("the kernel's log")?;
        // A key without rules is not in use.
        for _ in 0..2 {
            firewall.run(&format!("-t mangle {}", rule(3).replace("-A", "-D")))?;
        }
        add(4)?;
        firewall.refuses(&line.replace("04 --tag", "05 --tag").split(' ').collect::<Vec<_>>())?;
        // The limit is per namespace.
        namespace::inside(|other| other.run(&format!("-t mangle {}", rule(5))).map(drop))?;
        Ok(said.trim().to_owned())
    })?;
    gateway::reload()?;
    Ok(said)
}
