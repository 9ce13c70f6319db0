//! The status of a router's gate, as JSON and as text. It contains no key.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use pkd_core::UnixSeconds;
use serde::Serialize;

use super::{
    module::{Cache, Report},
    paths::Paths,
    place::Jump,
    router::{self, Clock, KeyFiles, Mode, Router},
};
use crate::{
    config::{Config, User, UserRule},
    control::{self, Query},
    date,
    firewall::{self, ActiveGrant},
    run_folder,
    status::{Parts, Status},
};

/// For how long after a reload the daemon may be starting.
const STARTING: Duration = Duration::from_secs(3);

/// The JSON of `pkd status --json`, without its last field `gate`: the status of pkdd or of the kernel module; `null` if
/// there is none.
#[derive(Debug, Serialize)]
struct RouterStatus {
    version: &'static str,
    /// Whether the configuration enables the gate.
    enabled: bool,
    /// `match` or `nft`; `null` while nothing is in force.
    mode: Option<&'static str>,
    state: State,
    /// Why, if the state does not say it.
    reason: String,
}

/// What the gate does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Disabled,
    Stopped,
    WaitingForTime,
    /// Knocks are accepted.
    Open,
    Error,
}

/// Prints the status. `text` is what `uci export` prints for the package `pkd`; it may have errors.
pub(crate) fn print(text: &str, paths: &Paths, json: bool) -> Result<String> {
    let active = fs::read_to_string(paths.active("config")).ok();
    let router = active.as_deref().and_then(|text| router::check(text, paths, KeyFiles::Read).ok());
    let gate = router.as_ref().and_then(|router| match router.mode {
        Mode::Nft => {
            let query = if json { Query::Status } else { Query::StatusText };
            let socket = run_folder::socket(&paths.daemon_run());
            answer(|| is_just_applied(paths), || control::ask(&socket, query).ok())
        }
        Mode::Match => {
            let status = module_status(router, paths)?;
            if json { serde_json::to_string(&status).ok() } else { Some(status.text()) }
        }
    });
    let enabled = router::is_enabled(text);
    let (state, reason) = state(enabled, active.is_some(), router.as_ref(), gate.is_some(), paths);
    let status = RouterStatus {
        version: env!("CARGO_PKG_VERSION"),
        enabled,
        mode: router.map(|router| router.mode.word()),
        state,
        reason,
    };
    if !json {
        return Ok(status.text() + &gate.unwrap_or_default());
    }
    let text = serde_json::to_string(&status)?;
    let text = text.trim_end_matches('}');
    Ok(format!("{text},\"gate\":{}}}\n", gate.as_deref().map_or("null", str::trim_end)))
}

/// What the daemon answers. A reload starts it again, which takes a moment: one that was not there yet is no error.
fn answer(may_be_starting: impl Fn() -> bool, mut ask: impl FnMut() -> Option<String>) -> Option<String> {
    let until = Instant::now() + STARTING;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if !may_be_starting() || Instant::now() >= until {
            return None;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether the configuration in force is so new that the daemon may be starting.
fn is_just_applied(paths: &Paths) -> bool {
    let modified = fs::metadata(paths.active("config")).and_then(|file| file.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age < STARTING))
}

fn state(
    enabled: bool,
    is_active: bool,
    router: Option<&Router>,
    answers: bool,
    paths: &Paths,
) -> (State, String) {
    if let Ok(error) = fs::read_to_string(paths.run("error")) {
        return (State::Error, error.lines().next().unwrap_or_default().to_owned());
    }
    if !enabled {
        return (State::Disabled, String::new());
    }
    if !is_active {
        return (State::Stopped, String::new());
    }
    if !paths.firewall4().exists() {
        return (State::Stopped, "the firewall is stopped".to_owned());
    }
    let Some(router) = router else {
        return (State::Error, "the configuration in force is damaged: reload the service".to_owned());
    };
    if !is_time_known(router, paths) {
        return (State::WaitingForTime, String::new());
    }
    if let Some(reason) = deafness(router) {
        return (State::Error, reason);
    }
    match (answers, router.mode) {
        (true, _) => (State::Open, String::new()),
        (false, Mode::Nft) => {
            (State::Error, "the daemon pkdd does not respond: see logread -e pkdd".to_owned())
        }
        (false, Mode::Match) => (State::Error, "the kernel module xt_pkd is not loaded".to_owned()),
    }
}

/// Whether the clock can be relied on to check knocks.
pub(crate) fn is_time_known(router: &Router, paths: &Paths) -> bool {
    router.clock == Clock::Trust || paths.run("time-known").exists() || !paths.floor::<UnixSeconds>().exists()
}

/// Why no knock can arrive, although everything runs: the rules that pass it on are not in the firewall.
fn deafness(router: &Router) -> Option<String> {
    for Jump { chain, rule, .. } in router.jumps() {
        if !printed("nft", &["list", "chain", "inet", "fw4", &chain]).lines().any(|line| line.trim() == rule)
        {
            let target = rule.trim_start_matches("jump ");
            let what =
                if target.ends_with("input") { "no knock arrives" } else { "no connection is forwarded" };
            return Some(format!(
                "firewall4's chain {chain} does not jump to {target}, so {what}: run /etc/init.d/firewall restart, and pkd check if that does not help"
            ));
        }
    }
    if router.mode == Mode::Match {
        let rules = printed("iptables", &["-w", "-t", "mangle", "-S", "INPUT"]);
        if !rules.lines().any(|line| line.ends_with(" -j pkd")) {
            let what =
                "iptables' chain INPUT of the table mangle does not jump to pkd, so no knock is checked";
            return Some(format!("{what}: run /etc/init.d/pkd reload"));
        }
    }
    None
}

/// What a program prints; nothing if it fails.
fn printed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// What the kernel module knows, as pkdd's status. `None`: the module is not loaded.
fn module_status(router: &Router, paths: &Paths) -> Option<Status> {
    let report = Report::parse(&fs::read_to_string(paths.module()).ok()?);
    let (grants, trouble) = match grants(&router.config) {
        Ok(grants) => (grants, String::new()),
        Err(error) => (Vec::new(), format!("{error:#}")),
    };
    // With mode match each user has a different tag, and the module writes it in the same form.
    let cache = |user: &User| {
        let tag = user.tag.to_string();
        let is_format2 = matches!(user.rule, UserRule::Format2(_));
        let is_theirs = |cache: &&Cache| cache.tag == tag && cache.is_format2 == is_format2;
        report.caches.iter().find(is_theirs).map(|cache| cache.report)
    };
    let counters = report.counters;
    let parts = Parts {
        config: &router.config,
        cache: &cache,
        // The sets do not say.
        opener: &|_| None,
        counters,
        limited: 0,
        overruns: 0,
        grants,
        trouble,
    };
    Some(Status::new(date::now(), parts))
}

fn grants(config: &Config) -> Result<Vec<ActiveGrant>> {
    firewall::open(config.gate.firewall)?.list(config)
}

impl RouterStatus {
    fn text(&self) -> String {
        let reason = &self.reason;
        let mut text = match self.state {
            State::Disabled => {
                "pkd is disabled: uci set pkd.gate.enabled=1; uci commit pkd; /etc/init.d/pkd start"
                    .to_owned()
            }
            State::Stopped if reason.is_empty() => "pkd is stopped: /etc/init.d/pkd start".to_owned(),
            State::Stopped => format!("pkd is stopped: {reason}"),
            State::WaitingForTime => {
                "pkd is waiting: knocks are ignored until NTP has set the clock".to_owned()
            }
            State::Error => {
                format!("pkd has an error, and the previous configuration stays in force: {reason}")
            }
            State::Open => "pkd is running and accepts knocks".to_owned(),
        };
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_is_starting_is_waited_for() {
        let late = |mut tries: u32| {
            move || tries.checked_sub(1).map(|left| tries = left).is_none().then(String::new)
        };
        assert_eq!(answer(|| true, late(2)), Some(String::new()));
        assert_eq!(answer(|| false, late(2)), None, "nothing was reloaded");
        assert_eq!(answer(|| false, late(0)), Some(String::new()));
    }
}
