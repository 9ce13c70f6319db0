//! Extracts UDP datagrams from packets of a kernel or a capture file.
//!
//! All input is untrusted. Malformed packets are skipped or reported; nothing panics.

#![forbid(unsafe_code)]

#[cfg(feature = "files")]
mod captured;
mod datagram;
#[cfg(feature = "files")]
mod file;
#[cfg(feature = "files")]
mod link;
#[cfg(feature = "files")]
mod section;
#[cfg(feature = "files")]
mod unread;

#[cfg(feature = "files")]
pub use captured::{Captured, Content, Cut};
pub use datagram::Datagram;
#[cfg(feature = "files")]
pub use file::{each_packet, is_file};
#[cfg(feature = "files")]
pub use link::LinkType;
#[cfg(feature = "files")]
pub use unread::Unread;
