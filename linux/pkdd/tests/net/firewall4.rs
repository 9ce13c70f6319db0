//! Grants in the sets of firewall4. A table with the sets and rules of the package `pkd` stands in for it.

use std::{fs, io::Write as _, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use pkd_netns::{
    network::{Family, net_test, ssh_server},
    process::{shell, wait},
};

use crate::gateway::{Gateway, KEY, TAG, USERS};

/// Reloads the fake firewall4: everything is recreated, with empty sets.
pub(crate) fn load() -> Result<()> {
    load_with([""; 2])
}

/// The same, with what follows the sender of each family in the rules.
pub(crate) fn load_with([v4, v6]: [&str; 2]) -> Result<()> {
    let (sets, rules): (Vec<String>, Vec<String>) = [
        ("4", "ipv4_addr", format!("ip saddr{v4}")),
        ("6", "ipv6_addr", format!("ip6 saddr{v6}")),
        ("link", "ipv6_addr . iface_index", "ip6 saddr . iif".to_owned()),
    ]
    .map(|(end, kind, sender)| {
        let set = format!("set pkd_ssh_{end} {{ type {kind}; flags timeout; }}");
        (set, format!("tcp dport 22 ct state new {sender} @pkd_ssh_{end} accept"))
    })
    .into_iter()
    .unzip();
    let chain = format!(
        "chain input {{ type filter hook input priority 0; {}; tcp dport 22 ct state new drop; \
         udp length 64 log group 5644 snaplen 192 queue-threshold 1 drop; }}",
        rules.join("; ")
    );
    let table = format!("table inet fw4 {{ {}; {chain}; }}", sets.join("; "));
    shell(&format!("nft 'table inet fw4; delete table inet fw4; {table}'")).map(drop)
}

/// Renders what the package `pkd` would have firewall4 include for a service `ssh` with these lines, in mode nft; returns a
/// function that names the file for one of its places.
pub(crate) fn render(gateway: &Gateway<'_>, service: &str) -> Result<impl Fn(&str) -> String + use<>> {
    let folder = gateway.path("rendered");
    fs::create_dir_all(&folder)?;
    // Somebody with knocks of both formats.
    let user = |name: &str, format: &str| {
        format!(
            "config user '{name}'\n\toption format '{format}'\n\toption tag '{TAG}'\n\toption key '{KEY}'\n\tlist service 'ssh'\n"
        )
    };
    let uci = format!(
        "package pkd\nconfig gate 'gate'\n\toption enabled '1'\n\toption mode 'nft'\n\toption zone 'any'\n\
         config service 'ssh'\n{service}{}{}",
        user("me", "2"),
        user("old", "classic")
    );
    let mut command = gateway.command(&["openwrt", "render", &folder.to_string_lossy()]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no standard input")?.write_all(uci.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(move |name: &str| format!("include \"{}/fw4/{name}-pkd.nft\"", folder.display()))
}

/// Loads firewall4's table with these lines.
pub(crate) fn load_table(gateway: &Gateway<'_>, lines: &str) -> Result<()> {
    let table = gateway.path("fw4.nft");
    fs::write(&table, format!("table inet fw4\ndelete table inet fw4\ntable inet fw4 {{\n{lines}\n}}\n"))?;
    shell(&format!("nft -f {}", table.display())).map(drop)
}

/// Renders and loads it into a table that lets nothing else in at these ports, in nft's notation.
pub(crate) fn load_rendered(gateway: &Gateway<'_>, service: &str, closed: &str) -> Result<()> {
    let include = render(gateway, service)?;
    load_table(
        gateway,
        &format!(
            "{}\nchain input {{\ntype filter hook input priority 0; policy accept;\n\
             ct state {{ established, related }} accept\n{}\ntcp dport {closed} drop\n}}",
            include("table"),
            include("chain")
        ),
    )
}

net_test!(a_knock_opens_the_port_with_the_sets_of_firewall4, |network| {
    let mut gateway = Gateway::new(network, "fw4")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    load()?;
    gateway.start()?;
    for family in Family::BOTH {
        gateway.is_closed(family)?;
        gateway.knock(family)?;
        gateway.is_open(family)?;
    }
    let status = gateway.run(&["status"])?;
    ensure!(
        status.contains("open for 192.0.2.2 (me), ") && status.contains("open for 2001:db8::2 (me), "),
        "{status}"
    );
    // After a reload the sets are empty, and pkdd restores the grants.
    load()?;
    gateway.signal(Signal::SIGUSR1)?;
    for family in Family::BOTH {
        gateway.is_open(family)?;
    }
    // While firewall4 is stopped, its sets cannot be listed, and the status reports it.
    shell("nft delete table inet fw4")?;
    let trouble = || Ok(gateway.status()?["trouble"].to_string());
    wait("trouble", trouble, |trouble| trouble.contains("no set pkd_ssh_4 in table inet fw4"))?;
    load()?;
    gateway.signal(Signal::SIGUSR1)?;
    gateway.is_open(Family::V4)?;
    // A disabled user loses the grants.
    gateway.configure(&USERS.replace("services = ['ssh']", "services = ['ssh']\nenabled = false"))?;
    ensure!(gateway.reload()?);
    for family in Family::BOTH {
        gateway.is_closed(family)?;
    }
    // While firewall4 is stopped, there are no grants to revoke.
    shell("nft delete table inet fw4")?;
    gateway.configure(USERS)?;
    ensure!(gateway.stop(Signal::SIGTERM)?);
    gateway.run(&["clear"])?;
    Ok(())
});
