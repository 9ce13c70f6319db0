//! Other programs that knock makes way for.

use std::{io, process::Command};

/// Becomes the program; returns only where that fails.
#[cfg(unix)]
pub(crate) fn exec(command: &mut Command) -> io::Result<u8> {
    use std::os::unix::process::CommandExt as _;
    Err(command.exec())
}

/// Waits for the program, and gives its exit code.
#[cfg(not(unix))]
pub(crate) fn exec(command: &mut Command) -> io::Result<u8> {
    let code = command.status()?.code().unwrap_or(1);
    Ok(u8::try_from(code).unwrap_or(1))
}

/// The system's shell with a command.
pub(crate) fn shell(text: &str) -> Command {
    let (shell, option) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut command = Command::new(shell);
    command.args([option, text]);
    command
}
