//! Grants that a new table takes over.

use std::time::Duration;

use crate::nft::set_name::SetName;

/// An element to add: set, key and time left.
pub(super) type Kept = (SetName, Vec<u8>, Option<Duration>);
