//! Files that are replaced as a whole: after a kill there is the old one or the new one.
//!
//! They are in folders of pkdd's user, and root uses them, too. So no link is followed, and nothing that blocks is opened.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::Path,
};

use nix::fcntl::OFlag;

/// Only the owner may read the file.
pub(crate) const PRIVATE: u32 = 0o600;
/// Everyone may read the file, as far as the umask allows.
pub(crate) const PUBLIC: u32 = 0o644;

/// Reads a file.
///
/// # Errors
/// It is missing, cannot be read, or is a link or no regular file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map(|_| bytes)
}

/// Reads a file that contains text.
///
/// # Errors
/// See [`read`]; or it is not UTF-8.
pub(crate) fn read_to_string(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Opens a file that only its owner may read, and creates it if it is missing. Its content stays.
///
/// # Errors
/// It cannot be opened or created, or is a link.
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(PRIVATE).custom_flags(flags.bits());
    let file = options.open(path)?;
    give_to_owner_of_folder(path, &file)?;
    Ok(file)
}

/// Replaces a file, and returns it open for appending. A power failure may lose the new one.
///
/// # Errors
/// It cannot be written; the old one stays.
pub(crate) fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<File> {
    rename_over(path, mode, content, |_| Ok(()))
}

/// Like [`replace`], but the new file is on the disk when this returns.
///
/// # Errors
/// It cannot be written. The old one stays, unless only the last step failed, which makes the new name permanent.
pub(crate) fn replace_durably(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    rename_over(path, mode, content, File::sync_all)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn rename_over(
    path: &Path,
    mode: u32,
    content: &[u8],
    before_rename: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<File> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    // What a kill left; or, where root writes into the folder of pkdd's user, a link that leads elsewhere.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).append(true).mode(mode).open(&new)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    give_to_owner_of_folder(path, &file)?;
    file.write_all(content)?;
    before_rename(&file)?;
    fs::rename(&new, path)?;
    Ok(file)
}

/// What root writes into the folder of pkdd's user, that user must be able to read.
fn give_to_owner_of_folder(path: &Path, file: &File) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (folder, own) = (fs::metadata(folder)?, file.metadata()?);
    if own.uid() != 0 || folder.uid() == 0 {
        return Ok(());
    }
    fchown(file, Some(folder.uid()), Some(folder.gid()))
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::{Mode, umask};

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_can_be_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        // What a kill left does not get into the new file.
        fs::write(folder.path().join("file.new"), "a longer file that was not finished").unwrap();
        fs::set_permissions(folder.path().join("file.new"), Permissions::from_mode(PRIVATE)).unwrap();
        for content in ["one", "two"] {
            replace(&path, PRIVATE, content.as_bytes()).unwrap().write_all(b", more").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{content}, more"));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        }
        replace_durably(&path, PRIVATE, b"three").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
    }

    #[test]
    fn a_public_file_is_readable_whatever_the_umask() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pkdd.prom");
        // Other tests of this process write only private files, which the umask leaves as they are.
        let before = umask(Mode::from_bits_truncate(0o077));
        let replaced = replace(&path, PUBLIC, b"metrics");
        umask(before);
        replaced.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn a_file_that_cannot_be_replaced_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, PUBLIC, b"old").unwrap();
        fs::create_dir(folder.path().join("file.new")).unwrap();
        assert!(replace(&path, PUBLIC, b"new").is_err());
        assert!(replace_durably(&path, PUBLIC, b"new").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }

    #[test]
    fn links_and_what_is_no_file_are_neither_read_nor_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("file"), folder.path().join("other"));
        fs::write(&other, "untouched").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(read(&path).is_err() && read_to_string(&path).is_err() && open_or_create(&path).is_err());
        fs::remove_file(&path).unwrap();
        // Nobody writes to it, so opening it would wait for ever.
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(open_or_create(&path).is_err());
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(open_or_create(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE);
        for content in ["", "content"] {
            fs::write(&path, content).unwrap();
            drop(open_or_create(&path).unwrap());
            assert_eq!(read_to_string(&path).unwrap(), content);
        }
        assert_eq!(fs::read_to_string(&other).unwrap(), "untouched");
    }

    #[test]
    fn a_link_in_place_of_the_new_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("file"), folder.path().join("other"));
        fs::write(&other, "untouched").unwrap();
        for _ in 0..2 {
            std::os::unix::fs::symlink(&other, folder.path().join("file.new")).unwrap();
            replace(&path, PRIVATE, b"new").unwrap();
            assert_eq!(fs::read_to_string(&other).unwrap(), "untouched");
            assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        }
    }
}
