//! UDP datagrams in packets that a kernel handed over, or that a capture file holds.
//!
//! Everything here is bytes of strangers: what is damaged is left out or told of, and nothing panics.

#![forbid(unsafe_code)]

mod datagram;
#[cfg(feature = "files")]
mod file;
#[cfg(feature = "files")]
mod link;

pub use datagram::Datagram;
#[cfg(feature = "files")]
pub use file::{each_datagram, is_file};
