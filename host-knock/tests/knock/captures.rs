//! `knock verify` of captures.

use anyhow::{Context as _, Result};
use pkd_core::{Key, Knock, KnockParams, LENGTH, Port, Tag, UnixSeconds};

use crate::harness::{Harness, KEY, Outcome};

const TIME: u32 = 1_800_000_002;
const RAW: u32 = 101;

fn knock() -> Result<[u8; LENGTH]> {
    let time = UnixSeconds(u64::from(TIME) - 2);
    let key = Key::parse(KEY)?;
    Ok(Knock::seal(&KnockParams { key: &key, tag: Tag::parse("SSHK")?, time, nonce: [7; 12] }, Port(40_000)))
}

/// An IPv4 packet with this UDP payload to port 40000.
fn packet(payload: &[u8]) -> Vec<u8> {
    let udp = u16::try_from(8 + payload.len()).unwrap_or(0);
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 192, 0, 2, 1]);
    packet.extend([0x30, 0x39, 0x9c, 0x40]);
    packet.extend(udp.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A pcap file with these packets, of which it keeps so many bytes.
fn capture(link: u32, packets: &[(&[u8], usize)]) -> Vec<u8> {
    let mut file = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, link]);
    for (packet, kept) in packets {
        let kept = packet.get(..*kept).unwrap_or(packet);
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(0);
        file.extend(words(&[TIME, 0, length(kept), length(packet)]));
        file.extend(kept);
    }
    file
}

/// Verifies a file on standard input.
fn verify(harness: &Harness, file: &[u8]) -> Result<Outcome> {
    harness.file("key", KEY)?;
    harness.knock_with_input(&["verify", "--key-file", "key", "-t", "SSHK", "-"], file)
}

#[test]
fn a_capture_is_checked_as_by_a_gateway() -> Result<()> {
    let harness = Harness::new("a_capture_is_checked_as_by_a_gateway")?;
    let (good, other) = (packet(&knock()?), packet(b"no knock"));
    let file = capture(RAW, &[(&good, 84), (&other, 84), (&good, 84)]);
    let from_input = verify(&harness, &file)?;
    let name = harness.file("x.pcap", &file)?;
    let from_file = harness.knock(&["verify", "--key-file", "key", "-t", "SSHK", &name])?;
    assert_eq!(from_file.stdout, from_input.stdout);
    assert_eq!((from_file.code, from_file.stderr.as_str()), (Some(1), ""));
    let lines: Vec<_> = from_file.stdout.lines().collect();
    assert_eq!(lines[0], "packet 1, from 192.0.2.7 to port 40000");
    assert_eq!((lines[5], lines[6]), ("verdict  accept", "packet 3, from 192.0.2.7 to port 40000"));
    assert!(lines[11].starts_with("verdict  ignore: replay: "), "{lines:?}");
    let last = lines.last().context("no lines")?;
    assert_eq!(*last, "3 UDP datagrams, 2 with the length of a knock, 1 accepted");
    assert_eq!(verify(&harness, &capture(RAW, &[(&good, 84)]))?.code, Some(0));
    Ok(())
}

#[test]
fn before_the_damage_each_whole_packet_is_explained() -> Result<()> {
    let harness = Harness::new("before_the_damage_each_whole_packet_is_explained")?;
    let (good, other) = (packet(&knock()?), packet(b"no knock"));
    let file = capture(RAW, &[(&good, 84), (&other, 84), (&good, 84)]);
    let ends = [24, 24 + 16 + 84, 24 + 16 + 84 + 16 + 36, file.len()];
    // Sampled within each header and each packet, and at each end.
    for length in (24..=file.len()).filter(|length| length % 7 == 0 || ends.contains(length)) {
        let outcome = verify(&harness, &file[..length])?;
        let whole = ends.iter().filter(|end| **end <= length).count() - 1;
        let damage = match whole {
            _ if ends.contains(&length) => String::new(),
            0 => "knock: cannot read standard input: truncated: the file ends within a packet or block\n"
                .to_owned(),
            whole => format!(
                "knock: cannot read standard input after packet {whole}: truncated: the file ends within a packet or block\n"
            ),
        };
        assert_eq!(outcome.stderr, damage, "{length}");
        let code = match (damage.is_empty(), whole) {
            (true, 1 | 2) => 0,
            (true, _) => 1,
            (false, _) => 2,
        };
        assert_eq!(outcome.code, Some(code), "{length}");
        assert_eq!(outcome.stdout.contains("verdict  accept"), whole > 0, "{length}: {outcome:?}");
        assert!(outcome.stdout.contains(" UDP datagrams, "), "{length}: {outcome:?}");
    }
    Ok(())
}

#[test]
fn what_a_capture_does_not_have_is_told() -> Result<()> {
    let harness = Harness::new("what_a_capture_does_not_have_is_told")?;
    let good = packet(&knock()?);
    let session = [&[0; 12][..], &[0x88, 0x64, 0x11, 0, 0, 7, 0, 86, 0, 0x21], &good].concat();
    let simple = [&words(&[3, 100, 84])[..], &good, &words(&[100])].concat();
    let pcapng = [
        &words(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28])[..],
        &words(&[1, 20, RAW, 0, 20]),
        &simple,
    ];
    let unlisted = [pcapng[0], &words(&[6, 116, 9, 0, 0, 84, 84]), &good, &words(&[116])].concat();
    let cut = "packet 1, from 192.0.2.7 to port 40000\n\
               verdict  none: the capture kept only 68 of 84 bytes; capture with -s 0\n\
               1 UDP datagrams, 1 with the length of a knock, 0 accepted\n";
    let none =
        |problem: &str| format!("0 UDP datagrams, 0 with the length of a knock, 0 accepted\n{problem}\n");
    // What is captured, all that is printed or how it begins, exit code.
    let rows = [
        ("a snap length", capture(RAW, &[(&good, 68)]), cut.to_owned(), 1),
        (
            "a snap length within the headers",
            capture(RAW, &[(&good, 20), (&good, 20)]),
            none("2 packets not read: the capture kept only 20 of 84 bytes; capture with -s 0"),
            1,
        ),
        (
            "an unknown link",
            capture(127, &[(&good, 84)]),
            none("1 packet not read: link type IEEE802_11_RADIOTAP (127) is not supported"),
            1,
        ),
        (
            "an unknown interface",
            unlisted,
            none("1 packet not read: the capture does not describe the interface"),
            1,
        ),
        (
            "PPP over Ethernet",
            capture(1, &[(&session, 200)]),
            "packet 1, from 192.0.2.7 to port 40000\ntag".to_owned(),
            0,
        ),
        (
            "a simple packet block",
            pcapng.concat(),
            "packet 1, from 192.0.2.7 to port 40000; the capture has no time for it\ntag".to_owned(),
            1,
        ),
    ];
    for (name, file, text, code) in rows {
        let outcome = verify(&harness, &file)?;
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(code), ""), "{name}: {outcome:?}");
        assert!(outcome.stdout.starts_with(&text), "{name}: {outcome:?}");
    }
    Ok(())
}
