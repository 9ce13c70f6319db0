//! What the host does besides pkdd does not lead around the gate: connection tracking, published and redirected ports,
//! and knocks at any port.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use pkd_netns::{
    network::{Family, Network, net_test, ssh_server},
    process::{built, shell, wait},
    stranger::Stranger,
};

use crate::{
    gateway::{Gateway, KEY, TAG, USERS, now, payload},
    scenarios::each_back_end,
};

/// Connects to the gateway from this host.
fn reaches_itself(family: Family) -> Result<bool> {
    Ok(pkd_netns::probe::connect_here(family.gateway(), family.ssh())?.is_some())
}

net_test!(strangers_stay_out_of_untracked_and_redirected_ports, |network| {
    shell("nft add table inet theirs")?;
    for chain in ["prerouting", "output"] {
        shell(&format!(
            "nft 'add chain inet theirs raw-{chain} {{ type filter hook {chain} priority raw; }}'"
        ))?;
    }
    shell("nft 'add chain inet theirs nat { type nat hook prerouting priority dstnat; }'")?;
    each_back_end(network, |gateway| {
        let stranger = Stranger::start(&[22, 2222, 8080])?;
        gateway.configure(
            "[service.ssh]\nport = 22\nseconds = 600\n[service.published]\nport = 8080\nseconds = 600\n\
             [user.me]\nformat = 'classic'\ntag = 'SSHK'\nkey_file = 'me.key'\nservices = ['ssh', 'published']\n",
        )?;
        ensure!(gateway.reload()?);
        stranger.more(12)?;
        for (chain, side) in [("raw-prerouting", "dport"), ("raw-output", "sport")] {
            shell(&format!("nft add rule inet theirs {chain} tcp {side} 22 notrack"))?;
            stranger.more(12)?;
        }
        for family in Family::BOTH {
            gateway.is_closed(family)?;
            gateway.knock(family)?;
            gateway.is_open(family)?;
        }
        // An untracked answer would not be redirected back.
        shell("nft flush chain inet theirs raw-prerouting && nft flush chain inet theirs raw-output")?;
        shell("nft 'add rule inet theirs nat tcp dport { 2222, 8080 } redirect to :22'")?;
        for family in Family::BOTH {
            for port in [2222, 8080] {
                let to = SocketAddr::new(family.gateway(), port);
                wait("the redirected port", || gateway.network.banner(family.client(), to), Option::is_some)?;
                ensure!(gateway.network.banner(family.other(), to)?.is_none());
            }
        }
        stranger.more(12)?;
        shell("nft flush chain inet theirs nat")?;
        stranger.finish().map(drop)
    })
});

net_test!(the_host_itself_and_exempt_sources_need_no_knock, |network| {
    each_back_end(network, |gateway| {
        let users = "[service.ssh]\nport = 22\n[user.me]\nformat = 'classic'\ntag = 'SSHK'\nkey_file = 'me.key'\nservices = ['ssh']\n";
        // options of the gate, whether the client and its other address get in
        let rows = [
            ("", [false, false]),
            ("exempt = ['192.0.2.2', '2001:db8::2']\n", [true, false]),
            ("exempt = ['192.0.2.8/29', '2001:db8::8/125']\n", [false, true]),
            ("exempt = ['gw']\n", [true, true]),
            ("interfaces = ['gw']\n", [false, false]),
            ("interfaces = ['other']\n", [true, true]),
            ("interfaces = ['gw', 'other']\nexempt = ['192.0.2.9', '2001:db8::9']\n", [false, true]),
            ("", [false, false]),
        ];
        for (gate, [client, other]) in rows {
            gateway.configure(&format!("{gate}{users}"))?;
            ensure!(gateway.reload()?, "{gate}: {:?}", gateway.lines());
            for family in Family::BOTH {
                let connects =
                    |from| Ok::<_, anyhow::Error>(gateway.network.banner(from, family.ssh())?.is_some());
                ensure!(connects(family.client())? == client, "{gate}: {family:?}");
                ensure!(connects(family.other())? == other, "{gate}: {family:?}, the other address");
                ensure!(reaches_itself(family)?, "{gate}: {family:?}, the host itself");
            }
        }
        Ok(())
    })
});

net_test!(a_knock_may_go_to_the_port_of_a_guarded_service, |network: &Network| {
    each_back_end(network, |gateway| {
        gateway.configure(
            "[service.ssh]\nport = 22\nseconds = 600\n[service.vpn]\nprotocol = 'udp'\nport = 40000\n\
             [user.me]\nformat = 'classic'\ntag = 'SSHK'\nkey_file = 'me.key'\nservices = ['ssh', 'vpn']\n",
        )?;
        ensure!(gateway.reload()?);
        for (nonce, family) in (1..).zip(Family::BOTH) {
            gateway.is_closed(family)?;
            gateway.expect("accept", family, &payload(KEY, TAG, now()?, nonce)?)?;
            gateway.is_open(family)?;
        }
        Ok(())
    })
});

net_test!(a_foreign_chain_stops_no_expiry_and_is_reported_once, |network| {
    each_back_end(network, |gateway| {
        for program in ["iptables", "ip6tables"] {
            shell(&format!("{program} -N pk-foreign && {program} -A pk-foreign -j RETURN"))?;
            shell(&format!("{program} -t mangle -N pk-other && {program} -t mangle -A pk-other -j RETURN"))?;
        }
        gateway.configure(&USERS.replace("600", "2"))?;
        ensure!(gateway.reload()?);
        for family in Family::BOTH {
            gateway.knock(family)?;
            wait("the grant", || gateway.status(), |status| status["grants"] != serde_json::json!([]))?;
            let banner = || gateway.network.banner(family.client(), family.ssh());
            wait("the end of the grant", banner, Option::is_none)?;
        }
        let status = gateway.status()?;
        ensure!(status["trouble"] == "", "{status}");
        let reports = |name: &str| gateway.lines().iter().filter(|line| line.contains(name)).count();
        for name in ["pk-foreign", "pk-other"] {
            ensure!(reports(name) <= 1, "{name} is reported {} times", reports(name));
        }
        let left = shell("iptables-save; ip6tables-save")?;
        ensure!(left.matches("pk-foreign").count() == 4 && left.matches("pk-other").count() == 4, "{left}");
        for program in ["iptables", "ip6tables"] {
            shell(&format!("{program} -F pk-foreign && {program} -X pk-foreign"))?;
            shell(&format!("{program} -t mangle -F pk-other && {program} -t mangle -X pk-other"))?;
        }
        Ok(())
    })
});

/// What `pktables add` grants stays as it is, whatever knocks, reloads and repairs do with the same address.
fn keeps_grants_by_hand(gateway: &Gateway<'_>, backend: &str) -> Result<()> {
    let pktables = built("pktables", "pktables")?;
    let pktables = |words: &str| shell(&format!("{} --backend {backend} {words}", pktables.display()));
    let client = Family::V4.client();
    let left = || -> Result<String> {
        // There is no service while it is being restored.
        let listed = pktables("list ssh").unwrap_or_default();
        let line = listed.lines().find(|line| line.contains(&format!(" {client} "))).unwrap_or_default();
        Ok(line.split_whitespace().nth(3).unwrap_or_default().to_owned())
    };
    // how long the grant by hand lasts, what the list shows of it after a knock of 600 s has gone again
    for (nonce, (timeout, expected)) in (1..).zip([("", "-"), ("--timeout 1d", "d"), ("--timeout 5m", "m")]) {
        pktables(&format!("add {client} --service ssh {timeout}"))?;
        gateway.is_open(Family::V4)?;
        gateway.expect("accept", Family::V4, &payload(KEY, TAG, now()?, nonce)?)?;
        gateway.is_open(Family::V4)?;
        // The user may no longer open it.
        gateway.configure(&USERS.replace("services = ['ssh']", "services = ['ssh']\nenabled = false"))?;
        ensure!(gateway.reload()?);
        let found = left()?;
        ensure!(found.contains(expected), "{timeout}: {found:?} is left of the grant");
        gateway.is_open(Family::V4)?;
        if backend == "nft" {
            shell("nft flush ruleset")?;
        } else {
            shell("iptables -t mangle -F")?;
        }
        wait("the grant", left, |left| left.contains(expected))?;
        gateway.is_open(Family::V4)?;
        wait("no trouble", || Ok(gateway.status()?["trouble"] == ""), |fine| *fine)?;
        // A grant that is revoked by hand is revoked.
        pktables(&format!("delete {client} --service ssh"))?;
        let banner = || gateway.network.banner(client, Family::V4.ssh());
        wait("a closed port", banner, Option::is_none)?;
        gateway.configure(USERS)?;
        ensure!(gateway.reload()?);
        pktables(&format!("delete {client} --service ssh"))?;
        wait("a closed port", banner, Option::is_none)?;
    }
    Ok(())
}

net_test!(grants_made_by_hand_are_neither_shortened_nor_revoked, |network| {
    for back_end in ["nft", "iptables"] {
        let mut gateway = Gateway::new(network, back_end)?;
        let _server = ssh_server(22, gateway.folder.path())?;
        gateway.start()?;
        keeps_grants_by_hand(&gateway, back_end)
            .map_err(|error| error.context(format!("{back_end}; log: {:#?}", gateway.lines())))?;
        gateway.stop(Signal::SIGTERM)?;
        gateway.run(&["clear"])?;
    }
    Ok(())
});
