//! `knock` for Windows, in Wine: the one of Debian 13, because that of 12 lacks what Rust takes its random numbers from.

use std::{net::UdpSocket, os::unix::fs::PermissionsExt};

use crate::{apt::NEXT, clients, prelude::*, root};

const PACKAGES: &str = "wine64";
const KEY: &str = "0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// Wine makes a home for itself first.
const LIMIT: Duration = Duration::from_mins(3);
/// Bytes of a knock.
const LENGTH: usize = 56;

/// Builds it, and has it make a profile, and knock at this computer, which checks the datagram.
pub(crate) fn test() -> Result<()> {
    let program = clients::build_named("windows")?;
    cmd!("{CARGO} build --quiet --locked --package host-knock").quiet()?;
    let base = root::base_of(NEXT, "wine-base", PACKAGES, &[], |_| Ok(()))?;
    let root = root::copy(&base, "wine-root")?;
    fs::copy(&program, root.join("root/knock.exe"))?;
    let key = root.join("root/key");
    fs::write(&key, format!("{KEY}\n"))?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    let wine = |words: &str| -> Result<String> {
        let command = format!(
            "cd /root && WINEDEBUG=-all timeout {} /usr/lib/wine/wine64 knock.exe {words} </dev/null",
            LIMIT.as_secs()
        );
        root::enter(&root, "root", "/root", &[], &command).read().context(words.to_owned())
    };
    let checks = || -> Result<()> {
        let version = wine("--version")?;
        ensure!(version.trim() == concat!("knock ", env!("CARGO_PKG_VERSION")), "it says {version:?}");
        let made = wine("keygen office --address 127.0.0.1 --tag SSHK --for pkdd")?;
        ensure!(made.contains("[user."), "keygen prints {made:?}");
        let listed = wine("list")?;
        ensure!(listed.contains("office") && listed.contains("127.0.0.1"), "list prints {listed:?}");
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(LIMIT))?;
        let port = socket.local_addr()?.port();
        wine(&format!("--format 2 --bind none --key-file key --tag SSHK --port {port} 127.0.0.1"))?;
        let mut payload = [0; LENGTH + 1];
        let (length, _) = socket.recv_from(&mut payload).context("no knock came")?;
        ensure!(length == LENGTH, "a datagram of {length} bytes came");
        verified(&payload[..length], port, &key)
    };
    checks().with_context(|| format!("the root stays in {}", root.display()))?;
    println!("knock.exe makes a profile and knocks, in Wine");
    Ok(fs::remove_dir_all(&root)?)
}

/// Whether our own `knock verify` takes it for a valid knock.
fn verified(payload: &[u8], port: u16, key: &Path) -> Result<()> {
    let knock = toolchain::target().join("debug/knock");
    let (hex, port) = (files::hex(payload), port.to_string());
    let said = cmd!("{knock} verify --format 2 --key-file {key} --tag SSHK --port {port} {hex}").read()?;
    ensure!(said.contains("Accept") || said.contains("valid"), "knock verify says {said}");
    Ok(())
}
