//! Runs the firewall's own programs, without a shell.

use std::{
    io::{self, Write as _},
    process::{Command, Stdio},
};

use crate::{error::Error, lock::Guard};

/// Runs a program and returns its output.
///
/// # Errors
/// It cannot be run, or exits with another status than 0.
pub(crate) fn output(program: &'static str, arguments: &[&str]) -> Result<Vec<u8>, Error> {
    run(program, arguments, b"", Stdio::piped())
}

/// Runs a program with a change as input. It inherits the lock as standard output, which it does not use.
///
/// # Errors
/// It cannot be run, or exits with another status than 0.
pub(crate) fn feed(
    program: &'static str,
    arguments: &[&str],
    input: &str,
    guard: &Guard,
) -> Result<(), Error> {
    let lock = guard.share().map_err(|error| Error::Program { program, error })?;
    run(program, arguments, input.as_bytes(), lock.into()).map(drop)
}

fn run(program: &'static str, arguments: &[&str], input: &[u8], stdout: Stdio) -> Result<Vec<u8>, Error> {
    let failed = |error| Error::Program { program, error };
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input) {
            // It stopped reading; its status says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written.map_err(failed)?,
        }
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    if ["Operation not permitted", "you must be root"].iter().any(|sign| stderr.contains(sign)) {
        return Err(Error::NotPermitted);
    }
    let message = error_message(&stderr).unwrap_or_else(|| output.status.to_string());
    Err(Error::Refused { program, message })
}

/// The error message of a program in one line. `iptables-restore` prints its name on a line before it, and hints after
/// it.
fn error_message(stderr: &str) -> Option<String> {
    let lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let useful = lines.filter(|line| !line.starts_with("Try `") && !line.starts_with('^'));
    let joined = useful.take(2).collect::<Vec<_>>().join(" ");
    let text = joined.strip_prefix("internal:0:0-0: ").unwrap_or(&joined);
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_message_is_one_line() {
        let rows = [
            ("", None),
            ("\n \n", None),
            ("internal:0:0-0: Error: No such file or directory\n", Some("Error: No such file or directory")),
            (
                "iptables-restore v1.8.9 (nf_tables): \nline 3: CHAIN_ADD failed\nTry `iptables-restore -h' for more.\n",
                Some("iptables-restore v1.8.9 (nf_tables): line 3: CHAIN_ADD failed"),
            ),
        ];
        for (row, (stderr, expected)) in rows.into_iter().enumerate() {
            assert_eq!(error_message(stderr).as_deref(), expected, "row {row}");
        }
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output("pktables-has-no-such-program", &[]).unwrap_err().to_string();
        assert_eq!(error, "cannot run pktables-has-no-such-program");
    }
}
