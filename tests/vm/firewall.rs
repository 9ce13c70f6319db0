//! Real iptables, both of them, for both families.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::network::{Family, run, text};

/// Where iptables looks for extensions by itself: OpenWrt's folder with musl, else Debian's.
const USUAL: &str = if cfg!(target_env = "musl") {
    "/usr/lib/iptables"
} else if cfg!(target_arch = "mips") {
    "/usr/lib/mipsel-linux-gnu/xtables"
} else if cfg!(target_arch = "arm") {
    "/usr/lib/arm-linux-gnueabihf/xtables"
} else if cfg!(target_arch = "aarch64") {
    "/usr/lib/aarch64-linux-gnu/xtables"
} else {
    "/usr/lib/x86_64-linux-gnu/xtables"
};

/// What iptables writes to: its own tables in the kernel, or nftables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    Legacy,
    Nft,
}

impl Back {
    /// Whether this guest has it. Debian's userland always has; one built from source has it where its
    /// sources could be had (`xtask/src/userland.rs`).
    pub(crate) fn is_here(self) -> bool {
        self == Self::Legacy || !cfg!(target_env = "musl") || Path::new("/usr/sbin/iptables-nft").exists()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Firewall {
    family: Family,
    back: Back,
    /// Where extensions are looked for before the usual place.
    extensions: Option<&'static str>,
}

impl Firewall {
    pub(crate) fn new(family: Family, back: Back) -> Self {
        Self { family, back, extensions: None }
    }

    /// The same iptables for this family.
    pub(crate) fn of_family(&self, family: Family) -> Self {
        Self { family, ..self.clone() }
    }

    /// The same, with the extension that knows revision 0 only.
    pub(crate) fn of_revision_0(&self) -> Self {
        Self { extensions: Some("/usr/lib/pkd-revision-0"), ..self.clone() }
    }

    fn command(&self, suffix: &str) -> Command {
        let family = match self.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let back = match self.back {
            Back::Legacy => "legacy",
            Back::Nft => "nft",
        };
        let mut command = Command::new(format!("{family}-{back}{suffix}"));
        if let Some(folder) = self.extensions {
            command.env("XTABLES_LIBDIR", format!("{folder}:{USUAL}"));
        }
        command
    }

    /// Runs iptables with the words of `line`; it must succeed.
    pub(crate) fn run(&self, line: &str) -> Result<String> {
        self.words(&line.split(' ').collect::<Vec<_>>())
    }

    pub(crate) fn words(&self, words: &[&str]) -> Result<String> {
        let output = run(self.command("").args(words))?;
        ensure!(output.status.success(), "iptables {}: {}", words.join(" "), text(&output.stderr));
        Ok(text(&output.stdout))
    }

    /// Runs iptables, which must refuse, and gives what it said.
    pub(crate) fn refuses(&self, words: &[&str]) -> Result<String> {
        let output = run(self.command("").args(words))?;
        ensure!(!output.status.success(), "iptables took {}", words.join(" "));
        Ok(text(&output.stderr))
    }

    /// The rules as iptables-save prints them, without its comments and counters.
    pub(crate) fn save(&self) -> Result<String> {
        let output = run(&mut self.command("-save"))?;
        ensure!(output.status.success(), "iptables-save: {}", text(&output.stderr));
        let saved = text(&output.stdout);
        let lines = saved.lines().filter(|line| !line.starts_with('#'));
        Ok(lines.map(|line| line.split(" [").next().unwrap_or(line).to_owned() + "\n").collect())
    }

    pub(crate) fn restore(&self, rules: &str) -> Result<()> {
        let mut child = self.command("-restore").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("no standard input")?.write_all(rules.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "iptables-restore: {}", text(&output.stderr));
        Ok(())
    }

    pub(crate) fn flush(&self) -> Result<()> {
        self.run("-t filter -F")?;
        self.run("-t mangle -F").map(drop)
    }
}
