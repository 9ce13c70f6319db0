//! The gateway's boards: building, trying and measuring them.

use std::collections::BTreeMap;

use crate::{
    document, installed,
    prelude::*,
    row::{Limit, Row},
};

mod board;
mod memory;

pub(crate) use board::artefacts;
use board::{BOARDS, Board, Updatable, build, build_updatable, find, lint};
pub(crate) use memory::rows as memory_rows;

const README: &str = "firmware/README.md";

/// Decodes the firmware's log; its version goes with that of defmt in the boards' lock.
fn defmt_print() -> Result<PathBuf> {
    installed::program("defmt-print", "1.2.0")
}

/// Figures by the name that the board gives them, what they are of, and the instructions that they may be at most.
const FIGURES: [(&str, &str, Option<u64>); 7] = [
    ("knock", "a classic knock accepted", Some(7_000)),
    ("full", "a classic knock accepted while its cache is full", Some(7_000)),
    ("knock2", "a knock of format 2 accepted", Some(9_000)),
    ("full2", "a knock of format 2 accepted while its cache is full", Some(9_000)),
    ("small", "68 bytes forwarded", Some(800)),
    ("large", "1,400 bytes forwarded", Some(800)),
    ("stranger", "a stranger's SYN dropped", Some(700)),
];

/// `make firmware`: builds boards into `target/firmware`: for probes (ELF), as bytes of flash (BIN), and for the boards' USB
/// drives (UF2), where they have one. No name: all boards.
pub(crate) fn build_named(names: &[String]) -> Result<()> {
    let boards: Vec<_> = names.iter().map(|name| find(name)).collect::<Result<_>>()?;
    let chosen = if boards.is_empty() { BOARDS.iter().collect() } else { boards };
    for board in chosen {
        let name = board.name;
        progress!("building {name}");
        let elf = Path::new("target/firmware").join(format!("{name}.elf"));
        files::copy(&build(board)?.join(name), &elf)?;
        cmd!(
            "{CARGO} run --quiet --locked --package pkd-gateway-config --bin firmware-image -- {name} {elf}"
        )
        .show()?;
        if let Some(Updatable { image, bootloader }) = build_updatable(board)? {
            let elf = Path::new("target/firmware").join(format!("{name}-update.elf"));
            files::copy(&image, &elf)?;
            cmd!(
                "{CARGO} run --quiet --locked --package pkd-gateway-config --bin firmware-image --
                         {name} {elf} {bootloader}"
            )
            .show()?;
        }
    }
    Ok(())
}

/// `make test-firmware`: the library on the host, and the boards in QEMU.
pub(crate) fn test() -> Result<()> {
    progress!("the gateway on the host");
    cmd!(
        "{CARGO} test --quiet --locked --package pkd-board --package pkd-gateway --package pkd-gateway-config"
    )
    .show()?;
    test_in_qemu()
}

/// The boards in QEMU, on a host that has what it takes.
pub(crate) fn test_in_qemu() -> Result<()> {
    test_parts(
        true,
        &["one-arm", "format2", "trunk", "load", "conformance", "user-network"],
        &["inline", "one-arm", "format2", "load", "conformance"],
    )
}

/// The parts that a change is most likely to break.
pub(crate) fn test_quick() -> Result<()> {
    test_parts(false, &["one-arm", "format2", "conformance"], &["inline", "format2", "conformance"])
}

fn test_parts(with_faults: bool, parts: &[&str], parts_of_virt: &[&str]) -> Result<()> {
    lint()?;
    memory::table()?;
    let vm = Harness::build()?;
    let mps2 = find("mps2-an386")?;
    if with_faults {
        vm.run_image("faults", &build(mps2)?.join("faults"))?;
    }
    parts.iter().try_for_each(|part| vm.run(part, mps2))?;
    parts_of_virt.iter().try_for_each(|part| vm.run(part, find("riscv32-virt")?))?;
    figures().map(drop)
}

/// `make demo-firmware`: the job as a transcript.
pub(crate) fn demo() -> Result<()> {
    Harness::build()?.run("demo", find("mps2-an386")?)
}

/// `cargo xtask bench firmware`: what the boards take, and what a frame does, as the firmware's README has it.
pub(crate) fn write_figures() -> Result<()> {
    document::write(README, "memory", &memory::table()?)?;
    document::write(README, "instructions", &figures()?)
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

/// `cargo xtask gateway-config FILE`: what the board gets of the configuration, beside the file.
pub(crate) fn configure(file: &Path) -> Result<()> {
    cmd!("{CARGO} run --quiet --locked --package pkd-gateway-config -- {file}").show()
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
