//! The configuration file: TOML, or on OpenWrt what the service has rendered from UCI.

use std::{fs, path::Path};

use crate::{
    config::{Config, Error, is_loose},
    openwrt,
};

/// Reads the file, and the key files that it names.
///
/// # Errors
/// The first problem found. No error contains a part of a key.
pub fn read(path: &Path) -> Result<Config, Error> {
    let name = path.display();
    let text =
        fs::read_to_string(path).map_err(|error| Error::new(format!("cannot read {name}: {error}")))?;
    let config = openwrt::read_config(&text).unwrap_or_else(|| {
        #[cfg(feature = "rules")]
        return Config::parse(&text, path.parent().unwrap_or(Path::new("/")));
        #[cfg(not(feature = "rules"))]
        Err(Error::new(
            ": this pkdd was built for OpenWrt, whose configuration begins with a package".to_owned(),
        ))
    });
    let mut config = config.map_err(|error| error.in_file(&name.to_string()))?;
    let is_key = |line: &str| line.starts_with("key ") || line.starts_with("key=");
    if text.lines().any(|line| is_key(line.trim_start())) && is_loose(path) {
        let problem = format!("{name} contains a key and is accessible to others: run chmod 600 {name}");
        config.warnings.push(problem);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::tests::GOOD;

    #[test]
    fn a_key_file_accessible_to_others_causes_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let (file, key) = (folder.path().join("pkdd.toml"), folder.path().join("me.key"));
        fs::write(&key, "0x0011\n").unwrap();
        fs::write(&file, GOOD.replace("key = 'a good key'", "key_file = 'me.key'")).unwrap();
        for (mode, warnings) in [(0o600, 0), (0o640, 0), (0o644, 2)] {
            for path in [&file, &key] {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
            let read = read(&file).unwrap().warnings;
            let loose = read.iter().filter(|warning| warning.contains("run chmod 600"));
            assert_eq!(loose.count(), warnings, "{mode:o}: {read:?}");
        }
        fs::write(&file, "[").unwrap();
        let error = read(&file).map(drop).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}:1: ", file.display())), "{error}");
    }
}
