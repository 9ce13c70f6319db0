//! The floor: knocks whose time is at or below it are ignored. The kernel module or pkdd keeps it while the router runs.
//! A copy on flash survives reboots, so that recorded knocks cannot be replayed after the clock was set back.

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::Path,
};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use pkd_core::{Timestamp, UnixMillis, UnixSeconds};

use super::{
    files::write,
    paths::Paths,
    router::{Mode, Router},
};
use crate::{
    atomic_file, date,
    floor::{self, Floor, Saved},
    format::Unit,
    run_folder,
};

/// Least seconds between two writes to flash while the router runs.
const SAVE_INTERVAL: u64 = 3_600;

/// Sets the floor of the kernel module or of pkdd, unless it has one, so that every knock accepted earlier is refused.
/// The clock is correct by now. `has_changed`: the other mode was in force until now.
pub(crate) fn restore(router: &Router, paths: &Paths, has_changed: bool) -> Result<()> {
    let floor = safe(router, paths, date::now());
    match router.mode {
        Mode::Match => {
            let module = paths.module();
            let report = fs::read_to_string(&module)
                .with_context(|| format!("cannot read {}: is the module loaded?", module.display()))?;
            let mut lines = String::new();
            if kept(&report).is_none() {
                let _ = writeln!(lines, "floor {floor}");
            }
            // Also without users of format 2: there may be some before the next start.
            if kept_format2(&report).is_none() {
                let _ = writeln!(lines, "floor2-ms {}", milliseconds(floor));
            }
            if !lines.is_empty() {
                fs::write(&module, &lines)
                    .with_context(|| format!("cannot set the module's floor to {floor}"))?;
            }
        }
        Mode::Nft => {
            restore_daemon::<UnixSeconds>(paths, UnixSeconds(floor), has_changed)?;
            restore_daemon::<UnixMillis>(paths, UnixMillis(milliseconds(floor)), has_changed)?;
        }
    }
    // From now on there is something to replay after a reboot.
    if !paths.floor().exists() {
        write(&paths.floor(), &format!("{floor}\n"))?;
    }
    // The file on flash would have the next reload wait for NTP.
    write(&paths.run("time-known"), "")
}

/// The same for pkdd's floor of one format.
fn restore_daemon<T: Unit>(paths: &Paths, floor: T, has_changed: bool) -> Result<()> {
    let file = floor::path::<T>(&paths.daemon_state());
    // Within a boot pkdd goes on from its journal, unless the module has accepted knocks meanwhile.
    if !has_changed && file.exists() {
        return Ok(());
    }
    let saved = Saved { other: Floor { time: floor, is_exact: true }, ..Saved::default() };
    run_folder::create(&paths.daemon_state())?;
    saved.write(&file, true).with_context(|| format!("cannot write {}", file.display()))?;
    let journal = run_folder::journal::<T>(&paths.daemon_run());
    if journal.exists() {
        fs::remove_file(&journal).with_context(|| format!("cannot remove {}", journal.display()))?;
    }
    Ok(())
}

/// Saves the floor of the kernel module if it has risen. `is_due`: only if the last write is long ago.
pub(crate) fn save(paths: &Paths, if_due: bool) -> Result<()> {
    let Ok(report) = fs::read_to_string(paths.module()) else { return Ok(()) };
    // Of two processes, the one that has read the smaller floor must not write last.
    run_folder::create(&paths.run(""))?;
    let lock = paths.run("save.lock");
    let file = File::create(&lock).with_context(|| format!("cannot create {}", lock.display()))?;
    let _lock = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("cannot lock {}", lock.display()))?;
    // One number for both formats: a reboot with a later floor only makes the other wait longer.
    let greatest = kept(&report).max(kept_format2(&report));
    let Some(floor) = greatest.filter(|floor| *floor > saved(paths)) else { return Ok(()) };
    let last = fs::read_to_string(paths.run("saved")).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let uptime = uptime(&paths.uptime())?;
    if if_due && last.is_some_and(|last| uptime < last.saturating_add(SAVE_INTERVAL)) {
        return Ok(());
    }
    write(&paths.floor(), &format!("{floor}\n"))?;
    write(&paths.run("saved"), &format!("{uptime}\n"))
}

/// What was accepted so far is at or below this: the greatest saved floor, or the end of the widest window. 0: nothing
/// was ever accepted here.
fn safe(router: &Router, paths: &Paths, now: UnixSeconds) -> u64 {
    let state = paths.daemon_state();
    let files = [paths.floor(), floor::path::<UnixSeconds>(&state), floor::path::<UnixMillis>(&state)];
    if !files.iter().any(|file| file.exists()) {
        return 0;
    }
    saved(paths).max(now.plus(router.config.widest()).0)
}

/// The greatest floor on flash, or 0.
fn saved(paths: &Paths) -> u64 {
    let floors = [paths.floor(), paths.daemon_state().join("floor")];
    let read = |path: &Path| atomic_file::read_to_string(path).ok()?.lines().next()?.parse().ok();
    let format2 = Saved::<UnixMillis>::read(&floor::path::<UnixMillis>(&paths.daemon_state())).ok().flatten();
    let format2 = format2.map(|saved| saved.greatest().0.div_ceil(1_000));
    floors.iter().filter_map(|path| read(path)).chain(format2).max().unwrap_or(0)
}

/// The floor in the module's report; `None`: it has none yet.
fn kept(report: &str) -> Option<u64> {
    report.lines().find_map(|line| line.strip_prefix("Floor to save: "))?.trim().parse().ok()
}

/// The same for format 2, in seconds, rounded up.
fn kept_format2(report: &str) -> Option<u64> {
    let line = report.lines().find_map(|line| line.strip_prefix("Floor of format 2 to save, in ms: "))?;
    line.trim().parse::<u64>().ok().map(|floor| floor.div_ceil(1_000))
}

/// A floor of format 2 that refuses everything up to the end of this second.
fn milliseconds(floor: u64) -> u64 {
    if floor == 0 { 0 } else { floor.saturating_mul(1_000).saturating_add(999) }
}

/// Seconds since the router has started.
fn uptime(path: &Path) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let seconds = text.split(['.', ' ']).next().and_then(|whole| whole.parse().ok());
    seconds.with_context(|| format!("cannot parse {}", path.display()))
}
