//! What keeps `embassy-net-wiznet` 0.3.0 from panicking and hanging.
//!
//! The driver takes the length in front of a received frame as it comes: 0, or more than its buffer, is a panic, and noise on
//! the bus is enough for it (embassy's pull request 5706). It also reads one frame for each interrupt: on a busy network frames
//! pile up, until the chip has no room left and raises no more of them (issue 6456). Both are fixed upstream, in no release yet.
//!
//! [`Bus`] and [`Interrupt`] are put between the driver and the chip. They check the lengths, keep the driver reading while
//! frames are waiting, and look at the chip whenever the driver looks at the link.

mod bus;
mod chip;
mod interrupt;
mod registers;

pub use bus::Bus;
pub use chip::Chip;
pub use interrupt::Interrupt;
pub use registers::{Registers, W5500, W6100, W6300};
