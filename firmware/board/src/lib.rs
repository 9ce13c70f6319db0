//! The gateway's boards.
//!
//! [`BOARDS`] is the only list of what each board's NICs and flash are like. The firmware takes its own entry from it, and
//! `gateway-config` refuses what the entry of the configuration's board cannot run. The code here is what boards would
//! otherwise each have their own of: it is tested on the host.

#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ability;
mod board;
pub mod console;
mod frame;
mod life;
mod nic;
mod nic_kind;
pub mod slots;
pub mod table;
pub mod uf2;
pub mod wiznet;

pub use ability::Unable;
pub use board::{Board, Chip, FlashLayout, UpdateLayout};
pub use frame::{FCS, trimmed};
pub use life::Life;
pub use nic::{Nic, Place, SILENT_TICKS};
pub use nic_kind::NicKind;
pub use table::{BOARDS, find};
