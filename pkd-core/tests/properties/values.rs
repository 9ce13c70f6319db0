//! Properties of single windows, caches, knocks and texts.

use pkd_core::{
    Digest, Key, Knock, KnockId, KnockParams, LENGTH, Packet, Port, Reason, ReplayCache, ReplayStore, Tag,
    UDP_LENGTH, UnixSeconds, Verdict, Window,
};
use proptest::{collection::vec, prelude::*};

use crate::{KEY, PORT, admits, config, history::window, rule};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_window_is_correct_for_every_pair_of_times(
        window in window(), now in any::<u64>(), time in any::<u64>(), near in -50..50_i64,
    ) {
        let wide = i64::from(window).saturating_add(near);
        for time in [time, now.saturating_add_signed(wide), now.saturating_sub(wide.unsigned_abs())] {
            let actual = Window::from_secs(window).admits(UnixSeconds(now), UnixSeconds(time));
            prop_assert_eq!(actual, admits(window, now, time), "{} at {}", time, now);
        }
    }

    #[test]
    fn refused_knocks_are_not_recorded_and_recorded_knocks_are_refused(
        floor in 0..20_u64, ids in vec((0..40_u64, 0..3_u8, window()), 0..60),
    ) {
        let mut cache = ReplayCache::<4>::new(UnixSeconds(floor));
        for (time, id, window) in ids {
            let id = KnockId::new(UnixSeconds(time), &Digest::from_bytes([id; 32]));
            let window = Window::from_secs(window);
            let before = format!("{cache:?}");
            let refused = cache.refuses(id, window);
            prop_assert_eq!(&format!("{cache:?}"), &before, "the first look changed something");
            prop_assert_eq!(cache.record(id, window), !refused);
            if refused {
                prop_assert_eq!(format!("{cache:?}"), before, "a refused knock changed the cache");
            }
            prop_assert!(cache.refuses(id, window));
        }
    }

    #[test]
    fn a_sealed_knock_parses_and_only_its_key_and_port_verify_it(
        key in any::<[[u8; 20]; 2]>(), tag in any::<[u8; 4]>(), time in any::<u64>(),
        nonce in any::<[u8; 12]>(), port in any::<u16>(), other_port in any::<u16>(),
    ) {
        let mut key_bytes = [0; Key::LENGTH];
        key_bytes.copy_from_slice(&key.concat());
        let key = Key::from_bytes(key_bytes);
        let params = KnockParams { key: &key, tag: Tag(tag), time: UnixSeconds(time), nonce };
        let payload = Knock::seal(&params, Port(port));
        prop_assert_eq!(&payload[0..4], &tag);
        prop_assert_eq!(&payload[4..12], &time.to_le_bytes());
        prop_assert_eq!(&payload[12..24], &nonce);

        let knock = Knock::parse(&payload).unwrap();
        prop_assert_eq!((knock.tag(), knock.time(), *knock.nonce()), (params.tag, params.time, nonce));
        let claimed = knock.digest();
        prop_assert_eq!(&claimed.as_bytes()[..], &payload[24..]);
        prop_assert!(knock.expected_digest(&key, Port(port)).matches(&knock.digest()));
        let other = knock.expected_digest(&key, Port(other_port));
        prop_assert_eq!(other.matches(&knock.digest()), port == other_port);
        prop_assert!(!knock.expected_digest(&KEY, Port(port)).matches(&knock.digest()));
    }

    #[test]
    fn a_datagram_is_accepted_only_if_its_length_is_right_in_the_header_and_on_the_wire(
        bytes in vec(any::<u8>(), 0..80), length in prop_oneof![Just(64_u16), 60..70_u16, any::<u16>()],
    ) {
        let mut bytes = bytes;
        if let Some(field) = bytes.get_mut(4..6) {
            field.copy_from_slice(&length.to_be_bytes());
        }
        let actual = Packet::from_udp(&bytes).map(|packet| (packet.destination_port, packet.payload));
        let expected = (bytes.len() >= UDP_LENGTH && length == 64)
            .then(|| (Port(u16::from_be_bytes([bytes[2], bytes[3]])), &bytes[8..64]));
        prop_assert_eq!(actual, expected);
    }

    #[test]
    fn random_bytes_are_never_accepted(
        payload in vec(any::<u8>(), 0..120), tagged in any::<bool>(), window in window(), now in any::<u64>(),
    ) {
        let mut payload = payload;
        if tagged && let Some(tag) = payload.get_mut(..4) {
            tag.copy_from_slice(&Tag::default().0);
        }
        let mut cache = ReplayCache::<4>::new(UnixSeconds(0));
        let packet = Packet { destination_port: PORT, payload: &payload };
        let verdict = rule(window).verify(&mut cache, UnixSeconds(now), &packet);
        let time = |payload: &[u8]| Some(u64::from_le_bytes(payload.get(4..12)?.try_into().ok()?));
        let expected = if payload.len() != LENGTH {
            Reason::Length
        } else if !tagged {
            Reason::Tag
        } else if time(&payload).is_none_or(|time| !admits(window, now, time)) {
            Reason::Window
        } else {
            Reason::Digest
        };
        prop_assert_eq!(verdict, Verdict::Ignore(expected));
        prop_assert!(cache.is_empty() && cache.newest().is_none());
    }

    #[test]
    fn every_tag_parses_from_its_text(bytes in any::<[u8; 4]>(), printable in "[ -~]{1,4}") {
        prop_assert_eq!(Tag::parse(&Tag(bytes).to_string()), Ok(Tag(bytes)));
        if let Ok(tag) = Tag::parse(&printable) {
            prop_assert_eq!(Tag::parse(&tag.to_string()), Ok(tag));
        }
    }

    #[test]
    fn any_text_parses_without_a_panic_and_hexadecimal_digit_by_digit(
        text in ".{0,50}", digits in "[0-9a-fA-F]{1,80}",
    ) {
        if !text.starts_with("0x") {
            let fits = (1..=40).contains(&text.len());
            prop_assert_eq!(Key::parse(&text).is_ok(), fits, "{:?}", text);
        }
        let mut expected = [0; Key::LENGTH];
        for (place, digit) in digits.chars().enumerate() {
            let nibble = u8::try_from(digit.to_digit(16).unwrap()).unwrap();
            expected[place / 2] |= if place % 2 == 0 { nibble << 4 } else { nibble };
        }
        prop_assert_eq!(Key::parse(&format!("0x{digits}")), Ok(Key::from_bytes(expected)));
    }
}
