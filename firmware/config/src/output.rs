//! The file that is flashed.

use std::{fs, io::Write as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use pkd_board::{
    Board, Chip,
    uf2::{self, Family},
};

/// The form of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For a USB drive.
    Uf2,
    /// The bytes of flash.
    Binary,
    /// Commands for the board's serial line.
    Commands,
}

impl Form {
    /// What the board is flashed with.
    pub(crate) fn of(board: &Board) -> Self {
        if board.chip == Chip::Rp2350 { Self::Uf2 } else { Self::Binary }
    }

    /// What a file of this name is.
    pub(crate) fn named(path: &Path, board: &Board) -> Result<Self> {
        match path.extension() {
            Some(ending) if ending == Self::Uf2.ending() => {
                let name = board.name;
                ensure!(
                    Self::of(board) == Self::Uf2,
                    "{}: {name} takes no UF2 files: write a .bin",
                    path.display()
                );
                Ok(Self::Uf2)
            }
            Some(ending) if ending == Self::Commands.ending() => {
                let name = board.name;
                let has_line = board.flash.other_config.is_some();
                ensure!(has_line, "{}: {name} has no serial line: write a .bin", path.display());
                Ok(Self::Commands)
            }
            _ => Ok(Self::Binary),
        }
    }

    pub(crate) fn ending(self) -> &'static str {
        match self {
            Self::Uf2 => "uf2",
            Self::Binary => "bin",
            Self::Commands => "txt",
        }
    }

    /// The file with this configuration.
    pub(crate) fn file(self, board: &Board, config: &[u8]) -> Vec<u8> {
        match self {
            Self::Uf2 => uf2::blocks(Family::Data, address(board), config).flatten().collect(),
            Self::Binary => config.to_vec(),
            Self::Commands => commands(config).into_bytes(),
        }
    }

    /// What to do with it.
    pub(crate) fn advice(self, board: &Board) -> String {
        match self {
            Self::Uf2 => format!("copy it onto the USB drive of the {}", board.name),
            Self::Commands => format!("send it to the serial line of the {}, then `restart`", board.name),
            Self::Binary => {
                format!("write it to the flash of the {} at {:#010x}", board.name, address(board))
            }
        }
    }
}

/// What [`pkd_board::console`] takes for this configuration.
fn commands(config: &[u8]) -> String {
    let head = format!("config {}\n", config.len());
    config.chunks(32).fold(head, |text, bytes| {
        let line = bytes.iter().fold(text, |text, byte| text + &format!("{byte:02x}"));
        line + "\n"
    })
}

/// Where the board has its configuration.
fn address(board: &Board) -> u32 {
    board.flash.base + board.flash.config
}

/// Writes a file that only its owner can read: it contains keys.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let context = || path.display().to_string();
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).with_context(context)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).with_context(context)?;
    file.write_all(bytes).with_context(context)
}
