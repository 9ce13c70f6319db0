//! The chip's bus.

use embedded_hal_async::spi::{ErrorType, Operation, SpiDevice};

use super::{
    chip::Chip,
    registers::{Access, Address, Registers, block},
};

/// Length of the number in front of each received frame, which counts itself, in bytes.
const LENGTH: u16 = 2;
/// Lengths of the shortest and the longest frame that is passed on, in bytes without FCS.
const SHORTEST: u16 = 14;
const LONGEST: u16 = 1_514;

/// The bus of a chip. It goes between the driver and the SPI device.
pub struct Bus<S> {
    spi: S,
    registers: &'static Registers,
    chip: &'static Chip,
    keep_filter: bool,
    /// The mode that was last written.
    mode: u8,
    /// The bytes that wait, as the chip last said.
    received: u16,
    /// Where they begin, as the chip last said. `Some` until the length at this place is read.
    next_frame: Option<u16>,
    /// Where to read on after a length that cannot be right: behind all that was received.
    resume: Option<u16>,
}

impl<S: SpiDevice> Bus<S> {
    /// A bus on which the driver's own setting of the MAC filter counts.
    pub const fn new(spi: S, registers: &'static Registers, chip: &'static Chip) -> Self {
        let (mode, received, next_frame, resume) = (0, 0, None, None);
        Self { spi, registers, chip, keep_filter: true, mode, received, next_frame, resume }
    }

    /// The same without the MAC filter, for a bridge.
    #[must_use]
    pub fn without_filter(self) -> Self {
        Self { keep_filter: false, ..self }
    }

    async fn read<const N: usize>(&mut self, address: Address) -> Result<[u8; N], S::Error> {
        let (head, length) = self.registers.head(Access { address, is_write: false });
        let mut bytes = [0; N];
        let head = head.get(..length).unwrap_or_default();
        self.spi.transaction(&mut [Operation::Write(head), Operation::TransferInPlace(&mut bytes)]).await?;
        Ok(bytes)
    }

    async fn write(&mut self, address: Address, bytes: &[u8]) -> Result<(), S::Error> {
        let (head, length) = self.registers.head(Access { address, is_write: true });
        let head = head.get(..length).unwrap_or_default();
        self.spi.transaction(&mut [Operation::Write(head), Operation::Write(bytes)]).await
    }

    /// Shows a sign of life, if the chip is there and still set up. One that has lost its supply for a moment is not.
    async fn examine(&mut self) -> Result<(), S::Error> {
        let (address, version) = self.registers.version;
        if self.read(address).await? == [version] && self.read(self.registers.mode).await? == [self.mode] {
            self.chip.life.show();
        }
        Ok(())
    }

    /// Looks at what the chip has answered. `bytes` is what the driver gets.
    fn on_read(&mut self, address: Address, bytes: &mut [u8]) {
        let number = bytes.first_chunk().copied().map(u16::from_be_bytes).filter(|_| bytes.len() == 2);
        if address == self.registers.received_size {
            self.received = number.unwrap_or(0);
            self.chip.set_waiting(self.received != 0);
        } else if address == self.registers.read_pointer {
            self.next_frame = number;
        } else if address.0 == block::RECEIVED
            && let (Some(start), Some(length)) = (self.next_frame.take(), number)
        {
            let possible = LENGTH + SHORTEST..=LENGTH + LONGEST;
            if !possible.contains(&length) || length > self.received {
                // The driver reads a frame of no bytes.
                bytes.copy_from_slice(&LENGTH.to_be_bytes());
                self.resume = Some(start.wrapping_add(self.received));
                self.chip.life.report_fault();
            }
        }
    }
}

impl<S: SpiDevice> ErrorType for Bus<S> {
    type Error = S::Error;
}

impl<S: SpiDevice> SpiDevice for Bus<S> {
    async fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), S::Error> {
        let Some(Access { address, is_write }) = self.registers.access(operations) else {
            return self.spi.transaction(operations).await;
        };
        match operations.last_mut() {
            Some(Operation::Write([mode])) if is_write && address == self.registers.mode => {
                self.mode = if self.keep_filter { *mode } else { self.registers.unfiltered };
                return self.write(address, &[self.mode]).await;
            }
            Some(Operation::Write(_)) if is_write && address == self.registers.read_pointer => {
                if let Some(pointer) = self.resume.take() {
                    return self.write(address, &pointer.to_be_bytes()).await;
                }
            }
            // There is nothing to be read of a frame of no bytes.
            Some(Operation::TransferInPlace([])) => return Ok(()),
            _ => {}
        }
        self.spi.transaction(operations).await?;
        if is_write {
            return Ok(());
        }
        if let Some(Operation::TransferInPlace(bytes)) = operations.last_mut() {
            self.on_read(address, bytes);
        }
        if address == self.registers.phy {
            self.examine().await?;
        }
        Ok(())
    }
}
