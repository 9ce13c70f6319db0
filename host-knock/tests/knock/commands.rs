//! Every command prints the same to pipes and to a terminal.

use std::{io::Write as _, net::TcpListener, thread};

use anyhow::{Result, ensure};

use crate::harness::{Harness, KEY};

/// A server that greets each connection, for as long as the test lasts.
fn greeter() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"welcome\n");
        }
    });
    Ok(port)
}

#[test]
fn commands_print_the_same_to_pipes_and_terminals() -> Result<()> {
    let port = greeter()?;
    let doctor = format!(
        "ok    name: 127.0.0.1 resolves to 127.0.0.1\nok    key: found, for tag SSHK, format classic\n----  clock: not checked\n\
         ----  port {port} before: open\nok    knock: sent to 127.0.0.1 port 40017\nok    port {port} after: open\n\
         Port {port} was open before the knock: no rule closes it for this computer, or an earlier knock is still valid.\n"
    );
    let wait_in_vain = "knock: 127.0.0.1: port 1 did not open within 1 s: 127.0.0.1: connection refused\n";
    // arguments, exit code, output
    let rows: &[(&[&str], i32, &str)] = &[
        (&["office"], 0, ""),
        (&["-v", "office"], 0, "knocked 127.0.0.1 (127.0.0.1 port 40017)\n"),
        (&["office", "--then", "echo then"], 0, "then\n"),
        (&["@all"], 0, "HOST    STATUS  PORT   ADDRESSES\noffice  sent    40017  127.0.0.1\n"),
        (&["proxy", "office", &port], 0, "welcome\n"),
        (&["proxy", "--timeout", "1", "office", "1"], 1, wait_in_vain),
        (&["wait", "office", &port], 0, ""),
        (&["wait", "--timeout", "1", "office", "1"], 1, wait_in_vain),
        (&["seq", "-v", "127.0.0.1", "9:udp"], 0, "knocked 127.0.0.1 (127.0.0.1 port 9:udp)\n"),
        (
            &["list"],
            0,
            "NAME    ADDRESS    TAG   KEY                     SERVICES\noffice  127.0.0.1  SSHK  HOME/.config/knock/key\n",
        ),
        (
            &["show", "--json", "nobody"],
            2,
            "knock: HOME/.config/knock/config.toml: unknown profile \"nobody\"\n",
        ),
        (&["import", "FILE"], 0, "imported gw\n"),
        (&["keygen", "-o", "FILE"], 2, "knock: cannot create HOME/FILE: File exists (os error 17)\n"),
        (
            &["share", "--png", "FILE", "office"],
            2,
            "knock: cannot create HOME/FILE: File exists (os error 17)\n",
        ),
        (&["doctor", "--time-server", "-", "office", &port], 0, &doctor),
        (
            &["verify", "--key-file", "FILE", "00"],
            1,
            "length   1 bytes; a knock has 56\nverdict  ignore: length\n",
        ),
    ];
    for (args, code, told) in rows {
        for on_terminal in [false, true] {
            let harness = Harness::new("commands_print_the_same_to_pipes_and_terminals")?;
            std::fs::create_dir_all(harness.home().join(".config/knock"))?;
            let profile =
                "[host.office]\naddress = '127.0.0.1'\ntag = 'SSHK'\nport = 40017\nkey_file = 'key'\n";
            harness.file(".config/knock/config.toml", format!("{profile}[group]\nall = ['office']\n"))?;
            harness.file(".config/knock/key", KEY)?;
            let ini = "[gw]\nkey = open sesame\n";
            let file = harness.file("FILE", if args.contains(&"verify") { KEY } else { ini })?;
            let args: Vec<_> =
                args.iter().map(|&arg| if arg == "FILE" { file.as_str() } else { arg }).collect();
            let outcome = if on_terminal { harness.knock_attached(&args)? } else { harness.knock(&args)? };
            let all = [outcome.stdout, outcome.stderr, outcome.terminal.replace("\r\n", "\n")].concat();
            let home = harness.home().display().to_string();
            // The progress line is erased.
            let lines = all.split_inclusive('\n').map(|line| line.rsplit('\r').next().unwrap_or(line));
            let all = lines.collect::<String>().replace(&home, "HOME");
            let squeezed =
                |text: &str| text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
            ensure!(
                outcome.code == Some(*code) && squeezed(&all) == squeezed(told),
                "{args:?}, terminal: {on_terminal}: {:?} {all:?}",
                outcome.code
            );
        }
    }
    Ok(())
}
