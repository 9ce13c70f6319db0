//! Several profiles with one address.

use std::{
    net::{TcpListener, UdpSocket},
    thread,
};

use anyhow::{Context as _, Result};

use crate::harness::{Harness, KEY, LIMIT, verify};

#[test]
fn the_service_tells_profiles_with_one_address_apart() -> Result<()> {
    let harness = Harness::new("the_service_tells_profiles_with_one_address_apart")?;
    let knocks = UdpSocket::bind("127.0.0.1:0")?;
    knocks.set_read_timeout(Some(LIMIT))?;
    let (ssh, web) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    let port = knocks.local_addr()?.port();
    let listeners = [ssh, web];
    let [ssh, web] = [listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()];
    for listener in listeners {
        // Each connection ends at once, and knock proxy with it.
        thread::spawn(move || listener.incoming().for_each(drop));
    }
    harness.file("key", KEY)?;
    let profile = |name: &str, tag: &str, services: &str| {
        format!(
            "[host.{name}]\naddress = '127.0.0.1'\nkey_file = 'key'\ntag = '{tag}'\nport = {port}\nservices = {{ {services} }}\n"
        )
    };
    let profiles = profile("one", "ONE", &format!("ssh = {ssh}"))
        + &profile("two", "TWO", &format!("web = {web}, dns = '{ssh}/udp'"));
    let file = harness.file("p.toml", profiles)?;
    for (service, tag) in [
        ("ssh".to_owned(), "ONE"),
        (ssh.to_string(), "ONE"),
        ("web".to_owned(), "TWO"),
        (web.to_string(), "TWO"),
    ] {
        for command in ["wait", "proxy"] {
            let outcome = harness.knock(&[command, "-c", &file, "127.0.0.1", &service])?;
            assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{command} {service}");
            let mut buffer = [0; 100];
            let length = knocks.recv(&mut buffer)?;
            verify(&buffer[..length], KEY, tag, port)?;
        }
        let doctor = harness.knock(&["doctor", "-c", &file, "--time-server", "-", "127.0.0.1", &service])?;
        assert!(doctor.stdout.contains(&format!("key: found, for tag {tag}")), "{doctor:?}");
        drain(&knocks)?;
    }
    // ssh's configuration has the port.
    std::fs::create_dir(harness.home().join("bin"))?;
    let path = format!("{}/bin:{}", harness.home().display(), std::env::var("PATH")?);
    for (service, tag) in [(ssh, "ONE"), (web, "TWO")] {
        let fake = format!(
            "#!/bin/sh\nif [ \"$1\" = -G ]; then printf 'hostname 127.0.0.1\\nport {service}\\n'; fi\n"
        );
        harness.file_with_mode("bin/ssh", &fake, 0o755)?;
        let outcome = harness.knock_with_path(&path, &["ssh", "-c", &file, "alias"])?;
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{service}");
        let mut buffer = [0; 100];
        let length = knocks.recv(&mut buffer)?;
        verify(&buffer[..length], KEY, tag, port)?;
    }
    Ok(())
}

/// Takes what a command that has ended has sent.
fn drain(knocks: &UdpSocket) -> Result<()> {
    knocks.set_nonblocking(true)?;
    while knocks.recv(&mut [0; 100]).is_ok() {}
    Ok(knocks.set_nonblocking(false)?)
}

#[test]
fn a_second_profile_with_an_address_is_a_warning() -> Result<()> {
    let harness = Harness::new("a_second_profile_with_an_address_is_a_warning")?;
    let warning = |names: &str| {
        format!(
            "knock: warning: profiles {names} have address \"gw\"; to say which one a command is for, give it the profile's \
             name, or with the address a service that only one of them has\n"
        )
    };
    let keygen = |address: &str, name: &str| harness.knock(&["keygen", "--address", address, name]);
    assert_eq!(keygen("gw", "one")?.stderr, "");
    assert_eq!(keygen("other", "away")?.stderr, "");
    let second = keygen("GW", "two")?;
    assert_eq!(
        (second.code, second.stderr),
        (Some(0), warning("one and two both").replace("\"gw\"", "\"GW\""))
    );
    // A name may be an address, too.
    assert_eq!(harness.knock(&["keygen", "gw"])?.stderr, warning("one, two and gw all"));
    let uri = "knock://ANN@gw/three?key=0x5e5a3e5e5a3e";
    let third = harness.knock_with_input(&["import", "-"], uri.as_bytes())?;
    assert_eq!((third.code, third.stderr), (Some(0), warning("one, two, gw and three all")));
    let quiet = harness.knock_with_input(&["import", "-q", "-", "--name", "four"], uri.as_bytes())?;
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""));
    // Both from one source.
    let ini = "[a]\nhost = gw\nkey = 0x5e5a3e5e5a3e\n[b]\nhost = gw\nkey = 0x5e5a3e5e5a3e\n";
    let file = harness.file("x.ini", ini)?;
    let both = harness.knock(&["import", "-c", "new.toml", &file])?;
    assert_eq!((both.code, both.stderr), (Some(0), warning("a and b both")));
    Ok(())
}

/// UDP sockets at these addresses, all with one port.
fn gateway<const N: usize>(addresses: [&str; N]) -> Result<([UdpSocket; N], u16)> {
    let mut sockets = Vec::new();
    let mut port = 0;
    for address in addresses {
        let socket = UdpSocket::bind((address, port))?;
        socket.set_read_timeout(Some(LIMIT))?;
        port = socket.local_addr()?.port();
        sockets.push(socket);
    }
    Ok((sockets.try_into().ok().context("sockets")?, port))
}

#[test]
fn each_address_of_a_gateway_gets_a_knock_bound_to_itself() -> Result<()> {
    let harness = Harness::new("each_address_of_a_gateway_gets_a_knock")?;
    harness.file("key", KEY)?;
    let addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
    let (sockets, port) = gateway(addresses)?;
    let file = harness.file(
        "p.toml",
        format!(
            "[host.gw]\naddress = ['127.0.0.1', 'gw.invalid', '127.0.0.2', '::1', '127.0.0.3']\nkey_file = 'key'\n\
             port = {port}\nformat = '2'\nbind = ['source', 'destination']\n"
        ),
    )?;
    let outcome = harness.knock(&["-4", "-v", "-c", &file, "gw"])?;
    let said = addresses.map(|address| format!("knocked gw ({address} port {port})"));
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), said);
    for (socket, own) in sockets.iter().zip(addresses) {
        let mut buffer = [0; 100];
        let (length, from) = socket.recv_from(&mut buffer)?;
        let hex = buffer[..length].iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        for destination in addresses {
            let port = port.to_string();
            let words = ["verify", "-c", &file, "--profile", "gw", "-p", &port, "--source"];
            let source = from.ip().to_string();
            let verdict =
                harness.knock(&[&words[..], &[&source, "--destination", destination, &hex]].concat())?;
            assert_eq!(verdict.code, Some(i32::from(destination != own)), "{own}: {verdict:?}");
        }
    }
    // Where none is left, the error names each.
    let six = harness.knock(&["-6", "-c", &file, "--bind", "none", "gw"])?;
    assert_eq!(six.code, Some(0), "{six:?}");
    let none = "[host.gw]\naddress = ['a.invalid', 'b.invalid']\nkey_file = 'key'\n";
    let none = harness.knock(&["-c", &harness.file("none.toml", none)?, "gw"])?;
    assert_eq!(none.code, Some(1), "{none:?}");
    let is_named = |name: &str| none.stderr.contains(&format!("{name}.invalid: cannot resolve: "));
    assert!(none.stderr.starts_with("knock: gw: a.invalid: ") && is_named("a") && is_named("b"), "{none:?}");
    let wrong = "[host.gw]\naddress = ['127.0.0.1', '127.0.0.2']\nkey_file = 'key'\n";
    let wrong = harness.knock(&["-6", "-c", &harness.file("wrong.toml", wrong)?, "gw"])?;
    let said = "knock: host \"gw\": IPv4 address, but only IPv6 is allowed\n";
    assert_eq!((wrong.code, wrong.stderr.as_str()), (Some(2), said));
    Ok(())
}

#[test]
fn a_connection_goes_to_the_address_that_answers() -> Result<()> {
    let harness = Harness::new("a_connection_goes_to_the_address_that_answers")?;
    harness.file("key", KEY)?;
    let (_knocks, port) = gateway(["127.0.0.1", "127.0.0.2"])?;
    let service = TcpListener::bind("127.0.0.2:0")?;
    let ssh = service.local_addr()?.port();
    thread::spawn(move || service.incoming().for_each(drop));
    let profile = |addresses: &str| {
        format!(
            "[host.gw]\naddress = [{addresses}]\nkey_file = 'key'\nport = {port}\nservices = {{ ssh = {ssh} }}\n"
        )
    };
    let file = harness.file("p.toml", profile("'127.0.0.1', '127.0.0.2'"))?;
    // By name, and by each address.
    for name in ["gw", "127.0.0.1", "127.0.0.2"] {
        let outcome = harness.knock(&["wait", "--json", "-c", &file, name])?;
        let value: serde_json::Value = serde_json::from_str(&outcome.stdout)?;
        assert_eq!(value["ports"][0]["address"], "127.0.0.2", "{outcome:?}");
        assert_eq!(value["hosts"], serde_json::json!(["127.0.0.1", "127.0.0.2"]));
        let proxy = harness.knock(&["proxy", "-c", &file, name, "ssh"])?;
        assert_eq!((proxy.code, proxy.stderr.as_str()), (Some(0), ""), "{name}");
    }
    let doctor = ["doctor", "-c", &file, "--time-server", "-", "gw"];
    let doctor = harness.knock(&doctor)?;
    for line in ["ok    name: 127.0.0.1 resolves to 127.0.0.1", "ok    name: 127.0.0.2 resolves to 127.0.0.2"]
    {
        assert!(doctor.stdout.lines().any(|own| own == line), "{doctor:?}");
    }
    // ssh is told the address, and where known_hosts has the key.
    std::fs::create_dir(harness.home().join("bin"))?;
    let path = format!("{}/bin:{}", harness.home().display(), std::env::var("PATH")?);
    let alias = format!("[127.0.0.1]:{ssh}");
    for (config, addresses, expected) in [
        ("", "'127.0.0.1', '127.0.0.2'", format!("-oHostName=127.0.0.2 -oHostKeyAlias={alias} ")),
        (
            "hostkeyalias own",
            "'127.0.0.1', '127.0.0.2'",
            "-oHostName=127.0.0.2 -oHostKeyAlias=own ".to_owned(),
        ),
        ("", "'127.0.0.2'", String::new()),
    ] {
        let fake = format!(
            "#!/bin/sh\nif [ \"$1\" = -G ]; then printf 'hostname 127.0.0.1\\nport {ssh}\\n{config}\\n'; else echo \"$*\"; fi\n"
        );
        harness.file_with_mode("bin/ssh", &fake, 0o755)?;
        let file = harness.file("ssh.toml", profile(addresses))?;
        let outcome = harness.knock_with_path(&path, &["ssh", "-c", &file, "gw"])?;
        let first = addresses.split('\'').nth(1).unwrap_or_default();
        let words = format!("{expected}-oHostName={first} -oPort={ssh} gw\n");
        assert_eq!((outcome.code, outcome.stdout), (Some(0), words), "{}", outcome.stderr);
    }
    Ok(())
}

#[test]
fn several_addresses_are_listed_shared_and_imported() -> Result<()> {
    let harness = Harness::new("several_addresses_are_listed_shared_and_imported")?;
    let keygen = [
        "keygen",
        "office",
        "--address",
        "gw",
        "--address",
        "192.0.2.7",
        "--for",
        "pkdd",
        "--address",
        "::1",
    ];
    let made = harness.knock(&keygen)?;
    // The gateway is reached where it is known.
    assert!(made.code == Some(0) && made.stdout.contains("ssh root@gw "), "{made:?}");
    let list = harness.knock(&["list"])?.stdout;
    assert!(list.contains("gw, 192.0.2.7, ::1"), "{list}");
    let all = serde_json::json!(["gw", "192.0.2.7", "::1"]);
    let show = harness.knock(&["show", "--json", "office"])?.stdout;
    let show: serde_json::Value = serde_json::from_str(&show)?;
    assert_eq!((&show["address"], &show["addresses"]), (&"gw".into(), &all));
    let uri = harness.knock(&["share", "--uri", "office"])?.stdout;
    assert!(uri.starts_with("knock://PKD0@gw/office?key=0x"), "no URI");
    assert!(uri.contains("&address=192.0.2.7&address=::1&"), "not all addresses");
    let other = harness.knock_with_input(&["import", "-c", "new.toml", "-"], uri.as_bytes())?;
    assert_eq!((other.code, other.stderr.as_str()), (Some(0), ""));
    let show = harness.knock(&["show", "-c", "new.toml", "--json", "office"])?.stdout;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&show)?["addresses"], all);
    // A profile that shares some of them.
    let second = harness.knock(&["keygen", "second", "--address", "192.0.2.7", "--address", "::1"])?;
    for address in ["192.0.2.7", "::1"] {
        let warning = format!("profiles office and second both have address {address:?};");
        assert!(second.stderr.contains(&warning), "{second:?}");
    }
    assert_eq!(second.stderr.lines().count(), 2, "{second:?}");
    Ok(())
}
