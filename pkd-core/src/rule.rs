//! The rule that a knock is checked against.

use crate::{Key, Tag, Window};

/// A key, its tag, and how far clocks may differ.
///
/// It has the layout of the netfilter match's revision 0: 40 bytes of key, 4 bytes of tag, and the window in seconds
/// ([`Window::as_secs`]) in native byte order; 48 bytes in all. Every such 48 bytes are a valid rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Rule {
    key: Key,
    tag: Tag,
    window: u32,
}

impl Rule {
    /// A rule for knocks that are made with this key and tag.
    #[must_use]
    pub const fn new(key: Key, tag: Tag, window: Window) -> Self {
        Self { key, tag, window: window.as_secs() }
    }

    /// The shared secret.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Only knocks with this tag are checked.
    #[must_use]
    pub const fn tag(&self) -> Tag {
        self.tag
    }

    /// How far the sender's clock may differ.
    #[must_use]
    pub const fn window(&self) -> Window {
        Window::from_secs(self.window)
    }
}
