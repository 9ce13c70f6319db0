//! Floors: knocks whose time is at or below that of their key are ignored. The kernel module or pkdd keeps them while the
//! router runs. A copy on flash survives reboots, so that recorded knocks cannot be replayed after the clock was set back.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use pkd_core::{UnixMillis, UnixSeconds};

use super::{
    files::write,
    module::{self, Reported},
    paths::Paths,
    router::{Mode, Router},
};
use crate::{
    date,
    floor::{self, Floor, Saved},
    format::Unit,
    run_folder,
};

/// Least seconds between two writes to flash while the router runs.
const SAVE_INTERVAL: u64 = 3_600;

/// Sets the floors of the kernel module or of pkdd, unless it has some, so that every knock accepted earlier is refused.
/// The clock is correct by now. `has_changed`: the other mode was in force until now.
pub(crate) fn restore(router: &Router, paths: &Paths, has_changed: bool) -> Result<()> {
    let (classic, format2) = (safe::<UnixSeconds>(router, paths), safe::<UnixMillis>(router, paths));
    match router.mode {
        Mode::Match => {
            let path = paths.module();
            let report = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}: is the module loaded?", path.display()))?;
            let (mut lines, mut greatest) = (Vec::new(), String::new());
            if module::floors::<UnixSeconds>(&report).is_none() {
                lines.extend(module::lines(&classic));
                greatest += &module::line_for_all(classic.greatest());
            }
            // Also without users of format 2: there may be some before the next start.
            if module::floors::<UnixMillis>(&report).is_none() {
                lines.extend(module::lines(&format2));
                greatest += &module::line_for_all(format2.greatest());
            }
            restore_module(&path, &lines, &greatest).context("cannot set the module's floors")?;
        }
        Mode::Nft => {
            restore_daemon(paths, classic, has_changed)?;
            restore_daemon(paths, format2, has_changed)?;
        }
    }
    // From now on there is something to replay after a reboot.
    write_first::<UnixSeconds>(paths)?;
    write_first::<UnixMillis>(paths)?;
    // The file on flash would have the next reload wait for NTP.
    write(&paths.run("time-known"), "")
}

/// Writes these lines; to a module that knows no floors of keys, the one that holds for all.
fn restore_module(path: &Path, lines: &[String], greatest: &str) -> io::Result<()> {
    for lines in lines.chunks(module::LINES_AT_ONCE) {
        match fs::write(path, lines.concat()) {
            Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {
                return fs::write(path, greatest);
            }
            written => written?,
        }
    }
    Ok(())
}

/// The same for pkdd's floors of one format.
fn restore_daemon<T: Unit>(paths: &Paths, mut floors: Saved<T>, has_changed: bool) -> Result<()> {
    let file = floor::path::<T>(&paths.daemon_state());
    // Within a boot pkdd goes on from its journal, unless the module has accepted knocks meanwhile.
    if !has_changed && file.exists() {
        return Ok(());
    }
    floors.other.is_exact = true;
    floors.keys.values_mut().for_each(|floor| floor.is_exact = true);
    run_folder::create(&paths.daemon_state())?;
    floors.write(&file, true).with_context(|| format!("cannot write {}", file.display()))?;
    let journal = run_folder::journal::<T>(&paths.daemon_run());
    if journal.exists() {
        fs::remove_file(&journal).with_context(|| format!("cannot remove {}", journal.display()))?;
    }
    Ok(())
}

fn write_first<T: Unit>(paths: &Paths) -> Result<()> {
    let file = paths.floor::<T>();
    if file.exists() {
        return Ok(());
    }
    saved::<T>(paths).write(&file, false).with_context(|| format!("cannot write {}", file.display()))
}

/// Saves the floors of the kernel module if they have risen. `is_due`: only if the last write is long ago.
pub(crate) fn save(paths: &Paths, if_due: bool) -> Result<()> {
    let Ok(report) = fs::read_to_string(paths.module()) else { return Ok(()) };
    // Of two processes, the one that has read the smaller floor must not write last.
    run_folder::create(&paths.run(""))?;
    let lock = paths.run("save.lock");
    let file = File::create(&lock).with_context(|| format!("cannot create {}", lock.display()))?;
    let _lock = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("cannot lock {}", lock.display()))?;
    let (classic, format2) = (risen::<UnixSeconds>(paths, &report), risen::<UnixMillis>(paths, &report));
    if classic.is_none() && format2.is_none() {
        return Ok(());
    }
    let last = fs::read_to_string(paths.run("saved")).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let uptime = uptime(&paths.uptime())?;
    if if_due && last.is_some_and(|last| uptime < last.saturating_add(SAVE_INTERVAL)) {
        return Ok(());
    }
    // That of format 2 first: without it, the classic one holds for both.
    write_risen(paths, format2)?;
    write_risen(paths, classic)?;
    write(&paths.run("saved"), &format!("{uptime}\n"))
}

/// The floors on flash, raised to what the module reports; `None` if that changes nothing.
fn risen<T: Reported>(paths: &Paths, report: &str) -> Option<Saved<T>> {
    let reported = module::floors::<T>(report)?;
    let saved = saved::<T>(paths);
    let risen = greater(&saved, &reported);
    (risen != saved).then_some(risen)
}

fn write_risen<T: Unit>(paths: &Paths, risen: Option<Saved<T>>) -> Result<()> {
    let Some(risen) = risen else { return Ok(()) };
    let file = paths.floor::<T>();
    risen.write(&file, false).with_context(|| format!("cannot write {}", file.display()))
}

/// What was accepted so far is at or below this: the greatest saved floor of each key, or the end of the widest window.
/// 0: nothing was ever accepted here.
fn safe<T: Unit>(router: &Router, paths: &Paths) -> Saved<T> {
    let state = paths.daemon_state();
    let daemon = floor::path::<T>(&state);
    let files =
        [paths.floor::<UnixSeconds>(), floor::path::<UnixSeconds>(&state), floor::path::<UnixMillis>(&state)];
    if !files.iter().any(|file| file.exists()) {
        return Saved::default();
    }
    let daemon = Saved::<T>::read(&daemon).ok().flatten().unwrap_or_default();
    let end = last_of::<T>(date::now()).plus(router.config.widest());
    let end = Saved { other: inexact(end), ..Saved::default() };
    let mut floors = greater(&greater(&saved(paths), &daemon), &end);
    let other = floors.other.time;
    floors.keys.retain(|_, floor| floor.time > other);
    floors
}

/// The floors on flash; none if the file is damaged.
fn saved<T: Unit>(paths: &Paths) -> Saved<T> {
    let file = paths.floor::<T>();
    if file.exists() {
        return Saved::read(&file).ok().flatten().unwrap_or_default();
    }
    // Before there was one for each format, one number of seconds held for both.
    let both = Saved::<UnixSeconds>::read(&paths.floor::<UnixSeconds>()).ok().flatten().unwrap_or_default();
    Saved { other: inexact(last_of::<T>(both.greatest())), ..Saved::default() }
}

/// The greater floor of each key.
fn greater<T: Unit>(one: &Saved<T>, other: &Saved<T>) -> Saved<T> {
    let mut both = Saved { other: inexact(one.other.time.max(other.other.time)), ..Saved::default() };
    for key in one.keys.keys().chain(other.keys.keys()) {
        both.raise(*key, inexact(one.of(*key).time.max(other.of(*key).time)));
    }
    both
}

fn inexact<T>(time: T) -> Floor<T> {
    Floor { time, is_exact: false }
}

/// The last moment of a second, so that nothing of it is accepted; 0 is no time.
fn last_of<T: Unit>(seconds: UnixSeconds) -> T {
    let next = seconds.0.saturating_add(1).saturating_mul(T::PER_SECOND.into());
    if seconds.0 == 0 { T::ZERO } else { T::from_units(next.saturating_sub(1)) }
}

/// Seconds since the router has started.
fn uptime(path: &Path) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let seconds = text.split(['.', ' ']).next().and_then(|whole| whole.parse().ok());
    seconds.with_context(|| format!("cannot parse {}", path.display()))
}
