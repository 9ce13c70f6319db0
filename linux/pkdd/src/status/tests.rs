use std::{num::NonZeroU32, path::Path, time::Duration};

use super::*;
use crate::{
    caches::Caches,
    journal::{Entry, Journal},
};

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

const CONFIG: &str = "\
[service.ssh]
port = 22
[service.vpn]
protocol = 'udp'
port = 1194
seconds = 600
[user.a]
format = 'classic'
tag = 'AAAA'
key = 'one'
services = ['ssh']
[user.b]
format = 'classic'
tag = 'BBBB'
key = 'two'
window = 100
enabled = false
services = ['ssh']
[user.c]
format = 'classic'
tag = 'CCCC'
key = 'three'
expires = '2020-01-01'
services = ['ssh']
";

/// The status of a daemon that has just started without a saved floor.
fn status(trouble: &str, overruns: u64) -> Status {
    let config = Config::parse(CONFIG, Path::new("/")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal")).unwrap();
    let mut caches = Caches::open(journal, &[Entry::Unknown(NOW)], NOW, config.widest()).unwrap();
    caches.take_rules(config.users.values().map(|user| (user.cache, user.rule.window()))).unwrap();
    let mut counters = Counters::default();
    let others = [Verdict::Close, Verdict::Ignore(Reason::Filter), Verdict::Ignore(Reason::Request)];
    for (number, verdict) in (1..).zip(Verdict::CLASSIC.into_iter().chain(others)) {
        (0..number).for_each(|_| counters.count(verdict));
    }
    let active = |service: &str, address: &str, left: Option<u64>| ActiveGrant {
        service: service.parse().unwrap(),
        address: address.parse().unwrap(),
        // The loopback interface is always the first. Another address is for every interface.
        interface: address.starts_with("fe80").then_some(NonZeroU32::MIN),
        left: left.map(Duration::from_secs),
    };
    let grants = vec![
        active("ssh", "192.0.2.7/32", Some(29)),
        active("ssh", "2001:db8::/32", None),
        active("vpn", "192.0.2.8/32", Some(1)),
        active("vpn", "fe80::8/128", Some(2)),
    ];
    let parts = Parts {
        config: &config,
        cache: &|user| caches.report(user.cache, NOW),
        opener: &|grant| (grant.left == Some(Duration::from_secs(29))).then(|| "a".to_owned()),
        counters: Verdicts { waiting: 10, ..Verdicts::from(&counters) },
        limited: overruns * 2,
        overruns,
        grants,
        trouble: trouble.to_owned(),
    };
    Status::new(NOW, parts)
}

#[test]
fn the_text_has_a_line_for_each_service_grant_and_user() {
    let expected = "\
Accepted: 1
Closed: 7
Ignored: 2 wrong length, 3 unknown tag, 4 outside the window, 5 replayed, 6 wrong digest, 10 waiting after a start, 8 forged, 9 unknown request or missing binding
Service ssh: tcp port 22, 30 s after a knock
  open for 192.0.2.7 (a), 29 s left
  open for 2001:db8::/32, no time limit
Service vpn: udp port 1194, 600 s after a knock
  open for 192.0.2.8, 1 s left
  open for fe80::8%lo, 2 s left
User a: tag AAAA, active, 0 knocks in the replay cache, waits 11 s, because earlier knocks are unknown
User b: tag BBBB, disabled, 0 knocks in the replay cache, waits 101 s, because earlier knocks are unknown
User c: tag CCCC, expired, 0 knocks in the replay cache, waits 11 s, because earlier knocks are unknown
";
    assert_eq!(status("", 0).text(), expected);
    let (first, rest) = expected.split_once("Service").unwrap();
    let with_trouble = format!(
        "Problem: no firewall\n{first}Dropped beyond the rate limit: 14\nBuffer overruns: 7\nService{rest}"
    );
    assert_eq!(status("no firewall", 7).text(), with_trouble);
    let mut status = status("", 0);
    status.users.iter_mut().for_each(|user| (user.wait, user.knocks) = (0, 1));
    let text = status.text();
    assert!(text.ends_with("User c: tag CCCC, expired, 1 knock in the replay cache\n"), "{text}");
    status.users.iter_mut().for_each(|user| user.accepted = Some(3));
    let text = status.text();
    assert!(text.ends_with("1 knock in the replay cache, 3 accepted\n"), "{text}");
}

#[test]
fn every_metric_has_its_value_help_and_type() {
    for (trouble, overruns, has_trouble) in [("", 0, 0), ("no firewall", 7, 1)] {
        let text = status(trouble, overruns).metrics();
        let numbers: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            "pkdd_datagrams_total{verdict=\"accept\"} 1".to_owned(),
            "pkdd_datagrams_total{verdict=\"close\"} 7".to_owned(),
            "pkdd_datagrams_total{verdict=\"length\"} 2".to_owned(),
            "pkdd_datagrams_total{verdict=\"tag\"} 3".to_owned(),
            "pkdd_datagrams_total{verdict=\"window\"} 4".to_owned(),
            "pkdd_datagrams_total{verdict=\"replay\"} 5".to_owned(),
            "pkdd_datagrams_total{verdict=\"filter\"} 8".to_owned(),
            "pkdd_datagrams_total{verdict=\"digest\"} 6".to_owned(),
            "pkdd_datagrams_total{verdict=\"request\"} 9".to_owned(),
            "pkdd_datagrams_total{verdict=\"waiting\"} 10".to_owned(),
            format!("pkdd_limited_total {}", overruns * 2),
            format!("pkdd_overruns_total {overruns}"),
            "pkdd_grants{service=\"ssh\"} 2".to_owned(),
            "pkdd_grants{service=\"vpn\"} 2".to_owned(),
            "pkdd_user_accepted_total{user=\"a\"} 0".to_owned(),
            "pkdd_user_accepted_total{user=\"b\"} 0".to_owned(),
            "pkdd_user_accepted_total{user=\"c\"} 0".to_owned(),
            "pkdd_cache_wait_seconds{user=\"a\"} 11".to_owned(),
            "pkdd_cache_wait_seconds{user=\"b\"} 101".to_owned(),
            "pkdd_cache_wait_seconds{user=\"c\"} 11".to_owned(),
            format!("pkdd_trouble {has_trouble}"),
        ];
        assert_eq!(numbers, expected);
        // Each metric has a HELP and a TYPE line.
        for name in numbers.iter().filter_map(|line| line.split(['{', ' ']).next()) {
            for word in ["HELP", "TYPE"] {
                assert!(text.contains(&format!("# {word} {name} ")), "{name}");
            }
        }
    }
}

#[test]
fn the_json_parses_and_contains_no_key() {
    let status = status("no firewall", 7);
    let text = serde_json::to_string(&status).unwrap();
    let read: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&read["now"], &read["limited"], &read["overruns"]), (&NOW.0.into(), &14.into(), &7.into()));
    assert_eq!((&read["users"][1]["window"], &read["users"][0]["newest"]), (&100.into(), &Value::Null));
    let grants = read["grants"].as_array().unwrap().iter();
    assert_eq!(
        grants.map(|grant| grant["seconds_left"].as_u64()).collect::<Vec<_>>(),
        [Some(29), None, Some(1), Some(2)]
    );
    assert_eq!((&read["trouble"], &read["conflicts"]), (&"no firewall".into(), &Value::Array(Vec::new())));
    for word in ["one", "two", "three"] {
        assert!(!text.contains(&format!("\"{word}\"")), "a key is shown");
    }
}

#[test]
fn conflicts_are_added_and_unknown_fields_passed_on() {
    let found = with_conflicts("{\"conflicts\":[],\"newer\":[1]}", vec!["a rule".to_owned()]).unwrap();
    assert_eq!(found, "{\"conflicts\":[\"a rule\"],\"newer\":[1]}");
    for answer in ["", "[]", "1", "{"] {
        assert!(with_conflicts(answer, Vec::new()).is_err(), "{answer:?}");
    }
}
