//! The file that is flashed.

use std::{fs, io::Write as _, path::Path};

use anyhow::{Context as _, Result, bail};
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
}

impl Form {
    /// What the board is flashed with.
    pub(crate) fn of(board: &Board) -> Self {
        if board.chip == Chip::Rp2350 { Self::Uf2 } else { Self::Binary }
    }

    /// What a file of this name is.
    pub(crate) fn named(path: &Path, board: &Board) -> Result<Self> {
        match path.extension() {
            Some(ending) if ending == Self::Uf2.ending() => match Self::of(board) {
                Self::Uf2 => Ok(Self::Uf2),
                Self::Binary => bail!("{}: {} takes no UF2 files: write a .bin", path.display(), board.name),
            },
            _ => Ok(Self::Binary),
        }
    }

    pub(crate) fn ending(self) -> &'static str {
        match self {
            Self::Uf2 => "uf2",
            Self::Binary => "bin",
        }
    }

    /// The file with this configuration.
    pub(crate) fn file(self, board: &Board, config: &[u8]) -> Vec<u8> {
        match self {
            Self::Uf2 => uf2::blocks(Family::Data, address(board), config).flatten().collect(),
            Self::Binary => config.to_vec(),
        }
    }

    /// What to do with it.
    pub(crate) fn advice(self, board: &Board) -> String {
        match self {
            Self::Uf2 => format!("copy it onto the USB drive of the {}", board.name),
            Self::Binary => {
                format!("write it to the flash of the {} at {:#010x}", board.name, address(board))
            }
        }
    }
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
