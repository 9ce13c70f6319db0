//! Driver for the LAN9118 Ethernet controller with 16 KiB of FIFO (SMSC data sheet, revision 1.5; sections are given below).

use core::{hint, ptr, task::Context};

use critical_section::with as critical;
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::AtomicWaker;
use pkd_board::Life;
use pkd_runtime::FRAME;
use static_cell::StaticCell;

use crate::interrupt;

const BASE: usize = 0x4020_0000;

/// Register offsets (section 5.3).
mod register {
    pub(super) const RX_DATA: usize = 0x00;
    pub(super) const TX_DATA: usize = 0x20;
    pub(super) const RX_STATUS: usize = 0x40;
    pub(super) const TX_STATUS: usize = 0x48;
    pub(super) const IRQ_CFG: usize = 0x54;
    pub(super) const INT_STS: usize = 0x58;
    pub(super) const INT_EN: usize = 0x5c;
    pub(super) const BYTE_TEST: usize = 0x64;
    pub(super) const FIFO_INT: usize = 0x68;
    pub(super) const TX_CFG: usize = 0x70;
    pub(super) const HW_CFG: usize = 0x74;
    pub(super) const RX_FIFO_INF: usize = 0x7c;
    pub(super) const TX_FIFO_INF: usize = 0x80;
    pub(super) const MAC_CSR_CMD: usize = 0xa4;
    pub(super) const MAC_CSR_DATA: usize = 0xa8;
}

/// Indices of the MAC's registers, which are accessed through two of the above (section 5.4).
mod mac {
    pub(super) const CONTROL: u32 = 1;
    pub(super) const ADDRESS_HIGH: u32 = 2;
    pub(super) const ADDRESS_LOW: u32 = 3;
    pub(super) const MII_ACCESS: u32 = 6;
    pub(super) const MII_DATA: u32 = 7;
}

/// The value of `BYTE_TEST`.
const BYTE_TEST: u32 = 0x8765_4321;
/// `IRQ_CFG`: enabled, active high, push-pull.
const IRQ_ON: u32 = 1 << 8 | 1 << 4 | 1;
/// `INT_STS`: the receive status FIFO is above its level.
const RSFL: u32 = 1 << 3;
/// `INT_STS`: PHY events, such as a change of the link.
const PHY: u32 = 1 << 18;
/// `HW_CFG`: store and forward, which is mandatory, and 3 KiB for transmission. The rest of the 16 KiB is for reception.
const HW_SETUP: u32 = 1 << 20 | 3 << 16;
/// `TX_CFG`: transmitter on.
const TX_ON: u32 = 1 << 1;
/// MAC control: full duplex, promiscuous, receiver and transmitter on.
const MAC_ON: u32 = 1 << 20 | 1 << 18 | 1 << 3 | 1 << 2;
/// Receive status: the frame has an error.
const RX_ERROR: u32 = 1 << 15;
/// Length of the frame check sequence in bytes. The controller includes it in the received length.
const FCS: usize = 4;
/// The PHY's basic status register, and its link bit.
const PHY_STATUS: u32 = 1;
const PHY_LINK: u32 = 1 << 2;
const PHY_BUSY: u32 = 1;

static WAKER: AtomicWaker = AtomicWaker::new();
/// Shown as long as the controller has its identity.
pub(crate) static LIFE: Life = Life::new();

fn read(register: usize) -> u32 {
    // SAFETY: the controller exists on this board. Only this module reads its FIFOs, which has side effects.
    unsafe { ptr::read_volatile(ptr::with_exposed_provenance(BASE + register)) }
}

fn write(register: usize, value: u32) {
    // SAFETY: the controller exists on this board, and does not access memory.
    unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(BASE + register), value) }
}

const CSR_BUSY: u32 = 1 << 31;
const CSR_READ: u32 = 1 << 30;

fn read_mac(index: u32) -> u32 {
    write(register::MAC_CSR_CMD, CSR_BUSY | CSR_READ | index);
    while read(register::MAC_CSR_CMD) & CSR_BUSY != 0 {
        hint::spin_loop();
    }
    read(register::MAC_CSR_DATA)
}

fn write_mac(index: u32, value: u32) {
    write(register::MAC_CSR_DATA, value);
    write(register::MAC_CSR_CMD, CSR_BUSY | index);
    while read(register::MAC_CSR_CMD) & CSR_BUSY != 0 {
        hint::spin_loop();
    }
}

/// Handles the controller's interrupt: masks it, and wakes the task that waits for frames.
pub(crate) fn on_interrupt() {
    write(register::INT_EN, 0);
    WAKER.wake();
}

/// The running controller.
pub(crate) struct Lan9118 {
    received: &'static mut [u8; FRAME],
    /// The MAC address that QEMU assigned.
    hardware: [u8; 6],
}

impl Lan9118 {
    /// Starts the controller. Returns `None` if there is none. Call it once.
    pub(crate) fn start() -> Option<Self> {
        static RECEIVED: StaticCell<[u8; FRAME]> = StaticCell::new();
        if read(register::BYTE_TEST) != BYTE_TEST {
            return None;
        }
        write(register::HW_CFG, HW_SETUP);
        write(register::INT_EN, 0);
        write(register::INT_STS, u32::MAX);
        // The line has the wrong polarity until then.
        write(register::IRQ_CFG, IRQ_ON);
        interrupt::enable_ethernet();
        write(register::FIFO_INT, 0);
        write(register::TX_CFG, TX_ON);
        write_mac(mac::CONTROL, MAC_ON);
        let [a, b, c, d] = read_mac(mac::ADDRESS_LOW).to_le_bytes();
        let [e, f, ..] = read_mac(mac::ADDRESS_HIGH).to_le_bytes();
        Some(Self { received: RECEIVED.init([0; FRAME]), hardware: [a, b, c, d, e, f] })
    }

    /// The MAC address.
    pub(crate) fn hardware(&self) -> [u8; 6] {
        self.hardware
    }

    /// Reads the next frame without errors, and returns its length. Discards frames with errors.
    fn next(&mut self) -> Option<usize> {
        loop {
            let [_, _, statuses, _] = read(register::RX_FIFO_INF).to_le_bytes();
            if statuses == 0 {
                return None;
            }
            let status = read(register::RX_STATUS);
            let length = usize::try_from((status >> 16) & 0x3fff).unwrap_or(0);
            for word in 0..length.div_ceil(4) {
                let bytes = read(register::RX_DATA).to_le_bytes();
                let slots = self.received.iter_mut().skip(word * 4);
                slots.zip(bytes).for_each(|(slot, byte)| *slot = byte);
            }
            let length = length.saturating_sub(FCS);
            if status & RX_ERROR == 0 && length <= FRAME {
                return Some(length);
            }
        }
    }

    /// Whether the transmit FIFO has room for a frame. Removes the status of sent frames.
    fn has_room() -> bool {
        let state = read(register::TX_FIFO_INF);
        for _ in 0..(state >> 16) & 0xff {
            read(register::TX_STATUS);
        }
        usize::try_from(state & 0xffff).is_ok_and(|free| free >= FRAME + 2 * 4 + 3)
    }
}

impl Driver for Lan9118 {
    type RxToken<'a> = RxFrame<'a>;
    type TxToken<'a> = TxFrame;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(RxFrame<'_>, TxFrame)> {
        WAKER.register(cx.waker());
        if !Self::has_room() {
            cx.waker().wake_by_ref();
            return None;
        }
        let mut length = self.next();
        if length.is_none() {
            critical(|_| {
                write(register::INT_STS, RSFL | PHY);
                write(register::INT_EN, RSFL);
            });
            // A frame that arrived in between has not raised the interrupt.
            length = self.next();
        }
        let frame = self.received.get_mut(..length?)?;
        Some((RxFrame(frame), TxFrame))
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<TxFrame> {
        if Self::has_room() {
            return Some(TxFrame);
        }
        // The controller sends on its own, so it has room soon.
        cx.waker().wake_by_ref();
        None
    }

    fn link_state(&mut self, _cx: &mut Context<'_>) -> LinkState {
        if read(register::BYTE_TEST) == BYTE_TEST {
            LIFE.show();
        }
        // The PHY has address 1. Polling at each tick is often enough.
        write_mac(mac::MII_ACCESS, 1 << 11 | PHY_STATUS << 6 | PHY_BUSY);
        while read_mac(mac::MII_ACCESS) & PHY_BUSY != 0 {
            hint::spin_loop();
        }
        if read_mac(mac::MII_DATA) & PHY_LINK == 0 { LinkState::Down } else { LinkState::Up }
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.hardware())
    }
}

/// A received frame.
pub(crate) struct RxFrame<'a>(&'a mut [u8]);

impl RxToken for RxFrame<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Permission to send one frame.
pub(crate) struct TxFrame;

impl TxToken for TxFrame {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut buffer = [0_u32; FRAME.div_ceil(4)];
        let bytes = as_bytes(&mut buffer);
        let length = len.min(FRAME);
        let result = f(bytes.get_mut(..length).unwrap_or_default());
        // Section 3.12: a single buffer, both first and last, then the length again.
        let bits = u32::try_from(length).unwrap_or(0);
        write(register::TX_DATA, 1 << 13 | 1 << 12 | bits);
        write(register::TX_DATA, bits);
        for word in buffer.iter().take(length.div_ceil(4)) {
            write(register::TX_DATA, *word);
        }
        result
    }
}

fn as_bytes(words: &mut [u32]) -> &mut [u8] {
    // SAFETY: any bytes are valid, words are sufficiently aligned, and the length is the same.
    unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}
