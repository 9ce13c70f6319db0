//! A board.

use crate::NicKind;

/// A board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// Its name, as in `board = "…"`. Also the name of its folder and its image.
    pub name: &'static str,
    /// The processor.
    pub chip: Chip,
    /// Its NICs: one, or two for the two sides of a bridge, the outside first.
    pub nics: &'static [&'static NicKind],
    /// Where its flash has what the gateway keeps.
    pub flash: FlashLayout,
    /// Where it has the images that it receives over the network. `None`: it receives none.
    pub updates: Option<UpdateLayout>,
}

/// The processor of a board, as far as flashing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chip {
    /// RP2350: a USB drive that takes UF2 files.
    Rp2350,
    /// STM32 with an ST-LINK on its board.
    Stm32,
    /// A machine of QEMU.
    Qemu,
}

/// Where a board's flash has what the gateway keeps, as offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlashLayout {
    /// The address of the flash's first byte.
    pub base: u32,
    /// The configuration, [`CONFIG_LIMIT`](pkd_gateway::CONFIG_LIMIT) bytes.
    pub config: u32,
    /// Another place for it, on boards where it can be replaced while they run.
    pub other_config: Option<u32>,
    /// The floor's region, which starts with a sector.
    pub floor: u32,
    /// The size of the floor's region: at least two sectors.
    pub floor_bytes: u32,
}

/// Where a board's flash has what embassy-boot's bootloader swaps, as offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateLayout {
    /// The slot for new images, which starts with a sector, and has one sector more than an image.
    pub slot: u32,
    /// The greatest length of an image: a multiple of a sector.
    pub image_bytes: u32,
    /// The bootloader's state, which starts with a sector.
    pub state: u32,
    /// The size of the bootloader's state: at least one sector.
    pub state_bytes: u32,
}
