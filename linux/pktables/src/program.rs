//! Runs the firewall's own programs, without a shell.

use std::{
    io::{self, Read, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{self, Sender},
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::Error,
    lock::{self, Guard},
};

/// What a program may take, not counting the time in which it waits for a lock. It usually takes some milliseconds.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs a program and returns its output.
///
/// # Errors
/// It cannot be run, does not end in time, or exits with another status than 0.
pub(crate) fn output(program: &'static str, arguments: &[&str]) -> Result<Vec<u8>, Error> {
    run(program, arguments, b"", Stdio::piped(), LIMIT)
}

/// Runs a program with a change as input. It inherits the lock as standard output, which it does not use.
///
/// # Errors
/// It cannot be run, does not end in time, or exits with another status than 0.
pub(crate) fn feed(
    program: &'static str,
    arguments: &[&str],
    input: &str,
    guard: &Guard,
) -> Result<(), Error> {
    let lock = guard.share().map_err(|error| Error::Program { program, error })?;
    let limit = guard.timeout.saturating_add(LIMIT);
    run(program, arguments, input.as_bytes(), lock.into(), limit).map(drop)
}

fn run(
    program: &'static str,
    arguments: &[&str],
    input: &[u8],
    stdout: Stdio,
    limit: Duration,
) -> Result<Vec<u8>, Error> {
    let failed = |error| Error::Program { program, error };
    let deadline = Instant::now().checked_add(limit);
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // Each pipe has a thread of its own, so that no program blocks on a full one, or this process on an empty one.
    let (sender, receiver) = mpsc::channel();
    let mut missing = 0_usize;
    if let Some(mut stdin) = child.stdin.take() {
        let (input, sender) = (input.to_vec(), sender.clone());
        let write = move || match stdin.write_all(&input) {
            // It stopped reading; its status says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Vec::new()),
            written => written.map(|()| Vec::new()),
        };
        spawn(Pipe::Stdin, write, sender).map_err(failed)?;
        missing = missing.saturating_add(1);
    }
    if let Some(stdout) = child.stdout.take() {
        spawn(Pipe::Stdout, move || read(stdout), sender.clone()).map_err(failed)?;
        missing = missing.saturating_add(1);
    }
    if let Some(stderr) = child.stderr.take() {
        spawn(Pipe::Stderr, move || read(stderr), sender).map_err(failed)?;
        missing = missing.saturating_add(1);
    }
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    for _ in 0..missing {
        let left = deadline.map_or(limit, |deadline| deadline.saturating_duration_since(Instant::now()));
        match receiver.recv_timeout(left) {
            Ok((Pipe::Stdin, written)) => drop(written.map_err(failed)?),
            Ok((Pipe::Stdout, bytes)) => stdout = bytes.map_err(failed)?,
            Ok((Pipe::Stderr, bytes)) => stderr = bytes.map_err(failed)?,
            Err(_) => {
                // A process that may not end it cannot wait for it either.
                if child.kill().is_ok() {
                    child.wait().map_err(failed)?;
                }
                return Err(Error::TimedOut { program, limit });
            }
        }
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&stderr);
    if stderr.contains("holding the xtables lock") {
        return Err(lock::locked(Path::new(lock::XTABLES)));
    }
    if ["Operation not permitted", "you must be root"].iter().any(|sign| stderr.contains(sign)) {
        return Err(Error::NotPermitted);
    }
    let message = error_message(&stderr).unwrap_or_else(|| status.to_string());
    Err(Error::Refused { program, message })
}

/// The pipes of a program.
enum Pipe {
    Stdin,
    Stdout,
    Stderr,
}

/// Handles a pipe in a thread, and sends the result.
fn spawn(
    pipe: Pipe,
    work: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static,
    sender: Sender<(Pipe, io::Result<Vec<u8>>)>,
) -> io::Result<()> {
    // Nobody waits for it after the timeout.
    thread::Builder::new().spawn(move || drop(sender.send((pipe, work())))).map(drop)
}

fn read(mut pipe: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).map(|_| bytes)
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

    #[test]
    fn a_program_that_hangs_is_killed() {
        let limit = Duration::from_secs(1);
        let error = run("sleep", &["300"], b"", Stdio::piped(), limit).unwrap_err().to_string();
        assert_eq!(error, "sleep did not end within 1 s and was killed");
    }
}
