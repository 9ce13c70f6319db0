//! Creating, deriving, storing and sharing keys.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result, ensure};
use pkd_core::{Key, Tag};

use crate::harness::Harness;

/// Reads a key file of 32 bytes.
fn key_of(harness: &Harness, file: &str) -> Result<String> {
    let path = harness.home().join(file);
    ensure!(path.metadata()?.permissions().mode() & 0o777 == 0o600, "{file} is for others, too");
    let text = fs::read_to_string(path)?;
    ensure!(text.len() == 67 && text.starts_with("0x") && text.ends_with('\n'), "{} bytes", text.len());
    Ok(text.trim_end().to_owned())
}

#[test]
fn a_new_key_is_written_to_a_file_and_never_printed() -> Result<()> {
    let harness = Harness::new("a_new_key_is_written_to_a_file_and_never_printed")?;
    let outcome = harness.knock(&[
        "keygen",
        "--format",
        "classic",
        "office",
        "--address",
        "10.0.0.1",
        "--tag",
        "SSHK",
    ])?;
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    let key = key_of(&harness, ".config/knock/keys/office.key")?;
    assert!(!outcome.stdout.contains(&key[2..]), "it is shown");
    let knocks = harness.knock(&["-n", "office"])?.knocks()?;
    assert_eq!(knocks[0].host, "10.0.0.1");
    knocks[0].verify(&key, "SSHK")?;
    // A new key would lock out the users of the old one.
    let again = harness.knock(&["keygen", "office"])?;
    assert_eq!(again.code, Some(2));
    assert!(again.stderr.ends_with("already exists; a new key would lock out its users\n"), "{again:?}");
    assert_eq!(key_of(&harness, ".config/knock/keys/office.key")?, key);
    // Without a name there is no profile.
    assert_eq!(harness.knock(&["keygen"])?.code, Some(0));
    assert_ne!(key_of(&harness, "pkd.key")?, key);
    Ok(())
}

#[test]
fn the_instructions_contain_tag_and_user() -> Result<()> {
    let harness = Harness::new("the_instructions_contain_tag_and_user")?;
    let told = harness
        .knock(&["keygen", "--format", "classic", "my-office.1", "--address", "10.0.0.1", "-t", "0x00ff"])?
        .stdout;
    for part in [
        "ssh root@10.0.0.1 'umask 077; mkdir -p /etc/pkd/keys && cat > /etc/pkd/keys/my_office_1.key' < '",
        "-m pkd --key-file /etc/pkd/keys/my_office_1.key --tag 0x00ff0000 -m recent --name pkd --set -j DROP",
        "set pkd.my_office_1=user\nset pkd.my_office_1.tag='0x00ff0000'\nset pkd.my_office_1.format='classic'\n",
        "[service.ssh]\nport = 22\n[user.my_office_1]\nformat = 'classic'\ntag = '0x00ff0000'\n\
         key_file = 'keys/my_office_1.key'\nservices = ['ssh']\n",
        "[[rule]]\nformat = \"classic\"\ntag = \"0x00ff0000\"\n",
        "knock_port = 40000\n",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    // They would have one name, and one key file, on a gateway.
    let equal = harness.knock(&["keygen", "my_office.1", "--address", "10.0.0.2"])?;
    let problem = "profile my-office.1 has the name my_office_1 on gateways, as my_office.1 would have: use another name\n";
    assert!(equal.code == Some(2) && equal.stderr.ends_with(problem), "{equal:?}");
    Tag::parse("0x00ff0000")?;
    Ok(())
}

#[test]
fn a_new_profile_and_its_instructions_have_format_2() -> Result<()> {
    let harness = Harness::new("a_new_profile_and_its_instructions_have_format_2")?;
    let told = harness.knock(&["keygen", "office", "--address", "10.0.0.1"])?.stdout;
    for part in [
        "-A INPUT -p udp -m pkd --format 2 --key-file /etc/pkd/keys/office.key --tag PKD0",
        "set pkd.office.tag='PKD0'\nadd_list pkd.office.service='ssh'\n",
        "[user.office]\ntag = 'PKD0'\n",
        "[[rule]]\ntag = \"PKD0\"\n",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    let shown = harness.knock(&["show", "office"])?.stdout;
    ensure!(shown.contains("\nformat: 2\n") && shown.contains("bind: auto\n"), "{shown}");
    // Without a profile, the format has to be given at each knock.
    let told = harness.knock(&["keygen"])?.stdout;
    ensure!(told.contains("Knock with: knock --format 2 --tag PKD0 --key-file pkd.key GATEWAY\n"), "{told}");
    let changed = harness.knock(&["keygen", "--format", "classic", "office"])?;
    let problem = "knock: profile office has format 2; change it there, and on the gateway\n";
    assert_eq!((changed.code, changed.stderr.as_str()), (Some(2), problem));
    Ok(())
}

#[test]
fn a_form_is_for_one_kind_of_gateway_and_what_the_profile_says() -> Result<()> {
    let harness = Harness::new("a_form_is_for_one_kind_of_gateway")?;
    let words = ["keygen", "ssh", "--address", "gw.example.net", "--for", "openwrt", "--tag", "a'\\b"];
    let told =
        harness.knock(&[&words[..], &["--service", "ssh=22", "--service", "vpn=1194/udp"]].concat())?.stdout;
    ensure!(told.matches("\nFor ").count() == 1, "{told}");
    for part in [
        // A user called like a service is another section, and no tag needs quotes of its own.
        "set pkd.ssh=service\n",
        "set pkd.ssh_user=user\nset pkd.ssh_user.tag='0x61275c62'\nset pkd.ssh_user.key_file='/etc/pkd/keys/ssh.key'\n",
        "set pkd.vpn.protocol='udp'\n",
        "add_list pkd.ssh_user.service='vpn'\n",
    ] {
        ensure!(told.contains(part), "{part:?} is not in {told}");
    }
    let shown = harness.knock(&["show", "ssh"])?.stdout;
    ensure!(shown.contains("[\"ssh 22/tcp\",\"vpn 1194/udp\"]") && shown.contains("port: random"), "{shown}");
    // A board has one port, which the profile has to know.
    let told = harness.knock(&["keygen", "nas", "--address", "10.0.0.9", "--for", "firmware"])?.stdout;
    let file = harness.home().join(".config/knock/keys/nas.key");
    ensure!(told.contains(&format!("key_file = \"{}\"\n", file.display())), "{told}");
    ensure!(harness.knock(&["show", "nas"])?.stdout.contains("port: 40000"));
    for (words, problem) in [
        (
            &["--for", "fritzbox"][..],
            "invalid --for \"fritzbox\": expected openwrt, pkdd, iptables or firmware",
        ),
        (
            &["--service", "ssh"],
            "invalid service \"ssh\": expected NAME=PORT, such as ssh=22 or vpn=1194/udp",
        ),
        (&["--port", "any"], "invalid port \"any\": expected 1–65535"),
    ] {
        let outcome = harness.knock(&[&["keygen", "new", "--address", "10.0.0.9"], words].concat())?;
        ensure!(outcome.code == Some(2) && outcome.stderr == format!("knock: {problem}\n"), "{outcome:?}");
        ensure!(harness.knock(&["show", "new"])?.code == Some(2), "{words:?} has made a profile");
    }
    Ok(())
}

#[test]
fn a_passphrase_replaces_no_key() -> Result<()> {
    let harness = Harness::new("a_passphrase_replaces_no_key")?;
    let typed = "correct open sesame battery\n";
    let keygen = ["keygen", "--passphrase", "office", "--address", "10.0.0.1"];
    ensure!(harness.knock_on_terminal_with_answers(&keygen, &[typed, typed])?.code == Some(0));
    fs::remove_file(harness.home().join("office.key"))?;
    let profile = fs::read_to_string(harness.home().join(".config/knock/config.toml"))?;
    for words in
        [&["keygen", "--passphrase", "office"][..], &["keygen", "office"], &["keygen", "--keyring", "office"]]
    {
        let outcome = harness.knock(words)?;
        let problem = "knock: profile office has a key already; a new one would lock out its users\n";
        ensure!(outcome.code == Some(2) && outcome.stderr == problem, "{outcome:?}");
    }
    ensure!(fs::read_to_string(harness.home().join(".config/knock/config.toml"))? == profile);
    Ok(())
}

#[test]
fn a_passphrase_derives_the_same_key_each_time() -> Result<()> {
    let harness = Harness::new("a_passphrase_derives_the_same_key_each_time")?;
    let typed = "correct open sesame battery\n";
    let keygen = ["keygen", "--format", "classic", "--passphrase", "office", "--address", "10.0.0.1"];
    let outcome = harness.knock_on_terminal_with_answers(&keygen, &[typed, typed])?;
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    assert!(outcome.stdout.contains("copy it there, then delete it here"), "{outcome:?}");
    // The file is only for the gateway; the profile has the salt.
    let key = key_of(&harness, "office.key")?;
    fs::remove_file(harness.home().join("office.key"))?;
    let profile = fs::read_to_string(harness.home().join(".config/knock/config.toml"))?;
    assert!(profile.contains("passphrase_salt") && !profile.contains("key_file"), "{profile}");
    let outcome = harness.knock_on_terminal(&["-n", "office"], typed)?;
    assert_eq!(outcome.terminal.trim_end(), "Passphrase for office:");
    outcome.knocks()?[0].verify(&key, "PKD0")?;
    let other = harness.knock_on_terminal(&["-n", "office"], "correct open sesame batterie\n")?;
    assert!(other.knocks()?[0].verify(&key, "PKD0").is_err());
    Ok(())
}

#[test]
fn without_a_keyring_nothing_is_created() -> Result<()> {
    let harness = Harness::new("without_a_keyring_nothing_is_created")?;
    let outcome = harness.knock(&["keygen", "--keyring", "office"])?;
    assert_eq!(outcome.code, Some(2));
    assert!(
        !harness.home().join("office.key").exists()
            && !harness.home().join(".config/knock/config.toml").exists()
    );
    Ok(())
}

#[test]
fn a_shared_profile_can_be_imported() -> Result<()> {
    let harness = Harness::new("a_shared_profile_can_be_imported")?;
    harness.knock(&["keygen", "--format", "classic", "office", "--address", "10.0.0.1", "--tag", "SSHK"])?;
    let key = key_of(&harness, ".config/knock/keys/office.key")?;
    let uri = harness.knock(&["share", "--uri", "office"])?.stdout;
    assert_eq!(uri, format!("knock://SSHK@10.0.0.1/office?key={key}&services=ssh:22\n"));
    let other = Harness::new("a_shared_profile_can_be_imported_elsewhere")?;
    let outcome = other.knock_with_input(&["import", "-"], uri.as_bytes())?;
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "imported office\n"), "{outcome:?}");
    other.knock(&["-n", "office"])?.knocks()?[0].verify(&key, "SSHK")?;
    // On the command line it gets a warning, which does not repeat it.
    let outcome = other.knock(&["import", "--name", "second", uri.trim_end()])?;
    let warning =
        "knock: warning: a URI on the command line is visible to all users of this computer; use -\n";
    assert!(outcome.code == Some(0) && outcome.stderr.starts_with(warning), "{outcome:?}");
    Ok(())
}

#[test]
fn a_code_goes_to_a_terminal_or_a_private_file() -> Result<()> {
    let harness = Harness::new("a_code_goes_to_a_terminal_or_a_private_file")?;
    harness.knock(&["keygen", "--format", "classic", "office", "--address", "10.0.0.1"])?;
    let key = key_of(&harness, ".config/knock/keys/office.key")?;
    let seen = harness.knock_attached(&["share", "office"])?;
    assert_eq!(seen.code, Some(0));
    // Each row has two modules, with a quiet zone of four; the width depends on the text.
    let rows: Vec<_> = seen.terminal.lines().filter(|line| line.contains("\x1b[30;107m")).collect();
    let width = rows.first().context("no rows")?.chars().filter(|letter| " ▀▄█".contains(*letter)).count();
    assert_eq!(rows.len(), width.div_ceil(2));
    assert!(!seen.terminal.contains(&key[2..]), "the key is shown as text");
    let outcome = harness.knock(&["share", "--png", "office.png", "office"])?;
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (Some(0), "", ""));
    let file = harness.home().join("office.png");
    assert_eq!(file.metadata()?.permissions().mode() & 0o777, 0o600);
    let image = png::Decoder::new(std::io::BufReader::new(fs::File::open(&file)?));
    let mut image = image.read_info()?;
    let mut pixels = vec![0; image.output_buffer_size().context("too large")?];
    let info = image.next_frame(&mut pixels)?;
    assert_eq!(info.width as usize, width * 8);
    // The same modules as on the terminal.
    let line = pixels.len() / info.height as usize;
    for (y, row) in rows.iter().enumerate() {
        let letters = row.chars().filter(|letter| " ▀▄█".contains(*letter));
        for (x, letter) in letters.enumerate() {
            let is_light = pixels[(y * 2 * 8) * line + x] == 0xff;
            assert_eq!(is_light, " ▄".contains(letter), "row {y}, column {x}");
        }
    }
    Key::parse(&key)?;
    Ok(())
}
