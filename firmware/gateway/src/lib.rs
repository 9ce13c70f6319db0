//! A gateway on bare metal that lets only those through who have knocked.
//!
//! Its heart is pure: frames and a clock go in, [`Action`]s come out. Nothing here reads a clock, owns
//! a device or waits; the boards (`firmware/boards`) do, and the host tests everything else.
//!
//! ```text
//!                     on_frame(now, port, frame)
//!   frame in ──▶ header checks ──▶ knock? ──▶ pkd-core ──▶ grant
//!                     │
//!                     ├──▶ flow known ──────────────────▶ Forward (rewritten in place, or as it is)
//!                     ├──▶ new flow, address granted ───▶ Forward
//!                     ├──▶ for the gateway itself ──────▶ Local (ARP, DHCP, SNTP, counters)
//!                     └──▶ anything else ───────────────▶ Drop, and a count of why
//! ```

#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod action;
mod checksum;
mod clock;
mod config;
mod counters;
mod drop_reason;
mod flash_floor;
mod flow;
mod gateway;
mod grant;
mod inline;
mod instant;
mod neighbour;
mod one_arm;
mod packet;
mod port;
pub mod sntp;
mod tables;
mod vlan;

pub use action::{Action, KnockGrant, KnockOutcome};
pub use clock::{Clock, TimeError};
pub use config::{
    Address, CONFIG_LIMIT, Config, ConfigError, Inline, Interface, Mode, Network, Pass, Rule, SERVICES,
    Service, Services, TimeServer, TimeSource, VERSION, Vlans,
};
pub use counters::Counters;
pub use drop_reason::DropReason;
pub use flash_floor::{FlashFloor, FloorError};
pub use flow::{Endpoint, Protocol};
pub use gateway::Gateway;
pub use instant::Instant;
pub use port::Port;
pub use smoltcp::wire::EthernetAddress;
pub use tables::Tables;
pub use vlan::{VLAN_TAG_LENGTH, untag};

/// Flows of a gateway with the usual tables.
pub const FLOWS: usize = 1_024;
/// Grants of a gateway with the usual tables.
pub const GRANTS: usize = 256;
/// Rules of a gateway with the usual tables.
pub const RULES: usize = 32;
/// Knocks that each rule's cache remembers one by one, with the usual tables.
pub const KNOCKS: usize = 16;
