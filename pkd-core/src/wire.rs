//! The 56 bytes on the wire: a checked view to read them, [`Knock::seal`] to write them.

use crate::{Digest, Key, Tag, UnixSeconds};

/// Bytes of a knock, the payload of the datagram.
pub const LENGTH: usize = 56;
/// Bytes of the datagram as its UDP header counts them: header and knock.
pub const UDP_LENGTH: usize = 64;
/// Random bytes in a knock.
pub const NONCE_LENGTH: usize = 12;

/// What comes before the digest, and is hashed: tag, time and nonce.
pub(crate) const HEAD_LENGTH: usize = 24;
const TIME_LENGTH: usize = 8;
const DIGEST_LENGTH: usize = 32;

/// A UDP port, in the machine's own byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Port(pub u16);

/// A UDP datagram that may be a knock. The source port is left out: NAT rewrites it.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Where it was sent to; the digest covers it.
    pub destination_port: Port,
    /// All bytes behind the UDP header.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a UDP header (RFC 768) and the payload behind it; the checksum is left to the platform.
    ///
    /// `None` unless the header says [`UDP_LENGTH`] and that many bytes are there. Bytes behind
    /// them (an Ethernet frame's padding) are no part of the datagram.
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

/// A payload that has the length of a knock; nothing else of it has been checked.
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
    digest: &'a [u8; DIGEST_LENGTH],
}

impl<'a> Knock<'a> {
    /// `None` unless `payload` has exactly [`LENGTH`] bytes.
    #[must_use]
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let (head, rest) = payload.split_first_chunk::<HEAD_LENGTH>()?;
        let digest = rest.try_into().ok()?;
        let (tag, rest) = head.split_first_chunk()?;
        let (time, rest) = rest.split_first_chunk()?;
        let nonce = rest.try_into().ok()?;
        Some(Self { head, tag, time, nonce, digest })
    }

    /// Which key the sender says it used.
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

    /// What the sender says is the digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(*self.digest)
    }

    /// The digest that a holder of `key` makes for this knock when it goes to `port`.
    #[must_use]
    pub fn expected_digest(&self, key: &Key, port: Port) -> Digest {
        Digest::classic(port, self.head, key)
    }

    /// The payload of a classic knock to `port`.
    #[must_use]
    pub fn seal(seal: &KnockParams<'_>, port: Port) -> [u8; LENGTH] {
        let head = seal.head();
        join(&head, &Digest::classic(port, &head, seal.key))
    }

    /// The payload as senders before 1.0 made it: the digest leaves the port out.
    ///
    /// Verifiers refuse it; it is for gateways that still run `ipt_pkd` of before 1.0.
    #[must_use]
    pub fn seal_before_1_0(seal: &KnockParams<'_>) -> [u8; LENGTH] {
        let head = seal.head();
        join(&head, &Digest::before_1_0(&head, seal.key))
    }
}

/// What a knock is made from.
#[derive(Clone, Debug)]
pub struct KnockParams<'a> {
    /// The shared secret; it enters the digest only.
    pub key: &'a Key,
    /// Tells the verifier which key.
    pub tag: Tag,
    /// The sender's clock.
    pub time: UnixSeconds,
    /// Random; makes two knocks of one second differ. Without that, the second is a replay.
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
    payload.iter_mut().zip(head.iter().chain(&digest.0)).for_each(|(slot, &byte)| *slot = byte);
    payload
}
