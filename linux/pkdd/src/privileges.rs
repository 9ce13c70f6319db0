//! Drops privileges: pkdd may only change firewall rules and write to its own folders.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown, lchown},
    path::Path,
};

use anyhow::{Context, Result, bail};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};
use nix::{
    sys::prctl,
    unistd::{Gid, Uid, User, setgid, setgroups, setuid},
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set, set_capabilities,
};

/// The only capability that pkdd keeps.
const KEPT: CapabilitySet = CapabilitySet::NET_ADMIN;

/// Switches to this user and keeps only `CAP_NET_ADMIN`, which `nft` inherits. `paths`, files or folders, change their
/// owner to the user.
///
/// Does nothing unless pkdd was started as root.
///
/// # Errors
/// The user does not exist, or the kernel refuses.
pub fn drop_privileges(name: &str, paths: &[&Path]) -> Result<()> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let user = User::from_name(name)?
        .with_context(|| format!("gate: unknown user \"{name}\": create the account, or set another user"))?;
    for path in paths {
        change_owner(path, &user)
            .with_context(|| format!("cannot change the owner of {} to {name}", path.display()))?;
    }
    let switch = || -> Result<()> {
        prctl::set_keepcaps(true)?;
        setgroups(&[user.gid])?;
        setgid(user.gid)?;
        setuid(user.uid)?;
        set_capabilities(None, CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: KEPT })?;
        // Child processes such as nft inherit it.
        configure_capability_in_ambient_set(KEPT, true)?;
        Ok(())
    };
    switch().with_context(|| format!("cannot switch to user {name}"))?;
    if setuid(Uid::from_raw(0)).is_ok() {
        bail!("user {name} can become root again: the kernel did not drop the privileges");
    }
    Ok(())
}

/// Switches from root to the owner of a folder, for a command that changes files of pkdd's user.
///
/// Does nothing unless pkdd was started as root.
///
/// # Errors
/// The folder does not exist, or the kernel refuses.
pub fn become_owner(folder: &Path) -> Result<()> {
    let metadata = fs::metadata(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let (uid, gid) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    if !Uid::effective().is_root() || uid.is_root() {
        return Ok(());
    }
    let switch = || setgroups(&[gid]).and_then(|()| setgid(gid)).and_then(|()| setuid(uid));
    switch().with_context(|| format!("cannot switch to user {uid}, who owns {}", folder.display()))
}

/// Changes the owner of a file, or of a folder and the files in it. A folder that does not belong to root may contain
/// the user's links to other users' files, so its files are left alone.
fn change_owner(path: &Path, user: &User) -> Result<()> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() && metadata.uid() == 0 {
        for entry in fs::read_dir(path)? {
            lchown(entry?.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
    }
    Ok(chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?)
}

/// Whether pkdd may change firewall rules in this network namespace.
#[must_use]
pub fn may_change_rules() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(KEPT))
}

/// The result of [`sandbox`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// The restrictions that this kernel knows are in force, at least those for writing.
    Enforced,
    /// The kernel has no Landlock.
    Unsupported,
}

/// With Landlock, restricts this process and its future children to write, truncate and use devices only as `files` and
/// below `folders`, to use no TCP, and to send signals only to each other.
///
/// # Errors
/// A path does not exist, or the kernel refuses.
pub fn sandbox(folders: &[&Path], files: &[&Path]) -> Result<Sandbox> {
    // Linux 6.12 has all of it; older kernels restrict what they can.
    let abi = ABI::V6;
    let (read, all) = (AccessFs::from_read(abi), AccessFs::from_all(abi));
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(["/"], read))?;
    for file in files {
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(file)?, AccessFs::from_file(abi)))?;
    }
    for folder in folders {
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(folder)?, all))?;
    }
    Ok(match ruleset.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Sandbox::Enforced,
        RulesetStatus::NotEnforced => Sandbox::Unsupported,
    })
}

#[cfg(test)]
mod tests {
    use std::{
        env, io,
        net::{TcpListener, TcpStream},
        process::Command,
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::{Pid, getppid, truncate},
    };

    use super::*;

    /// The sandbox holds for a whole process, so the test runs itself in a second one.
    #[test]
    fn a_sandboxed_process_changes_only_its_own_folders() {
        const FOLDER: &str = "PKDD_SANDBOXED";
        const NAME: &str = "privileges::tests::a_sandboxed_process_changes_only_its_own_folders";
        if let Some(folder) = env::var_os(FOLDER) {
            return check(Path::new(&folder));
        }
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
    }

    fn check(folder: &Path) {
        let (own, foreign) = (folder.join("own"), folder.join("foreign"));
        fs::create_dir(&own).unwrap();
        fs::write(&foreign, "kept").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let parent = getppid();
        assert!(kill(parent, None).is_ok() && TcpStream::connect(address).is_ok());
        let done = sandbox(&[&own], &[Path::new("/dev/null")]).unwrap();
        if done == Sandbox::Unsupported {
            return assert!(!Path::new("/sys/kernel/security/landlock").exists(), "Landlock is there");
        }
        let denied = |error: Option<i32>| matches!(error.map(io::Error::from_raw_os_error), Some(error) if error.kind() == io::ErrorKind::PermissionDenied);
        fs::write(own.join("new"), "written").unwrap();
        fs::rename(own.join("new"), own.join("file")).unwrap();
        truncate(&own.join("file"), 3).unwrap();
        fs::write("/dev/null", "written").unwrap();
        assert_eq!(fs::read_to_string(&foreign).unwrap(), "kept");
        let outside = [
            ("write", fs::write(&foreign, "x").err()),
            ("create", fs::write(folder.join("new"), "x").err()),
            ("remove", fs::remove_file(&foreign).err()),
            ("move out", fs::rename(own.join("file"), folder.join("file")).err()),
        ];
        for (what, error) in outside {
            let error = error.unwrap_or_else(|| panic!("{what}: allowed"));
            let is_denied = matches!(
                error.kind(),
                // Moving to another folder is as if they were on different disks.
                io::ErrorKind::PermissionDenied | io::ErrorKind::CrossesDevices
            );
            assert!(is_denied, "{what}: {error}");
        }
        // What came later than Landlock itself: Linux 6.2, 6.7 and 6.12.
        let kernel = nix::sys::utsname::uname().unwrap();
        let version = kernel.release().to_string_lossy().into_owned();
        let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if version >= (6, 2) {
            assert!(denied(truncate(&foreign, 0).err().map(|error| error as i32)), "truncate");
        }
        if version >= (6, 7) {
            let error = TcpStream::connect(address).err().and_then(|error| error.raw_os_error());
            assert!(denied(error), "TCP");
        }
        if version >= (6, 12) {
            assert!(denied(kill(parent, Signal::SIGCONT).err().map(|error| error as i32)), "signal");
            assert!(kill(Pid::this(), None).is_ok());
        }
    }
}
