//! A profile from another program.

use pkd_core::Key;

use crate::model::Profile;

/// A profile that is not in the configuration file yet.
pub(crate) struct Imported {
    pub(crate) name: String,
    pub(crate) profile: Profile,
    pub(crate) key: Option<Key>,
    /// What a profile cannot express.
    pub(crate) skipped: Vec<String>,
}
