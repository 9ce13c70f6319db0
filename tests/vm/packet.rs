//! Datagrams as honest and dishonest senders make them.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use pkd_core::{Key, Knock, KnockParams, Port, Tag, UnixSeconds};
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) const KEY: &str = "test";
pub(crate) const TAG: &str = "SSHK";
/// Where the tests knock.
pub(crate) const PORT: u16 = 40_000;

/// A knock with the tests' key and tag, unlike all others made here.
pub(crate) fn knock(time: u64) -> Result<[u8; 56]> {
    knock_with(KEY, TAG, time, PORT)
}

pub(crate) fn knock_with(key: &str, tag: &str, time: u64, port: u16) -> Result<[u8; 56]> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static MADE: AtomicUsize = AtomicUsize::new(1);
    let mut nonce = [0; 12];
    nonce[..size_of::<usize>()].copy_from_slice(&MADE.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    let key = Key::parse(key)?;
    let params = KnockParams { key: &key, tag: Tag::parse(tag)?, time: UnixSeconds(time), nonce };
    Ok(Knock::seal(&params, Port(port)))
}

/// A UDP socket that sends from `from`.
pub(crate) fn udp(from: IpAddr) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(SocketAddr::new(from, 0)), Type::DGRAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    Ok(socket)
}

pub(crate) fn send(from: IpAddr, to: IpAddr, port: u16, payload: &[u8]) -> Result<()> {
    udp(from)?.send_to(payload, &SocketAddr::new(to, port).into()).context("sending UDP")?;
    Ok(())
}

/// A UDP header that says `length` bytes, to [`PORT`], before `payload`; without a checksum.
pub(crate) fn datagram(length: u16, payload: &[u8]) -> Vec<u8> {
    let fields = [12_345, PORT, length, 0];
    fields.iter().flat_map(|field: &u16| field.to_be_bytes()).chain(payload.iter().copied()).collect()
}

/// A whole IP packet with a UDP datagram, from any address.
pub(crate) fn udp_packet(from: IpAddr, to: IpAddr, port: u16, payload: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(8 + payload.len())?;
    let mut packet = match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) => ipv4(from, to, 0, &[], &[])?,
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [high, low] = length.to_be_bytes();
            let mut packet = vec![0x60, 0, 0, 0, high, low, 17, 64];
            packet.extend(from.octets());
            packet.extend(to.octets());
            packet
        }
        _ => bail!("addresses of two families: {from}, {to}"),
    };
    for field in [12_345, port, length, 0] {
        packet.extend(field.to_be_bytes());
    }
    packet.extend(payload);
    Ok(packet)
}

/// Sends bytes as the payload of an IP packet that says it is UDP.
pub(crate) fn send_raw(from: IpAddr, to: IpAddr, bytes: &[u8]) -> Result<()> {
    let socket = Socket::new(Domain::for_address(SocketAddr::new(from, 0)), Type::RAW, Some(Protocol::UDP))?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.send_to(bytes, &SocketAddr::new(to, 0).into()).context("sending raw UDP")?;
    Ok(())
}

/// Sends a whole IP packet, header included, as it is.
pub(crate) fn send_packet(to: IpAddr, packet: &[u8]) -> Result<()> {
    // A raw socket of protocol 255 takes the header from the sender (raw(7)).
    let socket =
        Socket::new(Domain::for_address(SocketAddr::new(to, 0)), Type::RAW, Some(Protocol::from(255)))?;
    socket.send_to(packet, &SocketAddr::new(to, 0).into()).context("sending a raw packet")?;
    Ok(())
}

/// An IPv4 packet with these options, flags and offset before `content`.
fn ipv4(from: IpAddr, to: IpAddr, fragment: u16, options: &[u8], content: &[u8]) -> Result<Vec<u8>> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else { bail!("no IPv4 addresses") };
    let words = u8::try_from(5 + options.len() / 4)?;
    // Length and checksum are filled in by the kernel.
    let mut packet = vec![0x40 | words, 0, 0, 0, 0x70, 0x6b];
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, 17, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(options);
    packet.extend(content);
    Ok(packet)
}

/// An IPv4 packet with 4 bytes of options before `datagram`.
pub(crate) fn ipv4_with_options(from: IpAddr, to: IpAddr, datagram: &[u8]) -> Result<Vec<u8>> {
    ipv4(from, to, 0, &[1, 1, 1, 0], datagram)
}

/// Two fragments: all of `datagram`, 64 bytes, in the first, and bytes behind it in the second.
pub(crate) fn ipv4_fragments(from: IpAddr, to: IpAddr, datagram: &[u8]) -> Result<[Vec<u8>; 2]> {
    const MORE: u16 = 0x2000;
    // The offset counts in units of 8 bytes.
    Ok([ipv4(from, to, MORE, &[], datagram)?, ipv4(from, to, 64 / 8, &[], &[0; 16])?])
}

/// An IPv6 packet with one extension header of 8 bytes, of the type `extension`, before `datagram`.
pub(crate) fn ipv6_with_extension(
    from: IpAddr,
    to: IpAddr,
    extension: u8,
    content: [u8; 6],
    datagram: &[u8],
) -> Result<Vec<u8>> {
    let (IpAddr::V6(from), IpAddr::V6(to)) = (from, to) else { bail!("no IPv6 addresses") };
    let length = u16::try_from(8 + datagram.len())?;
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([extension, 64]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend([17, 0]);
    packet.extend(content);
    packet.extend(datagram);
    Ok(packet)
}
