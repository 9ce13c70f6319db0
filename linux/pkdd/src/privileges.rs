//! Drops privileges: pkdd may only change firewall rules and write to its own folders.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown, lchown},
    path::Path,
};

use anyhow::{Context, Result, bail};
use caps::{CapSet, Capability};
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, path_beneath_rules,
};
use nix::{
    sys::prctl,
    unistd::{Gid, Uid, User, setgid, setgroups, setuid},
};

/// The only capability that pkdd keeps.
const KEPT: Capability = Capability::CAP_NET_ADMIN;

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
        let kept = [KEPT].into();
        for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
            caps::set(None, set, &kept)?;
        }
        // Child processes such as nft inherit it.
        caps::set(None, CapSet::Ambient, &kept)?;
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
    caps::has_cap(None, CapSet::Effective, KEPT).unwrap_or(false)
}

/// The result of [`sandbox`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// The restrictions are in force.
    Enforced,
    /// The kernel supports only some of the restrictions, or none.
    Unsupported,
}

/// Restricts this process and its future children to write only to `files` and below `folders`, with Landlock.
///
/// # Errors
/// A path does not exist, or the kernel refuses.
pub fn sandbox(folders: &[&Path], files: &[&Path]) -> Result<Sandbox> {
    let abi = ABI::V1;
    let read = AccessFs::from_read(abi);
    let all = AccessFs::from_all(abi);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .create()?
        .add_rules(path_beneath_rules(["/"], read))?;
    for file in files {
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(file)?, AccessFs::from_file(abi)))?;
    }
    for folder in folders {
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(folder)?, all))?;
    }
    Ok(match ruleset.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Sandbox::Enforced,
        RulesetStatus::PartiallyEnforced | RulesetStatus::NotEnforced => Sandbox::Unsupported,
    })
}
