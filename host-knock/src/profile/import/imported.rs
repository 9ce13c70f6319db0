//! A profile from another program's file.

use pkd_core::Key;

use crate::model::Profile;

/// A profile that is not in the file yet.
pub(crate) struct Imported {
    pub(crate) name: String,
    pub(crate) profile: Profile,
    pub(crate) key: Option<Key>,
    /// What of it cannot be said in a profile.
    pub(crate) skipped: Vec<String>,
}
