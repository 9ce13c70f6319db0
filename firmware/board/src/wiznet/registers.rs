//! The registers of a chip, as far as they are looked at, and how they are addressed.

use embedded_hal_async::spi::Operation;

/// A register or a buffer: a block and the offset in it.
pub(super) type Address = (u8, u16);

/// The blocks of a chip. The driver uses socket 0 only.
pub(super) mod block {
    pub(crate) const COMMON: u8 = 0;
    pub(crate) const SOCKET: u8 = 1;
    pub(crate) const RECEIVED: u8 = 3;
}

/// A chip's registers.
#[derive(Debug)]
pub struct Registers {
    /// Whether an access begins with the block (W6300), or with the offset.
    block_first: bool,
    /// Its version, and the register that has it.
    pub(super) version: (Address, u8),
    /// The PHY's state: the driver looks at it twice a second.
    pub(super) phy: Address,
    /// The mode of the socket: raw frames, with or without the MAC filter.
    pub(super) mode: Address,
    /// The value of the mode that switches the MAC filter off.
    pub(super) unfiltered: u8,
    /// How many bytes wait to be read.
    pub(super) received_size: Address,
    /// Where the next frame is in the buffer.
    pub(super) read_pointer: Address,
}

/// The W5500 (data sheet 1.1.0, chapters 3 and 4).
pub const W5500: Registers = Registers {
    block_first: false,
    version: ((block::COMMON, 0x0039), 0x04),
    phy: (block::COMMON, 0x002e),
    mode: (block::SOCKET, 0x0000),
    unfiltered: 0x04,
    received_size: (block::SOCKET, 0x0026),
    read_pointer: (block::SOCKET, 0x0028),
};

/// The W6100 (data sheet 1.0.5).
pub const W6100: Registers = Registers {
    block_first: false,
    version: ((block::COMMON, 0x0002), 0x46),
    phy: (block::COMMON, 0x3000),
    mode: (block::SOCKET, 0x0000),
    unfiltered: 0x07,
    received_size: (block::SOCKET, 0x0224),
    read_pointer: (block::SOCKET, 0x0228),
};

/// The W6300 (data sheet 1.0.1).
pub const W6300: Registers =
    Registers { block_first: true, version: ((block::COMMON, 0x0004), 0x11), ..W6100 };

/// An access to a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) address: Address,
    pub(super) is_write: bool,
}

/// The longest beginning of an access in bytes.
const HEAD: usize = 4;

impl Registers {
    /// The bytes that an access begins with, and how many they are.
    pub(super) fn head(&self, access: Access) -> ([u8; HEAD], usize) {
        let Access { address: (block, offset), is_write } = access;
        let [high, low] = offset.to_be_bytes();
        if self.block_first {
            // The last one gives the chip time.
            ([block | u8::from(is_write) << 5, high, low, 0], 4)
        } else {
            ([high, low, block << 3 | u8::from(is_write) << 2, 0], 3)
        }
    }

    /// The access that operations begin with. `None` if they are not what the driver writes.
    pub(super) fn access(&self, operations: &[Operation<'_, u8>]) -> Option<Access> {
        let mut written = operations.iter().flat_map(|operation| match operation {
            Operation::Write(bytes) => *bytes,
            _ => &[],
        });
        let mut next = || written.next().copied();
        let [a, b, c] = [next()?, next()?, next()?];
        Some(if self.block_first {
            Access { address: (a & 0x1f, u16::from_be_bytes([b, c])), is_write: a & 1 << 5 != 0 }
        } else {
            Access { address: (c >> 3, u16::from_be_bytes([a, b])), is_write: c & 1 << 2 != 0 }
        })
    }
}
