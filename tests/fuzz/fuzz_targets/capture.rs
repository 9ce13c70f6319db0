//! Capture files, pcap and pcapng, as `pkdd replay` reads them.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pkdd::{config::Config, replay};

const CONFIG: &str = "\
[service.ssh]
port = 22
[user.a]
format = 'classic'
tag = 'SSHK'
key = 'test'
services = ['ssh']
[user.b]
tag = 'SSHK'
key = 'test'
services = ['ssh']
";

fuzz_target!(|bytes: &[u8]| {
    let read = || {
        let config = Config::parse(CONFIG, Path::new("/nonexistent")).expect("a configuration");
        let mut out = Vec::new();
        let result =
            replay::replay_from(config, "the capture", bytes, &mut out).map_err(|error| format!("{error:#}"));
        (result, String::from_utf8(out).expect("text"))
    };
    let (result, out) = read();
    assert_eq!(read(), (result.clone(), out.clone()), "read again, it says something else");
    let accepted = out
        .lines()
        .filter(|line| {
            [": accept; user a,", ": accept; user b,", ": close; user b,"]
                .iter()
                .any(|word| line.contains(word))
        })
        .count();
    if result.is_ok() {
        let summary = out.lines().last().unwrap_or_default();
        assert!(summary.ends_with(&format!(": {accepted} would have been accepted")), "{out}");
    }
});
