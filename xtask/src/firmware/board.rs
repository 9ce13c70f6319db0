//! The boards, and building them.

use crate::{host, prelude::*, toolchain::Toolchain};

/// A board: its folder, target and binaries.
pub(super) struct Board {
    pub(super) name: &'static str,
    target: &'static str,
    /// Whether QEMU runs it here; the others are only built.
    pub(super) runs: bool,
    /// Whether its processor shows up as a USB drive that takes UF2 files.
    has_drive: bool,
}

impl Board {
    /// What vendors' crates add is theirs; QEMU's Cortex-M4 is the measure.
    pub(super) fn is_limited(&self) -> bool {
        self.name == "mps2-an386"
    }
}

pub(super) const BOARDS: &[Board] = &[
    Board { name: "mps2-an386", target: "thumbv7em-none-eabi", runs: true, has_drive: false },
    Board { name: "riscv32-virt", target: "riscv32imac-unknown-none-elf", runs: true, has_drive: false },
    Board { name: "nucleo-h563zi", target: "thumbv8m.main-none-eabihf", runs: false, has_drive: false },
    Board { name: "nucleo-h743zi", target: "thumbv7em-none-eabihf", runs: false, has_drive: false },
    Board { name: "pico2-two-w5500", target: "thumbv8m.main-none-eabihf", runs: false, has_drive: true },
    Board { name: "w5500-evb-pico2", target: "thumbv8m.main-none-eabihf", runs: false, has_drive: true },
    Board { name: "w6300-evb-pico2", target: "thumbv8m.main-none-eabihf", runs: false, has_drive: true },
];

/// The board that updates over the network are built for, and what it is built with in a slot of the bootloader.
const UPDATABLE: (&str, [&str; 2]) = ("w5500-evb-pico2", ["--features", "update"]);
/// That bootloader.
const BOOTLOADER: Board = Board {
    name: "w5500-evb-pico2-boot",
    target: "thumbv8m.main-none-eabihf",
    runs: false,
    has_drive: false,
};

/// The names of the files that `make firmware` makes.
pub(crate) fn artefacts() -> impl Iterator<Item = String> {
    BOARDS.iter().flat_map(|Board { name, runs, has_drive, .. }| {
        let endings = [Some("elf"), (!runs).then_some("bin"), has_drive.then_some("uf2")];
        let plain = endings.into_iter().flatten().map(move |ending| format!("{name}.{ending}"));
        let is_updatable = *name == UPDATABLE.0;
        let updatable = ["elf", "bin", "uf2"].into_iter().filter(move |_| is_updatable);
        plain.chain(updatable.map(move |ending| format!("{name}-update.{ending}")))
    })
}

pub(super) fn find(name: &str) -> Result<&'static Board> {
    BOARDS.iter().find(|board| board.name == name).with_context(|| {
        let known: Vec<_> = BOARDS.iter().map(|board| board.name).collect();
        format!("unknown board \"{name}\": expected one of {}", known.join(", "))
    })
}

/// Formatting and clippy of the boards, which are a workspace of their own.
pub(super) fn lint() -> Result<()> {
    progress!("boards: formatting and clippy");
    cmd!("{CARGO} fmt --all --check").current_dir(at("firmware/boards")).show()?;
    let deny = ["--", "--deny", "warnings"];
    let (name, features) = UPDATABLE;
    cargo_for(find(name)?, "clippy", &[&features[..], &deny].concat())?;
    BOARDS.iter().chain([&BOOTLOADER]).try_for_each(|board| cargo_for(board, "clippy", &deny).map(drop))
}

/// Builds a board; gives the folder of its binaries.
pub(super) fn build(board: &Board) -> Result<PathBuf> {
    cargo_for(board, "build", &[])
}

/// What a board needs for updates over the network.
pub(super) struct Updatable {
    /// Its image, for the first slot of the bootloader.
    pub(super) image: PathBuf,
    pub(super) bootloader: PathBuf,
}

/// Builds that, if the board takes them.
pub(super) fn build_updatable(board: &Board) -> Result<Option<Updatable>> {
    let (name, features) = UPDATABLE;
    if board.name != name {
        return Ok(None);
    }
    let bootloader = build(&BOOTLOADER)?.join(BOOTLOADER.name);
    Ok(Some(Updatable { image: cargo_for(board, "build", &features)?.join(name), bootloader }))
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
                          --target {target} -Z build-std=core -Z build-std-features=optimize_for_size {rest...}"
    );
    // Else only errors are logged.
    cargo.env("DEFMT_LOG", "info").current_dir(at("firmware/boards"));
    let _lock = toolchain.environment(&mut cargo, &entry, &[])?;
    if run::path_of(host::LLD).is_some() {
        cargo.env(toolchain::linker_of(target), host::LLD);
    }
    cargo.quiet().with_context(|| format!("cannot {command} {name}"))?;
    let images = entry.join(target).join("release");
    if command == "build" {
        toolchain::names_no_place(&images.join(name))?;
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_one_that_the_firmware_knows_and_has_a_drive_where_it_does() -> Result<()> {
        let table = fs::read_to_string(toolchain::root().join("firmware/board/src/table.rs"))?;
        let entries: Vec<&str> = table
            .split("pub const ")
            .filter(|entry| entry.contains("name: \"") && entry.contains(": Board ="))
            .collect();
        assert_eq!(entries.len(), BOARDS.len());
        for board in BOARDS {
            let name = format!("name: \"{}\"", board.name);
            let entry = entries.iter().find(|entry| entry.contains(&name)).context("an unknown board")?;
            assert_eq!(entry.contains("Chip::Rp2350"), board.has_drive, "{}", board.name);
            assert_eq!(entry.contains("Chip::Qemu"), board.runs, "{}", board.name);
        }
        Ok(())
    }
}
