//! What the firewall's programs print. They run side by side, and none is waited for longer than [`LIMIT`].

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

/// How long all programs together may take.
const LIMIT: Duration = Duration::from_secs(5);

/// More output than this is not read.
const MAX_OUTPUT: u64 = 64 << 20;

/// Exists if the kernel has IPv6.
const HAS_V6: &str = "/proc/net/if_inet6";

/// The tables that iptables-legacy has, which its program reads. They belong to root.
const LEGACY: [&str; 2] = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];

/// Programs and their arguments.
const NFT: &[&str] = &["nft", "-j", "list", "ruleset"];
const NFT_TEXT: &[&str] = &["nft", "-a", "list", "ruleset"];

/// The program of one variant of iptables.
const fn iptables(is_v4: bool, variant: Variant) -> &'static [&'static str] {
    match (is_v4, variant) {
        (true, Variant::Nftables) => &["iptables-nft-save"],
        (true, Variant::Legacy) => &["iptables-legacy-save"],
        (true, Variant::Default) => &["iptables-save"],
        (false, Variant::Nftables) => &["ip6tables-nft-save"],
        (false, Variant::Legacy) => &["ip6tables-legacy-save"],
        (false, Variant::Default) => &["ip6tables-save"],
    }
}

/// A variant of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Variant {
    Nftables,
    Legacy,
    /// The host has no program of another name.
    Default,
}

/// The rules of all programs, as text; empty if a program is not installed.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub(super) nft: String,
    pub(super) nft_text: String,
    /// By variant: IPv4, IPv6.
    pub(super) iptables: Vec<(Variant, [String; 2])>,
    /// Programs that did not answer, each with a reason.
    pub(super) failures: Vec<String>,
    /// Whether the kernel has IPv6.
    pub(super) has_v6: bool,
}

/// Programs that are running.
pub struct Running {
    started: Instant,
    nft: Program,
    nft_text: Program,
    iptables: Vec<(Variant, [Program; 2])>,
}

/// Starts the programs. This process may drop its privileges afterwards.
#[must_use]
pub fn start() -> Running {
    let start = |is_v4: bool, variant| match variant {
        // pkdd's own user may not, so the daemon under its unit does not see them; pkdd check and status do.
        Variant::Legacy if is_denied(LEGACY[usize::from(!is_v4)]) => Program::Missing,
        _ => Program::start(iptables(is_v4, variant)),
    };
    let pair = |variant| (variant, [true, false].map(|is_v4| start(is_v4, variant)));
    let mut both: Vec<_> = [Variant::Nftables, Variant::Legacy].map(pair).into_iter().collect();
    if both.iter().all(|(_, [v4, _])| matches!(v4, Program::Missing)) {
        both = vec![pair(Variant::Default)];
    }
    Running {
        started: Instant::now(),
        nft: Program::start(NFT),
        nft_text: Program::start(NFT_TEXT),
        iptables: both,
    }
}

fn is_denied(path: &str) -> bool {
    File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

impl Running {
    /// Waits for the output of all, at most for [`LIMIT`].
    #[must_use]
    pub fn finish(self) -> Listing {
        let end = self.started + LIMIT;
        let mut failures = Vec::new();
        let mut text = |program: Program| match program.finish(end) {
            Ok(text) => text,
            Err(why) => {
                failures.push(why);
                String::new()
            }
        };
        let nft = text(self.nft);
        let nft_text = text(self.nft_text);
        let iptables = self.iptables.into_iter();
        let iptables = iptables.map(|(variant, programs)| (variant, programs.map(&mut text))).collect();
        failures.dedup();
        Listing { nft, nft_text, iptables, failures, has_v6: Path::new(HAS_V6).exists() }
    }
}

enum Program {
    Missing,
    Failed(String),
    Running { name: &'static str, child: Child, output: Receiver<io::Result<(String, String)>> },
}

impl Program {
    fn start(words: &'static [&'static str]) -> Self {
        let Some((name, arguments)) = words.split_first() else { return Self::Missing };
        let mut command = Command::new(name);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::Missing,
            Err(error) => return Self::Failed(format!("cannot run {name}: {error}")),
        };
        let (sender, output) = mpsc::channel();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        thread::spawn(move || {
            // What it says about an error is short.
            let read = || {
                let (mut text, mut errors) = (Vec::new(), Vec::new());
                stdout.map(|pipe| pipe.take(MAX_OUTPUT).read_to_end(&mut text)).transpose()?;
                stderr.map(|pipe| pipe.take(MAX_OUTPUT).read_to_end(&mut errors)).transpose()?;
                let [text, errors] = [text, errors].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                Ok((text, errors))
            };
            // Nobody listens any more after the limit.
            let _late = sender.send(read());
        });
        Self::Running { name, child, output }
    }

    fn finish(self, end: Instant) -> Result<String, String> {
        let (name, mut child, output) = match self {
            Self::Missing => return Ok(String::new()),
            Self::Failed(why) => return Err(why),
            Self::Running { name, child, output } => (name, child, output),
        };
        let read = output.recv_timeout(end.saturating_duration_since(Instant::now()));
        // It has closed its output; if it has not, it must not go on. A daemon that has dropped its privileges since can
        // neither end it nor wait for it.
        if read.is_err() && child.kill().is_err() {
            return Err(late(name));
        }
        let status = child.wait().map_err(|error| format!("cannot wait for {name}: {error}"))?;
        match read {
            Err(_) => Err(late(name)),
            Ok(Err(error)) => Err(format!("cannot read from {name}: {error}")),
            Ok(Ok((text, _))) if status.success() => Ok(text),
            Ok(Ok((_, errors))) => {
                let line = errors.lines().map(str::trim).find(|line| !line.is_empty());
                Err(format!("{name}: {}", line.unwrap_or("failed without a message")))
            }
        }
    }
}

fn late(name: &str) -> String {
    format!("{name} did not answer within {} s", LIMIT.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_hangs_or_fails_is_not_waited_for() {
        // words, how it ends
        let rows: [(&'static [&'static str], Result<&str, &str>); 5] = [
            (&["printf", "rules"], Ok("rules")),
            (&["pkdd-has-no-such-program"], Ok("")),
            (&["sleep", "600"], Err("sleep did not answer within 5 s")),
            (&["sh", "-c", "echo; echo not permitted >&2; exit 1"], Err("sh: not permitted")),
            (&["false"], Err("false: failed without a message")),
        ];
        for (words, expected) in rows {
            let begin = Instant::now();
            let found = Program::start(words).finish(begin + Duration::from_millis(500));
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{words:?}");
            assert!(begin.elapsed() < Duration::from_secs(5), "{words:?}: {:?}", begin.elapsed());
        }
    }
}
