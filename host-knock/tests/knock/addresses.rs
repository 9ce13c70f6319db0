//! Several profiles with one address.

use std::{
    net::{TcpListener, UdpSocket},
    thread,
};

use anyhow::Result;

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
