//! The gateway's sides.

/// The port that a frame was received on, or is sent from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The untrusted side. Also the only port of a one-arm gateway, and the trunk of an inline gateway with VLANs.
    Outside,
    /// The side of the protected hosts, on an inline gateway with two NICs.
    Inside,
}

impl Port {
    /// The opposite side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Outside => Self::Inside,
            Self::Inside => Self::Outside,
        }
    }
}
