//! The wire format: [`Knock`] is a view of the 56 bytes, [`Knock::seal`] writes them.

use core::ops::BitOr;

use subtle::ConstantTimeEq;

use super::{Addresses, Bindings, Hints, Keys, hints::slot};
use crate::{
    LENGTH, NONCE_LENGTH, Port, UnixMillis, WrongLength,
    digest::{put, put_slice},
    packet::HEAD_LENGTH,
};

const SIP_LENGTH: usize = 8;
const AUTH_LENGTH: usize = 24;

/// Offsets; the filter is at the end of the head, the auth bytes at the end of what they cover.
const NONCE: usize = 4;
const SEALED: usize = NONCE + NONCE_LENGTH;

/// The bits of the time; flags and request are above them.
const TIME: u64 = (1 << 48) - 1;

/// What comes before the bytes that authenticate it: head and filter.
const COVERED: usize = HEAD_LENGTH + SIP_LENGTH;

/// A payload with the length of a knock. Nothing else has been checked.
///
/// ```text
/// offset  bytes  field
///      0      4  hint
///      4     12  nonce
///     16      8  time in milliseconds (6 bytes), flags, request; masked
///     24      8  filter
///     32     24  auth
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Knock<'a>(&'a [u8; LENGTH]);

impl<'a> Knock<'a> {
    /// Returns `None` unless `payload` has exactly [`LENGTH`] bytes.
    #[must_use]
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        payload.try_into().ok().map(Self)
    }

    /// The bytes at an offset. All fields are within the payload.
    fn field<const AT: usize, const N: usize>(self) -> &'a [u8; N] {
        self.0.get(AT..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; N])
    }

    /// What is authenticated besides port and addresses.
    fn covered(self) -> &'a [u8; COVERED] {
        self.field::<0, _>()
    }

    /// The bytes that name key and slot.
    #[must_use]
    pub fn hint(&self) -> [u8; 4] {
        *self.field::<0, _>()
    }

    /// The time, the flags and the request, if the knock was made with these keys; otherwise noise.
    #[must_use]
    pub fn open(&self, keys: &Keys) -> Contents {
        Contents::unpacked(self.unmasked(keys))
    }

    /// The same in one word.
    pub(crate) fn unmasked(self, keys: &Keys) -> u64 {
        u64::from_le_bytes(*self.field::<SEALED, _>()) ^ keys.mask(self.field::<NONCE, _>())
    }

    /// Distinguishes knocks of one time.
    pub(crate) fn id(self) -> u64 {
        u64::from_le_bytes(*self.field::<HEAD_LENGTH, _>())
    }

    /// Whether the filter is what a holder of the key would have sent to `port`. Takes the same time wherever the
    /// bytes differ.
    #[must_use]
    pub fn filter_matches(&self, keys: &Keys, port: Port) -> bool {
        keys.filter(words(self.covered()), port).ct_eq(&self.id()).into()
    }

    /// Whether a holder of the key made this knock for `port`, and for the addresses that it is bound to. Takes the
    /// same time wherever the bytes differ.
    #[must_use]
    pub fn auth_matches(&self, keys: &Keys, port: Port, bound: [&[u8]; 2]) -> bool {
        let mac = mac(keys, self.covered(), port, bound);
        // By words, because comparing bytes costs a small processor several times as much. The knock has fewer of them.
        let pairs = mac.as_chunks().0.iter().zip(self.field::<COVERED, AUTH_LENGTH>().as_chunks().0);
        let differences = pairs.map(|(mac, auth)| u64::from_ne_bytes(*mac) ^ u64::from_ne_bytes(*auth));
        differences.fold(0, BitOr::bitor).ct_eq(&0).into()
    }

    /// Whether the hint is that of the slot of `time`. It is computed unless it is one of `hints`.
    pub(crate) fn hint_matches(self, keys: &Keys, hints: &Hints, time: UnixMillis) -> bool {
        let of_its_time = |slot| hints.of(slot).unwrap_or_else(|| keys.hint(slot));
        slot(time).is_some_and(|slot| of_its_time(slot).to_le_bytes() == self.hint())
    }

    /// The payload of a knock that is sent between these addresses, of which those in
    /// [`bindings`](KnockParams::bindings) count.
    #[must_use]
    pub fn seal(keys: &Keys, params: &KnockParams, port: Port, addresses: &Addresses<'_>) -> [u8; LENGTH] {
        let (flags, request) = (params.bindings.bits(), params.request.byte());
        let time = UnixMillis(params.time.0 & TIME);
        let plain = time.0 | u64::from(flags) << 48 | u64::from(request) << 56;
        let sealed = plain ^ keys.mask(&params.nonce);
        let mut covered = [0; COVERED];
        let rest = put(&mut covered, &keys.hint(slot(time).unwrap_or_default()).to_le_bytes());
        put(put(rest, &params.nonce), &sealed.to_le_bytes());
        let filter = keys.filter(words(&covered), port).to_le_bytes();
        if let Some(slot) = covered.last_chunk_mut() {
            *slot = filter;
        }
        let mac = mac(keys, &covered, port, bound(params.bindings, addresses, addresses.destination()));
        let mut payload = [0; LENGTH];
        let rest = put(&mut payload, &covered);
        put_slice(rest, mac.get(..AUTH_LENGTH).unwrap_or_default());
        payload
    }
}

/// What authenticates the bytes before it, the port, and the bound addresses.
fn mac(keys: &Keys, covered: &[u8; COVERED], port: Port, bound: [&[u8]; 2]) -> [u8; 32] {
    let [destination, source] = bound;
    keys.auth(|message| {
        message.put(covered);
        message.put(&port.0.to_be_bytes());
        message.put(destination);
        message.put(source);
    })
}

/// The hint of a payload; `None` if it does not have the length of a knock.
pub(crate) fn hint(payload: &[u8]) -> Option<u32> {
    let payload: &[u8; LENGTH] = payload.try_into().ok()?;
    payload.first_chunk().map(|hint| u32::from_le_bytes(*hint))
}

/// The head before the filter.
fn words(covered: &[u8; COVERED]) -> [u64; 3] {
    // Not in a loop, which stays one where code is built for size, and takes 9 instructions a word.
    [word::<0>(covered), word::<8>(covered), word::<16>(covered)]
}

fn word<const AT: usize>(covered: &[u8; COVERED]) -> u64 {
    covered.get(AT..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The bound ones of the addresses, with `destination` in place of theirs; the others are empty.
pub(crate) fn bound<'a>(
    bindings: Bindings,
    addresses: &Addresses<'a>,
    destination: &'a [u8],
) -> [&'a [u8]; 2] {
    let only = |binding, address| if bindings.contains(binding) { address } else { &[][..] };
    [only(Bindings::DESTINATION, destination), only(Bindings::SOURCE, addresses.source())]
}

impl<'a> TryFrom<&'a [u8]> for Knock<'a> {
    type Error = WrongLength;

    /// Like [`Knock::parse`].
    fn try_from(payload: &'a [u8]) -> Result<Self, WrongLength> {
        Self::parse(payload).ok_or(WrongLength)
    }
}

/// What a knock says under its mask. It proves nothing before filter and auth were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The sender's clock.
    pub time: UnixMillis,
    /// Which addresses are bound, see [`Bindings::from_bits`].
    pub flags: u8,
    /// What is asked for, see [`Request::from_byte`].
    pub request: u8,
}

impl Contents {
    /// From the word that is sent masked.
    pub(crate) fn unpacked(word: u64) -> Self {
        let [.., flags, request] = word.to_le_bytes();
        Self { time: UnixMillis(word & TIME), flags, request }
    }
}

/// What a knock asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Request {
    /// To open.
    #[default]
    Open,
    /// To end the grants that this key opened for this address.
    Close,
}

impl Request {
    const fn byte(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Close => 1,
        }
    }

    /// Returns `None` for a request of the future.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Open),
            1 => Some(Self::Close),
            _ => None,
        }
    }
}

/// What a sender puts into a knock.
#[derive(Clone, Copy, Debug)]
pub struct KnockParams {
    /// The sender's clock; its lower 48 bits are sent, which last until the year 10889.
    pub time: UnixMillis,
    /// Must be random. It also hides the time, so two knocks of one key with one nonce show how their times differ.
    pub nonce: [u8; NONCE_LENGTH],
    /// The addresses that the knock is good for only.
    pub bindings: Bindings,
    /// What it asks for.
    pub request: Request,
}
