//! What `nf_tables` is asked and answers, as messages of netlink. Names and numbers are those of the kernel's
//! `include/uapi/linux/netfilter/nf_tables.h` and `nfnetlink.h`; numbers are big endian on the wire.

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable as _, NLA_F_NESTED, NLA_TYPE_MASK, NetlinkDeserializable,
    NetlinkHeader, NetlinkSerializable, NlasIterator,
};

/// Kinds of messages.
pub(crate) mod kind {
    /// `NFNL_MSG_BATCH_BEGIN`.
    pub(crate) const BATCH_BEGIN: u16 = 16;
    /// `NFNL_MSG_BATCH_END`.
    pub(crate) const BATCH_END: u16 = 17;
    /// `NFNL_SUBSYS_NFTABLES`, in the upper byte of the kinds below and in the resource of a batch.
    pub(crate) const NFTABLES: u16 = 10;
    const fn of_nftables(kind: u16) -> u16 {
        NFTABLES << 8 | kind
    }
    /// `NFT_MSG_GETSET`.
    pub(crate) const GET_SET: u16 = of_nftables(10);
    /// `NFT_MSG_NEWSETELEM`.
    pub(crate) const NEW_ELEMENT: u16 = of_nftables(12);
    /// `NFT_MSG_GETSETELEM`.
    pub(crate) const GET_ELEMENT: u16 = of_nftables(13);
    /// `NFT_MSG_DELSETELEM`.
    pub(crate) const DELETE_ELEMENT: u16 = of_nftables(14);
    /// `NFT_MSG_GETGEN`.
    pub(crate) const GET_GENERATION: u16 = of_nftables(16);
}

/// Kinds of attributes.
pub(crate) mod attribute {
    /// `NFNL_BATCH_GENID`.
    pub(crate) const BATCH_GENERATION: u16 = 1;
    /// `NFTA_GEN_ID`.
    pub(crate) const GENERATION: u16 = 1;
    /// `NFTA_SET_TABLE`, `NFTA_SET_ELEM_LIST_TABLE`.
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

/// The header of nfnetlink: family, version, resource. An attribute's header is as long: length, kind.
const HEADER: usize = 4;

/// One message without its netlink header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    kind: u16,
    header: [u8; HEADER],
    attributes: Vec<u8>,
}

impl Message {
    /// About tables of the family `inet`.
    pub(crate) fn new(kind: u16, attributes: &[DefaultNla]) -> Self {
        Self { kind, header: [INET, 0, 0, 0], attributes: emitted(attributes) }
    }

    /// The beginning or end of a transaction.
    pub(crate) fn frame(kind: u16, attributes: &[DefaultNla]) -> Self {
        let [high, low] = kind::NFTABLES.to_be_bytes();
        Self { kind, header: [0, 0, high, low], attributes: emitted(attributes) }
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

/// Attributes as they came. What is malformed ends them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Kinds and values, in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        NlasIterator::new(self.0).map_while(Result::ok).filter_map(|nla| {
            let (kind, length) = (nla.kind() & NLA_TYPE_MASK, usize::from(nla.length()));
            nla.into_inner().get(HEADER..length).map(|value| (kind, value))
        })
    }

    /// The first of this kind.
    pub(crate) fn bytes(self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// The first of this kind, which holds attributes.
    pub(crate) fn nested(self, kind: u16) -> Option<Self> {
        self.bytes(kind).map(Attributes)
    }

    /// All of this kind, which hold attributes.
    pub(crate) fn all_nested(self, kind: u16) -> impl Iterator<Item = Self> {
        self.iter().filter(move |(found, _)| *found == kind).map(|(_, value)| Attributes(value))
    }

    pub(crate) fn u32(self, kind: u16) -> Option<u32> {
        self.bytes(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(self, kind: u16) -> Option<u64> {
        self.bytes(kind)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// The text of this kind, without the zero at its end.
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
