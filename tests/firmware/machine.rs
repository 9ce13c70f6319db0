//! A board in QEMU: its flash, its log, and QEMU's monitor.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::FileExt, net::UnixStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use pkd_gateway::{CONFIG_LIMIT, Config, FlashFloors, Floors, RULES};
use smoltcp::wire::EthernetAddress;

/// How long to wait for any event. QEMU may have only half a core.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// The files that the tests need.
pub(crate) struct Tools {
    /// The firmware image, an ELF file.
    pub(crate) image: PathBuf,
    /// `defmt-print`, which decodes the log.
    pub(crate) defmt_print: PathBuf,
}

impl Tools {
    /// The board that the image is for.
    pub(crate) fn board(&self) -> Board {
        if self.image.ends_with(Board::Virt.name()) { Board::Virt } else { Board::Mps2 }
    }
}

/// A board that QEMU emulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Board {
    /// `mps2-an386`. Its PSRAM serves as flash.
    Mps2,
    /// `virt` for 32-bit RISC-V. RAM behind the program's RAM serves as flash.
    Virt,
}

impl Board {
    /// Its name, and that of its image.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mps2 => "mps2-an386",
            Self::Virt => "riscv32-virt",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Mps2 => "qemu-system-arm",
            Self::Virt => "qemu-system-riscv32",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Mps2 => &["-M", "mps2-an386,memory-backend=flash"],
            Self::Virt => &[
                "-M",
                "virt,memory-backend=flash",
                "-m",
                "128M",
                "-bios",
                "none",
                "-global",
                "virtio-mmio.force-legacy=false",
            ],
        }
    }

    /// QEMU's arguments for a NIC with this MAC address.
    pub(crate) fn nic(self, network: &str, hardware: EthernetAddress) -> [String; 2] {
        let hardware = hardware.to_string().replace('-', ":");
        match self {
            Self::Mps2 => {
                ["-net".to_owned(), format!("nic,model=lan9118,netdev={network},macaddr={hardware}")]
            }
            Self::Virt => {
                ["-device".to_owned(), format!("virtio-net-device,netdev={network},mac={hardware}")]
            }
        }
    }

    /// The size of the memory that is backed by a file in MiB, and the offset of the flash in it.
    fn memory(self) -> (u64, u64) {
        match self {
            Self::Mps2 => (16, 0),
            Self::Virt => (128, 64 << 20),
        }
    }
}

/// QEMU's arguments that derive the board's time from its instructions: 32 ns each. Only sleep adds to it.
pub(crate) const ICOUNT: [&str; 2] = ["-icount", "shift=5"];
/// Instructions per second of the board's time, with [`ICOUNT`], if it never sleeps.
pub(crate) const ICOUNT_PER_SECOND: u64 = 1_000_000_000 / 32;

/// The offset and length of the floor's region.
pub(crate) const FLOOR_START: u32 = 0x0001_0000;
pub(crate) const FLOOR_BYTES: u32 = 0x2000;

/// The file that backs the board's flash.
pub(crate) struct Flash {
    file: File,
    path: PathBuf,
    /// The offset of the flash in the file.
    base: u64,
}

impl Flash {
    /// Creates flash that is erased, as far as the board uses it.
    fn new(folder: &std::path::Path, board: Board) -> Result<Self> {
        let path = folder.join("flash");
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path)?;
        let (size, base) = board.memory();
        file.set_len(size << 20)?;
        let flash = Self { file, path, base };
        flash.write(0, &[0xff; CONFIG_LIMIT])?;
        flash.erase_floor()?;
        Ok(flash)
    }

    pub(crate) fn write(&self, offset: u32, bytes: &[u8]) -> Result<()> {
        Ok(self.file.write_all_at(bytes, self.base + u64::from(offset))?)
    }

    pub(crate) fn read(&self, offset: u32, length: u32) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length)?];
        self.file.read_exact_at(&mut bytes, self.base + u64::from(offset))?;
        Ok(bytes)
    }

    pub(crate) fn configure(&self, config: &Config<RULES>) -> Result<()> {
        let mut bytes = [0xff; CONFIG_LIMIT];
        config.emit(&mut bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
        self.write(0, &bytes)
    }

    pub(crate) fn erase_floor(&self) -> Result<()> {
        self.write(FLOOR_START, &vec![0xff; usize::try_from(FLOOR_BYTES)?])
    }

    /// The saved floors.
    pub(crate) fn floors(&self) -> Result<Floors> {
        let floors = FlashFloors::open(Chip(self), FLOOR_START, FLOOR_BYTES);
        Ok(floors.map_err(|error| anyhow::anyhow!("{error:?}"))?.floors())
    }

    pub(crate) fn save_floors(&self, floors: Floors) -> Result<()> {
        let log = FlashFloors::open(Chip(self), FLOOR_START, FLOOR_BYTES);
        let saved = log.and_then(|mut log| log.save(floors));
        saved.map_err(|error| anyhow::anyhow!("{error:?}"))
    }
}

/// The file, with the interface of NOR flash.
struct Chip<'a>(&'a Flash);

#[derive(Debug)]
struct ChipError;

impl NorFlashError for ChipError {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl ErrorType for Chip<'_> {
    type Error = ChipError;
}

impl ReadNorFlash for Chip<'_> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ChipError> {
        let bytes_there = self.0.read(offset, u32::try_from(bytes.len()).map_err(|_| ChipError)?);
        bytes.copy_from_slice(&bytes_there.map_err(|_| ChipError)?);
        Ok(())
    }

    fn capacity(&self) -> usize {
        0x2_0000
    }
}

impl NorFlash for Chip<'_> {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4_096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), ChipError> {
        let erased = vec![0xff; usize::try_from(to - from).map_err(|_| ChipError)?];
        self.0.write(from, &erased).map_err(|_| ChipError)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), ChipError> {
        self.0.write(offset, bytes).map_err(|_| ChipError)
    }
}

/// A running QEMU. Dropping it ends it.
pub(crate) struct Machine {
    qemu: Child,
    printer: Child,
    log: Receiver<String>,
    /// All lines logged so far.
    seen: Vec<String>,
    monitor: PathBuf,
    pub(crate) flash: Flash,
    _folder: tempfile::TempDir,
}

impl Machine {
    /// Starts a board. `prepare` writes its flash; `network` returns QEMU's arguments for the NICs, given a folder for sockets.
    pub(crate) fn start(
        tools: &Tools,
        board: Board,
        prepare: impl FnOnce(&Flash) -> Result<()>,
        network: impl FnOnce(&std::path::Path) -> Vec<String>,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let flash = Flash::new(folder.path(), board)?;
        prepare(&flash)?;
        let monitor = folder.path().join("monitor");
        let mut command = Command::new(board.program());
        command
            .args(board.arguments())
            .arg("-object")
            .arg(format!(
                "memory-backend-file,id=flash,mem-path={},size={}M,share=on",
                flash.path.display(),
                board.memory().0
            ))
            .arg("-kernel")
            .arg(&tools.image)
            .args(["-accel", "tcg", "-display", "none", "-monitor", "none", "-serial", "none"])
            .args(["-semihosting-config", "enable=on,target=native"])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", monitor.display()))
            .args(network(folder.path()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // QEMU's user network logs every closed connection.
            .stderr(File::create(folder.path().join("errors"))?);
        let mut qemu = command.spawn().context(board.program())?;
        let output = qemu.stdout.take().context("no standard output")?;
        let (printer, log) = print_log(tools, output)?;
        Ok(Self { qemu, printer, log, seen: Vec::new(), monitor, flash, _folder: folder })
    }

    /// Waits for a log line with these words, and returns it. Fails on a panic.
    pub(crate) fn wait_for_log(&mut self, words: &str) -> Result<String> {
        self.wait_for_line(|line| {
            ensure!(!line.contains("panic"), "the firmware panicked: {line}");
            Ok(line.contains(words))
        })
        .with_context(|| format!("waiting for {words:?}"))
    }

    /// Waits for a log line that matches, and returns it.
    pub(crate) fn wait_for_line(&mut self, matches: impl Fn(&str) -> Result<bool>) -> Result<String> {
        let end = Instant::now() + TIMEOUT;
        loop {
            match self.log.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if matches(&line)? {
                        return Ok(line);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("QEMU exited; last log lines: {}", self.log_tail())
                }
                Err(RecvTimeoutError::Timeout) => bail!("timeout; last log lines: {}", self.log_tail()),
            }
        }
    }

    /// Returns all lines logged so far. Fails if one of them is a panic.
    pub(crate) fn log(&mut self) -> Result<&[String]> {
        self.seen.extend(self.log.try_iter());
        ensure!(
            !self.seen.iter().any(|line| line.contains("panic")),
            "the firmware panicked: {}",
            self.log_tail()
        );
        Ok(&self.seen)
    }

    fn log_tail(&self) -> String {
        self.seen[self.seen.len().saturating_sub(10)..].join(" | ")
    }

    /// Resets the board. Only its flash survives.
    pub(crate) fn reset(&mut self) -> Result<()> {
        // Lines before the reset belong to the previous boot.
        self.log()?;
        self.monitor("{\"execute\":\"system_reset\"}").map(drop)
    }

    /// Unplugs the cable, or plugs it in again.
    pub(crate) fn set_link(&mut self, up: bool) -> Result<()> {
        self.monitor(&format!("{{\"execute\":\"set_link\",\"arguments\":{{\"name\":\"net\",\"up\":{up}}}}}"))
            .map(drop)
    }

    /// The instructions executed so far. Requires [`ICOUNT`].
    pub(crate) fn instructions(&mut self) -> Result<u64> {
        // {"return": {"icount": 83940, "mode": "none"}}
        let answer = self.monitor("{\"execute\":\"query-replay\"}")?;
        let (_, number) =
            answer.split_once("\"icount\": ").with_context(|| format!("no instruction count in {answer}"))?;
        let digits = number.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        digits.parse().with_context(|| format!("no instruction count in {answer}"))
    }

    /// Sends a command to QEMU's monitor, and returns the reply.
    fn monitor(&mut self, command: &str) -> Result<String> {
        let end = Instant::now() + TIMEOUT;
        let mut stream = loop {
            match UnixStream::connect(&self.monitor) {
                Ok(stream) => break stream,
                // QEMU has not created the socket yet.
                Err(_) if Instant::now() < end => thread::yield_now(),
                Err(error) => return Err(error).context("QEMU's monitor"),
            }
        };
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        lines.next().context("no greeting")??;
        let mut answer = String::new();
        for command in ["{\"execute\":\"qmp_capabilities\"}", command] {
            writeln!(stream, "{command}")?;
            answer = loop {
                let line = lines.next().context("the monitor closed")??;
                ensure!(!line.contains("\"error\""), "{command}: {line}");
                if line.contains("\"return\"") {
                    break line;
                }
            };
        }
        Ok(answer)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both may have exited already. Nothing can be done about a failure.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        let _ = self.printer.wait();
    }
}

/// Starts `defmt-print`, which turns the firmware's output into log lines.
fn print_log(tools: &Tools, output: std::process::ChildStdout) -> Result<(Child, Receiver<String>)> {
    let mut printer = Command::new(&tools.defmt_print)
        .arg("-e")
        .arg(&tools.image)
        .args(["--log-format", "{L} {s}"])
        .stdin(output)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("defmt-print")?;
    let lines = BufReader::new(printer.stdout.take().context("no standard output")?).lines();
    let (sender, log) = channel();
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    Ok((printer, log))
}
