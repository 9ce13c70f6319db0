//! Where the rules of ours are in firewall4's chains.

/// One of the chains that jump to ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Input,
    Forward,
    Dstnat,
}

/// A jump to a chain of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Jump {
    /// firewall4's chain.
    pub(crate) chain: String,
    /// What the file with the rule is called, without `-pkd.nft`.
    pub(crate) file: &'static str,
    pub(crate) rule: String,
}

impl Place {
    pub(crate) const ALL: [Self; 3] = [Self::Input, Self::Forward, Self::Dstnat];

    /// firewall4's chain for a zone; `None`: all zones. Destinations change before a zone is known, and only for those who
    /// have knocked.
    pub(crate) fn chain(self, zone: Option<&str>) -> String {
        match (self, zone) {
            (Self::Dstnat, _) | (_, None) => self.word().to_owned(),
            (_, Some(zone)) => format!("{}_{zone}", self.word()),
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Dstnat => "dstnat",
        }
    }

    /// What the files for this chain are called, without `-pkd.nft`.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Input => "chain",
            Self::Forward => "forward",
            Self::Dstnat => "dstnat",
        }
    }
}
