//! Grants for the network of the sender, so that privacy addresses work.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use pkd_netns::{
    network::{Family, Network, net_test, ssh_server},
    process::{shell, wait},
};

use crate::{
    firewall4,
    gateway::{Gateway, KEY, TAG, USERS, now, payload},
    scenarios::each_back_end,
};

/// The client's second address is in its network of this length, and a stranger is not.
const PREFIXES: &str = "prefix4 = 28\nprefix6 = 112\n";

pub(crate) fn stranger(family: Family) -> &'static str {
    match family {
        Family::V4 => "192.0.2.99",
        Family::V6 => "2001:db8::1:99",
    }
}

fn speaks(network: &Network, from: std::net::IpAddr, family: Family) -> Result<bool> {
    Ok(network.banner(from, family.ssh())?.is_some())
}

fn grants(gateway: &Gateway<'_>) -> Result<Vec<String>> {
    let status = gateway.status()?;
    let list = status["grants"].as_array().into_iter().flatten();
    let mut grants: Vec<String> =
        list.filter_map(|grant| grant["address"].as_str()).map(str::to_owned).collect();
    grants.sort();
    Ok(grants)
}

pub(crate) fn add_strangers() -> Result<()> {
    for family in Family::BOTH {
        let (length, nodad) = if family == Family::V4 { (24, "") } else { (64, "nodad") };
        let address = stranger(family);
        shell(&format!("nsenter --net=/run/netns/client ip addr add {address}/{length} dev cl {nodad}"))?;
    }
    Ok(())
}

/// Both addresses of the client get in, and the stranger does not.
fn is_open_to_the_network_alone(gateway: &Gateway<'_>, family: Family) -> Result<()> {
    for address in [family.client(), family.other()] {
        ensure!(speaks(gateway.network, address, family)?, "closed to {address}");
    }
    ensure!(!speaks(gateway.network, stranger(family).parse()?, family)?, "open to {}", stranger(family));
    Ok(())
}

fn opens_and_closes(gateway: &mut Gateway<'_>) -> Result<()> {
    for (family, nonce) in Family::BOTH.into_iter().zip([1, 2]) {
        gateway.is_closed(family)?;
        gateway.expect("accept", family, &payload(KEY, TAG, now()?, nonce)?)?;
        is_open_to_the_network_alone(gateway, family)?;
    }
    let networks = ["192.0.2.0/28".to_owned(), "2001:db8::/112".to_owned()];
    ensure!(grants(gateway)? == networks, "{:?}", grants(gateway)?);
    // Over a restart, and a reload of the same configuration.
    gateway.stop(Signal::SIGKILL)?;
    gateway.start()?;
    ensure!(gateway.reload()?);
    ensure!(grants(gateway)? == networks, "{:?}", grants(gateway)?);
    Family::BOTH.into_iter().try_for_each(|family| is_open_to_the_network_alone(gateway, family))?;
    // By hand, for any address of the network.
    gateway.run(&["revoke", "192.0.2.9"])?;
    gateway.is_closed(Family::V4)?;
    is_open_to_the_network_alone(gateway, Family::V6)
}

net_test!(a_knock_opens_the_port_to_the_network_of_its_sender, |network| {
    add_strangers()?;
    each_back_end(network, |gateway| {
        // The sections of the test's gateway are the first.
        gateway.configure(&format!("{PREFIXES}{USERS}"))?;
        gateway.stop(Signal::SIGTERM)?;
        gateway.start()?;
        opens_and_closes(gateway)?;
        // Back to single addresses: the network is closed, and the address that has knocked stays in.
        gateway.configure(USERS)?;
        ensure!(gateway.reload()?);
        let (client, other) = (Family::V6.client(), Family::V6.other());
        ensure!(speaks(network, client, Family::V6)? && !speaks(network, other, Family::V6)?);
        ensure!(grants(gateway)?.contains(&"2001:db8::2".to_owned()), "{:?}", grants(gateway)?);
        // And again for the network.
        gateway.configure(&format!("{PREFIXES}{USERS}"))?;
        ensure!(gateway.reload()?);
        is_open_to_the_network_alone(gateway, Family::V6)?;
        // The same while pkdd is stopped: rules and grants stay.
        gateway.stop(Signal::SIGTERM)?;
        gateway.configure(USERS)?;
        gateway.start()?;
        ensure!(speaks(network, client, Family::V6)? && !speaks(network, other, Family::V6)?);
        gateway.stop(Signal::SIGTERM)?;
        gateway.configure(&format!("{PREFIXES}{USERS}"))?;
        gateway.start()?;
        is_open_to_the_network_alone(gateway, Family::V6)?;
        // A user who may no longer open it loses the network.
        gateway
            .configure(&format!("{PREFIXES}{}", USERS.replace("services", "enabled = false\nservices")))?;
        ensure!(gateway.reload()?);
        gateway.is_closed(Family::V6)?;
        ensure!(!speaks(network, other, Family::V6)?);
        ensure!(grants(gateway)?.is_empty(), "{:?}", grants(gateway)?);
        Ok(())
    })
});

net_test!(a_grant_for_a_network_ends_in_time, |network| {
    each_back_end(network, |gateway| {
        gateway.configure(&format!("{PREFIXES}{}", USERS.replace("600", "2")))?;
        ensure!(gateway.reload()?);
        for (family, nonce) in Family::BOTH.into_iter().zip([1, 2]) {
            gateway.expect("accept", family, &payload(KEY, TAG, now()?, nonce)?)?;
            wait("the end", || grants(gateway), Vec::is_empty)?;
            gateway.is_closed(family)?;
            ensure!(!speaks(network, family.other(), family)?);
        }
        Ok(())
    })
});

net_test!(a_network_is_opened_with_firewall4, |network| {
    add_strangers()?;
    let mut gateway = Gateway::new(network, "fw4")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    firewall4::load_with([" & 255.255.255.240", " & ffff:ffff:ffff:ffff:ffff:ffff:ffff:0"])?;
    gateway.configure(&format!("{PREFIXES}{USERS}"))?;
    gateway.start()?;
    opens_and_closes(&mut gateway)
});

net_test!(prefixes_of_whole_providers_are_refused, |network| {
    let gateway = Gateway::new(network, "nft")?;
    for (line, message) in [
        ("prefix4 = 15", "invalid prefix4 15: expected 16–32"),
        ("prefix4 = 33", "invalid prefix4 33: expected 16–32"),
        ("prefix6 = 31", "invalid prefix6 31: expected 32–128"),
        ("prefix6 = 0", "invalid prefix6 0: expected 32–128"),
        ("prefix6 = 129", "invalid prefix6 129: expected 32–128"),
    ] {
        gateway.configure(&format!("{line}\n{USERS}"))?;
        let output = gateway.command(&["check"]).output()?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1) && error.contains(message), "{line}: {error}");
    }
    Ok(())
});
