//! Neighbour discovery (RFC 4861): questions for the MAC addresses of inside hosts, and answers for the gateway's own.

use core::net::Ipv6Addr;

use smoltcp::wire::EthernetAddress;

use crate::{
    drop_reason::DropReason,
    ip::Ip,
    own::Own,
    packet::{ETHERNET_HEADER, Header, IPV6_HEADER, parse_v6},
};

/// Types of `ICMPv6` (RFC 4861, RFC 4443).
pub(crate) const SOLICITATION: u8 = 135;
pub(crate) const ADVERTISEMENT: u8 = 136;
const ECHO_REPLY: u8 = 129;

/// The number of `ICMPv6` in an IPv6 header.
const ICMPV6: u8 = 58;
/// Length of a message of neighbour discovery without options, and with the one that has a MAC address.
const MESSAGE: usize = 24;
const WITH_OPTION: usize = MESSAGE + 8;
/// Length of a frame with such a message and the option.
const LENGTH: usize = ETHERNET_HEADER + IPV6_HEADER + WITH_OPTION;
/// The hop limit of neighbour discovery: no router has forwarded it.
const HOP_LIMIT: u8 = 255;
/// Flags of an advertisement: the answer to a solicitation, and it replaces what is known.
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A message of neighbour discovery about an address.
pub(crate) struct Message {
    pub(crate) target: Ip,
    pub(crate) is_solicited: bool,
    /// The MAC address in its option, if it has one.
    pub(crate) hardware: Option<EthernetAddress>,
}

impl Message {
    /// Parses a solicitation or an advertisement, and checks what RFC 4861 wants to be checked.
    pub(crate) fn parse(header: &Header, bytes: &[u8]) -> Result<Self, DropReason> {
        let body = header.body(bytes)?;
        if header.hop_limit != HOP_LIMIT {
            return Err(DropReason::Malformed);
        }
        if !header.sum(ICMPV6, body).is_valid() {
            return Err(DropReason::Checksum);
        }
        let (head, options) = body.split_first_chunk::<MESSAGE>().ok_or(DropReason::Malformed)?;
        let (fixed, target) = head.split_first_chunk::<8>().ok_or(DropReason::Malformed)?;
        let [kind, _, _, _, flags, ..] = *fixed;
        let target = target.first_chunk::<16>().ok_or(DropReason::Malformed)?;
        // The source's MAC address in a solicitation, the target's in an advertisement. It comes first in all implementations.
        let wanted = if kind == SOLICITATION { 1 } else { 2 };
        let hardware = options.first_chunk::<8>().and_then(|[kind, length, address @ ..]| {
            (*kind == wanted && *length == 1).then_some(EthernetAddress(*address))
        });
        Ok(Self { target: Ip::v6(*target), is_solicited: flags & SOLICITED != 0, hardware })
    }
}

/// The link-local address that a MAC address makes (RFC 4291, appendix A).
pub(crate) fn link_local(EthernetAddress([a, b, c, d, e, f]): EthernetAddress) -> Ip {
    Ip::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The group that solicitations for an address are sent to.
pub(crate) fn solicited_node(address: Ip) -> Ip {
    let [.., a, b, c] = address.octets();
    Ip::v6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The MAC address of a group (RFC 2464, section 7).
fn group_hardware(group: Ip) -> EthernetAddress {
    let [.., a, b, c, d] = group.octets();
    EthernetAddress([0x33, 0x33, a, b, c, d])
}

/// Writes a solicitation for the address of a host. Returns its length.
pub(crate) fn write_solicitation(own: Own, target: Ip, frame: &mut [u8]) -> Option<usize> {
    let group = solicited_node(target);
    let to = (group_hardware(group), group);
    write(frame, own, own.v6, to, [SOLICITATION, 0], target, 1)
}

/// Writes an advertisement of an own address to all. Returns its length.
pub(crate) fn write_advertisement(own: Own, frame: &mut [u8]) -> Option<usize> {
    let all = Ip::from(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
    let to = (group_hardware(all), all);
    write(frame, own, own.v6, to, [ADVERTISEMENT, OVERRIDE], own.v6, 2)
}

/// Turns a solicitation for an own address into the advertisement that answers it.
pub(crate) fn answer(
    frame: &mut [u8],
    own: Own,
    asker: (EthernetAddress, Ip),
    has_option: bool,
) -> Result<(), DropReason> {
    if has_option {
        let written = write(frame, own, own.v6, asker, [ADVERTISEMENT, SOLICITED | OVERRIDE], own.v6, 2);
        return written.map(drop).ok_or(DropReason::Malformed);
    }
    // Asked for at the MAC address that it has: the asker knows it.
    let short = frame.get_mut(..LENGTH - 8).ok_or(DropReason::Malformed)?;
    let mut whole = [0; LENGTH];
    write(&mut whole, own, own.v6, asker, [ADVERTISEMENT, SOLICITED | OVERRIDE], own.v6, 2);
    short.copy_from_slice(whole.get(..LENGTH - 8).unwrap_or_default());
    set_length_and_checksum(short, MESSAGE).ok_or(DropReason::Malformed)
}

/// Turns an echo request into its reply.
pub(crate) fn answer_echo(
    frame: &mut [u8],
    header: &Header,
    own: EthernetAddress,
    asker: EthernetAddress,
) -> Result<(), DropReason> {
    let length = header.end - header.start;
    if header.start != IPV6_HEADER {
        return Err(DropReason::Unsolicited);
    }
    let parts: [(usize, &[u8]); 5] = [
        (0, &asker.0),
        (6, &own.0),
        (22, &header.destination.octets()),
        (38, &header.source.octets()),
        (54, &[ECHO_REPLY]),
    ];
    for (at, bytes) in parts {
        frame.get_mut(at..at + bytes.len()).ok_or(DropReason::Malformed)?.copy_from_slice(bytes);
    }
    set_length_and_checksum(frame, length).ok_or(DropReason::Malformed)
}

/// Writes a message with a MAC address in an option of the kind `option`.
fn write(
    frame: &mut [u8],
    own: Own,
    from: Ip,
    to: (EthernetAddress, Ip),
    [kind, flags]: [u8; 2],
    target: Ip,
    option: u8,
) -> Option<usize> {
    let message = frame.get_mut(..LENGTH)?;
    message.fill(0);
    let parts: [(usize, &[u8]); 10] = [
        (0, &to.0.0),
        (6, &own.hardware.0),
        (12, &[0x86, 0xdd, 0x60]),
        (20, &[ICMPV6, HOP_LIMIT]),
        (22, &from.octets()),
        (38, &to.1.octets()),
        (54, &[kind, 0, 0, 0, flags]),
        (62, &target.octets()),
        (78, &[option, 1]),
        (80, &own.hardware.0),
    ];
    for (at, bytes) in parts {
        message.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
    }
    set_length_and_checksum(frame, WITH_OPTION)?;
    Some(LENGTH)
}

/// Sets the payload length, and the checksum of a message of this length.
fn set_length_and_checksum(frame: &mut [u8], length: usize) -> Option<()> {
    let packet = frame.get_mut(ETHERNET_HEADER..ETHERNET_HEADER + IPV6_HEADER + length)?;
    packet.get_mut(4..6)?.copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
    packet.get_mut(IPV6_HEADER + 2..IPV6_HEADER + 4)?.fill(0);
    let header = parse_v6(packet).ok()?;
    let checksum = header.sum(ICMPV6, header.body(packet).ok()?).checksum();
    packet.get_mut(IPV6_HEADER + 2..IPV6_HEADER + 4)?.copy_from_slice(&checksum.to_be_bytes());
    Some(())
}
