//! The code that all boards share: frames between the NICs, the gateway and its network stack, and the network stack's tasks.
//!
//! A board reads its flash with [`load`], fills in a [`Setup`], calls [`start`], and runs the [`Datapath`] that it returns.

#![no_std]
#![forbid(unsafe_code)]

/// A log line for the serial line, if there is one. `defmt` has its own.
#[cfg(feature = "serial")]
macro_rules! say {
    ($($text:tt)*) => { $crate::desk::log(format_args!($($text)*)) };
}
#[cfg(not(feature = "serial"))]
macro_rules! say {
    ($($text:tt)*) => {};
}

mod datapath;
#[cfg(feature = "serial")]
mod desk;
mod http;
mod indicators;
mod net_stack;
mod storage;
mod time;
#[cfg(feature = "update")]
mod update;

use core::cell::RefCell;

use embassy_sync::blocking_mutex::{Mutex, raw::NoopRawMutex};
use embassy_time::Instant as Uptime;
use pkd_gateway::{Config, FLOWS, GRANTS, Gateway, Instant, KNOCKS, RULES};

#[cfg(feature = "update")]
pub use datapath::start_with_updates;
pub use datapath::{Datapath, Interfaces, Setup, start};
#[cfg(feature = "serial")]
pub use desk::{Desk, Reaction, log};
pub use indicators::Indicators;
pub use net_stack::{FreeStack, Random};
pub use storage::{Rejection, Stored, load};

/// What receives images: nothing.
#[cfg(not(feature = "update"))]
pub(crate) type Updates = core::convert::Infallible;
#[cfg(feature = "update")]
pub use pkd_gateway::update::Identity;
#[cfg(feature = "update")]
pub(crate) use update::Updates;
#[cfg(feature = "update")]
pub use update::{Reset, identity};

/// Length of the network stack's longest frame in bytes, without FCS.
pub const MTU: usize = 1_514;
/// Length of the longest frame with a VLAN tag in bytes, without FCS.
pub const FRAME: usize = MTU + 4;

/// A gateway with the standard tables.
pub type StandardGateway = Gateway<'static, FLOWS, GRANTS, RULES, KNOCKS>;
/// The configuration of a [`StandardGateway`].
pub type StandardConfig = Config<RULES>;

/// The gateway, shared by the tasks of one executor.
pub(crate) type SharedGateway = Mutex<NoopRawMutex, RefCell<StandardGateway>>;

pub(crate) fn now() -> Instant {
    Instant(Uptime::now().as_millis())
}
