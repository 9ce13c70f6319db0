//! Faults: full and read-only disks, damaged files, and a firewall that is missing, refuses or is slow.

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

/// Mounts a small file system over a folder and copies the folder's content into it.
fn mount_small_disk(folder: &Path) -> Result<()> {
    let folder = folder.display();
    shell(&format!(
        "mkdir -p {folder} && cp -a {folder} {folder}.kept && mount -t tmpfs -o size=128k tmpfs {folder}"
    ))?;
    shell(&format!("cp -a {folder}.kept/. {folder}/")).map(drop)
}

/// Fills the file system: not even a page is left.
fn fill(folder: &Path) -> Result<()> {
    let mut filler = fs::File::create(folder.join("filler"))?;
    while filler.write_all(&[0; 4096]).is_ok() {}
    Ok(())
}

/// The error output of a daemon that cannot start; its exit code must be 1.
pub(crate) fn refuses_to_start(gateway: &Gateway<'_>) -> Result<String> {
    let mut daemon = Running(gateway.command(&["run"]).stderr(Stdio::piped()).spawn()?);
    let ended = wait("its end", || Ok(daemon.0.try_wait()?), Option::is_some)?;
    let mut errors = String::new();
    daemon.0.stderr.take().context("no standard error")?.read_to_string(&mut errors)?;
    ensure!(ended.and_then(|status| status.code()) == Some(1), "{ended:?}: {errors}");
    Ok(without_warnings(&errors))
}

/// Error output without warnings about the configuration.
pub(crate) fn without_warnings(errors: &str) -> String {
    errors.lines().filter(|line| !line.contains(": warning: ")).collect::<Vec<_>>().join("\n")
}

net_test!(with_a_full_or_read_only_disk_knocks_are_accepted_and_replays_refused, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    let state = gateway.path("state");
    mount_small_disk(&state)?;
    let mount = |how: &str| shell(&format!("mount -o remount,{how} {}", state.display())).map(drop);
    for (row, word) in ["No space left on device", "Read-only file system"].iter().enumerate() {
        gateway.start()?;
        // The first write after the start is done before the disk fails.
        wait("the floor", || Ok(fs::read_to_string(state.join("floor"))?), |text| !text.contains("clean"))?;
        match row {
            0 => fill(&state)?,
            _ => mount("ro")?,
        }
        // Later than the saved floor, so that the floor has to be written.
        let knock = payload(KEY, TAG, now()? + 8, u32::try_from(row)?)?;
        gateway.expect("accept", Family::V4, &knock)?;
        gateway.is_open(Family::V4)?;
        gateway.wait_for_line(word)?;
        // A power failure. The floor of this knock has not reached the disk.
        gateway.stop(Signal::SIGKILL)?;
        fs::remove_dir_all(gateway.path("run"))?;
        shell("nft flush ruleset")?;
        if row == 0 {
            fs::remove_file(state.join("filler"))?;
        } else {
            let error = refuses_to_start(&gateway)?;
            ensure!(error.contains(word), "{error}");
            mount("rw")?;
        }
        gateway.start()?;
        gateway.refuses(&knock)?;
        gateway.is_closed(Family::V4)?;
        gateway.stop(Signal::SIGTERM)?;
        // The next row starts as after a first installation.
        fs::remove_dir_all(gateway.path("run"))?;
        fs::write(state.join("floor"), "0\nclean\n")?;
        shell("nft flush ruleset")?;
    }
    Ok(())
});

net_test!(a_knock_that_cannot_be_written_to_the_journal_opens_nothing, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    let run = gateway.path("run");
    mount_small_disk(&run)?;
    let toml = fs::read_to_string(gateway.path("pkdd.toml"))?.replace("[gate]", "[gate]\nrate = 100000");
    fs::write(gateway.path("pkdd.toml"), toml)?;
    gateway.start()?;
    fill(&run)?;
    // The rest of the journal's last page holds some of them.
    let to = SocketAddr::new(Family::V4.gateway(), PORT);
    let most = 4096 / 64;
    for number in 0..=most {
        network.send(Family::V4.client(), to, &payload(KEY, TAG, now()?, number)?)?;
    }
    gateway.wait_for_line("cannot write it to the journal: No space left on device")?;
    let counted = || Ok(gateway.counter("accept")? + gateway.counter("replay")?);
    wait("all knocks", counted, |counted| *counted == u64::from(most) + 1)?;
    let (accepted, entries) = (gateway.counter("accept")?, fs::metadata(run.join("journal"))?.len() / 64);
    ensure!(accepted < entries && accepted < u64::from(most), "{accepted} accepted, {entries} entries");
    // Who is shut out by hand is out all the same.
    gateway.is_open(Family::V4)?;
    let revoked = gateway.run(&["revoke", &Family::V4.client().to_string()]);
    let error = revoked.err().context("it was written")?.to_string();
    ensure!(error.contains("a restart of pkdd opens it again") && error.contains("No space left"), "{error}");
    gateway.is_closed(Family::V4)?;
    fs::remove_file(run.join("filler"))?;
    gateway.expect("accept", Family::V4, &payload(KEY, TAG, now()?, most + 1)?)
});

net_test!(a_damaged_file_is_reported_and_replays_are_refused, |network| {
    let mut gateway = Gateway::new(network, "nft")?;
    gateway.start()?;
    let knock = payload(KEY, TAG, now()?, 1)?;
    gateway.expect("accept", Family::V4, &knock)?;
    gateway.stop(Signal::SIGTERM)?;
    let floor = gateway.path("state/floor");
    let good = fs::read_to_string(&floor)?;
    ensure!(good.contains("\nclean\nother 0 exact\n") && good.ends_with("\nend\n"), "{good:?}");
    // The journal still knows the knock. The second is truncated to a smaller number.
    for wrong in [
        "",
        &good[..5],
        &good[..good.len() - 4],
        "\0\0\0\0\n",
        "-1\nclean\n",
        "1e9\n",
        "18446744073709551616\n",
    ] {
        fs::write(&floor, wrong)?;
        gateway.start()?;
        let reports = |line: &String| line.contains("floor is damaged; knocks wait for one window");
        let count = gateway.lines().iter().filter(|line| reports(line)).count();
        ensure!(count == 1, "{wrong:?}: {:?}", gateway.lines());
        gateway.refuses(&knock)?;
        ensure!(gateway.stop(Signal::SIGTERM)?);
        let written = fs::read_to_string(&floor)?;
        // Nothing is known about other keys now.
        let expected = good.replace("other 0 exact", "other 0 inexact");
        ensure!(written == expected, "{wrong:?}: {written:?}, expected {expected:?}");
    }
    let journal = gateway.path("run/journal");
    let mut bytes = fs::read(&journal)?;
    let last = bytes.len() - 30;
    bytes[last] ^= 1;
    fs::write(&journal, bytes)?;
    gateway.start()?;
    gateway.wait_for_line("is damaged or of another version; knocks wait for one window")?;
    gateway.refuses(&knock)
});

/// Puts a folder at the start of the daemon's PATH: `program` is replaced by `script`, others are the system's.
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
    gateway.prepend_to_path(&folder)
}

net_test!(a_failed_firewall_change_is_reported_and_retried, |network| {
    let mut gateway = Gateway::new(network, "iptables")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    programs(&mut gateway, "", "")?;
    gateway.start()?;
    // Refuses at once; is killed after it has read its input.
    let scripts = ["#!/bin/sh\necho no >&2\nexit 4\n", "#!/bin/sh\ncat >/dev/null\nkill -9 $$\n"];
    for (nonce, script) in (0..).zip(scripts) {
        programs(&mut gateway, "iptables-restore", script)?;
        let known = gateway.lines().len();
        // pkdd restores the rules, or tries to.
        shell("iptables-nft -t mangle -F")?;
        let reports =
            |lines: &Vec<String>| lines.iter().skip(known).any(|line| line.contains("iptables-restore"));
        wait("an error", || Ok(gateway.lines()), reports)?;
        let trouble = |gateway: &Gateway<'_>| Ok(gateway.status()?["trouble"].to_string());
        wait("trouble", || trouble(&gateway), |trouble| trouble.contains("iptables-restore"))?;
        gateway.is_closed(Family::V4)?;
        // A knock is heard meanwhile.
        gateway.expect("accept", Family::V4, &payload(KEY, TAG, now()? + 3 * u64::from(nonce), nonce)?)?;
        programs(&mut gateway, "", "")?;
        wait("no trouble", || trouble(&gateway), |trouble| trouble == "\"\"")?;
        ensure!(shell("iptables-nft -t mangle -S")?.contains("--match-set"), "the rules are not back");
        gateway.is_open(Family::V4)?;
        // The next row starts with a closed port.
        gateway.stop(Signal::SIGTERM)?;
        gateway.run(&["clear"])?;
        fs::remove_dir_all(gateway.path("run"))?;
        gateway.start()?;
        gateway.is_closed(Family::V4)?;
    }
    Ok(())
});

net_test!(a_missing_firewall_program_is_reported_at_the_start, |network| {
    let mut gateway = Gateway::new(network, "iptables")?;
    let nowhere = gateway.path("nowhere");
    fs::create_dir_all(&nowhere)?;
    gateway.programs = Some(nowhere.display().to_string());
    let errors = refuses_to_start(&gateway)?;
    ensure!(errors.lines().count() == 1 && errors.contains("cannot run iptables"), "{errors}");
    Ok(())
});

net_test!(a_slow_firewall_delays_knocks_but_loses_none, |network| {
    let mut gateway = Gateway::new(network, "iptables")?;
    let _server = ssh_server(22, gateway.folder.path())?;
    let fifo = gateway.path("go-on");
    shell(&format!("mkfifo {}", fifo.display()))?;
    programs(&mut gateway, "", "")?;
    gateway.start()?;
    let slow =
        format!("#!/bin/sh\nread word < {}\nexec /usr/sbin/iptables-nft-restore \"$@\"\n", fifo.display());
    programs(&mut gateway, "iptables-restore", &slow)?;
    // pkdd restores the rules with the slow program.
    shell("iptables-nft -t mangle -F")?;
    let to = SocketAddr::new(Family::V4.gateway(), PORT);
    network.send(Family::V4.client(), to, &payload(KEY, TAG, now()?, 1)?)?;
    // The FIFO has a reader: the firewall's program is running, and blocks.
    let open = || Ok(OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(&fifo).ok());
    let first = wait("the firewall's program", open, Option::is_some)?;
    network.send(Family::V4.other(), to, &payload(KEY, TAG, now()?, 2)?)?;
    programs(&mut gateway, "", "")?;
    first.context("no FIFO")?.write_all(b"go\n")?;
    wait("both knocks", || gateway.counter("accept"), |accepted| *accepted == 2)?;
    for from in [Family::V4.client(), Family::V4.other()] {
        let banner = || network.banner(from, Family::V4.ssh());
        wait("an open port", banner, Option::is_some)?;
    }
    Ok(())
});
