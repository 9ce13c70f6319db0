//! A bare-metal port-knocking gateway.
//!
//! The library is sans-I/O: frames and the time go in, [`Action`]s come out. It reads no clock, owns no device and never
//! waits. The boards (`firmware/boards`) do that; everything else is tested on the host.
//!
//! ```text
//!                     on_frame(now, port, frame)
//!   frame in ──▶ header checks ──▶ knock? ──▶ pkd-core ──▶ grant, or its end
//!                     │
//!                     ├──▶ known flow ──────────────────▶ Forward (rewritten in place, or unchanged)
//!                     ├──▶ new flow, with a grant ──────▶ Forward
//!                     ├──▶ for the gateway itself ──────▶ Local (ARP, DHCP, SNTP, counters)
//!                     └──▶ anything else ───────────────▶ Drop, with a counter for each reason
//! ```

#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod action;
mod checksum;
mod clock;
mod config;
mod counters;
mod dhcp;
mod drop_reason;
mod flash_floors;
mod floors;
mod flow;
mod flows;
mod gateway;
mod grant;
mod hosts;
pub mod http;
mod icmp;
mod inline;
mod instant;
mod ip;
mod judge;
mod knock;
mod light;
mod loop_guard;
mod nd;
mod neighbour;
mod one_arm;
mod own;
mod packet;
mod port;
mod prefixes;
pub mod sntp;
mod status_page;
mod tables;
mod targets;
mod time_client;
mod timekeeping;
#[cfg(feature = "update")]
pub mod update;
mod verifier;
mod vlan;

pub use action::{Action, KnockOutcome, KnockSender};
pub use clock::{Clock, STALE_AFTER, TimeError};
pub use config::{
    Address, CONFIG_LIMIT, Config, ConfigError, Format, HOST_NAME, HOSTS, Host, Inline, Interface, Mode,
    NamedServer, Network, OWN_ADDRESSES, PASSED, Pass, Protect, Rule, SERVICES, Service, Services,
    TimeServer, TimeSource, UpdateKey, VERSION, Vlans, created,
};
pub use counters::{Counters, DATAGRAM, WithoutComments, datagrams};
pub use drop_reason::DropReason;
pub use flash_floors::{FlashFloors, FloorError};
pub use floors::Floors;
pub use flow::{Endpoint, Protocol};
pub use gateway::{DNS_PORT, Gateway, LeaseError};
pub use instant::Instant;
pub use light::Light;
pub use port::Port;
pub use smoltcp::wire::EthernetAddress;
pub use status_page::RESPONSE_LIMIT;
pub use tables::Tables;
pub use time_client::{TIME_SERVERS, TimeClient, TimeFailure, TimeTask};
pub use vlan::{VLAN_TAG_LENGTH, untag};

/// Flows, in standard tables.
pub const FLOWS: usize = 1_024;
/// Grants, in standard tables.
pub const GRANTS: usize = 256;
/// Rules, in standard tables.
pub const RULES: usize = 32;
/// Knocks in each rule's replay cache, in standard tables.
pub const KNOCKS: usize = 16;
