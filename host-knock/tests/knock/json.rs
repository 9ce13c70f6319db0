//! What `--json` prints has the shape that the schema says.

use std::{
    net::{TcpListener, UdpSocket},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};

use crate::harness::{Harness, KEY};

/// Fails unless a value is what the schema says, of whose keywords it knows those that the file uses.
fn conforms(value: &Value, schema: &Value, place: &str) -> Result<()> {
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    let own = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    ensure!(types.contains(&own.into()), "{place}: {own}, not one of {types:?}");
    if let Some(allowed) = schema["enum"].as_array() {
        ensure!(allowed.contains(value), "{place}: {value} is not one of {allowed:?}");
    }
    for (row, item) in value.as_array().into_iter().flatten().enumerate() {
        conforms(item, &schema["items"], &format!("{place}[{row}]"))?;
    }
    if let Some(object) = value.as_object() {
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        for name in schema["required"].as_array().into_iter().flatten() {
            ensure!(object.contains_key(name.as_str().context("a name")?), "{place}: no {name}");
        }
        for (name, member) in object {
            let inner = properties.get(name).unwrap_or(&schema["additionalProperties"]);
            ensure!(inner.is_object(), "{place}: {name} is not in the schema");
            conforms(member, inner, &format!("{place}.{name}"))?;
        }
    }
    Ok(())
}

/// Runs a command whose output has to conform to the schema's part of that name; the exit code is given.
fn document(harness: &Harness, args: &[&str], input: &[u8], code: i32) -> Result<Value> {
    let schema: Value = serde_json::from_str(include_str!("../../../docs/knock.schema.json"))?;
    let command = args[0];
    let outcome = harness.knock_with_input(&[args, &["--json"]].concat(), input)?;
    ensure!(outcome.code == Some(code), "{args:?}: {outcome:?}");
    let value = serde_json::from_str(&outcome.stdout).with_context(|| format!("{args:?}: {outcome:?}"))?;
    let part = &schema["$defs"][command];
    ensure!(part["required"].as_array().is_some_and(|names| !names.is_empty()), "no schema of {command}");
    conforms(&value, part, command)?;
    Ok(value)
}

/// A host with a service that answers and one that refuses.
fn prepared(name: &str) -> Result<(Harness, u16)> {
    let harness = Harness::new(name)?;
    harness.file("key", KEY)?;
    let (knocks, service) = (UdpSocket::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    let (to, port) = (knocks.local_addr()?.port(), service.local_addr()?.port());
    thread::spawn(move || service.incoming().for_each(drop));
    let profile = format!(
        "[host.gw]\naddress = '127.0.0.1'\nkey_file = 'key'\nport = {to}\nservices = {{ ssh = {port}, web = 1 }}\n"
    );
    harness.file("p.toml", profile)?;
    Ok((harness, port))
}

#[test]
fn wait_reports_each_port() -> Result<()> {
    let (harness, port) = prepared("wait_reports_each_port")?;
    let open = document(&harness, &["wait", "-c", "p.toml", "gw", "ssh"], b"", 0)?;
    ensure!(open["name"] == "gw" && open["host"] == "127.0.0.1" && open["open"] == true, "{open}");
    let only = &open["ports"][0];
    ensure!(only["port"] == port && only["address"] == "127.0.0.1" && only["error"].is_null(), "{open}");
    let closed = document(&harness, &["wait", "-c", "p.toml", "--timeout", "1", "gw"], b"", 1)?;
    ensure!(closed["open"] == false && closed["ports"][0]["open"] == true, "{closed}");
    let last = &closed["ports"][1];
    ensure!(last["port"] == 1 && last["open"] == false && last["address"].is_null(), "{closed}");
    ensure!(last["error"].as_str().is_some_and(|error| error.contains("connection refused")), "{closed}");
    Ok(())
}

#[test]
fn doctor_reports_each_check() -> Result<()> {
    let (harness, port) = prepared("doctor_reports_each_check")?;
    let doctor = ["doctor", "-c", "p.toml", "--time-server", "-", "--timeout", "1", "gw"];
    let open = document(&harness, &[&doctor[..], &["ssh"]].concat(), b"", 0)?;
    ensure!(open["host"] == "127.0.0.1" && open["port"] == port && open["open"] == true, "{open}");
    let checks = |document: &Value| -> Vec<(String, String)> {
        let word = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
        let checks = document["checks"].as_array().into_iter().flatten();
        checks.map(|check| (word(check, "check"), word(check, "status"))).collect()
    };
    let expected = |rows: &[(&str, &str)]| -> Vec<(String, String)> {
        rows.iter().map(|(check, status)| ((*check).to_owned(), (*status).to_owned())).collect()
    };
    let rows = [
        ("name", "ok"),
        ("key", "ok"),
        ("clock", "note"),
        ("before", "note"),
        ("knock", "ok"),
        ("after", "ok"),
    ];
    assert_eq!(checks(&open), expected(&rows));
    let closed = document(&harness, &[&doctor[..], &["web"]].concat(), b"", 1)?;
    let rows = [
        ("name", "ok"),
        ("key", "ok"),
        ("clock", "note"),
        ("before", "ok"),
        ("knock", "ok"),
        ("after", "fail"),
    ];
    assert_eq!(checks(&closed), expected(&rows));
    ensure!(closed["conclusion"].as_str().is_some_and(|text| text.starts_with("The host refuses port 1 ")));
    let unknown = document(&harness, &["doctor", "--key-file", "key", "gw.invalid", "22"], b"", 1)?;
    assert_eq!(checks(&unknown), expected(&[("name", "fail")]));
    Ok(())
}

#[test]
fn verify_reports_each_knock() -> Result<()> {
    let (harness, _) = prepared("verify_reports_each_knock")?;
    let verify = ["verify", "-c", "p.toml", "--profile", "gw"];
    let dry_run = |options: &[&str]| -> Result<String> {
        Ok(harness.knock(&[&["-n", "-c", "p.toml"], options, &["gw"]].concat())?.stdout)
    };
    let (good, two) = (dry_run(&[])?, dry_run(&["--format", "2", "--bind", "none"])?);
    let lines = document(&harness, &[&verify[..], &["-"]].concat(), format!("{good}{two}").as_bytes(), 1)?;
    let [first, second] = [&lines["knocks"][0], &lines["knocks"][1]];
    ensure!(first["line"] == 1 && first["host"] == "127.0.0.1" && first["packet"].is_null(), "{lines}");
    ensure!(
        first["verdict"] == "accept" && first["accepted"] == true && first["format"] == "classic",
        "{lines}"
    );
    ensure!(
        second["verdict"] == "ignore" && second["reason"] == "tag" && lines["accepted"] == false,
        "{lines}"
    );
    let one = document(&harness, &[&verify[..], &["--format", "2", "-"]].concat(), two.as_bytes(), 0)?;
    ensure!(
        one["knocks"][0]["format"] == "2" && one["accepted"] == true && one["datagrams"].is_null(),
        "{one}"
    );
    let short = document(&harness, &[&verify[..], &["00ff"]].concat(), b"", 1)?;
    ensure!(short["knocks"][0]["format"].is_null() && short["knocks"][0]["reason"] == "length", "{short}");
    // A capture that ends too early, after a packet that was cut off, and one of an unknown interface.
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut cut = vec![0x45, 0, 0, 84, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 192, 0, 2, 1];
    cut.extend([0x30, 0x39, 0x9c, 0x40, 0, 64, 0, 0]);
    let mut capture = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 101, 1_800_000_000, 0, 28, 84]);
    capture.extend(&cut);
    capture.extend(words(&[1, 0, 20, 84]));
    capture.extend(&cut[..20]);
    capture.extend(words(&[1]));
    let damaged = document(&harness, &[&verify[..], &["-"]].concat(), &capture, 2)?;
    let knock = &damaged["knocks"][0];
    ensure!(
        knock["packet"] == 1 && knock["time"] == 1_800_000_000_u64 && knock["source"] == "192.0.2.7",
        "{damaged}"
    );
    ensure!(
        knock["verdict"] == "none" && knock["destination"] == "192.0.2.1" && knock["port"] == 40_000,
        "{damaged}"
    );
    ensure!(
        damaged["datagrams"] == 1 && damaged["unread"].as_array().is_some_and(|all| all.len() == 1),
        "{damaged}"
    );
    ensure!(
        damaged["error"].as_str().is_some_and(|error| error.contains("after packet 2: truncated")),
        "{damaged}"
    );
    Ok(())
}
