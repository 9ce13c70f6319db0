//! Everyday use: knocks, grants and reloads, with both backends.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use pkd_netns::{
    network::{Family, Network, net_test, ssh_server, still_speaks},
    process::{shell, wait},
};

use crate::gateway::{Gateway, KEY, PORT, TAG, USERS, iptables_legacy, now, payload};

const BACK_ENDS: [&str; 2] = ["nft", "iptables"];

pub(crate) fn each_back_end(
    network: &Network,
    scenario: impl Fn(&mut Gateway<'_>) -> Result<()>,
) -> Result<()> {
    for back_end in BACK_ENDS {
        let mut gateway = Gateway::new(network, back_end)?;
        let _server = ssh_server(22, gateway.folder.path())?;
        gateway.start()?;
        scenario(&mut gateway)
            .map_err(|error| error.context(format!("{back_end}; log: {:#?}", gateway.lines())))?;
        gateway.stop(Signal::SIGTERM)?;
        gateway.run(&["clear"])?;
        let left = shell("nft list ruleset; iptables-save; ip6tables-save")?;
        ensure!(!left.contains("pkdd") && !left.contains("pk-"), "{back_end} leaves {left}");
    }
    Ok(())
}

net_test!(a_knock_opens_the_port_only_for_its_sender, |network| {
    each_back_end(network, |gateway| {
        for family in Family::BOTH {
            gateway.is_closed(family)?;
            gateway.knock(family)?;
            gateway.is_open(family)?;
        }
        ensure!(gateway.counter("accept")? == 2);
        let status = gateway.run(&["status"])?;
        ensure!(
            status.contains("open for 192.0.2.2 (me), ") && status.contains("open for 2001:db8::2 (me)"),
            "{status}"
        );
        ensure!(!status.contains(KEY) && !gateway.lines().concat().contains(KEY), "a key is shown");
        let metrics = gateway.run(&["metrics"])?;
        ensure!(metrics.contains("pkdd_grants{service=\"ssh\"} 2\n"), "{metrics}");
        ensure!(metrics.contains("pkdd_datagrams_total{verdict=\"accept\"} 2\n"), "{metrics}");
        ensure!(metrics.contains("pkdd_user_accepted_total{user=\"me\"} 2\n"), "{metrics}");
        ensure!(
            gateway.status()?["users"][0]["accepted"] == 2 && status.contains(", 2 accepted\n"),
            "{status}"
        );
        Ok(())
    })
});

net_test!(a_knock_opens_the_port_with_iptables_legacy, |network| {
    let mut gateway = Gateway::new(network, "iptables")?;
    iptables_legacy(&mut gateway)?;
    let _server = ssh_server(22, gateway.folder.path())?;
    gateway.start()?;
    ensure!(
        shell("/usr/sbin/iptables-legacy -t mangle -S")?.contains("pk-ssh"),
        "the rules are not in iptables-legacy"
    );
    for family in Family::BOTH {
        gateway.is_closed(family)?;
        gateway.knock(family)?;
        gateway.is_open(family)?;
    }
    Ok(())
});

net_test!(only_a_fresh_knock_opens_the_port, |network| {
    each_back_end(network, |gateway| {
        for (family, nonce) in Family::BOTH.into_iter().zip([1, 2]) {
            let time = now()?;
            // A different one for each family: both may be sent in the same second.
            let good = payload(KEY, TAG, time, nonce)?;
            let mut altered = payload(KEY, TAG, time, 12)?;
            altered[30] ^= 1;
            let rows = [
                ("digest", payload("another key", TAG, time, 13)?),
                ("digest", altered),
                ("window", payload(KEY, TAG, time - 60, 14)?),
                ("window", payload(KEY, TAG, time + 60, 15)?),
                ("window", payload(KEY, TAG, u64::MAX, 16)?),
            ];
            for (verdict, payload) in rows {
                gateway.expect(verdict, family, &payload)?;
                gateway.is_closed(family)?;
            }
            // Knocks with another tag or length do not reach pkdd: the next one is counted, and they are not.
            let to = SocketAddr::new(family.gateway(), PORT);
            gateway.network.send(family.client(), to, &payload(KEY, "ELSE", time, 17)?)?;
            gateway.network.send(family.client(), to, &good[..55])?;
            let before = gateway.counter("replay")?;
            gateway.network.send(family.other(), to, &good)?;
            gateway.expect("replay", family, &good)?;
            ensure!(gateway.counter("replay")? == before + 1);
            gateway.is_closed(family)?;
        }
        ensure!(gateway.counter("tag")? == 0 && gateway.counter("length")? == 0);
        Ok(())
    })
});

net_test!(after_a_grant_ends_open_connections_stay, |network| {
    each_back_end(network, |gateway| {
        gateway.configure(&USERS.replace("600", "2"))?;
        ensure!(gateway.reload()?);
        for family in Family::BOTH {
            // A slow host may miss the end of a grant, so try again.
            let knock_and_connect = || {
                gateway.knock(family)?;
                wait("the knock", || gateway.status(), |status| status["grants"] != serde_json::json!([]))?;
                gateway.network.connection(family.client(), family.ssh())
            };
            let stream = wait("a connection", knock_and_connect, Option::is_some)?;
            let ask = || gateway.network.banner(family.client(), family.ssh());
            wait("the end of the grant", ask, Option::is_none)?;
            still_speaks(&mut stream.context("no connection")?)?;
        }
        Ok(())
    })
});

net_test!(a_reload_keeps_grants_and_caches_and_an_invalid_one_changes_nothing, |network| {
    each_back_end(network, |gateway| {
        let knocked = payload(KEY, TAG, now()?, 1)?;
        gateway.expect("accept", Family::V4, &knocked)?;
        gateway.is_open(Family::V4)?;
        for wrong in
            ["", "[user.me]", &USERS.replace("port = 22", "port = 0"), &USERS.replace("me.key", "none.key")]
        {
            if wrong.is_empty() {
                fs::remove_file(gateway.path("pkdd.toml"))?;
            } else {
                gateway.configure(wrong)?;
            }
            ensure!(!gateway.reload()?, "{wrong}");
            gateway.configure(USERS)?;
            ensure!(!gateway.status()?["trouble"].as_str().unwrap_or_default().is_empty(), "{wrong}");
            gateway.is_open(Family::V4)?;
        }
        let more = "[service.web]\nport = 80\n[user.more]\nformat = 'classic'\ntag = 'MORE'\nkey = 'more'\nservices = ['web']\n";
        gateway.configure(&format!("{USERS}{more}"))?;
        ensure!(gateway.reload()?);
        ensure!(gateway.status()?["trouble"] == "");
        gateway.is_open(Family::V4)?;
        gateway.expect("replay", Family::V4, &knocked)?;
        gateway.expect("accept", Family::V6, &payload("more", "MORE", now()?, 1)?)?;
        gateway.is_closed(Family::V6)?;
        // A removed service loses its rules.
        gateway.configure(USERS)?;
        ensure!(gateway.reload()?);
        ensure!(!shell("nft list ruleset; iptables-save")?.contains("pk-web"), "pk-web is still there");
        gateway.is_open(Family::V4)
    })
});

net_test!(a_removed_or_disabled_user_loses_all_grants, |network| {
    each_back_end(network, |gateway| {
        let both =
            format!("{USERS}[user.two]\nformat = 'classic'\ntag = 'TWO'\nkey = 'two'\nservices = ['ssh']\n");
        gateway.configure(&both)?;
        ensure!(gateway.reload()?);
        gateway.expect("accept", Family::V4, &payload("two", "TWO", now()?, 1)?)?;
        gateway.knock(Family::V6)?;
        gateway.is_open(Family::V4)?;
        gateway.is_open(Family::V6)?;
        for (gone, open) in [
            (both.replace("'two'\n", "'two'\nenabled = false\n"), Family::V6),
            (both.replace("'two'\n", "'two'\nexpires = '2020-01-01'\n"), Family::V6),
            (both.replace("key = 'two'", "key = 'new'"), Family::V6),
        ] {
            gateway.configure(&gone)?;
            ensure!(gateway.reload()?);
            gateway.is_closed(Family::V4)?;
            gateway.is_open(open)?;
            gateway.configure(&both)?;
            ensure!(gateway.reload()?);
            // The user is active again, and the grant has time left.
            gateway.is_open(Family::V4)?;
        }
        // Removed while the daemon was stopped.
        gateway.stop(Signal::SIGTERM)?;
        gateway.is_open(Family::V4)?;
        gateway.configure(USERS)?;
        gateway.start()?;
        gateway.is_closed(Family::V4)?;
        gateway.is_open(Family::V6)
    })
});

net_test!(a_service_behind_the_gateway_is_reached_after_a_knock, |network| {
    shell("ip netns add inside && ip link add in type veth peer name host && ip link set host netns inside")?;
    shell("ip link set in up && ip addr add 10.0.0.1/24 dev in && ip addr add fd00::1/64 dev in nodad")?;
    let inside = |line: &str| shell(&format!("nsenter --net=/run/netns/inside {line}"));
    inside("ip link set lo up && nsenter --net=/run/netns/inside ip link set host up")?;
    inside("ip addr add 10.0.0.10/24 dev host")?;
    inside("ip addr add fd00::10/64 dev host nodad")?;
    inside("ip route add default via 10.0.0.1")?;
    inside("ip route add default via fd00::1")?;
    shell("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")?;
    for back_end in BACK_ENDS {
        let mut gateway = Gateway::new(network, back_end)?;
        let folder = gateway.folder.path().display().to_string();
        shell(&format!("dropbearkey -t ed25519 -f {folder}/key"))?;
        inside(&format!("dropbear -p 2200 -P {folder}/pid -r {folder}/key"))?;
        // Wait until it listens and the gateway has resolved its address: a packet queued for that looks dropped.
        for host in ["10.0.0.10:2200", "[fd00::10]:2200"] {
            wait(host, || Ok(TcpStream::connect(host).is_ok()), |up| *up)?;
        }
        gateway.configure(&format!(
            "{}forward = ['10.0.0.10:2200', '[fd00::10]:2200']\n{}",
            "[service.nas]\nport = 2222\nseconds = 600\n",
            "[user.me]\nformat = 'classic'\ntag = 'SSHK'\nkey_file = 'me.key'\nservices = ['nas']\n"
        ))?;
        gateway.start()?;
        for family in Family::BOTH {
            let to = SocketAddr::new(family.gateway(), 2222);
            ensure!(
                network.banner(family.client(), to)?.is_none(),
                "{back_end} {family:?}: open before the knock"
            );
            gateway.knock(family)?;
            let banner = wait("the host", || network.banner(family.client(), to), Option::is_some)?;
            ensure!(banner.unwrap_or_default().starts_with("SSH-2.0-dropbear"));
            ensure!(
                network.banner(family.other(), to)?.is_none(),
                "{back_end} {family:?}: open for others too"
            );
        }
        gateway.stop(Signal::SIGTERM)?;
        gateway.run(&["clear"])?;
        shell(&format!("kill $(cat {folder}/pid)"))?;
    }
    Ok(())
});

net_test!(replay_explains_each_knock_in_a_capture, |network| {
    let gateway = Gateway::new(network, "nft")?;
    let time = now()?;
    // A pcap header: magic, version 2.4, no offsets, snaplen 65,535, raw IP.
    let mut file: Vec<u8> = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    let payloads = [
        payload(KEY, TAG, time - 3, 1)?,
        payload(KEY, TAG, time - 3, 1)?,
        payload("else", TAG, time, 2)?,
        payload(KEY, "ELSE", time, 3)?,
        payload(KEY, TAG, time + 99, 4)?,
    ];
    for payload in payloads {
        let mut packet = Vec::new();
        etherparse::PacketBuilder::ipv4([192, 0, 2, 7], [192, 0, 2, 1], 64)
            .udp(5, PORT)
            .write(&mut packet, &payload)?;
        let length = u32::try_from(packet.len())?;
        let head = [u32::try_from(time)?, 0, length, length];
        file.extend(head.iter().flat_map(|word| word.to_ne_bytes()));
        file.extend(packet);
    }
    let path = gateway.path("knocks.pcap");
    fs::write(&path, &file)?;
    let output = gateway.run(&["replay", &path.to_string_lossy()])?;
    let parts = [
        "accept; user me, whose clock is 3 s behind",
        "replay; ",
        "digest; ",
        "tag; ",
        "window; its time is 99 s ahead of",
    ];
    let lines: Vec<&str> = output.lines().collect();
    ensure!(lines.len() == 6 && lines[5].starts_with("5 packets, 5 of them UDP datagrams: 1 "), "{output}");
    for (line, part) in lines.iter().zip(parts) {
        ensure!(
            line.contains("from 192.0.2.7 to port 40000, tag ") && line.contains(part),
            "{part}: {output}"
        );
    }
    // What the snap length cut off is not left out in silence: a payload, and headers.
    let first = 24 + 16;
    let cut = |kept: usize| {
        let head = [u32::try_from(time)?, 0, u32::try_from(kept)?, 84];
        let head = head.iter().flat_map(|word| word.to_ne_bytes());
        anyhow::Ok(head.chain(file[first..first + kept].iter().copied()).collect::<Vec<u8>>())
    };
    fs::write(&path, [&file[..24], &cut(68)?, &cut(20)?, &cut(20)?].concat())?;
    let output = gateway.run(&["replay", &path.to_string_lossy()])?;
    let expected = "packet 1, from 192.0.2.7 to port 40000: not read; the capture kept only 68 of 84 bytes; capture with -s 0\n\
                    2 packets not read: the capture kept only 20 of 84 bytes; capture with -s 0\n\
                    3 packets, 1 of them UDP datagrams: 0 would have been accepted\n";
    ensure!(output == expected, "{output}");
    // Invalid files are reported in one line.
    for wrong in [&file[..file.len() - 3], &file[..30], b"no capture at all, only text in it", b""] {
        fs::write(&path, wrong)?;
        let output = gateway.command(&["replay", &path.to_string_lossy()]).output()?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(1) && error.lines().count() == 1 && error.contains("knocks.pcap"),
            "{error}"
        );
    }
    Ok(())
});
