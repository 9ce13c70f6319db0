//! All that a gateway remembers, apart, so that a board can lay it where it has room.

use heapless::Vec;
use pkd_core::ReplayCache;

use crate::{flow::Flows, grant::Grants};

/// Flows, grants, and a cache of `KNOCKS` knocks for each rule. Empty, it is all zeros, so that a `static` of it takes no flash.
#[derive(Debug)]
pub struct Tables<const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize> {
    pub(crate) flows: Flows<FLOWS>,
    pub(crate) grants: Grants<GRANTS>,
    pub(crate) caches: Vec<ReplayCache<KNOCKS>, RULES>,
}

impl<const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize>
    Tables<FLOWS, GRANTS, RULES, KNOCKS>
{
    /// Empty ones.
    #[must_use]
    pub const fn new() -> Self {
        Self { flows: Flows::new(), grants: Grants::new(), caches: Vec::new() }
    }
}

impl<const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize> Default
    for Tables<FLOWS, GRANTS, RULES, KNOCKS>
{
    fn default() -> Self {
        Self::new()
    }
}
