//! Which configurations a board can run.

use core::fmt;

use pkd_gateway::{Inline, Mode};

use crate::{board::Board, nic_kind::NicKind};

/// Why a board cannot run a configuration. Its text is one line that names the board and the setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unable {
    board: &'static str,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    OneNic,
    OneNicNoTrunk,
    NoTrunk,
    Filters(&'static str),
    NoTags(&'static str),
    TwoNics,
    NoSlots,
}

impl fmt::Display for Unable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { board, why } = self;
        match why {
            Why::OneNic => {
                write!(f, "{board} has one NIC: mode = \"inline\" needs outside_vlan and inside_vlan on it")
            }
            Why::OneNicNoTrunk => {
                write!(
                    f,
                    "{board} has one NIC: mode = \"inline\" needs two, so use mode = \"one-arm\" or another board"
                )
            }
            Why::NoTrunk => {
                write!(f, "{board} has two NICs, one for each side: remove outside_vlan and inside_vlan")
            }
            Why::Filters(nic) => write!(
                f,
                "{board} cannot run mode = \"inline\": its {nic} drops frames that are for other MAC addresses"
            ),
            Why::NoTags(nic) => write!(
                f,
                "{board} cannot run outside_vlan and inside_vlan: its {nic} loses full-size frames with a VLAN tag"
            ),
            Why::TwoNics => {
                write!(f, "{board} has two NICs: mode = \"one-arm\" would forward nothing between them")
            }
            Why::NoSlots => write!(f, "{board} takes no updates over the network: remove [update]"),
        }
    }
}

impl Board {
    /// Whether the board can run a configuration with this mode, and with a key for updates if `is_updated`.
    ///
    /// # Errors
    /// [`Unable`], which says why it cannot.
    pub fn check(&self, mode: Mode, is_updated: bool) -> Result<(), Unable> {
        let why = match (mode, self.nics) {
            (Mode::OneArm, [_]) => None,
            (Mode::OneArm, _) => Some(Why::TwoNics),
            (Mode::Inline(Inline { vlans: None, .. }), [nic]) => {
                Some(if nic.carries_tags && !nic.filters_mac { Why::OneNic } else { Why::OneNicNoTrunk })
            }
            (Mode::Inline(Inline { vlans: None, .. }), nics) => filter(nics).map(Why::Filters),
            (Mode::Inline(Inline { vlans: Some(_), .. }), [nic]) => {
                let tags = (!nic.carries_tags).then_some(Why::NoTags(nic.name));
                filter(self.nics).map(Why::Filters).or(tags)
            }
            (Mode::Inline(Inline { vlans: Some(_), .. }), _) => Some(Why::NoTrunk),
        };
        let why = why.or((is_updated && self.updates.is_none()).then_some(Why::NoSlots));
        why.map_or(Ok(()), |why| Err(Unable { board: self.name, why }))
    }
}

/// The name of a NIC that drops frames for other MAC addresses, if there is one.
fn filter(nics: &[&'static NicKind]) -> Option<&'static str> {
    nics.iter().find(|nic| nic.filters_mac).map(|nic| nic.name)
}
