//! Extracts UDP datagrams from packets of a kernel or a capture file.
//!
//! All input is untrusted. Malformed packets are skipped or reported; nothing panics.

#![forbid(unsafe_code)]

mod datagram;
#[cfg(feature = "files")]
mod file;
#[cfg(feature = "files")]
mod link;

pub use datagram::Datagram;
#[cfg(feature = "files")]
pub use file::{each_datagram, is_file};
