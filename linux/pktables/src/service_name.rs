//! Names of services, and of the chains that they give their names.

use std::{fmt, str::FromStr};

use crate::invalid::Invalid;

/// A service name: 1 to 25 letters, digits, `-`, `_` or `.`, starting with a letter or digit. Its chain is `pk-NAME`, and
/// iptables limits chain names to 28 bytes.
///
/// ```
/// let name: pktables::ServiceName = "ssh".parse()?;
/// assert_eq!(name.chain(), "pk-ssh");
/// assert_eq!(pktables::ServiceName::of_chain("pk-ssh"), Some(name));
/// # Ok::<(), pktables::Invalid>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(String);

impl ServiceName {
    /// The longest name, in bytes.
    pub const LENGTH: usize = 25;
    const PREFIX: &str = "pk-";

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its chain: `pk-NAME`.
    #[must_use]
    pub fn chain(&self) -> String {
        format!("{}{}", Self::PREFIX, self.0)
    }

    /// The service that a chain belongs to, if any.
    #[must_use]
    pub fn of_chain(chain: &str) -> Option<Self> {
        chain.strip_prefix(Self::PREFIX)?.parse().ok()
    }
}

impl FromStr for ServiceName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why| Invalid::new("service name", text, why);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        match text.as_bytes() {
            [] => Err(wrong("empty")),
            bytes if bytes.len() > Self::LENGTH => Err(wrong("longer than 25 bytes")),
            bytes if !bytes.iter().copied().all(fits) => Err(wrong("expected letters, digits, - _ or .")),
            [first, ..] if !first.is_ascii_alphanumeric() => Err(wrong("must start with a letter or digit")),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
