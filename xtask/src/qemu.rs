//! A guest that runs, and its console.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader, Write},
    os::fd::OwnedFd,
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
};

use crate::{guest::Guest, machine::Machine, prelude::*};

/// A running QEMU; it ends when this is dropped.
pub(crate) struct Qemu {
    child: Child,
    keyboard: Option<ChildStdin>,
    console: Receiver<String>,
    log: Vec<String>,
}

impl Qemu {
    /// Starts `guest` without KVM and without root. `clock`: `utc` or the date that it begins with.
    pub(crate) fn start(
        machine: &Machine,
        guest: &Guest,
        clock: &str,
        more: &[impl AsRef<OsStr>],
    ) -> Result<Self> {
        let (qemu, own, Guest { kernel, initrd }) = (machine.qemu, machine.qemu_arguments.split(' '), guest);
        let append = format!("{} panic=-1 loglevel=4 log_buf_len=4M", machine.console);
        let mut child = cmd!("{qemu} {own...} -accel tcg -display none -monitor none -serial stdio -no-reboot
                              -nodefaults -rtc base={clock} -kernel {kernel} -initrd {initrd} -append {append} {more...}")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {qemu}"))?;
        let (sender, console) = channel();
        let outputs = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
        for output in outputs.into_iter().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                let (mut reader, mut line) = (BufReader::new(File::from(output)), Vec::new());
                while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                    if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
        let keyboard = child.stdin.take();
        Ok(Self { child, keyboard, console, log: Vec::new() })
    }

    /// The next line of the console; `None` once QEMU has ended. An error after `limit`.
    pub(crate) fn line(&mut self, limit: Duration) -> Result<Option<String>> {
        match self.console.recv_timeout(limit) {
            Ok(line) => {
                self.log.push(line.clone());
                Ok(Some(line))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                let (seconds, words) = (limit.as_secs(), self.last_words());
                bail!("the guest said nothing for {seconds} s; its last words:\n{words}")
            }
        }
    }

    /// Types a line at the console.
    pub(crate) fn type_line(&mut self, line: &str) -> Result<()> {
        let keyboard = self.keyboard.as_mut().context("QEMU has no keyboard")?;
        writeln!(keyboard, "{line}").context("typing at the console")
    }

    /// Waits for the line `text`, and gives those before it.
    pub(crate) fn lines_until(&mut self, text: &str, limit: Duration) -> Result<Vec<String>> {
        let end = Instant::now() + limit;
        let mut lines = Vec::new();
        while let Some(line) = self.line(end.saturating_duration_since(Instant::now()))? {
            if line == text {
                return Ok(lines);
            }
            lines.push(line);
        }
        bail!("the guest ended before it said {text:?}; its last words:\n{}", self.last_words())
    }

    /// Whether QEMU has gone by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        // Its console closes a moment before it is gone.
        (0..100).any(|_| {
            thread::sleep(Duration::from_millis(10));
            self.child.try_wait().is_ok_and(|status| status.is_some())
        })
    }

    /// The end of what the console showed.
    pub(crate) fn last_words(&self) -> String {
        self.log[self.log.len().saturating_sub(40)..].join("\n")
    }

    /// All that the console showed.
    pub(crate) fn log(&self) -> String {
        self.log.join("\n") + "\n"
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about either failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
