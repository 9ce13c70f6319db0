//! Replacing this process by another program.

use std::{io, process::Command};

/// Replaces this process by the program; returns only on failure.
#[cfg(unix)]
pub(crate) fn exec(command: &mut Command) -> io::Result<u8> {
    use std::os::unix::process::CommandExt as _;
    Err(command.exec())
}

/// Runs the program and returns its exit code.
#[cfg(not(unix))]
pub(crate) fn exec(command: &mut Command) -> io::Result<u8> {
    let code = command.status()?.code().unwrap_or(1);
    Ok(u8::try_from(code).unwrap_or(1))
}

/// A command line for the shell of the system.
pub(crate) fn shell(text: &str) -> Command {
    let (shell, option) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut command = Command::new(shell);
    command.args([option, text]);
    command
}
