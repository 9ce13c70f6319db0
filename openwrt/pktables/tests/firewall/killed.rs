//! Commands that are killed at any moment.

use std::{process::Stdio, thread, time::Duration};

use anyhow::Result;

use crate::room::{Room, command, on_each_firewall};

/// Kills a command after a while, which may be after its end.
fn kill(room: &Room, words: &str, after: Duration) -> Result<()> {
    let backend = if room.kind.is_nft() { "nft" } else { "iptables" };
    let words: Vec<&str> = ["--backend", backend].into_iter().chain(words.split(' ')).collect();
    let mut child = command("pktables").args(words).stderr(Stdio::null()).spawn()?;
    // The moment of the kill, and no wait for anything.
    thread::sleep(after);
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// From before the first instruction to after the last: a change takes some milliseconds.
fn moments() -> impl Iterator<Item = (u64, Duration)> {
    (0..40).map(|step| (step, Duration::from_micros(step * 250)))
}

on_each_firewall! {
    fn a_killed_add_or_delete_leaves_all_or_nothing(room) {
        room.quietly(&["init ssh --port 22 --log", "add 10.0.0.1 --service ssh", "add 200.0.0.1 --service ssh"])?;
        let mut expected = vec!["10.0.0.1".to_owned(), "200.0.0.1".to_owned()];
        for (step, after) in moments() {
            let address = format!("192.0.2.{}", step + 1);
            kill(room, &format!("add {address} --service ssh --timeout 1h"), after)?;
            let granted = room.granted("ssh")?;
            let mut with = expected.clone();
            with.insert(expected.len() - 1, address.clone());
            assert!(granted == expected || granted == with, "{after:?}: {granted:?}");
            room.quietly(&[&format!("add {address} --service ssh --timeout 1h")])?;
            assert_eq!(room.granted("ssh")?, with, "{after:?}");
            if step % 2 == 0 {
                expected = with;
                continue;
            }
            kill(room, &format!("delete {address} --service ssh"), after)?;
            let granted = room.granted("ssh")?;
            assert!(granted == expected || granted == with, "{after:?}: {granted:?}");
            room.quietly(&[&format!("delete {address} --service ssh")])?;
            assert_eq!(room.granted("ssh")?, expected, "{after:?}");
        }
        Ok(())
    }
}

on_each_firewall! {
    fn after_a_killed_init_or_remove_another_one_does_it_all(room) {
        let init = "init nas --port 22 --log --forward 192.168.1.10:22 --forward [fd00::10]:22";
        room.quietly(&[init])?;
        let whole = room.rules()?;
        room.quietly(&["remove nas"])?;
        let nothing = room.rules()?;
        for (_, after) in moments() {
            kill(room, init, after)?;
            room.quietly(&[init])?;
            assert_eq!(room.rules()?, whole, "init, {after:?}");
            kill(room, "remove nas", after)?;
            room.quietly(&["remove nas"])?;
            assert_eq!(room.rules()?, nothing, "remove, {after:?}");
        }
        Ok(())
    }
}
