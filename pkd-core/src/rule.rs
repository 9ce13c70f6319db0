//! What a gateway asks of a knock.

use crate::{Key, Tag, Window};

/// A key under a tag, and how far clocks may differ.
///
/// The layout is that of the netfilter match's revision 0, 48 bytes: key, tag, window.
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
