use super::*;

fn floor(time: u64, is_exact: bool) -> Floor {
    Floor { time: UnixSeconds(time), is_exact }
}

fn key(number: u64) -> CacheId {
    format!("{number:016x}").parse().unwrap()
}

fn many() -> Saved {
    let keys = [(key(0x0011_2233_4455_6677), floor(17, true)), (key(u64::MAX), floor(u64::MAX, false))];
    Saved { keys: BTreeMap::from(keys), other: floor(3, true) }
}

#[test]
fn written_floors_are_read_back_and_those_of_an_unclean_file_are_inexact() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("floor");
    assert_eq!(<Saved>::read(&path).unwrap(), None);
    let alone = |floor| Saved { keys: BTreeMap::new(), other: floor };
    for saved in [alone(floor(0, false)), alone(floor(7, true)), alone(floor(u64::MAX, false)), many()] {
        saved.write(&path, true).unwrap();
        assert_eq!(<Saved>::read(&path).unwrap().as_ref(), Some(&saved));
        saved.write(&path, false).unwrap();
        let mut inexact = saved;
        inexact.other.is_exact = false;
        inexact.keys.values_mut().for_each(|floor| floor.is_exact = false);
        assert_eq!(<Saved>::read(&path).unwrap(), Some(inexact));
    }
    let text = many().text(true);
    let expected = "18446744073709551615\nclean\nother 3 exact\nkey 0011223344556677 17 exact\n\
                    key ffffffffffffffff 18446744073709551615 inexact\nend\n";
    assert_eq!(text, expected);
    // No part of the file passes for the whole.
    for length in 0..text.len() {
        let (part, whole) = (<Saved>::parse(&text[..length]), <Saved>::parse(&text).unwrap());
        let Some(part) = part else { continue };
        for key in [key(0x0011_2233_4455_6677), key(u64::MAX), key(5)] {
            assert!(part.of(key).time >= whole.of(key).time, "{length}: {part:?}");
        }
    }
}

#[test]
fn invalid_files_are_refused() {
    let table = [
        "",
        "x",
        "-1",
        "1x\n",
        "+1\n",
        "18000",
        "clean\n1\n",
        "1\nclea",
        "1\nclean\nx\n",
        "1\nclean\nend\n",
        "1\nclean\nother 1 exact\n",
        "1\nclean\nother 1 exactend\n",
        "1\nclean\nother 1 exact\r\nend\n",
        "1\nclean\nother 1\nend\n",
        "1\nclean\nother 1 perhaps\nend\n",
        "1\nother 1 exact\nkey 1\nend\n",
        "1\nother 1 exact\nkey xyz 1 exact\nend\n",
        "1\nother 1 exact\nkey 1 -1 exact\nend\n",
        "1\nother 1 exact\nend\nkey 1 1 exact\nend\n",
    ];
    for text in table {
        assert_eq!(<Saved>::parse(text), None, "{text:?}");
    }
}

#[test]
fn the_start_entries_follow_from_the_saved_floors() {
    let (now, widest) = (UnixSeconds(1_000), Window::from_secs(10));
    assert_eq!(Saved::start(None, now, widest), [Entry::Unknown(now)]);
    let table = [
        ((900, true), 900),
        ((900, false), 1_010),
        // The clock was set back.
        ((5_000, false), 5_000),
        ((5_000, true), 5_000),
    ];
    for (row, ((time, is_exact), expected)) in table.into_iter().enumerate() {
        let expected = UnixSeconds(expected);
        let saved = Saved { keys: BTreeMap::new(), other: floor(time, is_exact) };
        assert_eq!(Saved::start(Some(&saved), now, widest), [Entry::Remembered(expected)], "row {row}");
        let saved = Saved {
            keys: BTreeMap::from([(key(1), floor(time, is_exact)), (key(2), floor(1, true))]),
            other: floor(2, true),
        };
        let entries = [
            Entry::Remembered(UnixSeconds(2)),
            Entry::Known { cache: key(1), floor: expected },
            Entry::Known { cache: key(2), floor: UnixSeconds(1) },
        ];
        assert_eq!(Saved::start(Some(&saved), now, widest), entries, "row {row}");
    }
}

#[test]
fn of_too_many_keys_the_smallest_floors_share_one() {
    let inexact = BTreeMap::from([(key(2), floor(2, false))]);
    let mut saved = Saved { keys: inexact, other: floor(0, true) };
    let most = MOST_KEYS as u64;
    for number in (3..=most + 2).rev().chain([1]) {
        saved.raise(key(number), floor(number, true));
    }
    assert_eq!((saved.keys.len(), saved.other), (MOST_KEYS, floor(2, false)));
    assert_eq!(saved.of(key(most + 2)), floor(most + 2, true));
    assert_eq!(saved.of(key(1)), floor(2, false), "no floor falls");
}
