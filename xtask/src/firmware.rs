//! The gateway's boards: building, trying and measuring them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    cache, document, host,
    installed::Program,
    row::Row,
    run,
    toolchain::{self, Toolchain},
};

/// A board: its folder, target and binaries.
struct Board {
    name: &'static str,
    target: &'static str,
    /// Whether QEMU runs it here; the others are only built.
    runs: bool,
}

impl Board {
    /// What vendors' crates add is theirs; QEMU's Cortex-M4 is the measure.
    fn is_limited(&self) -> bool {
        self.name == "mps2-an386"
    }
}

const BOARDS: &[Board] = &[
    Board { name: "mps2-an386", target: "thumbv7em-none-eabi", runs: true },
    Board { name: "riscv32-virt", target: "riscv32imac-unknown-none-elf", runs: true },
    Board { name: "nucleo-h743zi", target: "thumbv7em-none-eabihf", runs: false },
    Board { name: "w5500-evb-pico2", target: "thumbv8m.main-none-eabihf", runs: false },
];

/// The version of `defmt-print`, which decodes the firmware's log; it goes with that of defmt in the boards' lock.
const DEFMT_PRINT: Program = Program { name: "defmt-print", version: "1.2.0" };

/// Bytes of flash and RAM that a gateway with the usual tables has to fit into.
const MEMORY_LIMIT: u64 = 96 << 10;

/// Figures by the name that the board gives them, what they are of, and the instructions that they may be at most.
const FIGURES: [(&str, &str, Option<u64>); 5] = [
    ("knock", "a classic knock accepted", Some(7_000)),
    ("full", "a classic knock accepted while its cache is full", Some(7_000)),
    ("small", "68 bytes forwarded", Some(1_500)),
    ("large", "1,400 bytes forwarded", Some(6_000)),
    ("stranger", "a stranger's SYN dropped", None),
];

/// `make firmware`: builds all boards into `target/firmware`, and writes what they take to the firmware's README.
pub(crate) fn build_all() -> Result<()> {
    lint()?;
    document::write(&readme(), "memory", &memory()?)?;
    let folder = toolchain::root().join("target/firmware");
    fs::create_dir_all(&folder)?;
    for board in BOARDS {
        fs::copy(build(board)?.join(board.name), folder.join(board.name))?;
    }
    println!("the images are in target/firmware");
    Ok(())
}

/// `make test-firmware`: the library on the host, and the boards in QEMU.
pub(crate) fn test() -> Result<()> {
    run::progress("the gateway on the host");
    let mut cargo = run::command(env!("CARGO"));
    cargo.args([
        "test",
        "--quiet",
        "--locked",
        "--package",
        "pkd-gateway",
        "--package",
        "pkd-gateway-config",
    ]);
    run::shown(cargo.current_dir(toolchain::root()))?;
    test_in_qemu()
}

/// The boards in QEMU, on a host that has what it takes.
pub(crate) fn test_in_qemu() -> Result<()> {
    lint()?;
    memory()?;
    let vm = Harness::build()?;
    let mps2 = find("mps2-an386")?;
    vm.run_image("faults", &build(mps2)?.join("faults"))?;
    for part in ["one-arm", "trunk", "load", "conformance", "user-network"] {
        vm.run(part, mps2)?;
    }
    vm.run("inline", find("riscv32-virt")?)?;
    figures().map(drop)
}

/// The three parts that a change is most likely to break.
pub(crate) fn test_quick() -> Result<()> {
    lint()?;
    memory()?;
    let vm = Harness::build()?;
    let mps2 = find("mps2-an386")?;
    for part in ["one-arm", "conformance"] {
        vm.run(part, mps2)?;
    }
    vm.run("inline", find("riscv32-virt")?)?;
    figures().map(drop)
}

/// `make demo-firmware`: the job as a transcript.
pub(crate) fn demo() -> Result<()> {
    Harness::build()?.run("demo", find("mps2-an386")?)
}

/// `cargo xtask bench firmware`: what the boards take, and what a frame does, as the firmware's README has it.
pub(crate) fn write_figures() -> Result<()> {
    document::write(&readme(), "memory", &memory()?)?;
    document::write(&readme(), "instructions", &figures()?)
}

/// What the boards take, for `make bench`.
pub(crate) fn memory_rows() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (board, Memory { flash, ram }) in memories()? {
        let limit = if board.is_limited() { format!("at most {MEMORY_LIMIT}") } else { String::new() };
        let place = if board.runs { board.name.to_owned() } else { format!("{}, built only", board.name) };
        rows.push(Row::new("gateway, flash", format!("{flash} bytes"), &place).beside(&limit));
        rows.push(Row::new("gateway, RAM without the stack", format!("{ram} bytes"), &place).beside(&limit));
    }
    Ok(rows)
}

/// `Rule::verify` on a Cortex-M4, and what it is a part of, for `make bench`.
pub(crate) fn check_rows() -> Result<Vec<Row>> {
    let counted = counted()?;
    let of = |name: &str| counted.get(name).copied().with_context(|| format!("no figure for {name}"));
    let bare = of("blocks")?;
    let place = "Cortex-M4, QEMU";
    let mut rows = vec![Row::new("two bare SHA-256 blocks", bare.to_string(), place)];
    for (name, what) in [
        ("core-accepted", "a knock that is accepted"),
        ("core-forged", "a forgery with the right tag and time"),
        ("core-other-tag", "another tag"),
        ("core-wrong-length", "another length"),
    ] {
        let value = of(name)?;
        let hundredths = value * 100 / bare.max(1);
        let beside = format!("{}.{:02} of the blocks", hundredths / 100, hundredths % 100);
        rows.push(Row::new(what, value.to_string(), place).beside(beside));
    }
    for (name, what, limit) in FIGURES {
        let limit = limit.map(|limit| format!("at most {limit}")).unwrap_or_default();
        let place = "Cortex-M4, QEMU, the gateway";
        rows.push(Row::new(what, of(name)?.to_string(), place).beside(limit));
    }
    Ok(rows)
}

fn readme() -> PathBuf {
    toolchain::root().join("firmware/README.md")
}

/// `cargo xtask gateway-config FILE`: the binary configuration, beside the file.
pub(crate) fn configure(file: &str) -> Result<()> {
    let to = Path::new(file).with_extension("bin");
    let mut cargo = run::command(env!("CARGO"));
    // The caller's folder, which its paths begin in.
    cargo.args(["run", "--quiet", "--package", "pkd-gateway-config", "--", file]).arg(&to);
    run::shown(&mut cargo)?;
    println!("{}: flash it with `probe-rs download`, as the board's README says", to.display());
    Ok(())
}

fn find(name: &str) -> Result<&'static Board> {
    BOARDS.iter().find(|board| board.name == name).with_context(|| format!("no board is called {name}"))
}

/// Formatting and clippy of the boards, which are a workspace of their own.
fn lint() -> Result<()> {
    run::progress("boards: formatting and clippy");
    let mut cargo = run::command(env!("CARGO"));
    run::shown(cargo.args(["fmt", "--all", "--check"]).current_dir(folder()))?;
    BOARDS.iter().try_for_each(|board| cargo_for(board, "clippy", &["--", "--deny", "warnings"]).map(drop))
}

fn folder() -> PathBuf {
    toolchain::root().join("firmware/boards")
}

/// Builds a board; gives the folder of its binaries.
fn build(board: &Board) -> Result<PathBuf> {
    cargo_for(board, "build", &[])
}

fn cargo_for(board: &Board, command: &str, rest: &[&str]) -> Result<PathBuf> {
    let toolchain = Toolchain::find()?;
    let target = board.target;
    let entry =
        cache::entry(&format!("cargo-{target}"), &[target, toolchain.version(), "firmware"], |_, _| Ok(()))?;
    let mut cargo = run::command(match command {
        // Cargo itself would take the clippy of another compiler, if that comes first in the PATH.
        "clippy" => toolchain.programs()?.1.with_file_name("cargo-clippy"),
        _ => toolchain.programs()?.1,
    });
    cargo.arg(command).args([
        "--quiet",
        "--locked",
        "--release",
        "--package",
        &format!("pkd-{}", board.name),
    ]);
    cargo.args(["--target", target, "-Z", "build-std=core"]).args(rest).current_dir(folder());
    toolchain.environment(&mut cargo, &entry, &[])?;
    // Else only errors are logged.
    cargo.env("DEFMT_LOG", "info");
    if run::exists(host::LLD) {
        let name = target.to_uppercase().replace(['-', '.'], "_");
        cargo.env(format!("CARGO_TARGET_{name}_LINKER"), host::LLD);
    }
    run::quiet(&mut cargo).with_context(|| format!("cannot {command} {}", board.name))?;
    Ok(entry.join(target).join("release"))
}

/// What every board takes; an error if it is too much.
fn memories() -> Result<Vec<(&'static Board, Memory)>> {
    BOARDS
        .iter()
        .map(|board| {
            run::progress(&format!("building {}", board.name));
            let memory = Memory::of(&build(board)?.join(board.name))?;
            for (what, bytes) in [("flash", memory.flash), ("RAM", memory.ram)] {
                ensure!(
                    !board.is_limited() || bytes <= MEMORY_LIMIT,
                    "{}: {bytes} bytes of {what} are too much",
                    board.name
                );
            }
            Ok((board, memory))
        })
        .collect()
}

/// The same as a table that was printed.
fn memory() -> Result<String> {
    let mut table =
        "| board | flash, bytes | RAM without the stack, bytes | run here |\n|---|---:|---:|---|\n"
            .to_owned();
    for (board, Memory { flash, ram }) in memories()? {
        let runs = if board.runs { "in QEMU" } else { "no: built only" };
        writeln!(table, "| {} | {flash} | {ram} | {runs} |", board.name)?;
    }
    print!("{table}");
    Ok(table)
}

/// What an image takes.
struct Memory {
    flash: u64,
    ram: u64,
}

impl Memory {
    /// Of a 32-bit little endian ELF file (System V ABI, "Program Header"): what is loaded lies in flash, what is written
    /// lies in RAM.
    fn of(image: &Path) -> Result<Self> {
        /// The segment is loaded.
        const LOAD: u64 = 1;
        /// It may be written to.
        const WRITE: u64 = 2;
        let bytes = fs::read(image).with_context(|| image.display().to_string())?;
        let number = |at: usize, length: usize| -> Result<u64> {
            let field = bytes.get(at..at + length).context("it ends too early")?;
            Ok(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
        };
        ensure!(bytes.starts_with(b"\x7fELF\x01\x01"), "{} is no 32-bit ELF file", image.display());
        let (table, size, count) = (number(28, 4)?, number(42, 2)?, number(44, 2)?);
        let mut memory = Self { flash: 0, ram: 0 };
        for index in 0..count {
            let at = usize::try_from(table + index * size)?;
            if number(at, 4)? == LOAD {
                memory.flash += number(at + 16, 4)?;
                if number(at + 24, 4)? & WRITE != 0 {
                    memory.ram += number(at + 20, 4)?;
                }
            }
        }
        Ok(memory)
    }
}

/// The program that is the world around a board in QEMU, and what it needs.
struct Harness {
    program: PathBuf,
    knock: PathBuf,
    defmt_print: PathBuf,
}

impl Harness {
    fn build() -> Result<Self> {
        run::progress("building the hosts around the boards, and knock");
        let mut cargo = run::command(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--package", "pkd-firmware-tests"]);
        run::quiet(cargo.args(["--package", "host-knock"]).current_dir(toolchain::root()))?;
        let folder = toolchain::target().join("debug");
        Ok(Self {
            program: folder.join("pkd-firmware-tests"),
            knock: folder.join("knock"),
            defmt_print: DEFMT_PRINT.path()?,
        })
    }

    fn run(&self, part: &str, board: &Board) -> Result<()> {
        self.run_image(part, &build(board)?.join(board.name))
    }

    fn run_image(&self, part: &str, image: &Path) -> Result<()> {
        let name = image.file_name().unwrap_or_default().display();
        run::progress(&format!("firmware {part} on {name}"));
        let mut vm = run::command(&self.program);
        vm.arg(part).arg(image).arg(&self.defmt_print).arg(&self.knock).stdin(Stdio::null());
        run::shown(&mut vm).with_context(|| format!("firmware {part}"))
    }
}

/// Instructions by the names that the board gives them, counted by QEMU.
fn counted() -> Result<BTreeMap<String, u64>> {
    let board = find("mps2-an386")?;
    let image = build(board)?.join("benchmark");
    run::progress("counting instructions");
    let mut qemu = run::command("qemu-system-arm");
    qemu.args([
        "-M",
        "mps2-an386",
        "-icount",
        "shift=0",
        "-display",
        "none",
        "-monitor",
        "none",
        "-serial",
        "none",
    ]);
    qemu.args(["-semihosting-config", "enable=on,target=native", "-kernel"]).arg(&image);
    let output = qemu.output().context("qemu-system-arm")?;
    let mut printer = run::command(DEFMT_PRINT.path()?);
    let log = run::output_of(printer.arg("-e").arg(&image).args(["--log-format", "{s}"]), &output.stdout)?;
    let log = String::from_utf8(log)?;
    let figures = log.lines().find_map(|line| line.strip_prefix("benchmark: "));
    let Some(figures) = figures.filter(|_| output.status.success()) else { bail!("no figures: {log}") };
    let mut words = figures.split(' ');
    let mut counted = BTreeMap::new();
    while let (Some(name), Some(number)) = (words.next(), words.next()) {
        counted.insert(name.to_owned(), number.parse()?);
    }
    Ok(counted)
}

/// Those of a frame, as a table that was printed; an error if they are too many.
fn figures() -> Result<String> {
    let counted = counted()?;
    let mut table =
        "| Cortex-M4, instructions of the gateway | measured | limit |\n|---|---:|---:|\n".to_owned();
    for (name, what, limit) in FIGURES {
        let measured = *counted.get(name).with_context(|| format!("no figure for {name}"))?;
        writeln!(
            table,
            "| {what} | {measured} | {} |",
            limit.map_or("none".to_owned(), |limit| limit.to_string())
        )?;
        ensure!(limit.is_none_or(|limit| measured <= limit), "{what}: {measured} instructions are too much");
    }
    print!("{table}");
    Ok(table)
}
