//! Signals that end this process, held back while something is left to do.

#[cfg(not(unix))]
use std::{
    io,
    process::{Child, Command, ExitStatus},
};

#[cfg(not(unix))]
use anyhow::Result;

#[cfg(unix)]
pub(crate) use unix::{or_until_signal, spawn, wait};

#[cfg(unix)]
mod unix {
    use std::{
        io::{self, Read as _},
        os::unix::net::UnixStream,
        process::{Child, Command, ExitStatus},
        sync::mpsc,
        thread,
    };

    use anyhow::{Context as _, Result};
    use rustix::process::{Pid, Signal, kill_process};
    use signal_hook::{
        consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
        low_level::pipe,
    };

    /// Starts the program. Ctrl-C and Ctrl-\ reach it by themselves, as all processes of the terminal. A signal that this
    /// process catches has its default effect in the program.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
        caught(&[SIGINT, SIGQUIT])?;
        let signals = caught(&[SIGHUP, SIGTERM])?;
        let child = command.spawn()?;
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            thread::spawn(move || {
                let mut signals = signals;
                while signals.read_exact(&mut [0]).is_ok() {
                    // It may have ended; its number is not given away before it was waited for.
                    let _ = kill_process(pid, Signal::TERM);
                }
            });
        }
        Ok(child)
    }

    /// Waits for the program.
    pub(crate) fn wait(mut child: Child) -> io::Result<ExitStatus> {
        child.wait()
    }

    /// Runs `work` until it ends or a signal arrives. In the latter case it is left behind, and that is no error.
    pub(crate) fn or_until_signal(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
        let mut signals = caught(&[SIGHUP, SIGINT, SIGTERM]).context("cannot catch signals")?;
        let (sender, ended) = mpsc::channel();
        let other = sender.clone();
        thread::spawn(move || sender.send(work()));
        thread::spawn(move || signals.read_exact(&mut [0]).is_ok().then(|| other.send(Ok(()))));
        ended.recv().context("cannot wait")?
    }

    /// Catches the signals for good; a byte can be read for each.
    fn caught(signals: &[i32]) -> io::Result<UnixStream> {
        let (readable, writable) = UnixStream::pair()?;
        for &signal in signals {
            pipe::register(signal, writable.try_clone()?)?;
        }
        Ok(readable)
    }
}

#[cfg(not(unix))]
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    command.spawn()
}

#[cfg(not(unix))]
pub(crate) fn wait(mut child: Child) -> io::Result<ExitStatus> {
    child.wait()
}

#[cfg(not(unix))]
pub(crate) fn or_until_signal(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    work()
}
