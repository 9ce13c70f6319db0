//! Runs the command with its own home directory, with or without a terminal.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use pkd_core::{Key, Knock, Port, Tag};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};

/// The key of most tests. Every key in these tests contains one of [`SECRETS`].
pub(crate) const KEY: &str = "open sesame";
/// What no output may contain.
const SECRETS: [&str; 2] = ["sesame", "5e5a3e5e5a3e"];
/// Time limit for anything that a test waits for.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Harness {
    home: PathBuf,
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// What the terminal showed, if there was one.
    pub(crate) terminal: String,
}

impl Harness {
    /// Creates an empty home directory; `name` is the name of the test.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        fs::create_dir_all(&home)?;
        Ok(Self { home })
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Creates a file that only its owner can read; returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<String> {
        let path = self.home.join(name);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?
            .write_all(content.as_ref())?;
        Ok(path.to_str().context("path")?.to_owned())
    }

    /// Creates a file with a mode.
    pub(crate) fn file_with_mode(&self, name: &str, content: &str, mode: u32) -> Result<String> {
        let path = self.file(name, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(path)
    }

    /// Runs the command without a terminal.
    pub(crate) fn knock(&self, args: &[&str]) -> Result<Outcome> {
        self.knock_with_input(args, b"")
    }

    /// Runs the command with standard output to a file.
    pub(crate) fn knock_into(&self, args: &[&str], file: &str) -> Result<Outcome> {
        let file = OpenOptions::new().write(true).open(file)?;
        Outcome::of(
            finish(self.command("--wait", args).stdin(Stdio::null()).stdout(file).spawn()?)?,
            String::new(),
        )
    }

    /// Runs the command with another HOME, in the same working directory.
    pub(crate) fn knock_with_home(&self, home: &str, args: &[&str]) -> Result<Outcome> {
        let mut command = self.command("--wait", args);
        Outcome::of(finish(command.env("HOME", home).stdin(Stdio::null()).spawn()?)?, String::new())
    }

    /// Runs the command with another PATH.
    pub(crate) fn knock_with_path(&self, path: &str, args: &[&str]) -> Result<Outcome> {
        let mut command = Command::new("/usr/bin/setsid");
        command.args(self.command("--wait", args).get_args()).env("PATH", path).env("HOME", &self.home);
        command.current_dir(&self.home).stdout(Stdio::piped()).stderr(Stdio::piped());
        Outcome::of(finish(command.stdin(Stdio::null()).spawn()?)?, String::new())
    }

    /// Runs the command with input.
    pub(crate) fn knock_with_input<S: AsRef<OsStr>>(&self, args: &[S], input: &[u8]) -> Result<Outcome> {
        let mut child = self.command("--wait", args).stdin(Stdio::piped()).spawn()?;
        // A command that fails before it reads closes the pipe; the test checks its output.
        let _ = child.stdin.take().context("stdin")?.write_all(input);
        Outcome::of(finish(child)?, String::new())
    }

    /// Runs the command on a terminal, and types `text` once echo is off.
    pub(crate) fn knock_on_terminal(&self, args: &[&str], text: &str) -> Result<Outcome> {
        self.knock_on_terminal_with_answers(args, &[text])
    }

    /// Runs the command on a terminal, with an answer for each prompt.
    pub(crate) fn knock_on_terminal_with_answers(&self, args: &[&str], answers: &[&str]) -> Result<Outcome> {
        self.terminal(args, answers, false)
    }

    /// Runs the command with standard output and error on the terminal, too.
    pub(crate) fn knock_attached(&self, args: &[&str]) -> Result<Outcome> {
        self.terminal(args, &[], true)
    }

    fn terminal(&self, args: &[&str], answers: &[&str], is_attached: bool) -> Result<Outcome> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        // Kept open to the end: a terminal that no process has open loses its output.
        let slave = OpenOptions::new().read(true).write(true).open(name.to_str()?)?;
        let mut master = File::from(master);
        let mut command = self.command("--ctty", args);
        if is_attached {
            command.stdout(slave.try_clone()?).stderr(slave.try_clone()?);
        }
        let child = command.stdin(slave.try_clone()?).spawn()?;
        let shown = read_in_background(master.try_clone()?);
        let finished = finish_in_background(child);

        let start = Instant::now();
        let mut terminal = Vec::new();
        let mut output = None;
        let mut answers = answers.iter();
        let mut asked = 0;
        while output.is_none() {
            ensure!(
                start.elapsed() < LIMIT,
                "nothing happens; shown: {}",
                String::from_utf8_lossy(&terminal)
            );
            output = finished.recv_timeout(Duration::from_millis(1)).ok().transpose()?;
            terminal.extend(shown.try_iter().flatten());
            let hidden = !tcgetattr(&slave)?.local_modes.contains(LocalModes::ECHO);
            // An answered prompt stays visible until the next one.
            if hidden
                && terminal.ends_with(b": ")
                && terminal.len() > asked
                && let Some(answer) = answers.next()
            {
                asked = terminal.len();
                master.write_all(answer.as_bytes())?;
            }
        }
        ensure!(
            tcgetattr(&slave)?.local_modes.contains(LocalModes::ECHO),
            "the terminal was left without echo"
        );
        // A mark of ours comes behind all that the command wrote.
        (&slave).write_all(b"<end>")?;
        while !terminal.ends_with(b"<end>") {
            terminal.extend(shown.recv_timeout(LIMIT)?);
        }
        terminal.truncate(terminal.len() - b"<end>".len());
        Outcome::of(output.context("no output")?, String::from_utf8(terminal)?)
    }

    fn command<S: AsRef<OsStr>>(&self, session: &str, args: &[S]) -> Command {
        let mut command = Command::new("setsid");
        command.arg(session).arg(env!("CARGO_BIN_EXE_knock")).args(args);
        command.env("HOME", &self.home).env_remove("XDG_CONFIG_HOME").current_dir(&self.home);
        // No desktop's keyring, whoever runs the tests.
        command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere").env_remove("XDG_RUNTIME_DIR");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Outcome {
    fn of(output: Output, terminal: String) -> Result<Self> {
        let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        for text in [&stdout, &stderr, &terminal] {
            ensure!(!SECRETS.iter().any(|trace| text.contains(trace)), "a key is shown: {text}");
        }
        Ok(Self { code: output.status.code(), stdout, stderr, terminal })
    }

    /// The knocks that `--dry-run` printed.
    pub(crate) fn knocks(&self) -> Result<Vec<DryKnock>> {
        ensure!(self.code == Some(0) && self.stderr.is_empty(), "{self:?}");
        self.stdout.lines().map(DryKnock::read).collect()
    }
}

/// A line of `--dry-run`.
#[derive(Debug)]
pub(crate) struct DryKnock {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) payload: Vec<u8>,
}

impl DryKnock {
    fn read(line: &str) -> Result<Self> {
        let [host, port, hex] =
            line.split(' ').collect::<Vec<_>>().try_into().ok().context("not three words")?;
        let digits = hex.as_bytes().chunks(2);
        let bytes = digits.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?));
        Ok(Self { host: host.to_owned(), port: port.parse()?, payload: bytes.collect::<Result<_>>()? })
    }

    /// Fails unless this is a fresh knock for `port` made with that key and tag.
    pub(crate) fn verify(&self, key: &str, tag: &str) -> Result<()> {
        verify(&self.payload, key, tag, self.port)
    }
}

/// Fails unless `payload` is a fresh knock for `port` made with that key and tag.
pub(crate) fn verify(payload: &[u8], key: &str, tag: &str, port: u16) -> Result<()> {
    let knock = Knock::parse(payload).context("length")?;
    ensure!(knock.tag() == Tag::parse(tag)?, "tag {}", knock.tag());
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    ensure!(now.abs_diff(knock.time().0) <= LIMIT.as_secs(), "time {}", knock.time().0);
    ensure!(knock.expected_digest(&Key::parse(key)?, Port(port)).matches(&knock.digest()), "digest");
    Ok(())
}

fn finish(child: Child) -> Result<Output> {
    match finish_in_background(child).recv_timeout(LIMIT) {
        Ok(output) => Ok(output?),
        Err(_) => bail!("the command hangs"),
    }
}

fn finish_in_background(child: Child) -> Receiver<std::io::Result<Output>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    receiver
}

fn read_in_background(mut source: File) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = source.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}
