//! Runs every command of the README.

use std::{
    env,
    net::UdpSocket,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::harness::{Harness, LIMIT, verify};

const README: &str = include_str!("../../README.md");

/// The lines of all code blocks in this language.
fn lines(language: &str) -> impl Iterator<Item = &'static str> {
    let blocks = README.split("\n```").skip(1).step_by(2);
    blocks.filter_map(move |block| block.strip_prefix(language)?.strip_prefix('\n')).flat_map(str::lines)
}

#[test]
fn the_commands_lead_from_install_to_a_knock() -> Result<()> {
    let harness = Harness::new("the_commands_lead_from_install_to_a_knock")?;
    let home = harness.home();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no repository")?;
    let programs = format!("{}:{}", home.join("root/bin").display(), env::var("PATH")?);
    let gateway = UdpSocket::bind("127.0.0.1:40000").or_else(|_| UdpSocket::bind("127.0.0.1:0"))?;
    gateway.set_read_timeout(Some(LIMIT))?;
    let port = gateway.local_addr()?.port().to_string();

    let mut commands = 0;
    for line in lines("sh") {
        // Uses a local gateway instead, and installs offline into a directory of the test.
        let line = line.replace("gw.example.net", "127.0.0.1").replace("40000", &port);
        let line = line.replace("cargo install", "cargo install --quiet --debug --offline --locked");
        let folder = if line.starts_with("cargo") { repository } else { home };
        let output = Command::new("sh")
            .args(["-ec", &line])
            .current_dir(folder)
            .env("HOME", home)
            .env("PATH", &programs)
            .env_remove("XDG_CONFIG_HOME")
            .env("CARGO_HOME", cargo_home()?)
            .env("RUSTUP_HOME", rustup_home()?)
            .env("CARGO_INSTALL_ROOT", home.join("root"))
            .stdin(Stdio::null())
            .output()?;
        ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        let stderr = String::from_utf8(output.stderr)?;
        ensure!(line.starts_with("cargo") || stderr.is_empty(), "{line}: {stderr}");
        if line.contains("knock -v") {
            let key = std::fs::read_to_string(home.join("pkd.key"))?;
            let mut buffer = [0; 2048];
            let length = gateway.recv(&mut buffer).context(line)?;
            verify(&buffer[..length], key.trim_end(), "SSHK", port.parse()?)?;
        }
        commands += 1;
    }
    assert_eq!(commands, 16, "lines of sh in the README");
    Ok(())
}

#[test]
fn the_profiles_work() -> Result<()> {
    let harness = Harness::new("the_profiles_work")?;
    let text: Vec<_> = lines("toml").collect();
    harness.file("p.toml", text.join("\n"))?;
    std::fs::create_dir(harness.home().join("keys"))?;
    harness.file("keys/office.key", "0x9a3c51\n")?;
    let knocks = harness.knock(&["-n", "-c", "p.toml", "office"])?.knocks()?;
    assert_eq!(knocks[0].host, "gw.example.net");
    knocks[0].verify("0x9a3c51", "SSHK")?;
    let list = harness.knock(&["list", "-c", "p.toml"])?.stdout;
    ensure!(list.contains("branch.example.net, 198.51.100.7, 2001:db8::1"), "{list}");
    // The table lists the same options as the error for an unknown one.
    let (_, section) = README.split_once("\n## Profiles\n").context("no section")?;
    let (section, _) = section.split_once("\n## ").context("no end")?;
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let mut listed: Vec<_> = rows.map(|(option, _)| option).collect();
    listed.sort_unstable();
    harness.file("wrong.toml", "[host.gw]\nwrong = 1\n")?;
    let told = harness.knock(&["-c", "wrong.toml", "gw"])?.stderr;
    let (_, known) = told.trim_end().split_once("; expected one of ").context("no list")?;
    let mut known: Vec<_> = known.split(", ").collect();
    known.sort_unstable();
    assert_eq!(listed, known);
    Ok(())
}

#[test]
fn the_ini_file_works() -> Result<()> {
    let harness = Harness::new("the_ini_file_works")?;
    let text: Vec<_> = lines("ini").collect();
    harness.file(".ipt_pkd.ini", text.join("\n"))?;
    let knocks = harness.knock(&["-n", "office"])?.knocks()?;
    assert_eq!((knocks[0].host.as_str(), knocks[0].port), ("gw.example.net", 40_000));
    knocks[0].verify("0x9a3c51", "SSHK")
}

#[test]
fn help_and_readme_name_the_same_options() -> Result<()> {
    let harness = Harness::new("help_and_readme_name_the_same_options")?;
    let outcome = harness.knock(&["--help"])?;
    let (_, section) = README.split_once("\n## Options\n").context("no section")?;
    let table = section.lines().filter(|line| line.starts_with("| `-")).collect::<Vec<_>>().join("\n");
    let options = |text: &str| {
        let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || "-.".contains(letter)));
        let mut options: Vec<_> =
            words.filter(|word| word.starts_with('-') && word.len() > 1).map(str::to_owned).collect();
        options.retain(|option| {
            !option.trim_matches('-').is_empty()
                && !["-h", "--help", "-V", "--version"].contains(&option.as_str())
        });
        options.sort_unstable();
        options.dedup();
        options
    };
    let (_, help) = outcome.stdout.split_once("\nOptions:\n").context("no options")?;
    assert_eq!(options(help), options(&table));
    for version in ["-V", "--version"] {
        let outcome = harness.knock(&[version])?;
        let expected = concat!("knock ", env!("CARGO_PKG_VERSION"), "\n");
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), expected));
    }
    Ok(())
}

/// The download cache of cargo, for a command with another home.
fn cargo_home() -> Result<String> {
    Ok(env::var("CARGO_HOME").or_else(|_| env::var("HOME").map(|home| format!("{home}/.cargo")))?)
}

fn rustup_home() -> Result<String> {
    Ok(env::var("RUSTUP_HOME").or_else(|_| env::var("HOME").map(|home| format!("{home}/.rustup")))?)
}
