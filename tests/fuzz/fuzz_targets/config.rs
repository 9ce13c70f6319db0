//! The TOML of pkdd: what is taken is within bounds, and what is refused is told in a line without a key.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pkdd::config::Config;

/// So long that no other word of a message is like it.
const KEY: &str = "kEyKeYkEyKeYkEyKeYkEyKeYkEyKeY";

fuzz_target!(|text: &str| {
    // Files of this machine are none of a fuzzer's business.
    if text.contains("key_file") || text.contains("\\u") || text.contains("\\U") {
        return;
    }
    let text = text.replace("KEY", KEY);
    // Where it is the value of key, and no part of a path, a name or a text of several lines.
    let is_secret = !text.contains("\"\"\"")
        && !text.contains("'''")
        && text
            .lines()
            .filter(|line| line.contains(KEY))
            .all(|line| line == format!("key = \"{KEY}\"") || line == format!("key = '{KEY}'"));
    match Config::parse(&text, Path::new("/nonexistent")) {
        Ok(config) => {
            for (name, user) in &config.users {
                assert!((1..=32).contains(&name.len()), "{name}");
                assert!(!user.services.is_empty(), "{name} opens nothing");
                assert!(user.rule.window().as_secs() <= 86_400, "{name}");
                assert!(user.services.iter().all(|service| config.services.contains_key(service)), "{name}");
                let twins = config.users.values().filter(|other| {
                    other.tag == user.tag
                        && other.key == user.key
                        && other.rule.format() == user.rule.format()
                });
                assert_eq!(twins.count(), 1, "{name} shares tag, key and format");
                assert!(config.services_of(user).count() <= user.services.len());
            }
            for (name, opening) in &config.services {
                assert_eq!(&opening.service.name, name);
                assert!((1..=86_400).contains(&opening.ttl.as_secs()), "{name}");
            }
            assert!(config.gate.run.is_absolute() && config.gate.state.is_absolute());
            assert!(config.gate.rate > 0 && !config.gate.save.is_zero());
            assert!(config.users.values().all(|user| user.rule.window() <= config.widest()));
            assert!(!is_secret || !format!("{config:?}").contains(KEY), "Debug shows a key");
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.contains('\n'), "more than a line: {said}");
            assert!(!is_secret || !said.contains(KEY), "it tells a key: {said}");
        }
    }
});
