//! The rule that a knock is checked against.

use crate::{Key, Tag, Window};

/// A key, its tag, and how far clocks may differ.
///
/// It has the layout of the netfilter match's revision 0: 48 bytes of key, tag and window.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Rule {
    /// The shared secret.
    pub key: Key,
    /// Only knocks with this tag are checked.
    pub tag: Tag,
    /// How far the sender's clock may differ.
    pub window: Window,
}
