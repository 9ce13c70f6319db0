//! What a capture does not show.

use std::collections::BTreeMap;

use crate::{
    captured::{Content, Cut},
    link::LinkType,
};

/// Counts packets that may contain a knock, for all that is known.
#[derive(Debug, Default)]
pub struct Unread {
    links: BTreeMap<LinkType, u64>,
    without_interface: u64,
    /// Cut off within the headers; the first stands for all.
    cut: Option<(u64, Cut)>,
}

impl Unread {
    /// Counts a packet, unless its headers were read.
    pub fn add(&mut self, content: &Content<'_>) {
        match content {
            Content::Cut { datagram: None, cut } => self.cut.get_or_insert((0, *cut)).0 += 1,
            Content::UnknownLink(link) => *self.links.entry(*link).or_default() += 1,
            Content::UnknownInterface => self.without_interface += 1,
            Content::Datagram(_) | Content::Cut { .. } | Content::Other => {}
        }
    }

    /// A sentence for each reason.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let packets =
            |count: u64| if count == 1 { "1 packet".to_owned() } else { format!("{count} packets") };
        let links = self
            .links
            .iter()
            .map(|(link, count)| format!("{} not read: link type {link} is not supported", packets(*count)));
        let without = (self.without_interface > 0).then(|| {
            let count = packets(self.without_interface);
            format!("{count} not read: the capture does not describe the interface")
        });
        let cut = self.cut.map(|(count, cut)| format!("{} not read: {cut}", packets(count)));
        links.chain(without).chain(cut).collect()
    }
}
