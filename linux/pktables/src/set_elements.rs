//! Elements of nftables sets as netlink attributes.

use std::time::Duration;

use netlink_packet_core::DefaultNla;

use crate::message::{attribute, nested, text};

/// Elements in one message; an attribute holds at most 64 KiB.
const MOST_ELEMENTS: usize = 500;

/// The attributes of as many messages as it takes to add these keys, each for its time or for ever.
pub(crate) fn added<'a>(
    table: &'a str,
    set: &'a str,
    elements: &'a [(&[u8], Option<Duration>)],
) -> impl Iterator<Item = [DefaultNla; 3]> + 'a {
    elements.chunks(MOST_ELEMENTS).map(move |chunk| {
        let items: Vec<DefaultNla> = chunk.iter().map(|(key, left)| item(key, *left)).collect();
        [text(attribute::TABLE, table), text(attribute::SET, set), nested(attribute::ELEMENTS, &items)]
    })
}

fn item(key: &[u8], left: Option<Duration>) -> DefaultNla {
    let key = DefaultNla::new(attribute::VALUE, key.to_vec());
    let mut attributes = vec![nested(attribute::ELEMENT_KEY, &[key])];
    let milliseconds = left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1));
    attributes.extend(
        milliseconds.map(|time| DefaultNla::new(attribute::ELEMENT_TIMEOUT, time.to_be_bytes().to_vec())),
    );
    nested(attribute::LIST_ITEM, &attributes)
}
