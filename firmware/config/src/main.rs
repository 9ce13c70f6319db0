//! `pkd-gateway-config FILE OUT`: makes the gateway's binary configuration from a TOML file, and says how to flash it.

mod file;

use std::{
    fs,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use pkd_core::UnixSeconds;
use pkd_gateway::{CONFIG_LIMIT, Config, RULES};

const USAGE: &str = "usage: pkd-gateway-config FILE OUT";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pkd-gateway-config: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    let [from, to] = arguments else { bail!("{USAGE}") };
    let made = UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    let bytes = make(Path::new(from), made).with_context(|| (*from).to_owned())?;
    // It holds keys: readable by its owner from its first moment on.
    let mut options = fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(to).context((*to).to_owned())?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    std::io::Write::write_all(&mut file, &bytes)?;
    Ok(())
}

/// The binary configuration of a TOML file, made at `made`.
fn make(path: &Path, made: UnixSeconds) -> Result<Vec<u8>> {
    let text = fs::read_to_string(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let config: Config<RULES> = file::parse(&text)?.resolve(folder, made)?;
    let mut bytes = vec![0; CONFIG_LIMIT];
    let length = config.emit(&mut bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const GOOD: &str = include_str!("../example.toml");

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pkd-config-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let key = folder.join("pkd.key");
        fs::write(&key, "0x00112233\n").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        folder
    }

    fn made(text: &str, name: &str) -> Result<Config<RULES>> {
        let folder = folder(name);
        fs::write(folder.join("gateway.toml"), text)?;
        let bytes = make(&folder.join("gateway.toml"), UnixSeconds(1_800_000_000));
        fs::remove_dir_all(&folder)?;
        Config::parse(&bytes?).map_err(|error| anyhow::anyhow!("{error}"))
    }

    #[test]
    fn the_example_is_read_and_comes_back_from_its_bytes() {
        let config = made(GOOD, "example").unwrap();
        assert_eq!(config.made, UnixSeconds(1_800_000_000));
        assert_eq!(config.services.len(), 2);
        assert_eq!(config.rules.len(), 1);
        assert!(config.rules[0].services.has(0) && !config.rules[0].services.has(1));
        assert_eq!(config.rules[0].key.as_bytes()[..5], [0, 0x11, 0x22, 0x33, 0]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let table = [
            ("a word nobody knows", "echo = true", "eccho = true", "eccho"),
            ("a service that is not there", "services = [\"ssh\"]", "services = [\"sssh\"]", "sssh"),
            ("no key file", "pkd.key", "other.key", "other.key"),
            ("a tag that is too long", "tag = \"SSHK\"", "tag = \"SSHKEY\"", "tag"),
            ("a port twice", "port = 8443", "port = 2222", "share a port"),
            ("a host elsewhere", "192.168.1.20:443", "10.0.0.20:443", "outside its network"),
            ("no number", "port = 8443", "port = 80443", "80443"),
            ("a window without a clock", "server = \"192.168.1.1\"", "", "window"),
        ];
        for (row, (name, from, to, says)) in table.into_iter().enumerate() {
            assert!(GOOD.contains(from), "row {row}: {name}");
            let error = made(&GOOD.replacen(from, to, 1), &format!("row-{row}")).unwrap_err();
            let text = format!("{error:#}");
            assert!(text.contains(says), "row {row}: {name}: {text}");
            assert!(!text.contains("00112233"), "row {row}: it shows the key");
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = folder("loose");
        fs::set_permissions(folder.join("pkd.key"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(folder.join("gateway.toml"), GOOD).unwrap();
        let error = make(&folder.join("gateway.toml"), UnixSeconds(0)).unwrap_err();
        fs::remove_dir_all(&folder).unwrap();
        assert!(format!("{error:#}").contains("chmod 600"), "{error:#}");
    }
}
