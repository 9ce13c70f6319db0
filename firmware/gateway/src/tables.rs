//! The gateway's state, kept apart so that a board can place it in memory.

use heapless::Vec;

use crate::{
    flows::Flows, grant::Grants, hosts::Hosts, neighbour::Neighbours, targets::Targets, verifier::Verifier,
};

/// Flows, grants, inside hosts, services, and for each rule what checks its knocks, with a replay cache of `KNOCKS` entries. Empty tables
/// are all zeros, so a `static` of them takes no flash.
#[derive(Debug)]
pub struct Tables<const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize> {
    pub(crate) flows: Flows<FLOWS>,
    pub(crate) grants: Grants<GRANTS>,
    pub(crate) verifiers: Vec<Verifier<KNOCKS>, RULES>,
    pub(crate) neighbours: Neighbours,
    pub(crate) targets: Targets,
    /// Inline: the hosts that are protected.
    pub(crate) hosts: Hosts,
}

impl<const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize>
    Tables<FLOWS, GRANTS, RULES, KNOCKS>
{
    /// Empty tables.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            flows: Flows::new(),
            grants: Grants::new(),
            verifiers: Vec::new(),
            neighbours: Neighbours::new(),
            targets: Targets::new(),
            hosts: Hosts::new(),
        }
    }
}

impl<const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize> Default
    for Tables<FLOWS, GRANTS, RULES, KNOCKS>
{
    fn default() -> Self {
        Self::new()
    }
}
