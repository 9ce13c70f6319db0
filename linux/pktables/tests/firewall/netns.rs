//! A network namespace with one kind of firewall. Without root, the test becomes root of a user namespace.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
pub(crate) use pkd_netns::process::wait;
use pkd_netns::{
    namespace::{self, As},
    process::text,
};
use pktables::{Backend, Firewall, ServiceName};

/// The first directory in the PATH of a test.
const PROGRAMS: &str = "/run/bin";

/// The kind of firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nft,
    IptablesNft,
    IptablesLegacy,
}

impl Kind {
    pub(crate) fn is_nft(self) -> bool {
        self == Self::Nft
    }
}

pub(crate) struct Netns {
    pub(crate) kind: Kind,
}

/// The result of a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Defines a test for each kind of firewall.
macro_rules! on_each_firewall {
    ($(#[$about:meta])* fn $name:ident($netns:ident) $body:block) => {
        $(#[$about])*
        mod $name {
            use super::*;

            fn holds($netns: &Netns) -> Result<()> $body

            #[test]
            fn nft() -> Result<()> {
                Netns::enter(concat!(module_path!(), "::nft"), $crate::netns::Kind::Nft, holds)
            }

            #[test]
            fn iptables_nft() -> Result<()> {
                Netns::enter(concat!(module_path!(), "::iptables_nft"), $crate::netns::Kind::IptablesNft, holds)
            }

            #[test]
            fn iptables_legacy() -> Result<()> {
                Netns::enter(concat!(module_path!(), "::iptables_legacy"), $crate::netns::Kind::IptablesLegacy, holds)
            }
        }
    };
}
pub(crate) use on_each_firewall;

impl Netns {
    /// Runs a test in a namespace of its own; `path` is the path of the test, with the name of the crate.
    pub(crate) fn enter(path: &str, kind: Kind, test: fn(&Self) -> Result<()>) -> Result<()> {
        let Some(output) = namespace::enter(path, As::RootIfPossible, Some(Path::new(PROGRAMS)))? else {
            let Some(netns) = Self::set_up(kind)? else {
                // Reported, because nothing was tested.
                writeln!(io::stderr(), "---- {path}: skipped, iptables-legacy does not work here")?;
                return Ok(());
            };
            return test(&netns);
        };
        for line in output.lines().filter(|line| line.starts_with("---- ")) {
            writeln!(io::stderr(), "{line}")?;
        }
        Ok(())
    }

    /// `None`: the kernel has no such firewall.
    fn set_up(kind: Kind) -> Result<Option<Self>> {
        run("mount", ["-t", "tmpfs", "none", "/run"])?;
        run("ip", ["link", "set", "lo", "up"])?;
        fs::create_dir_all(PROGRAMS)?;
        let place = |name: &str, program: &Path| symlink(program, Path::new(PROGRAMS).join(name));
        place("pktables", Path::new(env!("CARGO_BIN_EXE_pktables")))?;
        let multi = match kind {
            Kind::IptablesLegacy => "xtables-legacy-multi",
            Kind::Nft | Kind::IptablesNft => "xtables-nft-multi",
        };
        let multi = find(multi)?;
        for family in ["iptables", "ip6tables"] {
            for name in ["", "-save", "-restore"] {
                place(&format!("{family}{name}"), &multi)?;
            }
        }
        // It also refuses root of a user namespace.
        if kind == Kind::IptablesLegacy && !command("iptables-save").output()?.status.success() {
            return Ok(None);
        }
        Ok(Some(Self { kind }))
    }

    fn backend(&self) -> &'static str {
        if self.kind.is_nft() { "nft" } else { "iptables" }
    }

    /// The same firewall through the library.
    pub(crate) fn firewall(&self) -> Result<Box<dyn Firewall>> {
        Ok(self.backend().parse::<Backend>()?.open()?)
    }

    /// Runs the command without selecting the backend.
    pub(crate) fn bare(words: &[&str]) -> Result<Outcome> {
        let output = command("pktables").args(words).output()?;
        Ok(Outcome { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// Runs the command on this kind of firewall.
    pub(crate) fn pktables(&self, words: &str) -> Result<Outcome> {
        let words: Vec<&str> = ["--backend", self.backend()].into_iter().chain(words.split(' ')).collect();
        Self::bare(&words)
    }

    /// Runs commands, one per line, which must succeed without output.
    pub(crate) fn quietly(&self, lines: &[&str]) -> Result<()> {
        for line in lines {
            let outcome = self.pktables(line)?;
            let quiet = Outcome { code: Some(0), stdout: String::new(), stderr: String::new() };
            ensure!(outcome == quiet, "pktables {line}: {outcome:?}");
        }
        Ok(())
    }

    /// Runs a command that must fail with one line on standard error.
    pub(crate) fn fails(&self, words: &str, code: i32, message: &str) -> Result<()> {
        let outcome = self.pktables(words)?;
        let stderr = format!("pktables: {message}\n");
        assert_eq!(outcome, Outcome { code: Some(code), stdout: String::new(), stderr }, "pktables {words}");
        Ok(())
    }

    /// The granted addresses of a service, in listed order.
    pub(crate) fn granted(&self, service: &str) -> Result<Vec<String>> {
        let name: ServiceName = service.parse()?;
        let listings = self.firewall()?.list()?.services;
        let Some(listing) = listings.into_iter().find(|listing| listing.service.name == name) else {
            bail!("no service {name}")
        };
        Ok(listing.grants.iter().map(|grant| pktables::address::short(grant.address)).collect())
    }

    /// The rules of both families, as the firewall lists them, without counters.
    pub(crate) fn rules(&self) -> Result<String> {
        if self.kind.is_nft() {
            return run("nft", ["--stateless", "list", "ruleset"]);
        }
        let both = [run("iptables-save", [""; 0])?, run("ip6tables-save", [""; 0])?].concat();
        let lines = both.lines().filter(|line| !line.starts_with('#'));
        Ok(lines.map(|line| line.split(" [").next().unwrap_or(line).to_owned() + "\n").collect())
    }
}

pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Runs a program that must succeed; returns its output.
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, words: impl IntoIterator<Item = S>) -> Result<String> {
    let mut command = command(program);
    command.args(words);
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    Ok(text(&output.stdout))
}

/// Runs a program with input; it must succeed.
pub(crate) fn feed(program: &str, words: &[&str], input: &str) -> Result<()> {
    let mut command = command(program);
    let mut child = command.args(words).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
    let Output { status, stderr, .. } = child.wait_with_output()?;
    ensure!(status.success(), "{command:?}: {}", text(&stderr));
    Ok(())
}

fn find(program: &str) -> Result<PathBuf> {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin"];
    let found = folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file());
    found.with_context(|| format!("{program} is missing; Debian's iptables brings it"))
}
