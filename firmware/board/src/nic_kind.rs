//! What a NIC and its driver do to frames.

/// What a NIC and its driver do to frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NicKind {
    /// Its name for users.
    pub name: &'static str,
    /// The length of the longest frame that it sends and receives, in bytes without FCS.
    pub transmits: usize,
    /// Whether the FCS is still behind the frames that it passes on.
    pub leaves_fcs: bool,
    /// Whether it drops frames that are for another MAC address.
    pub filters_mac: bool,
    /// Whether it passes on full-size frames with a VLAN tag, in both directions and unchanged.
    pub carries_tags: bool,
}
