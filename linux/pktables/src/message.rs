//! Netlink messages of `nf_tables`. Names and numbers are from the kernel's `include/uapi/linux/netfilter/nf_tables.h` and
//! `nfnetlink.h`; numbers are big endian on the wire.

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable as _, NLA_F_NESTED, NLA_TYPE_MASK, NetlinkDeserializable,
    NetlinkHeader, NetlinkSerializable, NlasIterator,
};

/// Message types.
pub(crate) mod kind {
    /// `NFNL_MSG_BATCH_BEGIN`.
    pub(crate) const BATCH_BEGIN: u16 = 16;
    /// `NFNL_MSG_BATCH_END`.
    pub(crate) const BATCH_END: u16 = 17;
    /// `NFNL_SUBSYS_NFTABLES`, in the upper byte of the types below and in the resource of a batch.
    pub(crate) const NFTABLES: u16 = 10;
    const fn of_nftables(kind: u16) -> u16 {
        NFTABLES << 8 | kind
    }
    /// `NFT_MSG_NEWTABLE`.
    #[cfg(feature = "rules")]
    pub(crate) const NEW_TABLE: u16 = of_nftables(0);
    /// `NFT_MSG_GETTABLE`.
    #[cfg(feature = "rules")]
    pub(crate) const GET_TABLE: u16 = of_nftables(1);
    /// `NFT_MSG_DELTABLE`.
    #[cfg(feature = "rules")]
    pub(crate) const DELETE_TABLE: u16 = of_nftables(2);
    /// `NFT_MSG_NEWCHAIN`.
    #[cfg(feature = "rules")]
    pub(crate) const NEW_CHAIN: u16 = of_nftables(3);
    /// `NFT_MSG_GETCHAIN`.
    #[cfg(feature = "rules")]
    pub(crate) const GET_CHAIN: u16 = of_nftables(4);
    /// `NFT_MSG_NEWRULE`.
    #[cfg(feature = "rules")]
    pub(crate) const NEW_RULE: u16 = of_nftables(6);
    /// `NFT_MSG_GETRULE`.
    pub(crate) const GET_RULE: u16 = of_nftables(7);
    /// `NFT_MSG_NEWSET`.
    #[cfg(feature = "rules")]
    pub(crate) const NEW_SET: u16 = of_nftables(9);
    /// `NFT_MSG_GETSET`.
    pub(crate) const GET_SET: u16 = of_nftables(10);
    /// `NFT_MSG_NEWSETELEM`.
    pub(crate) const NEW_ELEMENT: u16 = of_nftables(12);
    /// `NFT_MSG_GETSETELEM`.
    pub(crate) const GET_ELEMENT: u16 = of_nftables(13);
    /// `NFT_MSG_DELSETELEM`.
    pub(crate) const DELETE_ELEMENT: u16 = of_nftables(14);
    /// `NFT_MSG_NEWGEN`.
    #[cfg(feature = "rules")]
    pub(crate) const NEW_GENERATION: u16 = of_nftables(15);
    /// `NFT_MSG_GETGEN`.
    pub(crate) const GET_GENERATION: u16 = of_nftables(16);
}

/// Attribute types.
pub(crate) mod attribute {
    /// `NFNL_BATCH_GENID`.
    pub(crate) const BATCH_GENERATION: u16 = 1;
    /// `NFTA_GEN_ID`.
    pub(crate) const GENERATION: u16 = 1;
    /// `NFTA_TABLE_FLAGS`.
    #[cfg(feature = "rules")]
    pub(crate) const TABLE_FLAGS: u16 = 2;
    /// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`, `NFTA_SET_TABLE`, `NFTA_SET_ELEM_LIST_TABLE`.
    pub(crate) const TABLE: u16 = 1;
    /// `NFTA_SET_NAME`, `NFTA_SET_ELEM_LIST_SET`.
    pub(crate) const SET: u16 = 2;
    /// `NFTA_SET_FLAGS`.
    pub(crate) const SET_FLAGS: u16 = 3;
    /// `NFTA_SET_KEY_LEN`.
    pub(crate) const SET_KEY_LENGTH: u16 = 5;
    /// `NFTA_SET_ELEM_LIST_ELEMENTS`.
    pub(crate) const ELEMENTS: u16 = 3;
    /// `NFTA_LIST_ELEM`.
    pub(crate) const LIST_ITEM: u16 = 1;
    /// `NFTA_SET_ELEM_KEY`.
    pub(crate) const ELEMENT_KEY: u16 = 1;
    /// `NFTA_SET_ELEM_TIMEOUT`, milliseconds.
    pub(crate) const ELEMENT_TIMEOUT: u16 = 4;
    /// `NFTA_SET_ELEM_EXPIRATION`, milliseconds.
    pub(crate) const ELEMENT_EXPIRATION: u16 = 5;
    /// `NFTA_SET_ELEM_EXPR`.
    pub(crate) const ELEMENT_EXPRESSION: u16 = 7;
    /// `NFTA_DATA_VALUE`.
    pub(crate) const VALUE: u16 = 1;
    /// `NFTA_EXPR_NAME`.
    pub(crate) const EXPRESSION_NAME: u16 = 1;
    /// `NFTA_EXPR_DATA`.
    pub(crate) const EXPRESSION_DATA: u16 = 2;
    /// `NFTA_COUNTER_PACKETS`.
    pub(crate) const COUNTER_PACKETS: u16 = 2;
}

/// `NFPROTO_INET`.
const INET: u8 = 1;

/// Length of the nfnetlink header: family, version, resource. An attribute header (length, type) is as long.
const HEADER: usize = 4;

/// A message without its netlink header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    kind: u16,
    header: [u8; HEADER],
    attributes: Vec<u8>,
}

impl Message {
    /// A message about tables of family `inet`.
    pub(crate) fn new(kind: u16, attributes: &[DefaultNla]) -> Self {
        Self { kind, header: [INET, 0, 0, 0], attributes: emitted(attributes) }
    }

    /// A message about an address family.
    pub(crate) fn of(family: u8, kind: u16, attributes: &[DefaultNla]) -> Self {
        Self { kind, header: [family, 0, 0, 0], attributes: emitted(attributes) }
    }

    /// The start or end of a batch.
    pub(crate) fn frame(kind: u16, attributes: &[DefaultNla]) -> Self {
        let [high, low] = kind::NFTABLES.to_be_bytes();
        Self { kind, header: [0, 0, high, low], attributes: emitted(attributes) }
    }

    #[cfg(feature = "rules")]
    pub(crate) fn kind(&self) -> u16 {
        self.kind
    }

    pub(crate) fn attributes(&self) -> Attributes<'_> {
        Attributes(&self.attributes)
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        HEADER + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let bytes = self.header.iter().chain(&self.attributes);
        buffer.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let short = || DecodeError::buffer_too_small(payload.len(), HEADER);
        let (&own, attributes) = payload.split_first_chunk().ok_or_else(short)?;
        Ok(Self { kind: header.message_type, header: own, attributes: attributes.to_vec() })
    }
}

/// Attributes. A malformed one ends the iteration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Types and values, in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        NlasIterator::new(self.0).map_while(Result::ok).filter_map(|nla| {
            let (kind, length) = (nla.kind() & NLA_TYPE_MASK, usize::from(nla.length()));
            nla.into_inner().get(HEADER..length).map(|value| (kind, value))
        })
    }

    /// The first of this type.
    pub(crate) fn bytes(self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// The first of this type, as nested attributes.
    pub(crate) fn nested(self, kind: u16) -> Option<Self> {
        self.bytes(kind).map(Attributes)
    }

    /// All of this type, as nested attributes.
    pub(crate) fn all_nested(self, kind: u16) -> impl Iterator<Item = Self> {
        self.iter().filter(move |(found, _)| *found == kind).map(|(_, value)| Attributes(value))
    }

    pub(crate) fn u32(self, kind: u16) -> Option<u32> {
        self.bytes(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(self, kind: u16) -> Option<u64> {
        self.bytes(kind)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// The text of this type, without the terminating zero.
    pub(crate) fn text(self, kind: u16) -> Option<&'a str> {
        let bytes = self.bytes(kind)?;
        str::from_utf8(bytes.strip_suffix(b"\0").unwrap_or(bytes)).ok()
    }
}

pub(crate) fn text(kind: u16, text: &str) -> DefaultNla {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    DefaultNla::new(kind, bytes)
}

pub(crate) fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    DefaultNla::new(kind | NLA_F_NESTED, emitted(attributes))
}

fn emitted(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attribute as the kernel's headers have it: length, kind, value, padding to a multiple of 4.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).expect("it is short");
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn bytes(message: &Message) -> Vec<u8> {
        let mut bytes = vec![0xff; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn a_message_is_its_header_and_its_attributes() {
        let one = text(1, "fw4");
        let list = nested(3, &[DefaultNla::new(5, vec![1, 2])]);
        let attributes = [attribute(1, b"fw4\0"), attribute(3 | 0x8000, &attribute(5, &[1, 2]))].concat();
        // the message, its kind, its header: family inet, or none and nftables
        let rows = [
            (Message::new(0x0a0a, &[one.clone(), list.clone()]), 0x0a0a, [1, 0, 0, 0]),
            (Message::frame(16, &[one, list]), 16, [0, 0, 0, 10]),
        ];
        for (message, kind, header) in rows {
            assert_eq!(
                (message.message_type(), bytes(&message)),
                (kind, [&header[..], &attributes].concat())
            );
            let mut head = NetlinkHeader::default();
            head.message_type = kind;
            assert_eq!(Message::deserialize(&head, &bytes(&message)).ok(), Some(message));
        }
        assert!(Message::deserialize(&NetlinkHeader::default(), &[1, 0, 0]).is_err());
    }

    #[test]
    fn attributes_are_found_by_type() {
        let whole = [
            attribute(1, b"fw4\0"),
            attribute(1, b"second\0"),
            attribute(2, b"no end"),
            attribute(3 | 0x8000, &[attribute(1, &[7]), attribute(1, &[8])].concat()),
            attribute(4, &0x0102_0304_u32.to_be_bytes()),
            attribute(5, &0x0102_0304_0506_0708_u64.to_be_bytes()),
            attribute(6, &[0xff]),
            attribute(7, b""),
        ]
        .concat();
        let all = Attributes(&whole);
        assert_eq!(all.iter().map(|(kind, _)| kind).collect::<Vec<_>>(), [1, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((all.text(1), all.text(2), all.text(6)), (Some("fw4"), Some("no end"), None));
        assert_eq!((all.bytes(7), all.bytes(9)), (Some(&b""[..]), None));
        assert_eq!((all.u32(4), all.u64(5)), (Some(0x0102_0304), Some(0x0102_0304_0506_0708)));
        // Of another length.
        assert_eq!((all.u32(5), all.u64(4), all.u32(7)), (None, None, None));
        let inner: Vec<_> = all.nested(3).expect("it is there").iter().collect();
        assert_eq!(inner, [(1, &[7][..]), (1, &[8])]);
        let lists: Vec<_> = all.all_nested(1).map(|list| list.0).collect();
        assert_eq!(lists, [&b"fw4\0"[..], b"second\0"]);
    }

    #[test]
    fn a_malformed_attribute_ends_the_iteration() {
        let good = attribute(1, &[7]);
        for (name, rest) in [
            ("a part of a header", vec![8, 0, 2]),
            ("a length that is less than the header", vec![3, 0, 2, 0]),
            ("a length that is more than there is", vec![9, 0, 2, 0, 1]),
        ] {
            let bytes = [good.clone(), rest].concat();
            assert_eq!(Attributes(&bytes).iter().collect::<Vec<_>>(), [(1, &[7][..])], "{name}");
        }
    }

    #[test]
    fn types_are_those_of_the_kernel() {
        let found = [
            kind::BATCH_BEGIN,
            kind::BATCH_END,
            kind::GET_SET,
            kind::NEW_ELEMENT,
            kind::GET_ELEMENT,
            kind::DELETE_ELEMENT,
            kind::GET_GENERATION,
        ];
        assert_eq!(found, [0x10, 0x11, 0x0a0a, 0x0a0c, 0x0a0d, 0x0a0e, 0x0a10]);
    }
}
