//! VLAN tags (802.1Q): adding, removing and exchanging them.

use crate::{config::Vlans, drop_reason::DropReason, port::Port};

/// Length of a VLAN tag in bytes.
pub const VLAN_TAG_LENGTH: usize = 4;

/// Length of both MAC addresses, which precede the tag.
const ADDRESSES_LENGTH: usize = 12;
/// The `EtherType` that a tag begins with.
const TPID: u16 = 0x8100;
/// The bits of the tag that hold the VLAN's number. The others hold the priority.
const VID_MASK: u16 = 0x0fff;

/// Writes `frame` with a tag to `out`. Returns its length, or `None` if it does not fit.
pub(crate) fn tag(frame: &[u8], vlan: u16, out: &mut [u8]) -> Option<usize> {
    let (addresses, rest) = frame.split_first_chunk::<ADDRESSES_LENGTH>()?;
    let length = frame.len() + VLAN_TAG_LENGTH;
    let out = out.get_mut(..length)?;
    let (head, tail) = out.split_at_mut_checked(ADDRESSES_LENGTH + VLAN_TAG_LENGTH)?;
    let tag = TPID.to_be_bytes().into_iter().chain(vlan.to_be_bytes());
    head.iter_mut().zip(addresses.iter().copied().chain(tag)).for_each(|(slot, byte)| *slot = byte);
    tail.copy_from_slice(rest);
    Some(length)
}

/// Gives the frame in the first `length` bytes a tag, in place. Returns its new length, or `None` if it does not fit.
pub(crate) fn insert(frame: &mut [u8], length: usize, vlan: u16) -> Option<usize> {
    let tagged = frame.get_mut(..length + VLAN_TAG_LENGTH)?;
    tagged.copy_within(ADDRESSES_LENGTH..length, ADDRESSES_LENGTH + VLAN_TAG_LENGTH);
    let tag = TPID.to_be_bytes().into_iter().chain(vlan.to_be_bytes());
    tagged.iter_mut().skip(ADDRESSES_LENGTH).zip(tag).for_each(|(slot, byte)| *slot = byte);
    Some(tagged.len())
}

/// Whether a tag begins behind the first `at` bytes that only has a priority: hosts take such a frame as if it had none. A tag
/// with a VLAN's number is not one.
pub(crate) fn is_priority_tag(frame: &[u8], at: usize) -> bool {
    let tag = frame.get(at..).and_then(|tag| tag.first_chunk::<VLAN_TAG_LENGTH>());
    tag.is_some_and(|[a, b, c, d]| {
        u16::from_be_bytes([*a, *b]) == TPID && u16::from_be_bytes([*c, *d]) & VID_MASK == 0
    })
}

/// Removes the tag by moving the addresses over it. The untagged frame begins at byte [`VLAN_TAG_LENGTH`]. A frame that is
/// too short for a tag stays unchanged.
pub fn untag(frame: &mut [u8]) {
    if frame.len() >= ADDRESSES_LENGTH + VLAN_TAG_LENGTH {
        frame.copy_within(..ADDRESSES_LENGTH, VLAN_TAG_LENGTH);
    }
}

/// Replaces the tag of a frame from one side of a trunk with the other side's. Returns the side that it came from.
pub(crate) fn retag(frame: &mut [u8], vlans: Vlans) -> Result<Port, DropReason> {
    let tag = frame.get_mut(ADDRESSES_LENGTH..ADDRESSES_LENGTH + VLAN_TAG_LENGTH);
    let tag = tag.and_then(|tag| tag.first_chunk_mut::<VLAN_TAG_LENGTH>()).ok_or(DropReason::Malformed)?;
    let [a, b, c, d] = *tag;
    let control = u16::from_be_bytes([c, d]);
    let (side, other) = match control & VID_MASK {
        vlan if vlan == vlans.outside => (Port::Outside, vlans.inside),
        vlan if vlan == vlans.inside => (Port::Inside, vlans.outside),
        _ => return Err(DropReason::NotForUs),
    };
    if u16::from_be_bytes([a, b]) != TPID {
        return Err(DropReason::NotForUs);
    }
    let [c, d] = ((control & !VID_MASK) | other).to_be_bytes();
    *tag = [a, b, c, d];
    Ok(side)
}
