//! Where a received frame ends.

/// Length of both MAC addresses and the `EtherType` in bytes.
const HEADER: usize = 14;
/// Length of the frame check sequence in bytes.
pub const FCS: usize = 4;
/// Length of a VLAN tag in bytes.
const TAG: usize = 4;
/// The shortest frame without FCS in bytes. Shorter ones are padded.
const SHORTEST: usize = 60;

/// The `EtherType`s whose length is known.
mod ether_type {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const ARP: u16 = 0x0806;
    pub(super) const VLAN: u16 = 0x8100;
    pub(super) const IPV6: u16 = 0x86dd;
}

/// The greatest length in the place of an `EtherType` (IEEE 802.3, section 3.2.6).
const LENGTH_LIMIT: u16 = 1_500;
/// Length of an ARP packet for IPv4 in bytes.
const ARP: usize = 28;
/// Length of an IPv6 header in bytes.
const IPV6: usize = 40;

/// The length of a received frame without what the NIC left behind it, in bytes: up to the end that its headers name, or
/// with its padding if it is shorter than 60 bytes. The end of an unknown `EtherType` is not known: there, only the FCS goes,
/// if the NIC leaves one (`has_fcs`).
///
/// It is never longer than the frame. A packet that claims to be longer keeps what is there: the gateway drops it.
#[must_use]
pub fn trimmed(frame: &[u8], has_fcs: bool) -> usize {
    let fcs = if has_fcs { FCS } else { 0 };
    let without_fcs = frame.len().saturating_sub(fcs);
    match end(frame) {
        // Some NICs strip the FCS of frames with a length, and no others; theirs is behind the end in either case.
        Some(end) if end <= frame.len() => end.max(without_fcs.min(SHORTEST)),
        _ => without_fcs,
    }
}

/// Where the frame's headers say that it ends. `None` if they do not say it.
fn end(frame: &[u8]) -> Option<usize> {
    let (start, ether_type) = match u16_at(frame, HEADER - 2)? {
        ether_type::VLAN => (HEADER + TAG, u16_at(frame, HEADER + TAG - 2)?),
        other => (HEADER, other),
    };
    let length = match ether_type {
        ether_type::IPV4 => u16_at(frame, start + 2)?.into(),
        ether_type::IPV6 => IPV6 + usize::from(u16_at(frame, start + 4)?),
        ether_type::ARP => ARP,
        length if length <= LENGTH_LIMIT => length.into(),
        _ => return None,
    };
    Some(start + length)
}

fn u16_at(frame: &[u8], offset: usize) -> Option<u16> {
    frame.get(offset..)?.first_chunk().copied().map(u16::from_be_bytes)
}
