//! Running another program, in place of this one or before it goes on.

use std::{
    io,
    process::{Command, ExitStatus},
};

use crate::interrupt;

/// Replaces this process by the program; returns only on failure.
#[cfg(unix)]
pub(crate) fn exec(command: &mut Command) -> io::Result<u8> {
    use std::os::unix::process::CommandExt as _;
    Err(command.exec())
}

/// Runs the program and returns its exit code.
#[cfg(not(unix))]
pub(crate) fn exec(command: &mut Command) -> io::Result<u8> {
    run(command)
}

/// Runs the program and returns its exit code. Signals that would end this process end the program only.
pub(crate) fn run(command: &mut Command) -> io::Result<u8> {
    let child = interrupt::spawn(command)?;
    interrupt::wait(child).map(code)
}

#[cfg(unix)]
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    // As shells report it.
    let signal = status.signal().map(|signal| signal.saturating_add(128));
    status.code().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(not(unix))]
fn code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// A command line for the shell of the system.
pub(crate) fn shell(text: &str) -> Command {
    let (shell, option) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut command = Command::new(shell);
    command.args([option, text]);
    command
}
