//! What a QEMU guest runs: the router and its clients in one machine, each behind a network card
//! of its own, and every claim about the netfilter match held against the real kernel.
//!
//! Prints a line a claim and ends with `lane: N passed, N failed`. It takes the machine for itself:
//! it sets the clock, flushes rules and unloads the module. The words on
//! its command line are the parts to run, `match flood packages` without any. `reboot` wants a guest that an earlier boot
//! has left something to; `short` is a part of `match`; `nft` is mode nft of the packages; `debug` and `debug-quick` are
//! about the match on a kernel that watches itself; `differential` compares its verdicts with pkd-core's; `figures`
//! measures for `make bench`.

mod conformance;
mod debug;
mod differential;
mod figures;
mod firewall;
mod flood;
mod gate;
mod knocks;
mod lab;
mod lives;
mod malformed;
mod nft_mode;
mod openwrt;
mod options;
mod packet;
mod readme;
mod reboot;
mod report;
mod router;
mod status;

use anyhow::Result;

use firewall::Back;
use gate::Gate;
use lab::{Family, Lab};
use report::Report;

fn main() {
    let mut report = Report::default();
    if let Err(error) = run(&mut report) {
        report.failed("setting up", &error);
    }
    report.finish();
}

fn run(report: &mut Report) -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("figures") {
        figures::show(report);
        return Ok(());
    }
    let lab = Lab::set_up()?;
    let gate = Gate::new(&lab, Family::V4, Back::Legacy);
    let gate_of_ipv6 = Gate::new(&lab, Family::V6, Back::Legacy);
    let mut parts: Vec<String> = std::env::args().skip(1).collect();
    if parts.is_empty() {
        parts = ["match", "flood", "packages"].map(str::to_owned).into();
    }
    for part in parts {
        match part.as_str() {
            "match" => the_match(report, &lab, &gate, &gate_of_ipv6),
            "flood" => {
                flood::claims(report, &gate);
                flood::claims(report, &gate_of_ipv6);
            }
            "packages" => openwrt::claims(report, &lab, &gate, &gate_of_ipv6),
            "short" => {
                loads(report);
                knocks::claims(report, &gate);
                malformed::claims(report, &gate_of_ipv6);
                conformance::claims(report, &gate);
            }
            "nft" => {
                router::prepare(lab.card())?;
                nft_mode::claims(report, lab.card(), &gate, &gate_of_ipv6);
            }
            "debug" => {
                debug::prepare()?;
                the_match(report, &lab, &gate, &gate_of_ipv6);
                debug::claims(report, &gate, &debug::WHOLE);
            }
            "debug-quick" => {
                debug::prepare()?;
                loads(report);
                knocks::claims(report, &gate);
                malformed::claims(report, &gate_of_ipv6);
                debug::claims(report, &gate, &debug::QUICK);
            }
            "differential" => differential::claims(report),
            "reboot" => reboot::comes_up(report, &lab, &gate),
            other => anyhow::bail!("unknown part {other:?}"),
        }
    }
    report.claim("the kernel has nothing to complain about", lab::kernel_is_content);
    Ok(())
}

fn loads(report: &mut Report) {
    report.claim("the module loads under the original's names", || {
        lab::shell("modprobe ip6t_pkd && rmmod xt_pkd && modprobe ipt_pkd")?;
        Ok("ip6t_pkd, ipt_pkd".to_owned())
    });
}

/// The match by itself, with rules typed by hand.
fn the_match(report: &mut Report, lab: &Lab, gate: &Gate<'_>, gate_of_ipv6: &Gate<'_>) {
    loads(report);
    for family in [Family::V4, Family::V6] {
        let gate = Gate::new(lab, family, Back::Legacy);
        knocks::claims(report, &gate);
        malformed::claims(report, &gate);
    }
    knocks::claims_of_revision_0(report, gate);
    if Back::Nft.is_here() {
        knocks::claims_over_nftables(report, &Gate::new(lab, Family::V4, Back::Nft));
    } else {
        Report::not_here("iptables over nftables");
    }
    readme::claims(report, gate);
    options::claims(report, gate);
    lives::claims(report, gate, gate_of_ipv6);
    conformance::claims(report, gate);
}
