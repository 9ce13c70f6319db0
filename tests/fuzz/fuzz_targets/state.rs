//! What pkdd finds of earlier lives, after power failures and with damage: it never lets a knock in again that it could
//! know of.

#![no_main]

use std::{fs, net::IpAddr, path::PathBuf};

use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};
use pkd_core::{Key, KnockId, ReplayStore as _, Tag, UnixSeconds, Window};
use pkd_fuzz::time;
use pkdd::{
    floor::Saved,
    caches::Caches,
    journal::{Accepted, Entry, CacheId, Journal},
    uptime::Uptime,
};

const NOW: u64 = 1_800_000_000;
const HEAD: usize = 64;
const ENTRY: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    // What the bytes do not suffice for does not happen.
    let _ = scene(Unstructured::new(bytes));
});

fn scene(mut own: Unstructured<'_>) -> Result<()> {
    let bytes = &mut own;
    let folder = Folder::new();
    match bytes.arbitrary::<u8>()? % 4 {
        0 => floor(&folder, own.take_rest()),
        1 => any(&folder, own.take_rest()),
        _ => written(&folder, bytes)?,
    }
    Ok(())
}

/// A floor is what is in the first line, or an error.
fn floor(folder: &Folder, bytes: &[u8]) {
    let path = folder.0.join("floor");
    fs::write(&path, bytes).expect("a file");
    let read = Saved::read(&path);
    let text = str::from_utf8(bytes);
    // A line that has no end may be cut off.
    let line = text.ok().and_then(|text| text.find('\n').map(|end| &text[..end]));
    let line = line.filter(|line| line.chars().all(|letter| letter.is_ascii_digit()));
    let line = line.and_then(|line| line.parse::<u64>().ok());
    match (&read, line) {
        (Ok(Some(saved)), Some(floor)) => {
            assert_eq!(saved.floor.0, floor);
            saved.write(&path).expect("a file");
            assert_eq!(Saved::read(&path).expect("a floor"), Some(*saved), "written and read again");
        }
        (Err(_), None) => {}
        other => panic!("{other:?} of {bytes:?}"),
    }
}

/// Whatever the file holds, opening it harms no file of another kind, and a second look sees what the first has left.
fn any(folder: &Folder, bytes: &[u8]) {
    let path = folder.0.join("journal");
    fs::write(&path, bytes).expect("a file");
    match Journal::open(&path) {
        Err(_) => assert_eq!(fs::read(&path).expect("a file"), bytes, "another's file was changed"),
        Ok(opened) => {
            assert_eq!(opened.journal.len(), opened.entries.len() as u64);
            let again = Journal::open(&path).expect("a journal");
            assert_eq!((again.entries, again.damaged), (opened.entries, false));
        }
    }
}

/// Knocks that were accepted and written down; then something happens to the file, and a new process opens it.
fn written(folder: &Folder, bytes: &mut Unstructured<'_>) -> Result<()> {
    let path = folder.0.join("journal");
    let id = CacheId::of(Tag::default(), &Key::from_bytes([7; 40]));
    let window = Window::from_secs(bytes.arbitrary::<u8>()?.into());
    let start = if bytes.arbitrary()? {
        Entry::Remembered(UnixSeconds(time(bytes, NOW)?))
    } else {
        Entry::Unknown(UnixSeconds(NOW - 1_000))
    };
    let opened = Journal::open(&path).expect("a journal");
    let mut caches = Caches::open(opened, start, UnixSeconds(NOW), window).expect("caches");
    caches.take_rules([(id, window)]).expect("room");
    let source: IpAddr = [192, 0, 2, 7].into();
    let mut accepted = Vec::new();
    for _ in 0..bytes.arbitrary::<u8>()? % 16 {
        let knock = KnockId::kept(UnixSeconds(time(bytes, NOW)?), u64::from(bytes.arbitrary::<u8>()?));
        if caches.memory(id, source, Uptime(NOW)).record(knock, window) {
            accepted.push(knock);
        }
    }
    drop(caches);
    let mut content = fs::read(&path).expect("a file");
    let before = content.clone();
    let (mut lost, harm) = (false, bytes.arbitrary::<u8>()? % 4);
    match harm {
        0 => {}
        1 => {
            // Bytes of whole entries at the end went: nobody can see that.
            let at = HEAD + bytes.arbitrary::<u16>()? as usize % (content.len() - HEAD + 1);
            content.truncate(at);
            lost = before.len() - at >= ENTRY || at < before.len();
        }
        2 => {
            let at = bytes.arbitrary::<u16>()? as usize % content.len();
            content[at] ^= bytes.arbitrary::<u8>()?;
        }
        _ => content.extend(bytes.arbitrary::<[u8; 20]>()?),
    }
    fs::write(&path, &content).expect("a file");
    let Ok(opened) = Journal::open(&path) else {
        assert_ne!(content[..HEAD], before[..HEAD], "it was a journal");
        return Ok(());
    };
    let mut caches = Caches::open(opened, start, UnixSeconds(NOW), window).expect("caches");
    caches.take_rules([(id, window)]).expect("room");
    for knock in accepted {
        let again = caches.memory(id, source, Uptime(NOW)).record(knock, window);
        // A knock within the window of now is what could be accepted; where a whole entry vanished, nobody can know.
        let possible = window != Window::Monotonic && window.admits(UnixSeconds(NOW), knock.time());
        assert!(!again || lost || (harm == 2 && !possible), "{knock:?} was accepted again after harm {harm}");
    }
    let entries = caches.accepted().to_vec();
    drop(caches);
    let again = Journal::open(&path).expect("a journal");
    let kept: Vec<Accepted> = again
        .entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Accepted(accepted) => Some(*accepted),
            _ => None,
        })
        .collect();
    assert_eq!(kept, entries, "the journal has something else than the caches");
    Ok(())
}

/// A folder in memory, where there is one; it goes with its content.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let memory = PathBuf::from("/dev/shm");
        let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let path = base.join(format!("pkd-fuzz-state-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
