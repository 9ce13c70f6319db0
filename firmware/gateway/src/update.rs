//! Signed images: what is in front of one, and whether the gateway takes it.
//!
//! ```text
//! offset  bytes  field (all numbers are little endian)
//!      0      4  "PKDu"
//!      4      2  format version, 1
//!      6      6  version of the image: major, minor, patch
//!     12      4  length of the image in bytes
//!     16     16  name of the board, padded with zeros
//!     32     32  SHA-256 of the image
//!     64     64  Ed25519 signature of the 64 bytes before it
//!    128         the image
//! ```
//!
//! The signature is checked before anything is written to flash, so that only the owner of the key can wear the flash out.
//!
//! The image itself also contains the version and the board, as its [`Identity`], and the header is made from that. A version typed
//! by hand could be newer than the image's own; anyone who captured such an image could replay it, and reset the board each time.

use core::fmt;

use sha2::{Digest as _, Sha256};

use crate::config::UpdateKey;

/// Length of what is in front of an image, in bytes.
pub const HEADER_LENGTH: usize = 128;

const MAGIC: [u8; 4] = *b"PKDu";
const FORMAT: [u8; 2] = 1_u16.to_le_bytes();
/// The greatest length of a board's name.
const BOARD_LENGTH: usize = 16;
/// What an [`Identity`] begins with.
const IDENTITY_MAGIC: [u8; 10] = *b"PKD image\0";

/// The version of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u16; 3]);

impl Version {
    /// Reads a version from its three parts, as in Cargo's `CARGO_PKG_VERSION_MAJOR`, `_MINOR` and `_PATCH`. Returns `None` unless
    /// each is a number from 0 to 65535.
    #[must_use]
    pub const fn of(major: &str, minor: &str, patch: &str) -> Option<Self> {
        match (u16::from_str_radix(major, 10), u16::from_str_radix(minor, 10), u16::from_str_radix(patch, 10))
        {
            (Ok(major), Ok(minor), Ok(patch)) => Some(Self([major, minor, patch])),
            _ => None,
        }
    }

    /// Reads a version such as `0.1.0`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| part.parse().ok());
        let version = Self([parts.next()??, parts.next()??, parts.next()??]);
        parts.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// Which board an image is for, and its version: 32 bytes that the image contains.
///
/// ```text
/// offset  bytes  field (all numbers are little endian)
///      0     10  "PKD image", and a zero
///     10      6  version of the image: major, minor, patch
///     16     16  name of the board, padded with zeros
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
// The image contains it as it is in memory, so the fields must not be reordered.
#[repr(C)]
pub struct Identity {
    magic: [u8; 10],
    version: [[u8; 2]; 3],
    board: [u8; BOARD_LENGTH],
}

impl Identity {
    /// Creates the identity of an image for this board. Returns `None` if the board's name is too long.
    #[must_use]
    pub const fn new(board: &str, version: Version) -> Option<Self> {
        let mut padded = [0; BOARD_LENGTH];
        let Some((name, _)) = padded.split_at_mut_checked(board.len()) else { return None };
        name.copy_from_slice(board.as_bytes());
        let [major, minor, patch] = version.0;
        let version = [major.to_le_bytes(), minor.to_le_bytes(), patch.to_le_bytes()];
        Some(Self { magic: IDENTITY_MAGIC, version, board: padded })
    }

    /// Finds the identity in an image. Returns `None` if there is none, or more than one.
    #[must_use]
    pub fn find(image: &[u8]) -> Option<Self> {
        let mut found = image.windows(IDENTITY_MAGIC.len() + 6 + BOARD_LENGTH).filter_map(|mut bytes| {
            let magic = take(&mut bytes).ok().filter(|magic| *magic == IDENTITY_MAGIC)?;
            let mut part = || take(&mut bytes).ok();
            let version = [part()?, part()?, part()?];
            Some(Self { magic, version, board: take(&mut bytes).ok()? })
        });
        found.next().filter(|_| found.next().is_none())
    }

    /// The version of the image.
    #[must_use]
    pub fn version(&self) -> Version {
        Version(self.version.map(u16::from_le_bytes))
    }

    /// The board's name.
    #[must_use]
    pub fn board(&self) -> &str {
        core::str::from_utf8(&self.board).unwrap_or_default().trim_end_matches('\0')
    }
}

/// Why an image is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateError {
    /// The configuration has no `[update]`, so no key to check the signature with.
    NoKey,
    /// It does not begin like a signed image.
    Magic,
    /// Its signature is not that of the configured key.
    Signature,
    /// It was made for another board.
    Board,
    /// It is not newer than the running image, of this version.
    NotNewer(Version),
    /// The board has returned from it to the running image.
    Returned,
    /// It does not fit, or its length is not what its header says.
    Length,
    /// It is not the image that was signed.
    Digest,
    /// It could not be written to flash, or read back.
    Flash,
    /// Another update is on its way.
    Busy,
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoKey => "the configuration has no [update]",
            Self::Magic => "not a signed image: sign it with gateway-config sign",
            Self::Signature => "the signature is not that of the configured key",
            Self::Board => "the image is for another board",
            Self::NotNewer(running) => {
                return write!(
                    f,
                    "not newer than the running version {running}: set allow_older to force it"
                );
            }
            Self::Returned => {
                "this image was started and did not find the time: build a newer one, or set allow_older to force it"
            }
            Self::Length => "wrong length",
            Self::Digest => "wrong digest: the image was altered",
            Self::Flash => "the flash failed",
            Self::Busy => "another update is running: try again",
        })
    }
}

/// What the gateway demands of an image.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The configured key, and whether images are taken that are not newer.
    pub key: Option<&'a UpdateKey>,
    /// The running image.
    pub running: &'a Identity,
    /// The greatest length of an image in bytes.
    pub capacity: u32,
}

/// An image whose header was accepted, while it arrives.
#[derive(Clone, Debug)]
pub struct Incoming {
    version: Version,
    remaining: u32,
    digest: [u8; 32],
    hasher: Sha256,
}

impl Incoming {
    /// Checks the header of an image. `length` is that of header and image, as the sender announces it.
    ///
    /// # Errors
    /// [`UpdateError`] if the image must not be written.
    pub fn accept(
        header: &[u8; HEADER_LENGTH],
        length: u32,
        policy: &Policy<'_>,
    ) -> Result<Self, UpdateError> {
        let key = policy.key.ok_or(UpdateError::NoKey)?;
        let (signed, signature) = header.split_first_chunk::<64>().ok_or(UpdateError::Magic)?;
        let signature = signature.first_chunk::<64>().ok_or(UpdateError::Magic)?;
        let mut fields = &signed[..];
        if take::<4>(&mut fields)? != MAGIC || take::<2>(&mut fields)? != FORMAT {
            return Err(UpdateError::Magic);
        }
        // Nothing else of it is believed before this.
        let public = salty::PublicKey::try_from(&key.key).map_err(|_| UpdateError::Signature)?;
        public.verify(signed, &salty::Signature::from(signature)).map_err(|_| UpdateError::Signature)?;
        let mut part = || take(&mut fields).map(u16::from_le_bytes);
        let version = Version([part()?, part()?, part()?]);
        let image = u32::from_le_bytes(take(&mut fields)?);
        let board: [u8; BOARD_LENGTH] = take(&mut fields)?;
        let digest = take(&mut fields)?;
        if policy.running.board != board {
            return Err(UpdateError::Board);
        }
        // The same version is refused too: anyone who captured the image could replay it to reset the board.
        let running = policy.running.version();
        if version <= running && !key.allow_older {
            return Err(UpdateError::NotNewer(running));
        }
        let header_length = u32::try_from(HEADER_LENGTH).unwrap_or(u32::MAX);
        if image == 0 || image > policy.capacity || image.checked_add(header_length) != Some(length) {
            return Err(UpdateError::Length);
        }
        Ok(Self { version, remaining: image, digest, hasher: Sha256::new() })
    }

    /// The version of the image.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// How much of the image is missing, in bytes.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.remaining
    }

    /// Adds the next bytes of the image.
    ///
    /// # Errors
    /// [`UpdateError::Length`] if they are more than are missing.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), UpdateError> {
        let length = u32::try_from(bytes.len()).map_err(|_| UpdateError::Length)?;
        self.remaining = self.remaining.checked_sub(length).ok_or(UpdateError::Length)?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Checks the whole image. Only after this may it be started.
    ///
    /// # Errors
    /// [`UpdateError::Length`] if bytes are missing, [`UpdateError::Digest`] if it is not the signed image.
    pub fn finish(self) -> Result<Version, UpdateError> {
        if self.remaining != 0 {
            return Err(UpdateError::Length);
        }
        let digest: [u8; 32] = self.hasher.finalize().into();
        if digest == self.digest { Ok(self.version) } else { Err(UpdateError::Digest) }
    }
}

/// Makes the header of an image, signed with the key that `seed` is the secret of. `identity` is what [`Identity::find`] finds in
/// the image. Returns `None` if the image is too long or empty.
#[must_use]
pub fn sign(seed: &[u8; 32], identity: &Identity, image: &[u8]) -> Option<[u8; HEADER_LENGTH]> {
    let length = u32::try_from(image.len()).ok().filter(|length| *length > 0)?;
    let fields: [&[u8]; 6] = [
        &MAGIC,
        &FORMAT,
        identity.version.as_flattened(),
        &length.to_le_bytes(),
        &identity.board,
        &Sha256::digest(image),
    ];
    let mut header = [0; HEADER_LENGTH];
    let (signed, signature) = header.split_first_chunk_mut::<64>()?;
    signed.iter_mut().zip(fields.into_iter().flatten()).for_each(|(slot, byte)| *slot = *byte);
    let made = salty::Keypair::from(seed).sign(signed).to_bytes();
    signature.copy_from_slice(&made);
    Some(header)
}

/// The public key that belongs to a seed.
#[must_use]
pub fn public_key(seed: &[u8; 32]) -> [u8; 32] {
    salty::Keypair::from(seed).public.to_bytes()
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], UpdateError> {
    let (array, rest) = bytes.split_first_chunk().ok_or(UpdateError::Length)?;
    *bytes = rest;
    Ok(*array)
}
