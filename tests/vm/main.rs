//! What a QEMU guest runs: the router and its clients in one machine, each behind a network card
//! of its own, and every check about the netfilter match held against the real kernel.
//!
//! Prints a line a check and ends with `vm: N passed, N failed`. It takes the machine for itself:
//! it sets the clock, flushes rules and unloads the module. The words on
//! its command line are the parts to run, `match flood packages` without any. `reboot` wants a guest that an earlier boot
//! has left something to; `short` is a part of `match`; `nft` is mode nft of the packages; `sanitizers` and `sanitizers-quick`
//! are about the match on a kernel that watches itself, `races` on one that looks for data races; `differential` compares its
//! verdicts with pkd-core's; `keys` adds many rules with many keys; `processors`, `floors` and `format2` are parts of `match`;
//! `figures` measures for `make bench`.

mod conformance;
mod conformance_format2;
mod differential;
mod figures;
mod firewall;
mod flood;
mod floors;
mod format2;
mod gateway;
mod keys;
mod knocks;
mod malformed;
mod namespace;
mod network;
mod nft_mode;
mod openwrt;
mod options;
mod packet;
mod processors;
mod races;
mod readme;
mod reboot;
mod reloads;
mod router;
mod sanitizers;
mod status;
mod wire;

use anyhow::Result;

use firewall::Back;
use gateway::Gateway;
use network::{Family, Network};
use pkd_tests::Report;

fn main() {
    let mut report = Report::new("vm");
    if let Err(error) = run(&mut report) {
        report.fail("setting up", &error);
    }
    report.print_summary();
}

fn run(report: &mut Report) -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("figures") {
        figures::show(report);
        return Ok(());
    }
    let network = Network::set_up()?;
    let gateway = Gateway::new(&network, Family::V4, Back::Legacy);
    let ipv6 = Gateway::new(&network, Family::V6, Back::Legacy);
    let mut parts: Vec<String> = std::env::args().skip(1).collect();
    if parts.is_empty() {
        parts = ["match", "flood", "packages"].map(str::to_owned).into();
    }
    for part in parts {
        match part.as_str() {
            "match" => the_match(report, &network, &gateway, &ipv6),
            "flood" => {
                flood::checks(report, &gateway);
                flood::checks(report, &ipv6);
            }
            "packages" => openwrt::checks(report, &network, &gateway, &ipv6),
            "short" => {
                loads(report);
                knocks::checks(report, &gateway);
                malformed::checks(report, &ipv6);
                conformance::checks(report, &gateway);
                format2::checks(report, &gateway);
                format2::checks(report, &ipv6);
                conformance_format2::checks(report);
            }
            "format2" => {
                loads(report);
                format2::checks(report, &gateway);
                format2::checks(report, &ipv6);
                conformance_format2::checks(report);
            }
            "nft" => {
                router::prepare(network.card())?;
                nft_mode::checks(report, network.card(), &gateway, &ipv6);
            }
            "sanitizers" => {
                sanitizers::prepare()?;
                the_match(report, &network, &gateway, &ipv6);
                sanitizers::checks(report, &gateway, &sanitizers::WHOLE);
            }
            "sanitizers-quick" => {
                sanitizers::prepare()?;
                loads(report);
                knocks::checks(report, &gateway);
                malformed::checks(report, &ipv6);
                sanitizers::checks(report, &gateway, &sanitizers::QUICK);
            }
            "races" => {
                races::prepare()?;
                races::checks(report);
            }
            "differential" => differential::checks(report),
            "keys" => keys::checks(report),
            "floors" => floors::checks(report),
            "processors" => processors::checks(report),
            "reboot" => reboot::comes_up(report, &network, &gateway),
            other => anyhow::bail!("unknown part {other:?}"),
        }
    }
    report.check("the kernel has nothing to complain about", network::kernel_is_content);
    Ok(())
}

fn loads(report: &mut Report) {
    report.check("the module loads under the original's names", || {
        network::shell("modprobe ip6t_pkd && rmmod xt_pkd && modprobe ipt_pkd")?;
        Ok("ip6t_pkd, ipt_pkd".to_owned())
    });
}

/// The match by itself, with rules typed by hand.
fn the_match(report: &mut Report, network: &Network, gateway: &Gateway<'_>, ipv6: &Gateway<'_>) {
    loads(report);
    for family in [Family::V4, Family::V6] {
        let gateway = Gateway::new(network, family, Back::Legacy);
        knocks::checks(report, &gateway);
        malformed::checks(report, &gateway);
    }
    knocks::checks_of_revision_0(report, gateway);
    if Back::Nft.is_here() {
        knocks::checks_over_nftables(report, &Gateway::new(network, Family::V4, Back::Nft));
    } else {
        report.skip("iptables over nftables");
    }
    readme::checks(report, gateway);
    options::checks(report, gateway);
    reloads::checks(report, gateway, ipv6);
    floors::checks(report);
    processors::checks(report);
    conformance::checks(report, gateway);
    format2::checks(report, gateway);
    format2::checks(report, ipv6);
    conformance_format2::checks(report);
}
