//! Running other programs.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result, bail, ensure};

/// The cargo that runs us.
pub(crate) const CARGO: &str = env!("CARGO");

/// A [`Command`] from a line with `{value}` and `{values...}` in it, as xshell reads it. It has nothing to read.
macro_rules! cmd {
    ($line:literal) => {{
        let shell = xshell::Shell::new().expect("the working folder exists");
        let mut command = std::process::Command::from(xshell::cmd!(shell, $line));
        command.stdin(std::process::Stdio::null());
        command
    }};
}
pub(crate) use cmd;

/// Says what takes time, before it does.
macro_rules! progress {
    ($($text:tt)*) => { eprintln!("==> {}", format_args!($($text)*)) };
}
pub(crate) use progress;

/// Ways to run a command. Each failure is reported with the command's name and, unless it was shown, all that it printed.
pub(crate) trait Run {
    /// Runs quietly.
    fn quiet(&mut self) -> Result<()>;
    /// Runs quietly; returns the standard output.
    fn read(&mut self) -> Result<String>;
    /// The same, with `input` on the standard input.
    fn read_with(&mut self, input: &[u8]) -> Result<Vec<u8>>;
    /// Runs with its output shown.
    fn show(&mut self) -> Result<()>;
    /// Runs with both outputs shown and returned.
    fn show_and_read(&mut self) -> Result<String>;
    /// Runs quietly, whatever comes of it.
    fn finish(&mut self) -> Result<Output>;
}

impl Run for Command {
    fn quiet(&mut self) -> Result<()> {
        self.read().map(drop)
    }

    fn read(&mut self) -> Result<String> {
        let output = self.finish()?;
        ensure!(output.status.success(), "{} failed ({})\n{}", name(self), output.status, text_of(&output));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn read_with(&mut self, input: &[u8]) -> Result<Vec<u8>> {
        let name = name(self);
        let start = self.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = start.with_context(|| format!("cannot start {name}"))?;
        child.stdin.take().context("no standard input")?.write_all(input)?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{name} failed ({})", output.status);
        Ok(output.stdout)
    }

    fn show(&mut self) -> Result<()> {
        let status = self.status().with_context(|| format!("cannot start {}", name(self)))?;
        ensure!(status.success(), "{} failed ({status})", name(self));
        Ok(())
    }

    fn show_and_read(&mut self) -> Result<String> {
        // Both outputs share a pipe, so that their lines keep their order.
        let (reader, writer) = std::io::pipe()?;
        let start = self.stdout(writer.try_clone()?).stderr(writer).spawn();
        let mut child = start.with_context(|| format!("cannot start {}", name(self)))?;
        // The command holds the pipe's other end until it is replaced.
        self.stdout(Stdio::null()).stderr(Stdio::null());
        let (mut said, mut line, mut reader) = (String::new(), Vec::new(), BufReader::new(reader));
        while reader.read_until(b'\n', &mut line)? > 0 {
            std::io::stdout().write_all(&line)?;
            said.push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
        let status = child.wait()?;
        ensure!(status.success(), "{} failed ({status})", name(self));
        Ok(said)
    }

    fn finish(&mut self) -> Result<Output> {
        self.output().with_context(|| format!("cannot start {}", name(self)))
    }
}

/// Both outputs of a command.
pub(crate) fn text_of(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// Where `program` is; the PATH counts for a name alone.
pub(crate) fn path_of(program: impl AsRef<Path>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(&program)).find(|path| path.is_file())
}

/// Runs all of it in its order, `count` at a time, each in a thread. After an error nothing more is begun, and what was has
/// ended before it is returned.
pub(crate) fn at_once<W: FnOnce() -> Result<()> + Send>(
    count: usize,
    work: impl IntoIterator<Item = W, IntoIter: Send>,
) -> Result<()> {
    let (queue, failed) = (Mutex::new(work.into_iter()), AtomicBool::new(false));
    let next = || if failed.load(Relaxed) { None } else { queue.lock().ok()?.next() };
    let take =
        || std::iter::from_fn(next).try_for_each(|work| work()).inspect_err(|_| failed.store(true, Relaxed));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(take)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|_| bail!("a thread panicked"))
        };
        threads.into_iter().map(join).fold(Ok(()), Result::and)
    })
}

/// How many processes run at a time.
pub(crate) fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn name(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let first = command.get_args().next().unwrap_or_default();
    format!("`{} {} …`", program.display(), first.display())
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, atomic::AtomicUsize};

    use super::*;

    #[test]
    fn all_of_what_runs_at_once_has_ended_before_an_error_is_told() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let both_have_begun = Barrier::new(2);
        let fails = || -> Result<()> {
            both_have_begun.wait();
            bail!("it fails")
        };
        let slow = || -> Result<()> {
            both_have_begun.wait();
            std::thread::yield_now();
            Ok(sender.send("ended")?)
        };
        let work: [Box<dyn FnOnce() -> Result<()> + Send>; 2] = [Box::new(fails), Box::new(slow)];
        at_once(2, work).unwrap_err();
        assert_eq!(receiver.try_recv(), Ok("ended"));
    }

    #[test]
    fn after_an_error_nothing_more_is_begun() {
        let begun = AtomicUsize::new(0);
        let fails = || -> Result<()> {
            begun.fetch_add(1, Relaxed);
            bail!("it fails")
        };
        at_once(1, [fails; 3]).unwrap_err();
        assert_eq!(begun.into_inner(), 1);
    }

    #[test]
    fn no_more_run_at_once_than_asked_for() {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let all_meet = Barrier::new(2);
        let work = || {
            most.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
            all_meet.wait();
            running.fetch_sub(1, Relaxed);
            Ok(())
        };
        at_once(2, [work; 6]).unwrap();
        assert_eq!(most.into_inner(), 2);
    }

    #[test]
    fn a_failure_names_the_command_and_what_it_printed() {
        let error = cmd!("sh -c 'echo out; echo err >&2; exit 3'").read().unwrap_err().to_string();
        assert!(
            ["`sh -c …`", "exit status: 3", "out\nerr\n"].iter().all(|part| error.contains(part)),
            "{error}"
        );
    }
}
