//! A gateway with a closed port, and a client.

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use pkd_netns::{
    network::{Family, Network, folder},
    process::{LIMIT, Running, built, text, wait},
    sshd::Sshd,
};

/// The key; no output may contain it.
pub(crate) const KEY: &str = "open sesame";
/// The port of the SSH server; unprivileged, so that any user can run it.
pub(crate) const SSH: u16 = 2222;

/// The programs of the gateway, and a directory for all files.
pub(crate) struct Gateway<'a> {
    pub(crate) network: &'a Network,
    folder: tempfile::TempDir,
    sshd: Option<Sshd>,
    pkdd: Option<Running>,
}

impl<'a> Gateway<'a> {
    /// Starts a gateway: pkdd guards the port of a real sshd.
    pub(crate) fn closed(network: &'a Network) -> Result<Self> {
        let folder = folder()?;
        let mut gateway = Self { network, folder, sshd: None, pkdd: None };
        gateway.secret("me.key", KEY)?;
        // sshd first: the check whether it is up would find the port closed later.
        gateway.sshd = Some(Sshd::start(SSH, gateway.folder.path())?);
        gateway.start_pkdd(600)?;
        gateway.write_client()?;
        Ok(gateway)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn secret(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        fs::create_dir_all(path.parent().context("no folder")?)?;
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    fn start_pkdd(&mut self, seconds: u32) -> Result<()> {
        let place = self.folder.path().display();
        fs::create_dir(self.path("state"))?;
        // Nothing was ever accepted, so pkdd need not wait for a window.
        fs::write(self.path("state/floor"), "0\nclean\n")?;
        fs::write(self.path("state/floor2"), "milliseconds\n0\nclean\n")?;
        let config = format!(
            "[gate]\nfirewall = 'nft'\nrun = '{place}/run'\nstate = '{place}/state'\n[service.ssh]\nport = {SSH}\n\
             seconds = {seconds}\n[user.me]\ntag = 'SSHK'\nkey_file = 'me.key'\nservices = ['ssh']\n"
        );
        fs::write(self.path("pkdd.toml"), config)?;
        let log = self.path("pkdd.log");
        let mut pkdd = Command::new(built("pkdd", "pkdd")?);
        pkdd.arg("--config").arg(self.path("pkdd.toml")).arg("run");
        self.pkdd = Some(Running(pkdd.stdin(Stdio::null()).stderr(File::create(&log)?).spawn()?));
        wait("pkdd", || Ok(fs::read_to_string(&log)?), |log| log.contains("accepting knocks")).map(drop)
    }

    /// Stops the SSH server.
    pub(crate) fn stop_sshd(&mut self) -> Result<()> {
        self.sshd.take().context("it does not run")?.stop();
        Ok(())
    }

    /// Writes the profile of the client; sshd supplies the configuration of ssh.
    fn write_client(&self) -> Result<()> {
        let config = format!(
            "[host.office]\naddress = '{}'\nformat = '2'\ntag = 'SSHK'\nkey_file = 'office.key'\nservices = {{ ssh = {SSH} }}\n\
             [host.office6]\naddress = '{}'\nformat = '2'\ntag = 'SSHK'\nkey_file = 'office.key'\nservices = {{ ssh = {SSH} }}\n",
            Family::V4.gateway(),
            Family::V6.gateway()
        );
        self.secret("config/knock/office.key", KEY)?;
        self.secret("config/knock/config.toml", &config)?;
        fs::create_dir(self.path("bin"))?;
        symlink(env!("CARGO_BIN_EXE_knock"), self.path("bin/knock"))?;
        Ok(())
    }

    /// A command of the client, with its profile, `knock` in its PATH and no terminal.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("setsid");
        command.arg("--wait").arg(program.as_ref());
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.path("bin").display()));
        command.env("XDG_CONFIG_HOME", self.path("config")).env("HOME", self.folder.path());
        command.current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command of the client.
    pub(crate) fn run(&self, command: &mut Command) -> Result<Output> {
        let child = self.network.at_client(|| Ok(command.spawn()?))?;
        let (sender, finished) = mpsc::channel();
        thread::spawn(move || sender.send(child.wait_with_output()));
        let Ok(output) = finished.recv_timeout(LIMIT) else { bail!("{command:?} hangs") };
        let output = output?;
        let shown = [text(&output.stdout), text(&output.stderr)].concat();
        ensure!(!shown.contains("sesame"), "a key is shown: {shown}");
        Ok(output)
    }

    /// Runs a command that must succeed; returns its output.
    pub(crate) fn succeed(&self, command: &mut Command) -> Result<String> {
        let output = self.run(command)?;
        ensure!(
            output.status.success(),
            "{command:?}: {} {}\nsshd: {}",
            text(&output.stdout),
            text(&output.stderr),
            self.sshd.as_ref().map(Sshd::log).unwrap_or_default()
        );
        Ok(text(&output.stdout))
    }

    /// Waits until the port is closed for the client: pkdd needs a moment to handle what knock has sent.
    pub(crate) fn wait_until_closed(&self, family: Family) -> Result<()> {
        let to = std::net::SocketAddr::new(family.gateway(), SSH);
        let ask = || self.network.banner(family.client(), to);
        wait("a closed port", ask, Option::is_none).map(drop)
    }

    /// Checks that the port is closed for the client.
    pub(crate) fn is_closed(&self, family: Family) -> Result<()> {
        let to = std::net::SocketAddr::new(family.gateway(), SSH);
        let banner = self.network.banner(family.client(), to)?;
        ensure!(banner.is_none(), "{family:?}: it is open");
        Ok(())
    }
}
