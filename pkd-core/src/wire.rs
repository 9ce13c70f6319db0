//! The wire format: [`Knock`] is a checked view of the 56 bytes, [`Knock::seal`] writes them.

use core::fmt;

use crate::{Digest, Key, Tag, UnixSeconds};

/// Length of a knock, the payload of the datagram, in bytes.
pub const LENGTH: usize = 56;
/// The length field of the UDP header: header and knock, in bytes.
pub const UDP_LENGTH: usize = 64;
/// Random bytes in a knock.
pub const NONCE_LENGTH: usize = 12;

/// Bytes before the digest, which are hashed: tag, time and nonce.
pub(crate) const HEAD_LENGTH: usize = 24;
const TIME_LENGTH: usize = 8;

/// A UDP port in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Port(pub u16);

/// A UDP datagram that may be a knock. It has no source port, because NAT rewrites it.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Covered by the digest.
    pub destination_port: Port,
    /// All bytes after the UDP header.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Parses a UDP header (RFC 768) and the payload after it. Does not verify the checksum; that is up to the caller.
    ///
    /// Returns `None` unless the header's length is [`UDP_LENGTH`] and that many bytes are present. Bytes after them,
    /// such as the padding of an Ethernet frame, are ignored.
    #[must_use]
    pub fn from_udp(datagram: &'a [u8]) -> Option<Self> {
        let (_source_port, rest) = datagram.split_first_chunk::<2>()?;
        let (destination_port, rest) = rest.split_first_chunk::<2>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (_checksum, rest) = rest.split_first_chunk::<2>()?;
        if usize::from(u16::from_be_bytes(*length)) != UDP_LENGTH {
            return None;
        }
        let (payload, _padding) = rest.split_first_chunk::<LENGTH>()?;
        Some(Self { destination_port: Port(u16::from_be_bytes(*destination_port)), payload })
    }
}

/// A payload does not have the length of a knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrongLength;

impl fmt::Display for WrongLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wrong length: a knock has {LENGTH} bytes")
    }
}

impl core::error::Error for WrongLength {}

/// A payload with the length of a knock. Nothing else has been checked.
///
/// ```
/// use pkd_core::{Key, Knock, KnockParams, Port, Tag, UnixSeconds};
///
/// let key = Key::parse("test")?;
/// let params = KnockParams { key: &key, tag: Tag::parse("SSHK")?, time: UnixSeconds(1_800_000_000), nonce: [7; 12] };
/// let payload = Knock::seal(&params, Port(40_000));
///
/// let knock = Knock::try_from(&payload[..])?;
/// assert_eq!((knock.tag(), knock.time()), (params.tag, params.time));
/// assert!(Knock::try_from(&payload[1..]).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```text
/// offset  bytes  field
///      0      4  tag
///      4      8  time, Unix seconds, little endian
///     12     12  nonce
///     24     32  digest
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Knock<'a> {
    head: &'a [u8; HEAD_LENGTH],
    tag: &'a [u8; Tag::LENGTH],
    time: &'a [u8; TIME_LENGTH],
    nonce: &'a [u8; NONCE_LENGTH],
    digest: &'a [u8; Digest::LENGTH],
}

impl<'a> Knock<'a> {
    /// Returns `None` unless `payload` has exactly [`LENGTH`] bytes.
    #[must_use]
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let (head, rest) = payload.split_first_chunk::<HEAD_LENGTH>()?;
        let digest = rest.try_into().ok()?;
        let (tag, rest) = head.split_first_chunk()?;
        let (time, rest) = rest.split_first_chunk()?;
        let nonce = rest.try_into().ok()?;
        Some(Self { head, tag, time, nonce, digest })
    }

    /// The tag of the key that the sender claims to have used.
    #[must_use]
    pub fn tag(&self) -> Tag {
        Tag(*self.tag)
    }

    /// The sender's clock.
    #[must_use]
    pub fn time(&self) -> UnixSeconds {
        UnixSeconds(u64::from_le_bytes(*self.time))
    }

    /// The sender's random bytes.
    #[must_use]
    pub fn nonce(&self) -> &[u8; NONCE_LENGTH] {
        self.nonce
    }

    /// The digest that the sender claims.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(*self.digest)
    }

    /// The digest of this knock if it was made with `key` and sent to `port`.
    #[must_use]
    pub fn expected_digest(&self, key: &Key, port: Port) -> Digest {
        Digest::classic(port, self.head, key)
    }

    /// The payload of a classic knock to `port`.
    #[must_use]
    pub fn seal(params: &KnockParams<'_>, port: Port) -> [u8; LENGTH] {
        let head = params.head();
        join(&head, &Digest::classic(port, &head, params.key))
    }

    /// The payload of a knock in the format before 1.0, whose digest does not cover the port.
    ///
    /// [`Rule::verify`](crate::Rule::verify) refuses it. It is for gateways that still run an `ipt_pkd` before 1.0.
    #[must_use]
    pub fn seal_before_1_0(params: &KnockParams<'_>) -> [u8; LENGTH] {
        let head = params.head();
        join(&head, &Digest::before_1_0(&head, params.key))
    }
}

impl<'a> TryFrom<&'a [u8]> for Knock<'a> {
    type Error = WrongLength;

    /// Like [`Knock::parse`].
    fn try_from(payload: &'a [u8]) -> Result<Self, WrongLength> {
        Self::parse(payload).ok_or(WrongLength)
    }
}

/// The contents of a knock, and the key that it is sealed with.
#[derive(Clone, Debug)]
pub struct KnockParams<'a> {
    /// The shared secret. Only the digest depends on it; it is not sent.
    pub key: &'a Key,
    /// Selects the key at the verifier.
    pub tag: Tag,
    /// The sender's clock.
    pub time: UnixSeconds,
    /// Must be random. Two knocks of one second with the same nonce are the same knock, and the second one a replay.
    pub nonce: [u8; NONCE_LENGTH],
}

impl KnockParams<'_> {
    fn head(&self) -> [u8; HEAD_LENGTH] {
        let mut head = [0; HEAD_LENGTH];
        let fields = self.tag.0.into_iter().chain(self.time.0.to_le_bytes()).chain(self.nonce);
        head.iter_mut().zip(fields).for_each(|(slot, byte)| *slot = byte);
        head
    }
}

fn join(head: &[u8; HEAD_LENGTH], digest: &Digest) -> [u8; LENGTH] {
    let mut payload = [0; LENGTH];
    payload.iter_mut().zip(head.iter().chain(digest.as_bytes())).for_each(|(slot, &byte)| *slot = byte);
    payload
}
