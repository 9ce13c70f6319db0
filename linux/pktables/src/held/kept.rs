//! Grants that a new table takes over.

use std::time::Duration;

use super::link::LinkGrant;
use crate::nft::set_name::SetName;

/// What a new table begins with.
#[derive(Clone, Default)]
pub(super) struct Kept {
    /// Elements to add: set, key and time left.
    pub(super) grants: Vec<(SetName, Vec<u8>, Option<Duration>)>,
    pub(super) links: Vec<LinkGrant>,
}
