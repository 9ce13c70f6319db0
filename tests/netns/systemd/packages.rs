//! The first ten minutes of a server and a desk: the package, `pkdd init`, `knock pair`, `knock ssh`, a new key, and who is
//! shut out. The server is a Debian 12 with an SSH server and nothing of ours; the desk is at the other end of the cable.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use pkd_netns::stranger::{PACE, Stranger};

use crate::{
    TRIES, knockd,
    machine::{MACHINE, Machine, Options, quiet, until},
    step::step,
};

/// Where nothing listens, for the time before anything is closed.
const NOTHING: u16 = 1;

/// Who sits at the desk.
struct Desk<'a> {
    knock: &'a Path,
    home: PathBuf,
}

impl Desk<'_> {
    /// Options for ssh: the key, and a server that is met for the first time.
    fn ssh(&self) -> Vec<String> {
        let home = self.home.display();
        let options = [
            "BatchMode=yes",
            "StrictHostKeyChecking=accept-new",
            &format!("UserKnownHostsFile={home}/known"),
            "ConnectTimeout=5",
        ]
        .map(|option| format!("-o{option}"));
        options.into_iter().chain(["-F/dev/null".to_owned(), format!("-i{home}/id")]).collect()
    }

    fn knock(&self, words: &[&str]) -> Command {
        let mut knock = Command::new(self.knock);
        knock.args(words).env("HOME", &self.home).env_remove("XDG_CONFIG_HOME").env("USER", "ann");
        knock
    }

    /// Logs in with a knock, and returns what the server says.
    fn login(&self, profile: &str) -> Result<String> {
        let mut login = self.knock(&["ssh", "-q", &format!("root@{profile}")]);
        quiet(login.args(self.ssh()).arg("hostname; echo in"))
    }
}

/// What apt reads besides: the computer has no network, so no other source answers.
const APT: &str =
    "apt-get -qq -o Dir::Etc::SourceList=/etc/apt/sources.list.d/pkd.list -o Dir::Etc::SourceParts=-";

/// Gives the server the repository, a newer package and the key of the desk.
fn prepare(root: &Path, repository: &Path, newer: &Path, home: &Path) -> Result<()> {
    fs::create_dir_all(home)?;
    quiet(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(home.join("id")))?;
    fs::create_dir_all(root.join("root/.ssh"))?;
    fs::copy(home.join("id.pub"), root.join("root/.ssh/authorized_keys"))?;
    quiet(Command::new("cp").arg("-r").arg(repository).arg(root.join("opt/apt")))?;
    fs::rename(root.join("opt/apt/pkd.gpg"), root.join("etc/apt/keyrings/pkd.gpg"))?;
    let source = "deb [signed-by=/etc/apt/keyrings/pkd.gpg] file:/opt/apt stable main\n";
    fs::write(root.join("etc/apt/sources.list.d/pkd.list"), source)?;
    fs::copy(newer, root.join("opt/newer.deb"))?;
    quiet(Command::new("chroot").arg(root).args(["systemctl", "enable", "--quiet", "network"]))?;
    Ok(())
}

pub(crate) fn checks(root: &Path, repository: &Path, newer: &Path, knock: &Path) -> Result<()> {
    let desk = Desk { knock, home: root.join("opt/desk") };
    prepare(root, repository, newer, &desk.home)?;
    let machine = Machine::boot(root, Options { ports: &[NOTHING], ..Options::default() })?;
    machine.is_open(22)?;

    step("the package is installed, and nothing is closed by that", || {
        install(&machine)?;
        ensure!(machine.shell("systemctl is-enabled pkdd").is_err(), "the unit is enabled");
        machine.is_open(22)
    })?;
    // A session from before.
    let mut session = Command::new("ssh");
    session
        .args(desk.ssh())
        .arg(format!("root@{}", MACHINE[0]))
        .arg("while read line; do echo got $line; done");
    let mut session = session.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut to = session.stdin.take().context("no input")?;
    let mut from = BufReader::new(session.stdout.take().context("no output")?);
    let mut echo = |word: &str| -> Result<()> {
        writeln!(to, "{word}")?;
        let mut line = String::new();
        from.read_line(&mut line)?;
        ensure!(line == format!("got {word}\n"), "the session says {line:?}");
        Ok(())
    };
    echo("before")?;

    let said = step("pkdd init closes the port; the session goes on", || {
        let mut init = Command::new("ssh");
        init.args(desk.ssh()).arg(format!("root@{}", MACHINE[0]));
        let said =
            quiet(init.arg(format!("pkdd init --service ssh=22 --port any --address {}", MACHINE[0])))?;
        echo("after")?;
        Ok(said)
    })?;
    ensure!(said.contains("pkdd confirm") && said.contains("your address 192.0.2.2"), "{said}");
    let targets = vec![("192.0.2.66".parse()?, SocketAddr::new(MACHINE[0].parse()?, 22))];
    let stranger = Stranger::here(targets, PACE)?;
    stranger.more(TRIES)?;

    let said = step("knock pair makes a profile of what the server prints", || {
        let mut pair = desk.knock(&["pair", &format!("root@{}", MACHINE[0]), "office", "--"]);
        quiet(pair.args(desk.ssh()))
    })?;
    ensure!(said.contains("knock ssh root@office"), "{said}");
    step("pkdd confirm keeps it, and the desk's address is closed again", || {
        let said = machine.shell("SSH_CONNECTION='192.0.2.2 1 192.0.2.1 22' pkdd confirm")?;
        ensure!(said.contains("needs a knock"), "{said}");
        let closed = desk
            .knock(&["wait", "-q", "--timeout", "3", "--key", "none of theirs", MACHINE[0], "22"])
            .output()?;
        ensure!(closed.status.code() == Some(1), "{closed:?}");
        Ok(())
    })?;
    ensure!(machine.shell("pkdd confirm").is_err(), "there was still something to confirm");
    stranger.more(TRIES)?;
    let said = step("knock ssh logs in", || desk.login("office"))?;
    ensure!(said.ends_with("in\n"), "{said}");
    stranger.more(TRIES)?;

    step(
        "an upgrade: the port stays closed, configuration, keys and the session stay, and knocks go on",
        || {
            let kept = "cd /etc/pkdd && find . -type f -exec sha256sum {} +";
            let before = machine.shell(kept)?;
            machine.shell("dpkg --install /opt/newer.deb")?;
            stranger.more(TRIES)?;
            ensure!(machine.shell("dpkg-query --show pkdd")?.ends_with("99.0.0-1\n"), "not upgraded");
            ensure!(machine.shell(kept)? == before, "the upgrade has changed /etc/pkdd");
            echo("after the upgrade")?;
            desk.login("office").map(drop)
        },
    )?;
    stranger.more(TRIES)?;

    let user = machine.shell("pkdd user list --json")?;
    let name = user.split('"').nth(3).context("no user")?.to_owned();
    step("a new key: the old one works until the new one was used", || {
        let uri = machine.shell(&format!("pkdd user rotate {name}"))?;
        desk.login("office")?;
        let mut import = desk.knock(&["import", "-", "--name", "new"]);
        let mut import = import.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        import.stdin.take().context("no input")?.write_all(uri.as_bytes())?;
        ensure!(import.wait()?.success(), "the URI was refused");
        desk.login("new").map(drop)
    })?;
    step("whoever is revoked is shut out at once", || {
        machine.shell(&format!("pkdd user revoke {name}"))?;
        let refused = desk.knock(&["wait", "-q", "--timeout", "5", "new", "22"]).output()?;
        let said = String::from_utf8_lossy(&refused.stderr);
        ensure!(refused.status.code() == Some(1) && said.contains("did not open within 5 s"), "{said}");
        ensure!(machine.shell("ls /etc/pkdd/keys")?.is_empty(), "a key is left");
        Ok(())
    })?;
    stranger.finish()?;

    removal(&machine)?;
    knockd::checks(root, &machine)?;
    until("the session's end", || Ok(session.try_wait()?.map_or(Some(()), |_| Some(()))))?;
    drop(session.kill());
    machine.power_off()
}

/// Installs pkdd from the repository, whose signature counts.
fn install(machine: &Machine) -> Result<()> {
    let list = "/opt/apt/dists/stable/main/binary-amd64/Packages";
    let changed = format!("sed -i s/opens/Opens/ {list} && rm {list}.gz");
    machine.shell(&format!("cp {list} {list}.gz /opt && {changed}"))?;
    let refused = machine.shell(&format!("{APT} update"));
    ensure!(refused.is_err(), "apt takes a list that was changed after it was signed");
    machine.shell(&format!("mv /opt/Packages /opt/Packages.gz $(dirname {list}) && {APT} update"))?;
    machine.shell(&format!("{APT} install pkdd")).map(drop)
}

fn removal(machine: &Machine) -> Result<()> {
    step("init that is not confirmed is taken back", || {
        machine.shell("pkdd undo-init")?;
        machine.is_open(22)
    })?;
    step("the package is removed and purged, and the port is open", || {
        machine.shell("systemctl enable --now pkdd-guard pkdd && dpkg --remove pkdd && dpkg --purge pkdd")?;
        machine.is_open(22)?;
        let left =
            machine.shell("ls -d /etc/pkdd /var/lib/pkdd /usr/sbin/pkdd 2>/dev/null; nft list ruleset")?;
        ensure!(left.trim().is_empty(), "left: {left}");
        Ok(())
    })
}
