//! A NIC that behaves as its entry in the table says, and a driver that panics where embassy's drivers do.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    task::{Context, Waker},
};

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use pkd_board::{FCS, NicKind};

/// What is on the cable: frames without FCS.
#[derive(Default)]
pub(crate) struct Cable {
    pub(crate) to_nic: VecDeque<Vec<u8>>,
    pub(crate) from_nic: Vec<Vec<u8>>,
}

/// The driver's end of a cable.
pub(crate) struct FakeNic {
    kind: &'static NicKind,
    hardware: [u8; 6],
    cable: Rc<RefCell<Cable>>,
}

pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];

impl FakeNic {
    pub(crate) fn new(kind: &'static NicKind, hardware: [u8; 6]) -> (Self, Rc<RefCell<Cable>>) {
        let cable = Rc::new(RefCell::new(Cable::default()));
        (Self { kind, hardware, cable: Rc::clone(&cable) }, cable)
    }

    /// Whether the NIC passes the frame on.
    fn accepts(&self, frame: &[u8]) -> bool {
        let is_ours = frame.get(..6).is_some_and(|to| to == self.hardware || to == BROADCAST);
        // Full-size frames with a tag are four bytes longer.
        let fits = frame.len() <= self.kind.transmits;
        (is_ours || !self.kind.filters_mac) && fits
    }
}

pub(crate) fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Driver for FakeNic {
    type RxToken<'a> = Received;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _: &mut Context<'_>) -> Option<(Received, Room<'_>)> {
        loop {
            let mut frame = self.cable.borrow_mut().to_nic.pop_front()?;
            if !self.accepts(&frame) {
                continue;
            }
            let has_length = frame.get(12..14).is_some_and(|field| field < &[0x06, 0x00][..]);
            // The STM32's MAC strips the FCS of frames with a length, even if it leaves that of others.
            if self.kind.leaves_fcs && !has_length {
                frame.extend([0xfc; FCS]);
            }
            return Some((Received(frame), Room(self)));
        }
    }

    fn transmit(&mut self, _: &mut Context<'_>) -> Option<Room<'_>> {
        Some(Room(self))
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = self.kind.transmits;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.hardware)
    }
}

pub(crate) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, f: F) -> R {
        f(&mut self.0)
    }
}

pub(crate) struct Room<'a>(&'a mut FakeNic);

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut buffer = vec![0; self.0.kind.transmits];
        let result = f(&mut buffer[..len]);
        buffer.truncate(len);
        self.0.cable.borrow_mut().from_nic.push(buffer);
        result
    }
}
