use std::fs;

use super::*;

fn accepted(time: u64, address: &str) -> Entry {
    Entry::Accepted(Accepted {
        cache: CacheId::from_bytes([3; 8]),
        id: KnockId::kept(UnixSeconds(time), u64::MAX - 5),
        window: Window::from_secs(17),
        // Kept for link-local addresses only.
        sender: Sender::new(address.parse().unwrap(), NonZeroU32::new(u32::MAX)),
        at: Uptime(time + 2),
        closes: false,
    })
}

fn some() -> Vec<Entry> {
    vec![
        Entry::Unknown(UnixSeconds(1)),
        Entry::Remembered(UnixSeconds(u64::MAX)),
        Entry::Known { cache: CacheId::from_bytes([8; 8]), floor: UnixSeconds(2) },
        Entry::Dropped(UnixSeconds(3)),
        Entry::Cache {
            cache: CacheId::from_bytes([9; 8]),
            floor: UnixSeconds(4),
            widest: Window::from_secs(5),
        },
        accepted(6, "192.0.2.7"),
        accepted(7, "2001:db8::7"),
        accepted(8, "fe80::7"),
    ]
}

fn written() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut opened = <Journal>::open(&path).unwrap();
    assert!(opened.entries.is_empty() && opened.journal.is_empty());
    for entry in some() {
        opened.journal.write(&entry).unwrap();
    }
    assert_eq!(opened.journal.len(), 8);
    (folder, path)
}

#[test]
fn written_entries_are_read_back_and_more_are_appended() {
    let (_folder, path) = written();
    let mut opened = <Journal>::open(&path).unwrap();
    assert_eq!((opened.entries, opened.damaged), (some(), false));
    opened.journal.write(&accepted(8, "::1")).unwrap();
    assert_eq!(<Journal>::open(&path).unwrap().entries.len(), 9);
    opened.journal.replace([accepted(9, "::1")]).unwrap();
    opened.journal.write(&accepted(10, "::1")).unwrap();
    assert_eq!(<Journal>::open(&path).unwrap().entries, [accepted(9, "::1"), accepted(10, "::1")]);
}

#[test]
fn others_cannot_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = written();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn damage_is_reported_and_later_entries_are_dropped() {
    type Change = fn(&mut Vec<u8>);
    // change to the bytes, entries left, whether it counts as damage
    let table: [(Change, usize, bool); 5] = [
        (|bytes| bytes.truncate(bytes.len() - 1), 7, false),
        (|bytes| bytes.extend([0; 30]), 8, false),
        (|bytes| bytes.extend([0; 64]), 8, true),
        (|bytes| bytes[64 + 64 + 20] ^= 1, 1, true),
        (|bytes| bytes[64] ^= 4, 0, true),
    ];
    for (row, (change, left, damaged)) in table.into_iter().enumerate() {
        let (_folder, path) = written();
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let mut opened = <Journal>::open(&path).unwrap();
        assert_eq!((&opened.entries[..], opened.damaged), (&some()[..left], damaged), "row {row}");
        opened.journal.write(&accepted(8, "::1")).unwrap();
        let again = <Journal>::open(&path).unwrap();
        assert_eq!((again.entries.len(), again.damaged), (left + 1, false), "row {row}");
    }
}

#[test]
fn a_journal_of_another_version_counts_as_damaged_and_is_replaced() {
    let (_folder, path) = written();
    let mut bytes = fs::read(&path).unwrap();
    bytes[NAME.len() + 1] = b'2';
    fs::write(&path, bytes).unwrap();
    let opened = <Journal>::open(&path).unwrap();
    assert!(opened.damaged && opened.entries.is_empty());
    let again = <Journal>::open(&path).unwrap();
    assert!(!again.damaged && again.entries.is_empty());
}

#[test]
fn a_file_that_is_not_a_journal_is_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    fs::write(&path, "root:x:0:0").unwrap();
    assert!(<Journal>::open(&path).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "root:x:0:0");
}

/// A file size limit in the middle of an entry makes the kernel write a part of it. The limit applies to the
/// process, so the test runs itself in a second process.
#[test]
fn a_partly_written_entry_is_removed() {
    const PATH: &str = "PKDD_LIMITED_JOURNAL";
    if let Some(path) = std::env::var_os(PATH) {
        let mut journal = <Journal>::open(Path::new(&path)).unwrap().journal;
        let error = journal.write(&accepted(8, "::1")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(journal.len(), 8);
        return;
    }
    let (_folder, path) = written();
    let whole = fs::metadata(&path).unwrap().len();
    // The signal for the limit is ignored, so that the write returns an error.
    let line = format!("trap '' XFSZ; exec prlimit --fsize={} -- \"$0\" \"$@\"", whole + 40);
    let output = std::process::Command::new("sh")
        .args(["-c", &line])
        .arg(std::env::current_exe().unwrap())
        .args(["journal::tests::a_partly_written_entry_is_removed", "--exact", "--nocapture"])
        .env(PATH, &path)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("1 passed"), "{output:?}");
    assert_eq!(fs::metadata(&path).unwrap().len(), whole);
    assert_eq!(<Journal>::open(&path).unwrap().entries, some());
}

#[test]
fn a_full_disk_leaves_no_part_of_an_entry() {
    let (_folder, path) = written();
    let mut journal = <Journal>::open(&path).unwrap().journal;
    journal.write_to_for_tests(Path::new("/dev/full"));
    // set_len fails on /dev/full, so the error is that of the write or of the truncation.
    assert!(journal.write(&accepted(8, "::1")).is_err());
    assert_eq!((journal.len(), <Journal>::open(&path).unwrap().entries), (8, some()));
}
