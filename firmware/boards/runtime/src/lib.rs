//! What all boards of the gateway share: frames between NICs, the gateway and its own stack, and that stack's tasks.
//!
//! A board makes a [`Setup`], calls [`start`], and runs the [`Wire`] that comes back for ever.

#![no_std]
#![forbid(unsafe_code)]

mod own;
mod panel;
mod wire;

use core::cell::RefCell;

use embassy_sync::blocking_mutex::{Mutex, raw::NoopRawMutex};
use embassy_time::Instant as Uptime;
use pkd_gateway::{Config, ConfigError, FLOWS, GRANTS, Gateway, Instant, MARKS, RULES};
use static_cell::StaticCell;

pub use own::Random;
pub use panel::{Panel, refuse};
pub use wire::{Nics, Setup, Wire, start};

/// Bytes of a frame of the own stack, without FCS.
pub const MTU: usize = 1_514;
/// Bytes of a frame with a VLAN tag, without FCS.
pub const FRAME: usize = MTU + 4;

/// A gateway with the usual tables.
pub type Usual = Gateway<'static, FLOWS, GRANTS, RULES, MARKS>;
/// A configuration for it.
pub type UsualConfig = Config<RULES>;

/// The gateway, as the tasks of one executor share it.
pub(crate) type Shared = Mutex<NoopRawMutex, RefCell<Usual>>;

/// Reads the configuration from flash. To be called once.
///
/// # Errors
/// [`ConfigError`]: nothing may pass, see [`refuse`].
///
/// # Panics
/// When called again.
pub fn configure(bytes: &[u8]) -> Result<&'static UsualConfig, ConfigError> {
    static CONFIG: StaticCell<UsualConfig> = StaticCell::new();
    let config: &'static UsualConfig = CONFIG.init(Config::parse(bytes)?);
    defmt::info!("{} services, {} rules", config.services.len(), config.rules.len());
    Ok(config)
}

pub(crate) fn now() -> Instant {
    Instant(Uptime::now().as_millis())
}
