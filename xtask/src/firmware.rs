//! The gateway's boards: building, trying and measuring them.

use std::collections::BTreeMap;

use crate::{
    document, host, installed,
    prelude::*,
    row::{Limit, Row},
    toolchain::Toolchain,
};

const README: &str = "firmware/README.md";

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

/// The bootloader of the board that updates over the network are built for.
const BOOTLOADER: Board =
    Board { name: "w5500-evb-pico2-boot", target: "thumbv8m.main-none-eabihf", runs: false };
/// That board, and what it is built with in a slot of the bootloader.
const UPDATABLE: (&str, [&str; 2]) = ("w5500-evb-pico2", ["--features", "update"]);

/// The boards, each of which `make firmware` builds into a file of that name.
pub(crate) fn boards() -> impl Iterator<Item = &'static str> {
    BOARDS.iter().map(|board| board.name)
}

/// Decodes the firmware's log; its version goes with that of defmt in the boards' lock.
fn defmt_print() -> Result<PathBuf> {
    installed::program("defmt-print", "1.2.0")
}

/// Bytes of flash and RAM that a gateway with the usual tables has to fit into.
const MEMORY_LIMIT: u64 = 128 << 10;

/// Figures by the name that the board gives them, what they are of, and the instructions that they may be at most.
const FIGURES: [(&str, &str, Option<u64>); 7] = [
    ("knock", "a classic knock accepted", Some(7_000)),
    ("full", "a classic knock accepted while its cache is full", Some(7_000)),
    ("knock2", "a knock of format 2 accepted", Some(9_000)),
    ("full2", "a knock of format 2 accepted while its cache is full", Some(9_000)),
    ("small", "68 bytes forwarded", Some(1_500)),
    ("large", "1,400 bytes forwarded", Some(6_000)),
    ("stranger", "a stranger's SYN dropped", None),
];

/// `make firmware`: builds all boards into `target/firmware`, and writes what they take to the firmware's README.
pub(crate) fn build_all() -> Result<()> {
    lint()?;
    document::write(README, "memory", &memory()?)?;
    for board in BOARDS {
        files::copy_into(&build(board)?.join(board.name), &at("target/firmware"))?;
    }
    files::copy_into(&build(&BOOTLOADER)?.join(BOOTLOADER.name), &at("target/firmware"))?;
    let (name, features) = UPDATABLE;
    let image = cargo_for(find(name)?, "build", &features)?.join(name);
    fs::copy(image, at("target/firmware").join(format!("{name}-update")))?;
    println!("the images are in target/firmware");
    Ok(())
}

/// `make test-firmware`: the library on the host, and the boards in QEMU.
pub(crate) fn test() -> Result<()> {
    progress!("the gateway on the host");
    cmd!("{CARGO} test --quiet --locked --package pkd-gateway --package pkd-gateway-config").show()?;
    test_in_qemu()
}

/// The boards in QEMU, on a host that has what it takes.
pub(crate) fn test_in_qemu() -> Result<()> {
    test_parts(true, &["one-arm", "format2", "trunk", "load", "conformance", "user-network"])
}

/// The parts that a change is most likely to break.
pub(crate) fn test_quick() -> Result<()> {
    test_parts(false, &["one-arm", "format2", "conformance"])
}

fn test_parts(with_faults: bool, parts: &[&str]) -> Result<()> {
    lint()?;
    memory()?;
    let vm = Harness::build()?;
    let mps2 = find("mps2-an386")?;
    if with_faults {
        vm.run_image("faults", &build(mps2)?.join("faults"))?;
    }
    parts.iter().try_for_each(|part| vm.run(part, mps2))?;
    vm.run("inline", find("riscv32-virt")?)?;
    figures().map(drop)
}

/// `make demo-firmware`: the job as a transcript.
pub(crate) fn demo() -> Result<()> {
    Harness::build()?.run("demo", find("mps2-an386")?)
}

/// `cargo xtask bench firmware`: what the boards take, and what a frame does, as the firmware's README has it.
pub(crate) fn write_figures() -> Result<()> {
    document::write(README, "memory", &memory()?)?;
    document::write(README, "instructions", &figures()?)
}

/// What the boards take, for `make bench`.
pub(crate) fn memory_rows() -> Result<Vec<Row>> {
    let rows = memories()?.into_iter().flat_map(|(board, Memory { flash, ram })| {
        let limit = if board.is_limited() { format!("at most {MEMORY_LIMIT}") } else { String::new() };
        let place = format!("{}{}", board.name, if board.runs { "" } else { ", built only" });
        [("gateway, flash", flash), ("gateway, RAM without the stack", ram)]
            .map(|(what, bytes)| Row::new(what, format!("{bytes} bytes"), &place).beside(&limit))
    });
    Ok(rows.collect())
}

/// `Rule::verify` on a Cortex-M4, and what it is a part of, for `make bench`.
pub(crate) fn check_rows() -> Result<Vec<Row>> {
    let counted = counted()?;
    let mut rows = rows_of_checks(&counted)?;
    for (name, what, limit) in FIGURES {
        let limit = limit.map(|limit| format!("at most {limit}")).unwrap_or_default();
        let place = "Cortex-M4, QEMU, the gateway";
        rows.push(Row::new(what, counted.of(name)?.to_string(), place).beside(limit));
    }
    Ok(rows)
}

/// What the library's checks take, with their limits.
const CHECKS: [(&str, &str, Limit); 9] = [
    ("core-accepted", "a classic knock that is accepted", Limit::None),
    ("core-forged", "a forgery with the right tag and time", Limit::None),
    ("core-other-tag", "another tag", Limit::Instructions(60.0)),
    ("core-wrong-length", "another length", Limit::Instructions(60.0)),
    ("core2-accepted", "format 2: a knock that is accepted, its source bound", Limit::OfTheBlocks(1.40)),
    ("core2-other-auth", "format 2: a copy of a fresh knock with other auth bytes", Limit::None),
    ("core2-forged", "format 2: a forgery with a captured hint", Limit::Instructions(1_200.0)),
    ("core2-noise", "format 2: no knock of ours", Limit::Instructions(60.0)),
    ("core2-wrong-length", "format 2: another length", Limit::Instructions(60.0)),
];

/// An error where one takes more than it may.
fn rows_of_checks(counted: &Counted) -> Result<Vec<Row>> {
    let instructions = |name| Ok::<_, anyhow::Error>(f64::from(u32::try_from(counted.of(name)?)?));
    let bare = instructions("blocks")?;
    let place = "Cortex-M4, QEMU";
    let mut rows = vec![Row::new("two bare SHA-256 blocks", bare.to_string(), place)];
    for (name, what, limit) in CHECKS {
        rows.push(Row::check(what, instructions(name)?, bare, limit, place)?);
    }
    Ok(rows)
}

/// `cargo xtask gateway-config FILE`: the binary configuration, beside the file.
pub(crate) fn configure(file: &Path) -> Result<()> {
    let to = file.with_extension("bin");
    cmd!("{CARGO} run --quiet --package pkd-gateway-config -- {file} {to}").show()?;
    println!("{}: flash it with `probe-rs download`, as the board's README says", to.display());
    Ok(())
}

fn find(name: &str) -> Result<&'static Board> {
    BOARDS.iter().find(|board| board.name == name).with_context(|| format!("no board is called {name}"))
}

/// Formatting and clippy of the boards, which are a workspace of their own.
fn lint() -> Result<()> {
    progress!("boards: formatting and clippy");
    cmd!("{CARGO} fmt --all --check").current_dir(at("firmware/boards")).show()?;
    let deny = ["--", "--deny", "warnings"];
    let (name, features) = UPDATABLE;
    cargo_for(find(name)?, "clippy", &[&features[..], &deny].concat())?;
    BOARDS.iter().chain([&BOOTLOADER]).try_for_each(|board| cargo_for(board, "clippy", &deny).map(drop))
}

/// Builds a board; gives the folder of its binaries.
fn build(board: &Board) -> Result<PathBuf> {
    cargo_for(board, "build", &[])
}

fn cargo_for(board: &Board, command: &str, rest: &[&str]) -> Result<PathBuf> {
    let (toolchain, Board { name, target, .. }) = (Toolchain::find()?, board);
    let entry =
        cache::entry(&format!("cargo-{target}"), &[target, &toolchain.version, "firmware"], |_, _| Ok(()))?;
    let mut program = toolchain.programs()?.1;
    if command == "clippy" {
        // Cargo itself would take the clippy of another compiler, if that comes first in the PATH.
        program.set_file_name("cargo-clippy");
    }
    let mut cargo = cmd!(
        "{program} {command} --quiet --locked --release --package pkd-{name}
                          --target {target} -Z build-std=core {rest...}"
    );
    // Else only errors are logged.
    cargo.env("DEFMT_LOG", "info").current_dir(at("firmware/boards"));
    let _lock = toolchain.environment(&mut cargo, &entry, &[])?;
    if run::path_of(host::LLD).is_some() {
        cargo.env(toolchain::linker_of(target), host::LLD);
    }
    cargo.quiet().with_context(|| format!("cannot {command} {name}"))?;
    Ok(entry.join(target).join("release"))
}

/// What every board takes; an error if it is too much.
fn memories() -> Result<Vec<(&'static Board, Memory)>> {
    let memory = |board: &'static Board| {
        progress!("building {}", board.name);
        let memory = Memory::of(&build(board)?.join(board.name))?;
        let fits = memory.flash.max(memory.ram) <= MEMORY_LIMIT;
        ensure!(fits || !board.is_limited(), "{}: {memory:?} are more than {MEMORY_LIMIT} bytes", board.name);
        Ok((board, memory))
    };
    BOARDS.iter().map(memory).collect()
}

/// The same as a table that was printed.
fn memory() -> Result<String> {
    let head = "| board | flash, bytes | RAM without the stack, bytes | run here |\n|---|---:|---:|---|\n"
        .to_owned();
    let table = memories()?.iter().fold(head, |table, (board, Memory { flash, ram })| {
        let runs = if board.runs { "in QEMU" } else { "no: built only" };
        table + &format!("| {} | {flash} | {ram} | {runs} |\n", board.name)
    });
    print!("{table}");
    Ok(table)
}

/// What an image takes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Memory {
    flash: u64,
    ram: u64,
}

impl Memory {
    fn of(image: &Path) -> Result<Self> {
        let memory = Self::read(&cmd!("readelf --segments --wide {image}").env("LC_ALL", "C").read()?)?;
        ensure!(memory.flash > 0, "{} loads nothing", image.display());
        Ok(memory)
    }

    /// Of readelf's lines `LOAD OFFSET VIRTUAL PHYSICAL IN-FILE IN-MEMORY FLAGS ALIGNMENT`: what is loaded lies in flash,
    /// what is written lies in RAM.
    fn read(segments: &str) -> Result<Self> {
        let mut memory = Self::default();
        for line in segments.lines().filter_map(|line| line.trim().strip_prefix("LOAD ")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, _, _, file, in_memory, flags @ ..] = &words[..] else { bail!("readelf says {line:?}") };
            let number = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16);
            memory.flash += number(file)?;
            if flags.iter().any(|flags| flags.contains('W')) {
                memory.ram += number(in_memory)?;
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
        progress!("building the hosts around the boards, and knock");
        cmd!("{CARGO} build --quiet --locked --package pkd-firmware-tests --package host-knock").quiet()?;
        let folder = toolchain::target().join("debug");
        Ok(Self {
            program: folder.join("pkd-firmware-tests"),
            knock: folder.join("knock"),
            defmt_print: defmt_print()?,
        })
    }

    fn run(&self, part: &str, board: &Board) -> Result<()> {
        self.run_image(part, &build(board)?.join(board.name))
    }

    fn run_image(&self, part: &str, image: &Path) -> Result<()> {
        let Self { program, knock, defmt_print } = self;
        progress!("firmware {part} on {}", image.file_name().unwrap_or_default().display());
        cmd!("{program} {part} {image} {defmt_print} {knock}")
            .show()
            .with_context(|| format!("firmware {part}"))
    }
}

/// Instructions by the names that the board gives them.
struct Counted(BTreeMap<String, u64>);

impl Counted {
    fn of(&self, name: &str) -> Result<u64> {
        self.0.get(name).copied().with_context(|| format!("no figure for {name}"))
    }
}

/// Has QEMU count them.
fn counted() -> Result<Counted> {
    let (image, printer) = (build(find("mps2-an386")?)?.join("benchmark"), defmt_print()?);
    progress!("counting instructions");
    let output = cmd!(
        "qemu-system-arm -M mps2-an386 -icount shift=0 -display none -monitor none -serial none
                       -semihosting-config enable=on,target=native -kernel {image}"
    )
    .finish()?;
    let format = "{s}";
    let log = cmd!("{printer} -e {image} --log-format {format}").read_with(&output.stdout)?;
    let log = String::from_utf8(log)?;
    ensure!(output.status.success(), "the benchmark failed: {log}");
    let figures = log.lines().filter_map(|line| line.strip_prefix("benchmark: "));
    let words: Vec<&str> = figures.flat_map(|line| line.split(' ')).collect();
    let figure = |pair: &[&str]| Ok((pair[0].to_owned(), pair[1].parse()?));
    Ok(Counted(words.chunks_exact(2).map(figure).collect::<Result<_>>()?))
}

/// Those of a frame, as a table that was printed; an error if they are too many.
fn figures() -> Result<String> {
    let counted = counted()?;
    rows_of_checks(&counted)?;
    let line = |(name, what, limit): (&str, &str, Option<u64>)| {
        let measured = counted.of(name)?;
        let most = limit.map_or("none".to_owned(), |limit| limit.to_string());
        ensure!(limit.is_none_or(|limit| measured <= limit), "{what}: {measured} instructions are too much");
        Ok(format!("| {what} | {measured} | {most} |\n"))
    };
    let lines = FIGURES.map(line).into_iter().collect::<Result<String>>()?;
    let table =
        format!("| Cortex-M4, instructions of the gateway | measured | limit |\n|---|---:|---:|\n{lines}");
    print!("{table}");
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loaded_is_flash_and_what_is_written_is_ram() {
        let text = "\
  Type           Offset   VirtAddr   PhysAddr   FileSiz MemSiz  Flg Align
  LOAD           0x001000 0x00000000 0x00000000 0x00010 0x00010 R E 0x1000
  LOAD           0x002000 0x20000000 0x00000010 0x00004 0x00100 RW  0x1000
  GNU_STACK      0x000000 0x00000000 0x00000000 0x00000 0x00000 RW  0
";
        assert_eq!(Memory::read(text).unwrap(), Memory { flash: 0x14, ram: 0x100 });
        assert!(Memory::read("  LOAD 0x1000").is_err());
    }
}
