//! A NIC as all boards use it: frames without FCS and padding come in, and no frame goes out that the NIC cannot send.

use core::task::Context;

use embassy_net_driver::{Driver, LinkState, RxToken, TxToken};

use crate::{Life, NicKind, frame};

/// The shortest frame that has a header, in bytes. Some drivers pass on empty ones.
const HEADER: usize = 14;

/// Calls of [`Nic::on_tick`] without a sign of life after which a NIC counts as dead. At ten calls a second these are three
/// seconds; drivers look twice a second.
pub const SILENT_TICKS: u8 = 30;

/// A driver, and what it does to frames.
pub struct Nic<D> {
    driver: D,
    kind: &'static NicKind,
    life: &'static Life,
    silent_ticks: u8,
    too_long: u32,
}

impl<D: Driver> Nic<D> {
    /// `life`: where the driver reports that its NIC works.
    pub const fn new(driver: D, kind: &'static NicKind, life: &'static Life) -> Self {
        Self { driver, kind, life, silent_ticks: 0, too_long: 0 }
    }

    /// Passes the next received frame to `handle`, with a place for one frame back to where it came from, and `context`.
    /// Returns `false` if no frame is waiting, or if the NIC cannot send now.
    pub fn receive(
        &mut self,
        context: &mut Context<'_>,
        handle: impl FnOnce(&mut [u8], Place<'_, D::TxToken<'_>>, &mut Context<'_>),
    ) -> bool {
        let limit = self.limit();
        let Some((received, token)) = self.driver.receive(context) else { return false };
        self.life.show();
        let place = Place { token, limit, too_long: &mut self.too_long };
        received.consume(|bytes| {
            let length = frame::trimmed(bytes, self.kind.leaves_fcs);
            if let Some(frame) = bytes.get_mut(..length).filter(|frame| frame.len() >= HEADER) {
                handle(frame, place, context);
            }
        });
        true
    }

    /// Sends a frame. Returns `false` if it is lost, as on a switch: the NIC cannot send now, or cannot send this length.
    pub fn send(&mut self, context: &mut Context<'_>, frame: &[u8]) -> bool {
        let limit = self.limit();
        let Some(token) = self.driver.transmit(context) else { return false };
        Place { token, limit, too_long: &mut self.too_long }.send(frame)
    }

    /// The length of the longest frame that may be sent, in bytes.
    fn limit(&self) -> usize {
        self.kind.transmits.min(self.driver.capabilities().max_transmission_unit)
    }

    /// The state of the link.
    pub fn link_state(&mut self, context: &mut Context<'_>) -> LinkState {
        self.driver.link_state(context)
    }

    /// How many frames were not sent because they are longer than the NIC can send.
    #[must_use]
    pub fn too_long(&self) -> u32 {
        self.too_long
    }

    /// How many answers of the NIC could not be right.
    #[must_use]
    pub fn faults(&self) -> u32 {
        self.life.faults()
    }

    /// Whether the NIC has moved a frame or shown another sign of life within the last [`SILENT_TICKS`] calls.
    pub fn on_tick(&mut self) -> bool {
        self.silent_ticks = if self.life.take() { 0 } else { self.silent_ticks.saturating_add(1) };
        self.silent_ticks <= SILENT_TICKS
    }
}

/// Room for one frame in a NIC.
pub struct Place<'a, T> {
    token: T,
    limit: usize,
    too_long: &'a mut u32,
}

impl<T: TxToken> Place<'_, T> {
    /// Sends a frame. Returns `false` if the NIC cannot send this length.
    pub fn send(self, frame: &[u8]) -> bool {
        if frame.len() > self.limit {
            *self.too_long = self.too_long.saturating_add(1);
            return false;
        }
        self.token.consume(frame.len(), |out| out.copy_from_slice(frame));
        true
    }
}
