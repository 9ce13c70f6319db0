//! The wire format: [`Knock`] is a checked view of the 56 bytes, [`Knock::seal`] writes them.

use core::fmt;

use crate::{Digest, Key, LENGTH, Port, Tag, UnixSeconds, packet::HEAD_LENGTH};

/// Random bytes in a knock.
pub const NONCE_LENGTH: usize = 12;

const TIME_LENGTH: usize = 8;

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
