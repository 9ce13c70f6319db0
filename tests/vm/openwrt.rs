//! Our packages on a router: installed, configured, reloaded, reconfigured wrongly, and removed.

mod access;
mod configuration;
mod package;

use std::time::Duration;

use pkd_tests::Report;

use crate::{firewall::Back, gateway::Gateway, network::Network, nft_mode, reboot};

const LIMIT: Duration = Duration::from_mins(1);
/// How long a grant lasts in the checks that wait for its end.
const BRIEF: &str = "set pkd.ssh.seconds=3";
const LONG: &str = "set pkd.ssh.seconds=600";

pub(crate) fn checks(report: &mut Report, network: &Network, v4: &Gateway<'_>, v6: &Gateway<'_>) {
    let card = network.card();
    if !Back::Nft.is_here() {
        report.check("packages: a module for another kernel is not installed", || {
            package::another_kernel(card)
        });
        report.check("packages: module, extension and client of the packages work together", || {
            package::by_hand(v4)
        });
        report.check("packages: the service says what it misses, and changes nothing", package::misses_nft);
        report.skip("nft, and so the service with firewall4");
        return;
    }
    report.check("packages: a module for another kernel is not installed", || package::another_kernel(card));
    report.check("packages: installing them closes nothing, opens nothing and makes no key", || {
        package::installs(v4)
    });
    report.check("packages: the first start makes a random key and says what the client types", || {
        package::starts(v4)
    });
    report.check("packages: what it says opens the port, for one address only", || access::opens(v4));
    report.check("packages: over IPv6 too", || access::opens_over_ipv6(v6));
    report.check("packages: a grant ends, and a connection from before stays", || access::ends(v4));
    report.check("packages: a user of format 2 opens and closes", || access::format2(v4, v6));
    report.check("packages: rules and grants outlive a reload of the firewall", || {
        access::firewall_reloads(v4)
    });
    report.check("packages: rules outlive a restart, and a stop and start, of the firewall", || {
        access::firewall_restarts(v4)
    });
    report.check("packages: they outlive a card that goes down and up", || access::card_flaps(card, v4));
    report.check("packages: wrong configuration changes nothing, and the wrong part is named", || {
        configuration::wrong(v4)
    });
    report.check("packages: a reload keeps grants and what was accepted", || configuration::reloads(v4));
    report.check(
        "packages: each user opens the services that are his, with tags that the service takes",
        || access::users(v4),
    );
    report.check("packages: a mark of somebody else's is no knock", || access::marks(v4));
    report.check("packages: a user's last day ends", || access::expires(v4));
    report.check(
        "packages: a key in the configuration reaches no list of processes, no log and no status",
        || configuration::secrets(v4),
    );
    report.check("packages: an upgrade keeps configuration and key", || package::upgrades(v4));
    report.check(
        "packages: a firewall without our rules is an error, not a gate that is open for knocks",
        || configuration::deaf(v4),
    );
    report.check("packages: a knock of one mode is a replay in the other, there and back", || {
        configuration::modes(v4)
    });
    reboot::goes_down(report, v4);
    report.check("packages: disabling closes, and so does removing, which leaves nothing", || {
        package::removes(card, v4)
    });
    nft_mode::checks(report, card, v4, v6);
}
