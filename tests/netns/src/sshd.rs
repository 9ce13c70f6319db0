//! A real OpenSSH server and what a client needs to log in to it.

use std::{
    fs::{self, File},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::process::{Running, shell, wait};

/// A running sshd, with its keys and a client's configuration in one folder.
#[derive(Debug)]
pub struct Sshd {
    process: Running,
    folder: PathBuf,
    user: String,
}

impl Sshd {
    /// Starts sshd at this port of all addresses and waits until it answers on loopback.
    ///
    /// It runs as root where root started the test, and otherwise as the user who did: it then accepts no other
    /// user, which is enough for a login.
    ///
    /// # Errors
    /// Returns an error if a program is missing or sshd does not answer; the error contains sshd's log.
    pub fn start(port: u16, folder: &Path) -> Result<Self> {
        let place = folder.display().to_string();
        for key in ["host", "login"] {
            shell(&format!("ssh-keygen -q -t ed25519 -N '' -f {place}/{key}"))?;
        }
        shell(&format!(
            "cp {place}/login.pub {place}/authorized_keys; mkdir -p /run/sshd; chmod 755 /run/sshd; \
             echo \"* $(cat {place}/host.pub)\" > {place}/known_hosts"
        ))?;
        let config = format!(
            "Port {port}\nHostKey {place}/host\nAuthorizedKeysFile {place}/authorized_keys\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n\
             PrintMotd no\nPrintLastLog no\nSubsystem sftp internal-sftp\n"
        );
        fs::write(folder.join("sshd_config"), config)?;
        let outside = |map: &str| -> Result<String> {
            let map = fs::read_to_string(map)?;
            Ok(map.split_whitespace().nth(1).context("an empty ID map")?.to_owned())
        };
        let (user, group) = (outside("/proc/self/uid_map")?, outside("/proc/self/gid_map")?);
        let mut sshd = Command::new("/usr/sbin/sshd");
        if user != "0" {
            sshd = Command::new("unshare");
            sshd.args(["--user", "--map-user", &user, "--map-group", &group, "/usr/sbin/sshd"]);
        }
        let log = folder.join("sshd.log");
        sshd.arg("-D").arg("-e").arg("-f").arg(folder.join("sshd_config"));
        let process = sshd.stdin(Stdio::null()).stderr(File::create(&log)?).spawn();
        let process = Running(process.context("cannot start sshd")?);
        let user = shell(&format!("getent passwd {user} | cut -d: -f1"))?.trim().to_owned();
        let sshd = Self { process, folder: folder.to_owned(), user };
        wait("sshd", || Ok(TcpStream::connect(("127.0.0.1", port)).is_ok()), |up| *up)
            .with_context(|| sshd.log())?;
        sshd.write_client_configuration()?;
        Ok(sshd)
    }

    /// The configuration file of a client that knows the host's key and has the user's.
    #[must_use]
    pub fn client_configuration(&self) -> PathBuf {
        self.folder.join("ssh_config")
    }

    /// What sshd has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("sshd.log")).unwrap_or_default()
    }

    /// Ends the server; its log and the client's configuration stay.
    pub fn stop(self) {
        drop(self.process);
    }

    fn write_client_configuration(&self) -> Result<()> {
        let place = self.folder.display();
        let ssh = format!(
            "Host *\n  User {}\n  IdentityFile {place}/login\n  IdentitiesOnly yes\n  UserKnownHostsFile {place}/known_hosts\n\
             \x20 StrictHostKeyChecking yes\n  BatchMode yes\n  LogLevel ERROR\n",
            self.user
        );
        fs::write(self.client_configuration(), ssh)?;
        Ok(())
    }
}
