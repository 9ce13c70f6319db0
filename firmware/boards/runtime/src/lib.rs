//! What all boards of the gateway share: frames between NICs, the gateway and its own stack, and that stack's tasks.
//!
//! A board makes a [`Setup`], calls [`start`], and runs the [`Datapath`] that comes back for ever.

#![no_std]
#![forbid(unsafe_code)]

mod datapath;
mod indicators;
mod net_stack;

use core::cell::RefCell;

use embassy_sync::blocking_mutex::{Mutex, raw::NoopRawMutex};
use embassy_time::Instant as Uptime;
use pkd_gateway::{Config, ConfigError, FLOWS, GRANTS, Gateway, Instant, KNOCKS, RULES};
use static_cell::StaticCell;

pub use datapath::{Datapath, Interfaces, Setup, start};
pub use indicators::{Indicators, report_config_error};
pub use net_stack::Random;

/// Bytes of a frame of the own stack, without FCS.
pub const MTU: usize = 1_514;
/// Bytes of a frame with a VLAN tag, without FCS.
pub const FRAME: usize = MTU + 4;

/// A gateway with the usual tables.
pub type StandardGateway = Gateway<'static, FLOWS, GRANTS, RULES, KNOCKS>;
/// A configuration for it.
pub type StandardConfig = Config<RULES>;

/// The gateway, as the tasks of one executor share it.
pub(crate) type SharedGateway = Mutex<NoopRawMutex, RefCell<StandardGateway>>;

/// Reads the configuration from flash. To be called once.
///
/// # Errors
/// [`ConfigError`]: nothing may pass, see [`report_config_error`].
///
/// # Panics
/// When called again.
pub fn load_config(bytes: &[u8]) -> Result<&'static StandardConfig, ConfigError> {
    static CONFIG: StaticCell<StandardConfig> = StaticCell::new();
    let config: &'static StandardConfig = CONFIG.init(Config::parse(bytes)?);
    defmt::info!("{} services, {} rules", config.services.len(), config.rules.len());
    Ok(config)
}

pub(crate) fn now() -> Instant {
    Instant(Uptime::now().as_millis())
}
