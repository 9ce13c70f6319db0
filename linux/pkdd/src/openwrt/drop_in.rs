//! The files that make firewall4's chains include the gate's jumps. They are on flash, and written only when the zone
//! changes.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::{files::write_public, paths::Paths, place::Place};

const NAME: &str = "20-pkd.nft";

/// Has the chains of a zone include the gate's jumps, or those of all zones, and no other chain. Returns whether anything
/// changed.
pub(crate) fn install(paths: &Paths, zone: &str) -> Result<bool> {
    let zone = Some(zone).filter(|zone| *zone != "any");
    let wanted = Place::ALL.map(|place| (paths.drop_ins().join(place.chain(zone)).join(NAME), place.file()));
    let mut changed = remove_others(paths, &wanted.each_ref().map(|(path, _)| path.as_path()))?;
    for (path, file) in &wanted {
        let text = format!("include \"/var/run/pkd/fw4/{file}-*.nft\"\n");
        if fs::read_to_string(path).is_ok_and(|found| found == text) {
            continue;
        }
        write_public(path, &text)?;
        changed = true;
    }
    Ok(changed)
}

/// Returns whether there were others.
fn remove_others(paths: &Paths, wanted: &[&Path]) -> Result<bool> {
    let Ok(chains) = fs::read_dir(paths.drop_ins()) else { return Ok(false) };
    let mut removed = false;
    for chain in chains.flatten().map(|chain| chain.path()) {
        let file = chain.join(NAME);
        if !wanted.contains(&file.as_path()) && file.exists() {
            fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
            // Unless others use the folder, too.
            let _ = fs::remove_dir(chain);
            removed = true;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn only_the_chain_of_the_zone_includes_the_jump() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        let files = || {
            let chains = fs::read_dir(paths.drop_ins()).map(|chains| chains.flatten().collect::<Vec<_>>());
            let mut names: Vec<_> = chains.unwrap_or_default().iter().map(fs::DirEntry::file_name).collect();
            names.sort_unstable();
            names
        };
        assert!(install(&paths, "wan").unwrap());
        assert!(!install(&paths, "wan").unwrap(), "written again");
        let file = paths.drop_ins().join("input_wan").join(NAME);
        assert_eq!(fs::read_to_string(&file).unwrap(), "include \"/var/run/pkd/fw4/chain-*.nft\"\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        fs::write(&file, "else").unwrap();
        assert!(install(&paths, "wan").unwrap(), "a changed file is replaced");
        fs::write(paths.drop_ins().join("input_wan/10-theirs.nft"), "").unwrap();
        assert!(install(&paths, "any").unwrap());
        assert!(!file.exists());
        assert_eq!(files(), ["dstnat", "forward", "input", "input_wan"], "the other file stays");
        assert!(install(&paths, "guest").unwrap());
        assert_eq!(files(), ["dstnat", "forward_guest", "input_guest", "input_wan"]);
        let dstnat = fs::read_to_string(paths.drop_ins().join("dstnat").join(NAME)).unwrap();
        assert_eq!(dstnat, "include \"/var/run/pkd/fw4/dstnat-*.nft\"\n");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        fs::create_dir_all(paths.drop_ins().parent().unwrap()).unwrap();
        fs::write(paths.drop_ins(), "").unwrap();
        fs::set_permissions(paths.drop_ins(), Permissions::from_mode(0o400)).unwrap();
        let error = format!("{:#}", install(&paths, "wan").unwrap_err());
        assert!(error.starts_with("cannot write ") && error.contains("input_wan/20-pkd.nft"), "{error}");
    }
}
