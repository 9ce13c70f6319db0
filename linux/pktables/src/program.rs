//! Running the firewall's own programs: arguments and input are given as they are, and no shell sees them.

use std::{
    io::{self, Write as _},
    process::{Command, Stdio},
};

use crate::{error::Error, lock::Guard};

/// Asks a program; gives what it prints.
///
/// # Errors
/// It cannot be run, or ends with another status than 0.
pub(crate) fn output(program: &'static str, arguments: &[&str]) -> Result<Vec<u8>, Error> {
    run(program, arguments, b"", Stdio::piped())
}

/// Gives a program its input, which is a change. Its standard output, where it has nothing to say, is the lock.
///
/// # Errors
/// It cannot be run, or ends with another status than 0.
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
            // It has seen enough; its status tells why.
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

/// What a program complains of, in one line: `iptables-restore` puts its name into a line before, and hints
/// into one after.
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
    fn a_complaint_is_one_line() {
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
    fn a_program_that_is_not_there_is_named() {
        let stderr = output("pktables-has-no-such-program", &[]).unwrap_err().to_string();
        assert!(stderr.starts_with("cannot run pktables-has-no-such-program: "), "{stderr}");
    }
}
