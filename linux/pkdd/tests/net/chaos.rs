//! Random disturbances, while a stranger tries to connect all the time: flushes, restores, reloads, kills, restarts, steps of
//! the clock and errors in the configuration. The stranger has captured knocks, and sends them again after each. The order
//! follows from a seed.
//!
//! `PKD_CHAOS` is the number of disturbances (the full tests use 1,000), `PKD_CHAOS_SEED` another seed.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use pkd_netns::{
    network::{Family, Network, net_test, ssh_server},
    process::{number, shell, wait},
    stranger::Stranger,
};

use crate::{
    clock::Clock,
    gateway::{Gateway, KEY, PORT, TAG, USERS, iptables_legacy, now, payload},
};

/// Disturbances if `PKD_CHAOS` does not say otherwise.
const FEW: u64 = 40;

/// The time between two tries of each kind: two address families.
const PACE: Duration = Duration::from_millis(20);

/// Seconds by which the daemon's clock is ahead: about the times of the captured knocks, and far away from them.
const STEPS: [i64; 8] = [0, -3, 4, -60, 700, -86_400, 86_400, 315_360_000];

/// Captured knocks: seconds by which their times are ahead of the clock.
const CAPTURED: [u64; 3] = [0, 4, 9];

/// Numbers that follow from a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap_or_default()
    }
}

/// What other programs do, for each kind of firewall. `IP` stands for the programs of both families.
fn commands(back_end: &str, kind: &str) -> Vec<String> {
    let nft = [
        "nft flush ruleset",
        "nft delete table inet pktables",
        "nft flush chain inet pktables guard",
        "nft flush chain inet pktables pk-ssh",
        "nft insert rule inet pktables pk-ssh accept",
        "nft flush set inet pktables pk-ssh-4",
        "nft delete table inet pkdd",
        "nft flush ruleset; nft 'add table inet theirs { chain input { type filter hook input priority 0; }; }'",
    ];
    let iptables = [
        "IP-F; IP-t mangle -F; IP-t raw -F; IP-t nat -F",
        "IP-t mangle -F; IP-t mangle -X",
        "IP-t mangle -I pk-ssh -j RETURN",
        "IP-t mangle -D PREROUTING 1",
        "printf '*mangle\\nCOMMIT\\n*raw\\nCOMMIT\\n*filter\\nCOMMIT\\n' | IP-restore",
        "nft flush ruleset",
    ];
    let both = |line: &str| {
        let of = |family: &str| {
            line.replace("IP-restore", &format!("{family}-{kind}-restore"))
                .replace("IP-", &format!("{family}-{kind} -"))
        };
        format!("{}; {}", of("iptables"), of("ip6tables"))
    };
    match back_end {
        "nft" => nft.map(str::to_owned).to_vec(),
        _ => iptables.map(both).to_vec(),
    }
}

fn disturb(gateway: &mut Gateway<'_>, random: &mut Random, commands: &[String]) -> Result<String> {
    let what = random.below(12);
    Ok(match what {
        0 => {
            gateway.stop(Signal::SIGKILL)?;
            gateway.start()?;
            "kill".to_owned()
        }
        1 => {
            gateway.stop(Signal::SIGTERM)?;
            gateway.start()?;
            "restart".to_owned()
        }
        2 => {
            gateway.configure(&USERS.replace("600", &(500 + random.below(100)).to_string()))?;
            ensure!(gateway.reload()?);
            "reload".to_owned()
        }
        3 => {
            gateway.configure(&USERS.replace("port = 22", "port = 0"))?;
            ensure!(!gateway.reload()?);
            gateway.configure(USERS)?;
            "an error in the configuration".to_owned()
        }
        4 => {
            gateway.signal(Signal::SIGUSR1)?;
            "a request to restore".to_owned()
        }
        5 | 6 => {
            let ahead = STEPS.get(random.below(STEPS.len())).copied().unwrap_or_default();
            gateway.clock.as_ref().context("no clock")?.set(ahead)?;
            format!("the clock {ahead} s ahead")
        }
        _ => {
            let command = commands.get(random.below(commands.len())).cloned().unwrap_or_default();
            // Some of them fail, as what they would remove is gone already.
            shell(&format!("{{ {command}; }} 2>/dev/null; true"))?;
            command
        }
    })
}

fn chaos(network: &Network, back_end: &'static str, kind: &str) -> Result<()> {
    let (rounds, seed) = (number("PKD_CHAOS", FEW)?, number("PKD_CHAOS_SEED", 20_261)?);
    let mut random = Random(seed.max(1));
    let mut gateway = Gateway::new(network, back_end)?;
    if kind == "legacy" {
        iptables_legacy(&mut gateway)?;
    }
    gateway.clock = Some(Clock::new(&gateway.path("clock"))?);
    let _server = ssh_server(22, gateway.folder.path())?;
    gateway.start()?;
    let (begin, mut captured) = (now()?, Vec::new());
    for (nonce, ahead) in (100..).zip(CAPTURED) {
        let knock = payload(KEY, TAG, begin + ahead, nonce)?;
        gateway.expect("accept", Family::V4, &knock)?;
        captured.push(knock);
    }
    let commands = commands(back_end, kind);
    let stranger = Stranger::start_with(&[22], PACE)?;
    let mut done = Vec::new();
    for _ in 0..rounds {
        done.push(disturb(&mut gateway, &mut random, &commands)?);
        for family in Family::BOTH {
            for knock in &captured {
                network.send(family.other(), SocketAddr::new(family.gateway(), PORT), knock)?;
            }
        }
        // At least ten tries during and after each of them.
        stranger.more(10)?;
        let let_in = stranger.let_in();
        let recent: Vec<&String> = done.iter().rev().take(3).collect();
        ensure!(let_in.is_empty(), "seed {seed}: a stranger was let in after {recent:?}: {let_in:?}");
    }
    gateway.configure(USERS)?;
    ensure!(gateway.reload()?);
    // What was captured is still known when its time seems to have come again.
    let clock = gateway.clock.as_ref().context("no clock")?;
    clock.set(i64::try_from(begin)? - i64::try_from(now()?)?)?;
    for knock in &captured {
        gateway.refuses(knock)?;
    }
    // A knock opens the port as ever.
    clock.set(0)?;
    wait("no trouble", || Ok(gateway.status()?["trouble"] == ""), |fine| *fine)?;
    gateway.is_closed(Family::V6)?;
    for (nonce, family) in (1..).zip(Family::BOTH) {
        gateway.expect("accept", family, &payload(KEY, TAG, now()? + 5, nonce)?)?;
        gateway.is_open(family)?;
    }
    let tries = stranger.finish()?;
    let firewall = match (back_end, kind) {
        ("nft", _) => "nftables",
        (_, "nft") => "iptables-nft",
        _ => "iptables-legacy",
    };
    println!(
        "\nrow: connections that a stranger gets during random disturbances, {firewall} | 0 of {tries} | {rounds} \
         disturbances, seed {seed}"
    );
    Ok(())
}

net_test!(nobody_gets_in_during_random_disturbances_of_nftables, |network| chaos(network, "nft", "nft"));

net_test!(nobody_gets_in_during_random_disturbances_of_iptables_over_nftables, |network| {
    chaos(network, "iptables", "nft")
});

net_test!(nobody_gets_in_during_random_disturbances_of_iptables_legacy, |network| {
    chaos(network, "iptables", "legacy")
});
