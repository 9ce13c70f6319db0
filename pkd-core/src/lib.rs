//! The pkd protocol. A knock is a UDP datagram with 56 bytes of payload that only a holder of the key can make.
//!
//! [`Rule::verify`] maps a datagram and the current time to a [`Verdict`]. The crate does not read a clock, draw random
//! bytes, allocate, log or do I/O; that is up to its users: the `knock` command, the netfilter match, the daemon and
//! the firmware. `docs/protocol.md` describes the protocol.
//!
//! ```
//! use pkd_core::{
//!     Baseline, Key, Knock, KnockParams, Packet, Port, ReplayCache, Rule, Tag, UnixSeconds, Verdict, Window,
//! };
//!
//! let rule = Rule::new(Key::parse("test")?, Tag::parse("SSHK")?, Window::from_secs(10));
//! let port = Port(40_000);
//! let time = UnixSeconds(1_800_000_000);
//! let payload = Knock::seal(&KnockParams { key: rule.key(), tag: rule.tag(), time, nonce: [7; 12] }, port);
//!
//! let now = UnixSeconds(1_800_000_003);
//! let baseline = Baseline::with_memory(UnixSeconds(0)); // a first installation: nothing was accepted before
//! let mut cache = ReplayCache::<256>::new(baseline.floor(rule.window()));
//! let packet = Packet { destination_port: port, payload: &payload };
//! assert_eq!(rule.verify(&mut cache, now, &packet), Verdict::Accept);
//! # Ok::<(), pkd_core::SecretError>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::as_conversions
)]

mod cache_id;
mod digest;
pub mod format2;
mod hmac;
mod packet;
mod replay;
mod rule;
mod secret;
mod time;
mod verdict;
mod verifier;
mod wire;

pub use cache_id::CacheId;
pub use digest::Digest;
pub use packet::{LENGTH, Packet, Port, UDP_LENGTH};
pub use replay::{Baseline, KnockId, ReplayCache, ReplayStore};
pub use rule::Rule;
pub use secret::{Key, SecretError, Tag};
pub use time::{Timestamp, UnixMillis, UnixSeconds, Window};
pub use verdict::{Counters, Reason, Verdict};
pub use verifier::verify_any;
pub use wire::{Knock, KnockParams, NONCE_LENGTH, WrongLength};
