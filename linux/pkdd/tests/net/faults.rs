//! What goes wrong on a machine: disks that are full or may only be read, damaged files, a firewall that is missing, refuses
//! or takes long.

use std::{
    fs::{self, OpenOptions},
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    path::Path,
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pkd_netns::{
    network::{Family, net_test, ssh_server},
    process::{Running, shell, wait},
};

use crate::gateway::{Gateway, KEY, PORT, TAG, now, payload};

/// Puts a small file system of its own over a folder, and what was in it into that.
fn disk(folder: &Path) -> Result<()> {
    let folder = folder.display();
    shell(&format!(
        "mkdir -p {folder} && cp -a {folder} {folder}.kept && mount -t tmpfs -o size=128k tmpfs {folder}"
    ))?;
    shell(&format!("cp -a {folder}.kept/. {folder}/")).map(drop)
}

/// Leaves no room in it for another page.
fn fill(folder: &Path) -> Result<()> {
    let mut filler = fs::File::create(folder.join("filler"))?;
    while filler.write_all(&[0; 4096]).is_ok() {}
    Ok(())
}

/// What a daemon says that ends by itself, with the code for that.
pub(crate) fn refuses_to_start(gateway: &Gateway<'_>) -> Result<String> {
    let mut daemon = Running(gateway.command(&["run"]).stderr(Stdio::piped()).spawn()?);
    let ended = wait("its end", || Ok(daemon.0.try_wait()?), Option::is_some)?;
    let mut said = String::new();
    daemon.0.stderr.take().context("no standard error")?.read_to_string(&mut said)?;
    ensure!(ended.and_then(|status| status.code()) == Some(1), "{ended:?}: {said}");
    Ok(said)
}

net_test!(a_full_or_read_only_disk_keeps_nobody_out_and_lets_no_replay_in, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    let state = gateway.path("state");
    disk(&state)?;
    let mount = |how: &str| shell(&format!("mount -o remount,{how} {}", state.display())).map(drop);
    for (row, word) in ["No space left on device", "Read-only file system"].iter().enumerate() {
        gateway.start()?;
        // The first writing of this life is over before the disk fails.
        wait("the floor", || Ok(fs::read_to_string(state.join("floor"))?), |text| !text.contains("clean"))?;
        match row {
            0 => fill(&state)?,
            _ => mount("ro")?,
        }
        // Later than all that was written, so that it has to be written.
        let knock = payload(KEY, TAG, now()? + 8, u32::try_from(row)?)?;
        gateway.expect("accept", Family::V4, &knock)?;
        gateway.is_open(Family::V4)?;
        gateway.wait_for_line(word)?;
        // The power goes. The floor of this knock is on no disk.
        gateway.stop(Signal::SIGKILL)?;
        fs::remove_dir_all(gateway.path("run"))?;
        shell("nft flush ruleset")?;
        if row == 0 {
            fs::remove_file(state.join("filler"))?;
        } else {
            let said = refuses_to_start(&gateway)?;
            ensure!(said.contains(word), "{said}");
            mount("rw")?;
        }
        gateway.start()?;
        gateway.expect("replay", Family::V4, &knock)?;
        gateway.is_closed(Family::V4)?;
        gateway.stop(Signal::SIGTERM)?;
        // The next life is a first one again.
        fs::remove_dir_all(gateway.path("run"))?;
        fs::write(state.join("floor"), "0\nclean\n")?;
        shell("nft flush ruleset")?;
    }
    Ok(())
});

net_test!(a_knock_that_cannot_be_written_down_opens_nothing, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let run = gateway.path("run");
    disk(&run)?;
    let toml = fs::read_to_string(gateway.path("pkdd.toml"))?.replace("[gate]", "[gate]\nrate = 100000");
    fs::write(gateway.path("pkdd.toml"), toml)?;
    gateway.start()?;
    fill(&run)?;
    // What is left of the journal's last page takes some.
    let to = SocketAddr::new(Family::V4.gateway(), PORT);
    let most = 4096 / 64;
    for number in 0..=most {
        network.send(Family::V4.client(), to, &payload(KEY, TAG, now()?, number)?)?;
    }
    gateway
        .wait_for_line("was refused, because it cannot be written to the journal: No space left on device")?;
    let counted = || Ok(gateway.counter("accept")? + gateway.counter("replay")?);
    wait("all knocks", counted, |counted| *counted == u64::from(most) + 1)?;
    let (accepted, entries) = (gateway.counter("accept")?, fs::metadata(run.join("journal"))?.len() / 64);
    ensure!(accepted < entries && accepted < u64::from(most), "{accepted} accepted, {entries} entries");
    fs::remove_file(run.join("filler"))?;
    gateway.expect("accept", Family::V4, &payload(KEY, TAG, now()?, most + 1)?)
});

net_test!(a_damaged_file_is_told_of_and_lets_no_replay_in, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    gateway.start()?;
    let knock = payload(KEY, TAG, now()?, 1)?;
    gateway.expect("accept", Family::V4, &knock)?;
    gateway.stop(Signal::SIGTERM)?;
    let floor = gateway.path("state/floor");
    let good = fs::read_to_string(&floor)?;
    ensure!(good.ends_with("\nclean\n"), "{good:?}");
    // The journal is whole, but a floor that cannot be is not passed over. The second is cut off: a smaller number.
    for wrong in ["", &good[..5], "\0\0\0\0\n", "-1\nclean\n", "1e9\n", "18446744073709551616\n"] {
        fs::write(&floor, wrong)?;
        let said = refuses_to_start(&gateway).with_context(|| format!("{wrong:?}"))?;
        let told = said.lines().filter(|line| line.contains("cannot use") && line.contains("floor")).count();
        ensure!(told == 1, "{wrong:?}: {said}");
    }
    fs::write(&floor, good)?;
    let journal = gateway.path("run/journal");
    let mut bytes = fs::read(&journal)?;
    let last = bytes.len() - 30;
    bytes[last] ^= 1;
    fs::write(&journal, bytes)?;
    gateway.start()?;
    gateway.wait_for_line("is damaged; knocks wait for one window")?;
    gateway.expect("replay", Family::V4, &knock)
});

/// A folder of programs that come before the system's: `program` is this script, all others are what they are.
pub(crate) fn programs(gateway: &mut Gateway<'_>, program: &str, script: &str) -> Result<()> {
    let folder = gateway.path("programs");
    fs::create_dir_all(&folder)?;
    for family in ["iptables", "ip6tables"] {
        for command in ["", "-save", "-restore"] {
            let name = format!("{family}{command}");
            let _ = fs::remove_file(folder.join(&name));
            symlink(format!("/usr/sbin/{family}-nft{command}"), folder.join(&name))?;
        }
    }
    if !program.is_empty() {
        let path = folder.join(program);
        fs::remove_file(&path)?;
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    gateway.look_first_in(&folder)
}

net_test!(a_firewall_that_fails_is_told_of_and_gets_what_it_missed, |network| {
    let mut gateway = Gateway::new(network, "iptables")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    programs(&mut gateway, "", "")?;
    gateway.start()?;
    // Refused at once; killed when it has read everything.
    let scripts = ["#!/bin/sh\necho no >&2\nexit 4\n", "#!/bin/sh\ncat >/dev/null\nkill -9 $$\n"];
    for (row, script) in scripts.iter().enumerate() {
        programs(&mut gateway, "iptables-restore", script)?;
        let told = gateway.lines().len();
        gateway.expect("accept", Family::V4, &payload(KEY, TAG, now()?, u32::try_from(row)?)?)?;
        let says = |lines: &Vec<String>| lines.iter().skip(told).any(|line| line.contains("reach ssh"));
        wait("a complaint", || Ok(gateway.lines()), says)?;
        gateway.is_closed(Family::V4)?;
        programs(&mut gateway, "", "")?;
        gateway.is_open(Family::V4)?;
        // The next row begins with a closed door.
        gateway.stop(Signal::SIGTERM)?;
        gateway.run(&["clear"])?;
        fs::remove_dir_all(gateway.path("run"))?;
        gateway.start()?;
        gateway.is_closed(Family::V4)?;
    }
    Ok(())
});

net_test!(a_firewall_that_is_missing_is_named_before_anything_is_opened, |network| {
    let mut gateway = Gateway::new(network, "iptables")?;
    let nowhere = gateway.path("nowhere");
    fs::create_dir_all(&nowhere)?;
    gateway.programs = Some(nowhere.display().to_string());
    let said = refuses_to_start(&gateway)?;
    ensure!(said.lines().count() == 1 && said.contains("cannot run iptables"), "{said}");
    Ok(())
});

net_test!(a_slow_firewall_delays_knocks_and_loses_none, |network| {
    let mut gateway = Gateway::new(network, "iptables")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    let fifo = gateway.path("go-on");
    shell(&format!("mkfifo {}", fifo.display()))?;
    programs(&mut gateway, "", "")?;
    gateway.start()?;
    let slow =
        format!("#!/bin/sh\nread word < {}\nexec /usr/sbin/iptables-nft-restore \"$@\"\n", fifo.display());
    programs(&mut gateway, "iptables-restore", &slow)?;
    let to = SocketAddr::new(Family::V4.gateway(), PORT);
    network.send(Family::V4.client(), to, &payload(KEY, TAG, now()?, 1)?)?;
    // Somebody reads there: the firewall has been request, and does not answer.
    let open = || Ok(OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(&fifo).ok());
    let first = wait("a firewall that takes long", open, Option::is_some)?;
    network.send(Family::V4.other(), to, &payload(KEY, TAG, now()?, 2)?)?;
    gateway.is_closed(Family::V4)?;
    programs(&mut gateway, "", "")?;
    first.context("it was there")?.write_all(b"go\n")?;
    wait("both knocks", || gateway.counter("accept"), |accepted| *accepted == 2)?;
    for from in [Family::V4.client(), Family::V4.other()] {
        let banner = || network.banner(from, Family::V4.ssh());
        wait("an open port", banner, Option::is_some)?;
    }
    Ok(())
});
