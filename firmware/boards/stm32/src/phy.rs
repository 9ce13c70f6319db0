//! The Ethernet PHY.

use embassy_stm32::{
    eth::{Ethernet, GenericPhy, Sma, StationManagement},
    peripherals::{ETH, ETH_SMA},
};
use pkd_board::Life;

/// Shown whenever the PHY answers. The driver asks it for the link's state at each tick.
pub static LIFE: Life = Life::new();

/// The NIC.
pub type Nic = Ethernet<'static, ETH, GenericPhy<WatchedSma>>;

/// The PHY's management interface, which shows life.
pub struct WatchedSma(Sma<'static, ETH_SMA>);

/// The PHY behind this interface. Its address is found.
#[must_use]
pub fn phy(sma: Sma<'static, ETH_SMA>) -> GenericPhy<WatchedSma> {
    GenericPhy::new_auto(WatchedSma(sma))
}

impl StationManagement for WatchedSma {
    fn smi_read(&mut self, phy_addr: u8, reg: u8) -> u16 {
        let value = self.0.smi_read(phy_addr, reg);
        // No register of a PHY that is there is all ones, and its status is never 0: some bits say what it can do.
        if value != 0 && value != u16::MAX {
            LIFE.show();
        }
        value
    }

    fn smi_write(&mut self, phy_addr: u8, reg: u8, val: u16) {
        self.0.smi_write(phy_addr, reg, val);
    }
}
