//! `knock pair`, with a program in ssh's place that runs what it is given in a shell, as a gateway would.

use std::fs;

use anyhow::{Result, ensure};

use crate::harness::{Harness, Outcome};

const URI: &str =
    "knock://ANN@192.0.2.9:40000/gw?key=0x5e5a3e5e5a3e&services=ssh:22&format=2&expires=2027-12-31";

/// Answers `ssh -G`; runs anything else with the gateway's programs in the folder `gateway`.
const SSH: &str = "#!/bin/sh
if [ \"$1\" = -G ]; then echo 'hostname 192.0.2.9'; exit; fi
echo \"$*\" >> HOME/arguments
for last; do :; done
PATH=HOME/gateway:$PATH exec sh -c \"$last\"
";

struct Gateway {
    harness: Harness,
}

impl Gateway {
    /// A gateway where `pkdd` does this.
    fn new(name: &str, pkdd: &str) -> Result<Self> {
        let harness = Harness::new(name)?;
        for folder in ["bin", "gateway"] {
            fs::create_dir(harness.home().join(folder))?;
        }
        let home = harness.home().to_string_lossy().into_owned();
        harness.file_with_mode("bin/ssh", &SSH.replace("HOME", &home), 0o755)?;
        let pkdd = format!("#!/bin/sh\nfor word; do echo \"$word\"; done > {home}/asked\n{pkdd}\n");
        harness.file_with_mode("gateway/pkdd", &pkdd, 0o755)?;
        Ok(Self { harness })
    }

    fn pair(&self, words: &[&str]) -> Result<Outcome> {
        let path = format!("{}/bin:{}", self.harness.home().display(), std::env::var("PATH")?);
        self.harness.knock_with_path(&path, &[&["pair"], words].concat())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.harness.home().join(name)).unwrap_or_default()
    }
}

#[test]
fn a_pairing_makes_a_profile_of_what_the_gateway_prints() -> Result<()> {
    let gateway = Gateway::new("a_pairing_makes_a_profile", &format!("echo warning >&2; echo '{URI}'"))?;
    let words =
        ["--user", "ann", "--service", "it's", "--expires", "2027-12-31", "root@office", "--", "-p", "2222"];
    let outcome = gateway.pair(&words)?;
    ensure!(outcome.code == Some(0), "{outcome:?}");
    ensure!(outcome.stdout.ends_with("now: knock ssh root@office\n"), "{outcome:?}");
    ensure!(gateway.read("arguments").starts_with("-p 2222 root@office "), "{}", gateway.read("arguments"));
    let asked = "user\nadd\nann\n--address\n192.0.2.9\n--service\nit's\n--expires\n2027-12-31\n";
    ensure!(gateway.read("asked") == asked, "{}", gateway.read("asked"));
    let profile = gateway.read(".config/knock/config.toml");
    for line in [
        "[host.office]",
        "address = \"192.0.2.9\"",
        "tag = \"ANN\"",
        "port = 40000",
        "expires = \"2027-12-31\"",
    ] {
        ensure!(profile.lines().any(|own| own == line), "no {line} in {profile}");
    }
    ensure!(gateway.read(".config/knock/keys/office.key") == "0x5e5a3e5e5a3e\n");

    // Another name for the same gateway.
    ensure!(!outcome.stderr.contains("have address"), "{outcome:?}");
    let again = gateway.pair(&["root@office", "again"])?;
    ensure!(
        again.stderr.contains("warning: profiles office and again both have address \"192.0.2.9\";"),
        "{again:?}"
    );

    // At other addresses than ssh's; this computer knocks at each.
    let words = ["root@office", "away", "--address", "gw.example.net", "--address", "192.0.2.7"];
    let away = gateway.pair(&words)?;
    ensure!(away.code == Some(0), "{away:?}");
    let asked = gateway.read("asked");
    ensure!(asked.ends_with("\n--address\ngw.example.net\n--address\n192.0.2.7\n"), "{asked}");
    let profile = gateway.read(".config/knock/config.toml");
    ensure!(profile.contains("address = [\"gw.example.net\", \"192.0.2.7\"]"), "{profile}");

    // A second time it would replace the key, so the gateway is not asked at all.
    fs::remove_file(gateway.harness.home().join("asked"))?;
    let outcome = gateway.pair(&["root@office"])?;
    ensure!(
        outcome.code == Some(2) && outcome.stderr.ends_with("profile office already exists\n"),
        "{outcome:?}"
    );
    ensure!(gateway.read("asked").is_empty(), "the gateway was asked");
    Ok(())
}

#[test]
fn what_fails_at_the_gateway_changes_nothing_here() -> Result<()> {
    for (row, (pkdd, expected)) in [
        ("echo 'pkdd: no such service' >&2; exit 1", "knock: root@gw: no user was added\n"),
        (
            "echo hello",
            "knock: the gateway did not print a knock:// URI: is pkdd or pkd of this version there?\n",
        ),
        (
            "echo 'knock://gw?key=0xsesame'",
            "knock: URI: invalid key: invalid character at offset 2: expected a hexadecimal digit\n",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let gateway = Gateway::new(&format!("what_fails_at_the_gateway_{row}"), pkdd)?;
        let outcome = gateway.pair(&["root@gw"])?;
        ensure!(outcome.code == Some(2) && outcome.stderr.ends_with(expected), "{outcome:?}");
        ensure!(!gateway.harness.home().join(".config").exists(), "row {row}: something was made");
        let own = gateway.read("asked");
        ensure!(own.lines().nth(2).is_some_and(|name| !name.is_empty()), "{own}");
    }
    Ok(())
}

#[test]
fn a_pasted_uri_is_not_shown() -> Result<()> {
    let harness = Harness::new("a_pasted_uri_is_not_shown")?;
    let outcome = harness.knock_on_terminal(&["import", "-", "--name", "office"], &format!("  {URI}\n"))?;
    ensure!(outcome.code == Some(0) && outcome.terminal.contains("Paste the knock:// URI"), "{outcome:?}");
    ensure!(harness.home().join(".config/knock/keys/office.key").exists());
    Ok(())
}
