//! The calls on the packet path, and the secrets and hints of rules of format 2.

use core::ffi::c_int;

use pkd_core::{
    Packet, Reason, Rule, UDP_LENGTH, UnixMillis, UnixSeconds, Verdict,
    format2::{self, Addresses, Bindings, Hints, Request},
};

use crate::replay::{Lookup, SharedCache};

// Must match the C layouts: struct xt_pkd_mtinfo, struct pkd_secrets and struct pkd_hints.
const _: () = assert!(size_of::<Rule>() == 48 && align_of::<Rule>() == 4);
const _: () = assert!(size_of::<format2::Rule>() <= 192 && align_of::<format2::Rule>() <= 8);
const _: () = assert!(size_of::<Hints>() <= 64 && align_of::<Hints>() <= 8);

/// `struct pkd_addresses`: 4 bytes each, or 16.
#[repr(C)]
pub(crate) struct Ends {
    source: *const u8,
    destination: *const u8,
    is_ipv6: bool,
}

/// Checks one UDP datagram, including its header, against a classic rule. Returns a value of `enum pkd_verdict`.
///
/// # Safety
/// `rule` and `datagram` must be readable for the call, and `lookup` valid for `pkd_cache_lock`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_verify(
    rule: &Rule,
    lookup: *mut Lookup,
    seconds: u64,
    datagram: &[u8; UDP_LENGTH],
) -> c_int {
    // SAFETY: as the caller promises.
    let mut cache = unsafe { SharedCache::new(lookup) };
    code(match Packet::from_udp(datagram) {
        Some(packet) => rule.verify(&mut cache, UnixSeconds(seconds), &packet),
        None => Verdict::Ignore(Reason::Length),
    })
}

/// Whether a datagram is no knock of format 2, whatever time it is and whoever sent it: `PKD_LENGTH` or `PKD_TAG`; 0 if it
/// may be one. Most packets get no further, and cost no look at the clock.
#[unsafe(no_mangle)]
extern "C" fn pkd_noise2(rule: &format2::Rule, hints: &Hints, datagram: &[u8; UDP_LENGTH]) -> c_int {
    let reason = match Packet::from_udp(datagram) {
        Some(packet) => rule.noise(hints, &packet),
        None => Some(Reason::Length),
    };
    reason.map_or(0, |reason| code(Verdict::Ignore(reason)))
}

/// The same as [`pkd_verify`] for a rule of format 2, whose `hints` are those that `pkd_hints_refresh` made last.
///
/// # Safety
/// As for [`pkd_verify`]; and the addresses must be readable for the call, with the length of their family.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_verify2(
    rule: &format2::Rule,
    hints: &Hints,
    lookup: *mut Lookup,
    millis: u64,
    datagram: &[u8; UDP_LENGTH],
    ends: &Ends,
) -> c_int {
    let Ends { source, destination, is_ipv6 } = ends;
    let addresses = if *is_ipv6 {
        // SAFETY: as the caller promises; bytes have no alignment.
        let source = unsafe { &*source.cast() };
        // SAFETY: likewise.
        Addresses::V6 { source, destination: unsafe { &*destination.cast() } }
    } else {
        // SAFETY: likewise.
        let source = unsafe { &*source.cast() };
        // SAFETY: likewise.
        Addresses::V4 { source, destination: unsafe { &*destination.cast() } }
    };
    // SAFETY: as the caller promises.
    let mut cache = unsafe { SharedCache::new(lookup) };
    code(match Packet::from_udp(datagram) {
        Some(packet) => rule.verify(hints, &mut cache, UnixMillis(millis), &packet, &addresses, &[]),
        None => Verdict::Ignore(Reason::Length),
    })
}

/// The verdict's number in `enum pkd_verdict`.
fn code(verdict: Verdict) -> c_int {
    match verdict {
        Verdict::Accept => 0,
        Verdict::Ignore(Reason::Length) => 1,
        Verdict::Ignore(Reason::Tag) => 2,
        Verdict::Ignore(Reason::Window) => 3,
        Verdict::Ignore(Reason::Replay) => 4,
        Verdict::Ignore(Reason::Digest) => 5,
        Verdict::Ignore(Reason::Filter) => 6,
        Verdict::Ignore(Reason::Request) => 7,
        Verdict::Close => 8,
    }
}

/// Derives the keys of a rule of format 2 from those 48 bytes of its match data; 14 blocks of SHA-256.
///
/// # Safety
/// `secrets` must be writable, 192 bytes, aligned to 8.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_secrets_init(secrets: *mut format2::Rule, rule: &Rule, require: u8, is_close: bool) {
    // C has refused other bits.
    let require = Bindings::from_bits(require).unwrap_or(Bindings::SOURCE | Bindings::DESTINATION);
    let request = if is_close { Request::Close } else { Request::Open };
    let made = format2::Rule::new(rule.key(), rule.tag(), rule.window(), require).only(request);
    // SAFETY: as the caller promises.
    unsafe { secrets.write(made) };
}

/// Initializes hints, for no time yet.
///
/// # Safety
/// `hints` must be writable, 64 bytes, aligned to 8.
#[unsafe(no_mangle)]
unsafe extern "C" fn pkd_hints_init(hints: *mut Hints) {
    // SAFETY: as the caller promises.
    unsafe { hints.write(Hints::default()) };
}

/// Makes `spare` what `millis` needs if `current` is not; whether it did.
#[unsafe(no_mangle)]
extern "C" fn pkd_hints_refresh(
    rule: &format2::Rule,
    current: &Hints,
    spare: &mut Hints,
    millis: u64,
) -> bool {
    let now = UnixMillis(millis);
    let are_due = rule.are_due(current, now);
    if are_due {
        rule.refresh(spare, now);
    }
    are_due
}
