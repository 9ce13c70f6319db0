//! What pkdd finds of earlier lives, after power failures and with damage: it never lets a knock in again that it could
//! know of.

#![no_main]

use std::{fs, net::IpAddr, path::PathBuf};

use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};
use pkd_core::{CacheId, Key, KnockId, ReplayStore as _, Tag, UnixSeconds, Window};
use pkd_fuzz::time;
use pkdd::{
    caches::Caches,
    floor::{Floor, Saved},
    journal::{Accepted, Entry, Journal},
    uptime::Uptime,
};
use pktables::Sender;

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

/// Floors are what an independent reading of the file finds, or an error.
fn floor(folder: &Folder, bytes: &[u8]) {
    let path = folder.0.join("floor");
    fs::write(&path, bytes).expect("a file");
    let read = <Saved>::read(&path).ok().flatten();
    let expected = str::from_utf8(bytes).ok().and_then(floors);
    assert_eq!(read, expected, "{:?}", String::from_utf8_lossy(bytes));
    let Some(saved) = read else { return };
    saved.write(&path, true).expect("a file");
    assert_eq!(<Saved>::read(&path).expect("floors"), Some(saved.clone()), "written and read again");
    saved.write(&path, false).expect("a file");
    let unclean = <Saved>::read(&path).expect("floors").expect("a file");
    let keys = saved.keys.keys().copied();
    assert!(keys.clone().all(|key| unclean.of(key) == Floor { is_exact: false, ..saved.of(key) }));
    assert_eq!((unclean.keys.keys().copied().eq(keys), unclean.other.is_exact), (true, false));
}

fn floors(text: &str) -> Option<Saved> {
    let number =
        |word: &str| word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok()).flatten();
    let mut lines: Vec<&str> = text.split('\n').collect();
    // What follows the last end of a line.
    let rest = lines.pop()?;
    let first = number(*lines.first()?)?;
    let is_clean = lines.get(1) == Some(&"clean");
    let mut lines = lines.split_off(if is_clean { 2 } else { 1 });
    if lines.is_empty() && rest.is_empty() {
        let other = Floor { time: UnixSeconds(first), is_exact: is_clean };
        return Some(Saved { other, ..Saved::default() });
    }
    if !rest.is_empty() || lines.pop() != Some("end") {
        return None;
    }
    let mut saved = Saved::default();
    for (at, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let (key, time, exactness) = match (at, &words[..]) {
            (0, ["other", time, exactness]) => (None, time, exactness),
            (1.., ["key", key, time, exactness]) => (Some(key.parse().ok()?), time, exactness),
            _ => return None,
        };
        let is_exact = match *exactness {
            "exact" => is_clean,
            "inexact" => false,
            _ => return None,
        };
        let floor = Floor { time: UnixSeconds(number(*time)?), is_exact };
        match key {
            Some(key) => drop(saved.keys.insert(key, floor)),
            None => saved.other = floor,
        }
    }
    (!lines.is_empty()).then_some(saved)
}

/// Whatever the file holds, opening it harms no file of another kind, and a second look sees what the first has left.
fn any(folder: &Folder, bytes: &[u8]) {
    let path = folder.0.join("journal");
    fs::write(&path, bytes).expect("a file");
    match <Journal>::open(&path) {
        Err(_) => assert_eq!(fs::read(&path).expect("a file"), bytes, "another's file was changed"),
        Ok(opened) => {
            assert_eq!(opened.journal.len(), opened.entries.len() as u64);
            let again = <Journal>::open(&path).expect("a journal");
            assert_eq!((again.entries, again.damaged), (opened.entries, false));
        }
    }
}

/// Knocks that were accepted and written down; then something happens to the file, and a new process opens it.
fn written(folder: &Folder, bytes: &mut Unstructured<'_>) -> Result<()> {
    let path = folder.0.join("journal");
    let id = CacheId::classic(Tag::default(), &Key::from_bytes([7; 40]));
    let window = Window::from_secs(bytes.arbitrary::<u8>()?.into());
    let start = if bytes.arbitrary()? {
        Entry::Remembered(UnixSeconds(time(bytes, NOW)?))
    } else {
        Entry::Unknown(UnixSeconds(NOW - 1_000))
    };
    let opened = <Journal>::open(&path).expect("a journal");
    let mut caches = Caches::open(opened, &[start], UnixSeconds(NOW), window).expect("caches");
    caches.take_rules([(id, window)]).expect("room");
    let sender = Sender::from(IpAddr::from([192, 0, 2, 7]));
    let mut accepted = Vec::new();
    for _ in 0..bytes.arbitrary::<u8>()? % 16 {
        let knock = KnockId::kept(UnixSeconds(time(bytes, NOW)?), u64::from(bytes.arbitrary::<u8>()?));
        if caches.memory(id, sender, Uptime(NOW)).record(knock, window) {
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
    let Ok(opened) = <Journal>::open(&path) else {
        assert_ne!(content[..HEAD], before[..HEAD], "it was a journal");
        return Ok(());
    };
    let mut caches = Caches::open(opened, &[start], UnixSeconds(NOW), window).expect("caches");
    caches.take_rules([(id, window)]).expect("room");
    for knock in accepted {
        let again = caches.memory(id, sender, Uptime(NOW)).record(knock, window);
        // A knock within the window of now is what could be accepted; where a whole entry vanished, nobody can know.
        let possible = window != Window::Monotonic && window.admits(UnixSeconds(NOW), knock.time());
        assert!(!again || lost || (harm == 2 && !possible), "{knock:?} was accepted again after harm {harm}");
    }
    let entries = caches.accepted().to_vec();
    drop(caches);
    let again = <Journal>::open(&path).expect("a journal");
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
