//! Services of several ports and ranges, seen from strangers and from who has a grant.

use anyhow::{Result, ensure};

use crate::{
    netns::{Netns, on_each_firewall, run, wait},
    topology,
};

/// Addresses of a client with a grant, and of a stranger.
const CLIENTS: [(&str, &str); 2] = [("192.0.2.7", "192.0.2.8"), ("2001:db8::7", "2001:db8::8")];

/// Guarded, and on both sides of each.
const PORTS: [u16; 5] = [80, 443, 8000, 8001, 8002];
const NEIGHBOURS: [u16; 6] = [79, 81, 442, 444, 7999, 8004];

/// Of another service, which is closed, too.
const OTHER: u16 = 8003;

/// Checks which ports answer an address: the neighbours always, the guarded ones if they are in `open`, and never that of the
/// other service.
fn answers(from: &str, open: &[u16], what: &str) -> Result<()> {
    for port in PORTS.into_iter().chain(NEIGHBOURS).chain([OTHER]) {
        let expected = NEIGHBOURS.contains(&port) || open.contains(&port);
        let found = topology::who(from, port)?;
        ensure!(found.is_some() == expected, "{what}: {from} at port {port}: {found:?}");
    }
    Ok(())
}

on_each_firewall! {
    fn each_port_of_a_list_is_closed_without_a_grant_and_no_other(netns) {
        topology::connect()?;
        for port in PORTS.into_iter().chain(NEIGHBOURS).chain([OTHER]) {
            topology::serve(None, port, "gateway")?;
        }
        netns.quietly(&[&format!("init other --port {OTHER}")])?;
        for words in ["", " --syn", " --before-nat", " --syn --before-nat", " --interface c0 --interface c1"] {
            let init = format!("init web --port 443,80,8000-8002{words}");
            netns.quietly(&[&init])?;
            ensure!(netns.pktables(&format!("-v {init}"))?.stdout == "unchanged\n", "{init}");
            for (client, stranger) in CLIENTS {
                answers(client, &[], &init)?;
                netns.quietly(&[&format!("add {client} --service web --timeout 1h")])?;
                answers(client, &PORTS, &init)?;
                answers(stranger, &[], &init)?;
                netns.quietly(&[&format!("delete {client} --service web")])?;
                answers(client, &[], &init)?;
            }
        }
        // In its time, too.
        netns.quietly(&["add 192.0.2.7 --service web --timeout 1s"])?;
        let over = || -> Result<Vec<String>> {
            netns.quietly(&["expire"])?;
            netns.granted("web")
        };
        wait("the grant", over, Vec::is_empty)?;
        answers("192.0.2.7", &[], "after its time")
    }
}

on_each_firewall! {
    /// Grants stay for the ports that remain.
    fn a_shorter_list_stops_guarding_the_ports_that_are_gone(netns) {
        topology::connect()?;
        for port in PORTS.into_iter().chain(NEIGHBOURS).chain([OTHER]) {
            topology::serve(None, port, "gateway")?;
        }
        netns.quietly(&[&format!("init other --port {OTHER}"), "init web --port 80,443,8000-8002", "add 192.0.2.7 --service web"])?;
        // the ports, which are guarded then
        for (list, guarded) in [("80,8000-8002", &[80, 8000, 8001, 8002][..]), ("80,8001", &[80, 8001]), ("80-81", &[80])] {
            netns.quietly(&[&format!("init web --port {list}")])?;
            for port in PORTS {
                let found = topology::who("192.0.2.8", port)?;
                ensure!(found.is_none() == guarded.contains(&port), "{list}: a stranger at port {port}: {found:?}");
                topology::expect("192.0.2.7", port, Some("gateway"))?;
            }
        }
        netns.quietly(&["remove web"])?;
        answers("192.0.2.8", &PORTS, "removed")
    }
}

on_each_firewall! {
    fn forwarded_ports_keep_their_numbers(netns) {
        topology::connect()?;
        for (port, name) in [(8000, "a"), (8001, "b"), (8080, "c"), (8002, "neighbour")] {
            topology::serve(Some("inner"), port, name)?;
            topology::serve(None, port, "gateway")?;
        }
        if !netns.kind.is_nft() {
            for program in ["iptables", "ip6tables"] {
                run(program, ["-P", "FORWARD", "DROP"])?;
            }
        }
        let init = "init nas --port 8000-8001,8080 --forward 192.168.1.10 --forward [fd00::10]";
        netns.quietly(&[init])?;
        ensure!(netns.pktables(&format!("-v {init}"))?.stdout == "unchanged\n");
        for (client, stranger) in CLIENTS {
            let closed = |from: &str| {
                [8000, 8001, 8080].iter().try_for_each(|port| {
                    let found = topology::who(from, *port)?;
                    ensure!(found.is_none(), "{from} at port {port}: {found:?}");
                    Ok(())
                })
            };
            closed(client)?;
            netns.quietly(&[&format!("add {client} --service nas")])?;
            for (port, name) in [(8000, "a"), (8001, "b"), (8080, "c"), (8002, "gateway")] {
                topology::expect(client, port, Some(name))?;
            }
            closed(stranger)?;
            netns.quietly(&[&format!("delete {client} --service nas")])?;
            closed(client)?;
        }
        Ok(())
    }
}

on_each_firewall! {
    fn a_list_is_shown_as_it_was_given(netns) {
        netns.quietly(&[
            "init web --port 8000-8100,80,443 --syn",
            "init sip --port 5060-5070 --udp",
            "init ssh --port 22",
        ])?;
        let listed = netns.pktables("list")?.stdout;
        for part in ["tcp/80,443,8000-8100 ", "udp/5060-5070 ", "tcp/22 "] {
            ensure!(listed.contains(part), "{listed}");
        }
        let json: serde_json::Value = serde_json::from_str(&netns.pktables("list --json")?.stdout)?;
        let shown: Vec<_> = json.as_array().into_iter().flatten().map(|one| (one["port"].clone(), one["ports"].clone())).collect();
        let expected = [
            (serde_json::Value::Null, serde_json::json!(["5060-5070"])),
            (serde_json::json!(22), serde_json::json!(["22"])),
            (serde_json::Value::Null, serde_json::json!(["80", "443", "8000-8100"])),
        ];
        ensure!(shown == expected, "{shown:?}");
        let most: Vec<String> = (1..=16).map(|number| (number * 10).to_string()).collect();
        let most = most.join(",");
        netns.fails(&format!("init web --port {most}"), 2, &format!("invalid port {most:?}: more than 15 ports and ranges"))?;
        netns.fails("init web --port 90-80", 2, "invalid port \"90-80\": expected the lower port first")?;
        netns.fails(
            "init web --port 80,443 --forward 192.168.1.10:80",
            2,
            "invalid forward \"192.168.1.10:80\": several ports keep their numbers: leave out the port",
        )
    }
}
