//! A W5500 on a bus, as far as the driver uses it, for frames that arrive faster than they are read, and for noise.

use std::{cell::RefCell, collections::BTreeMap, convert::Infallible, rc::Rc};

use embedded_hal::digital::{ErrorType as PinError, OutputPin};
use embedded_hal_async::{
    digital::Wait,
    spi::{ErrorType, Operation, SpiDevice},
};

const BUFFER: usize = 0x4000;
const COMMON: u8 = 0;
const SOCKET: u8 = 1;
const SENT: u8 = 2;
const RECEIVED: u8 = 3;

/// The chip's inside.
pub(crate) struct Inside {
    registers: BTreeMap<(u8, u16), u8>,
    ring: Vec<u8>,
    /// Where the driver reads, and where the chip writes.
    read: u16,
    write: u16,
    /// The read pointer as written, which counts from the next RECV on.
    pointer: u16,
    is_low: bool,
    /// The next length in front of a frame is read as this number.
    pub(crate) noise: Option<u16>,
    /// All that is read is this byte: the chip is gone.
    pub(crate) floating: Option<u8>,
    pub(crate) lost: usize,
    /// Accesses, and the bytes that were clocked in them.
    pub(crate) accesses: usize,
    pub(crate) clocked: usize,
    sent: Vec<u8>,
}

impl Inside {
    /// A frame arrives. It is lost if there is no room.
    pub(crate) fn arrive(&mut self, frame: &[u8]) {
        let length = u16::try_from(frame.len() + 2).unwrap();
        if usize::from(self.waiting() + length) > BUFFER {
            self.lost += 1;
            return;
        }
        for byte in length.to_be_bytes().iter().chain(frame) {
            self.ring[usize::from(self.write) % BUFFER] = *byte;
            self.write = self.write.wrapping_add(1);
        }
        // An interrupt is raised for each frame, and stays until it is cleared.
        self.is_low = true;
    }

    pub(crate) fn waiting(&self) -> u16 {
        self.write.wrapping_sub(self.read)
    }

    /// How many bytes of frames the driver has written.
    pub(crate) fn sent(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn mode(&self) -> u8 {
        self.register(SOCKET, 0)
    }

    fn register(&self, block: u8, offset: u16) -> u8 {
        self.registers.get(&(block, offset)).copied().unwrap_or(0)
    }

    /// Forgets all that was written, as after a dip of the supply.
    pub(crate) fn lose_power(&mut self) {
        self.registers.clear();
    }

    fn read(&mut self, block: u8, offset: u16) -> u8 {
        if let Some(byte) = self.floating {
            return byte;
        }
        match (block, offset) {
            (COMMON, 0x39) => 4,
            // Reset is over, and the link is up.
            (COMMON, 0x2e) => 0xbf,
            (SOCKET, 0x20) => 0x40,
            (SOCKET, 0x26) => self.waiting().to_be_bytes()[0],
            (SOCKET, 0x27) => self.waiting().to_be_bytes()[1],
            (SOCKET, 0x28) => self.read.to_be_bytes()[0],
            (SOCKET, 0x29) => self.read.to_be_bytes()[1],
            (RECEIVED, offset) => self.ring[usize::from(offset) % BUFFER],
            _ => self.register(block, offset),
        }
    }

    fn write(&mut self, block: u8, offset: u16, byte: u8) {
        self.registers.insert((block, offset), byte);
        match (block, offset, byte) {
            (SOCKET, 0x02, _) => self.is_low = false,
            (SOCKET, 0x28, high) => self.pointer = u16::from(high) << 8 | self.pointer & 0xff,
            (SOCKET, 0x29, low) => self.pointer = self.pointer & 0xff00 | u16::from(low),
            (SOCKET, 0x01, 0x40) => self.read = self.pointer,
            (SENT, _, byte) => self.sent.push(byte),
            _ => {}
        }
    }
}

/// The bus. The test keeps a second handle of the chip.
#[derive(Clone)]
pub(crate) struct FakeChip(pub(crate) Rc<RefCell<Inside>>);

impl FakeChip {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(Inside {
            registers: BTreeMap::new(),
            ring: vec![0; BUFFER],
            read: 0,
            write: 0,
            pointer: 0,
            is_low: false,
            noise: None,
            floating: None,
            lost: 0,
            accesses: 0,
            clocked: 0,
            sent: Vec::new(),
        })))
    }
}

impl ErrorType for FakeChip {
    type Error = Infallible;
}

impl SpiDevice for FakeChip {
    async fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Infallible> {
        // As DMA does, it lets others run.
        embassy_futures::yield_now().await;
        let mut inside = self.0.borrow_mut();
        let mut head = Vec::new();
        let mut offset = 0;
        inside.accesses += 1;
        for operation in operations {
            inside.clocked += match operation {
                Operation::Write(bytes) => bytes.len(),
                Operation::TransferInPlace(bytes) => bytes.len(),
                _ => 0,
            };
            match operation {
                Operation::Write(bytes) => {
                    for byte in *bytes {
                        if let [high, low, control] = head[..] {
                            assert!(control & 4 != 0, "a write in an access that reads");
                            let start = u16::from_be_bytes([high, low]);
                            inside.write(control >> 3, start.wrapping_add(offset), *byte);
                            offset += 1;
                        } else {
                            head.push(*byte);
                        }
                    }
                }
                Operation::TransferInPlace(bytes) => {
                    let [high, low, control] = head[..] else { panic!("an access of {head:?}") };
                    let start = u16::from_be_bytes([high, low]);
                    for byte in bytes.iter_mut() {
                        *byte = inside.read(control >> 3, start.wrapping_add(offset));
                        offset += 1;
                    }
                    if control >> 3 == RECEIVED
                        && bytes.len() == 2
                        && let Some(noise) = inside.noise.take()
                    {
                        bytes.copy_from_slice(&noise.to_be_bytes());
                    }
                }
                _ => panic!("the driver does not do that"),
            }
        }
        Ok(())
    }
}

/// The interrupt's pin.
pub(crate) struct FakePin(pub(crate) FakeChip);

impl PinError for FakePin {
    type Error = Infallible;
}

impl Wait for FakePin {
    async fn wait_for_low(&mut self) -> Result<(), Infallible> {
        while !self.0.0.borrow().is_low {
            embassy_futures::yield_now().await;
        }
        Ok(())
    }

    async fn wait_for_high(&mut self) -> Result<(), Infallible> {
        unimplemented!("the driver waits for low only")
    }

    async fn wait_for_rising_edge(&mut self) -> Result<(), Infallible> {
        unimplemented!("the driver waits for low only")
    }

    async fn wait_for_falling_edge(&mut self) -> Result<(), Infallible> {
        unimplemented!("the driver waits for low only")
    }

    async fn wait_for_any_edge(&mut self) -> Result<(), Infallible> {
        unimplemented!("the driver waits for low only")
    }
}

/// The reset's pin.
pub(crate) struct FakeReset;

impl PinError for FakeReset {
    type Error = Infallible;
}

impl OutputPin for FakeReset {
    fn set_low(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
