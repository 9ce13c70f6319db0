//! What a door asks of a knock.

use crate::{Key, Tag, Window};

/// One key that opens, under one tag.
///
/// The layout is that of the netfilter match's revision 0, 48 bytes: key, tag, window.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Rule {
    /// The shared secret.
    pub key: Key,
    /// The knocks that this rule looks at.
    pub tag: Tag,
    /// How far the sender's clock may be off.
    pub window: Window,
}
