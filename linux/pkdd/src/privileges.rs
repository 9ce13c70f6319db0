//! What the daemon may do: change rules of this network, and write into its own folders.

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
    unistd::{Uid, User, setgid, setgroups, setuid},
};

/// All that is kept of root's privileges.
const KEPT: Capability = Capability::CAP_NET_ADMIN;

/// Becomes this user, with `CAP_NET_ADMIN` for itself and for `nft`, and without all else. `places`, files or folders, become his.
///
/// Without root nothing is done: whoever started the daemon has decided.
///
/// # Errors
/// There is no such user, or the kernel refuses.
pub fn drop_privileges(name: &str, places: &[&Path]) -> Result<()> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let user =
        User::from_name(name)?.with_context(|| format!("gate: there is no user '{name}' on this machine"))?;
    for place in places {
        give(place, &user).with_context(|| format!("cannot give {} to {name}", place.display()))?;
    }
    let change = || -> Result<()> {
        prctl::set_keepcaps(true)?;
        setgroups(&[user.gid])?;
        setgid(user.gid)?;
        setuid(user.uid)?;
        let kept = [KEPT].into();
        for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
            caps::set(None, set, &kept)?;
        }
        // nft, which is started when rules change, has it by this.
        caps::set(None, CapSet::Ambient, &kept)?;
        Ok(())
    };
    change().with_context(|| format!("cannot become the user {name}"))?;
    if setuid(Uid::from_raw(0)).is_ok() {
        bail!("the kernel let the user {name} become root again");
    }
    Ok(())
}

/// A folder with the files in it. In one that is no longer root's he may have put links to what is not his.
fn give(place: &Path, user: &User) -> Result<()> {
    let metadata = fs::metadata(place)?;
    if metadata.is_dir() && metadata.uid() == 0 {
        for entry in fs::read_dir(place)? {
            lchown(entry?.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
    }
    Ok(chown(place, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?)
}

/// Whether rules and sets of this network may be changed.
#[must_use]
pub fn may_change_rules() -> bool {
    caps::has_cap(None, CapSet::Effective, KEPT).unwrap_or(false)
}

/// What the kernel made of [`sandbox`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// Writing elsewhere fails from now on.
    Yes,
    /// The kernel knows less than is request for, or nothing.
    Unsupported,
}

/// From now on this process and those that it starts write only to `files` and below `folders`, by Landlock.
///
/// # Errors
/// One of them is not there, or the kernel refuses.
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
        RulesetStatus::FullyEnforced => Sandbox::Yes,
        RulesetStatus::PartiallyEnforced | RulesetStatus::NotEnforced => Sandbox::Unsupported,
    })
}
