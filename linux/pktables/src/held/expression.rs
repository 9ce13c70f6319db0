//! Expressions of rules as netlink attributes. Names and numbers are from the kernel's
//! `include/uapi/linux/netfilter/nf_tables.h`; register contents are as the kernel has them.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use netlink_packet_core::DefaultNla;

use crate::{
    message::{attribute, nested, text},
    scope::Interface,
    service::Protocol,
};

/// `NFT_REG_1`, of 16 bytes. Each comparison loads it again.
const REGISTER: u32 = 1;

/// `NFT_REG_2`, which follows it.
const SECOND: u32 = 2;

/// `NFT_REG32_01`, which follows the first 4 bytes of it.
const AFTER_FOUR: u32 = 9;

/// `NFT_META_NFPROTO`, and in it `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const FAMILY: u32 = 15;
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// Bits of `NFT_CT_STATE` (`NF_CT_STATE_BIT`).
pub(super) mod state {
    pub(crate) const INVALID: u32 = 1;
    pub(crate) const ESTABLISHED: u32 = 2;
    pub(crate) const UNTRACKED: u32 = 64;
}

/// Where a field is in a packet.
#[derive(Clone, Copy)]
pub(super) enum Base {
    /// `NFT_PAYLOAD_NETWORK_HEADER`.
    Network,
    /// `NFT_PAYLOAD_TRANSPORT_HEADER`.
    Transport,
}

/// How a rule ends.
pub(super) enum Verdict<'a> {
    Drop,
    Accept,
    Jump(&'a str),
    Goto(&'a str),
}

/// The expressions of a rule, in order.
#[derive(Default)]
pub(super) struct Rule(Vec<DefaultNla>);

impl Rule {
    pub(super) fn attributes(&self) -> &[DefaultNla] {
        &self.0
    }

    fn push(mut self, name: &str, attributes: &[DefaultNla]) -> Self {
        self.0.push(expression(name, attributes));
        self
    }

    /// `NFTA_META_DREG` and `NFTA_META_KEY`.
    fn meta(self, key: u32) -> Self {
        self.push("meta", &[number(1, REGISTER), number(2, key)])
    }

    fn payload(self, base: Base, offset: u32, length: u32) -> Self {
        self.payload_to(REGISTER, base, offset, length)
    }

    fn payload_to(self, register: u32, base: Base, offset: u32, length: u32) -> Self {
        let base = match base {
            Base::Network => 1,
            Base::Transport => 2,
        };
        self.push("payload", &[number(1, register), number(2, base), number(3, offset), number(4, length)])
    }

    fn compare(self, operation: u32, value: &[u8]) -> Self {
        let value = nested(3, &[DefaultNla::new(attribute::VALUE, value.to_vec())]);
        self.push("cmp", &[number(1, REGISTER), number(2, operation), value])
    }

    /// `NFT_CMP_EQ`.
    fn equals(self, value: &[u8]) -> Self {
        self.compare(0, value)
    }

    /// `NFT_CMP_NEQ`.
    fn differs(self, value: &[u8]) -> Self {
        self.compare(1, value)
    }

    fn mask(self, mask: &[u8]) -> Self {
        let zero = vec![0; mask.len()];
        let length = u32::try_from(mask.len()).unwrap_or_default();
        let value = |kind, bytes| nested(kind, &[DefaultNla::new(attribute::VALUE, bytes)]);
        self.push(
            "bitwise",
            &[
                number(1, REGISTER),
                number(2, REGISTER),
                number(3, length),
                value(4, mask.to_vec()),
                value(5, zero),
            ],
        )
    }

    /// Packets that arrive on an interface (`NFT_META_IIFNAME`).
    pub(super) fn arrives_at(self, interface: &Interface) -> Self {
        let mut name = interface.as_str().as_bytes().to_vec();
        name.resize(16, 0);
        self.meta(6).equals(&name)
    }

    /// Packets to an address of this host: `NFT_FIB_RESULT_ADDRTYPE` of `NFTA_FIB_F_DADDR` is `RTN_LOCAL`.
    pub(super) fn local(self) -> Self {
        self.push("fib", &[number(1, REGISTER), number(2, 3), number(3, 2)]).equals(&2_u32.to_ne_bytes())
    }

    /// Packets of a protocol (`NFT_META_L4PROTO`).
    pub(super) fn protocol(self, protocol: Protocol) -> Self {
        self.meta(16).equals(&[protocol.number()])
    }

    /// Packets to a port, or to one of a range.
    pub(super) fn ports(self, ports: &RangeInclusive<u16>) -> Self {
        let (first, last) = (ports.start().to_be_bytes(), ports.end().to_be_bytes());
        if first == last {
            return self.field(Base::Transport, 2, &first);
        }
        // NFT_CMP_GTE and NFT_CMP_LTE.
        self.payload(Base::Transport, 2, 2).compare(5, &first).compare(3, &last)
    }

    /// Packets with these bytes in a header.
    pub(super) fn field(self, base: Base, offset: u32, bytes: &[u8]) -> Self {
        self.payload(base, offset, u32::try_from(bytes.len()).unwrap_or_default()).equals(bytes)
    }

    /// TCP segments other than those with SYN and without ACK.
    pub(super) fn without_syn(self) -> Self {
        const SYN: u8 = 2;
        const ACK: u8 = 16;
        self.payload(Base::Transport, 13, 1).mask(&[SYN | ACK]).differs(&[SYN])
    }

    /// Packets whose connection is in one of these states (`NFT_CT_STATE`).
    pub(super) fn in_state(self, states: u32) -> Self {
        self.push("ct", &[number(1, REGISTER), number(2, 0)]).mask(&states.to_ne_bytes()).differs(&[0; 4])
    }

    /// Packets of the side that has begun the connection: `NFT_CT_DIRECTION` is `IP_CT_DIR_ORIGINAL`.
    pub(super) fn of_beginner(self) -> Self {
        self.push("ct", &[number(1, REGISTER), number(2, 1)]).equals(&[0])
    }

    /// Loads the source address, or its prefix.
    pub(super) fn source(self, v6: bool, prefix: u8) -> Self {
        let (family, offset, length) = if v6 { (IPV6, 8, 16) } else { (IPV4, 12, 4) };
        let loaded = self.meta(FAMILY).equals(&[family]).payload(Base::Network, offset, length);
        match mask(v6, prefix) {
            None => loaded,
            Some(mask) => loaded.mask(&mask),
        }
    }

    /// Packets of IPv4.
    pub(super) fn ipv4(self) -> Self {
        self.meta(FAMILY).equals(&[IPV4])
    }

    /// Packets of IPv6 whose source address is not link-local.
    pub(super) fn source_beyond_link(self) -> Self {
        let mut prefix = [0; 16];
        prefix[..2].copy_from_slice(&[0xfe, 0x80]);
        self.source(true, 10).differs(&prefix)
    }

    /// Loads the IPv6 source address and the index of the interface that the packet has arrived on (`NFT_META_IIF`).
    pub(super) fn source_on_link(self) -> Self {
        self.source(true, 128).push("meta", &[number(1, SECOND), number(2, 4)])
    }

    /// Packets from an address or prefix.
    pub(super) fn network(self, network: IpNet) -> Self {
        let v6 = network.addr().is_ipv6();
        let value = match network.network() {
            std::net::IpAddr::V4(address) => address.octets().to_vec(),
            std::net::IpAddr::V6(address) => address.octets().to_vec(),
        };
        self.source(v6, network.prefix_len()).equals(&value)
    }

    /// Packets for which what was loaded is in a set.
    pub(super) fn in_set(self, set: &str) -> Self {
        self.push("lookup", &[text(1, set), number(2, REGISTER)])
    }

    /// Loads a field.
    pub(super) fn load(self, base: Base, offset: u32, length: u32) -> Self {
        self.payload(base, offset, length)
    }

    /// Loads the first word after a UDP header behind a source address.
    pub(super) fn and_word(self, v6: bool) -> Self {
        self.payload_to(if v6 { SECOND } else { AFTER_FOUR }, Base::Transport, 8, 4)
    }

    /// Packets beyond a rate.
    pub(super) fn beyond_rate(self, rate: u32, burst: u32) -> Self {
        self.push("limit", &limit(rate, burst))
    }

    /// Packets beyond the rate of what was loaded. The set is updated (`NFT_DYNSET_OP_UPDATE`).
    pub(super) fn beyond_rate_of(self, set: &str, rate: u32) -> Self {
        // The expression itself is the attribute, not an item of a list.
        let limit = expression("limit", &limit(rate, rate));
        let limit = DefaultNla::new(7 | netlink_packet_core::NLA_F_NESTED, value_of(&limit));
        self.push("dynset", &[text(1, set), number(3, 1), number(4, REGISTER), limit])
    }

    /// Passes packets to an NFLOG group, one by one.
    pub(super) fn log(self, group: u16, snaplen: u32) -> Self {
        let short = |kind, value: u16| DefaultNla::new(kind, value.to_be_bytes().to_vec());
        self.push("log", &[short(1, group), number(3, snaplen), short(4, 1)])
    }

    pub(super) fn count(self) -> Self {
        self.push("counter", &[])
    }

    pub(super) fn then(self, verdict: &Verdict<'_>) -> Self {
        let (code, chain) = match verdict {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Goto(chain) => (-4, Some(chain)),
        };
        let mut attributes = vec![DefaultNla::new(1, i32::to_be_bytes(code).to_vec())];
        attributes.extend(chain.map(|chain| text(2, chain)));
        // NFT_REG_VERDICT, NFTA_DATA_VERDICT.
        self.push("immediate", &[number(1, 0), nested(2, &[nested(2, &attributes)])])
    }
}

/// More packets per second than `rate`, and more than `burst` at once.
fn limit(rate: u32, burst: u32) -> [DefaultNla; 5] {
    [
        DefaultNla::new(1, u64::from(rate).to_be_bytes().to_vec()),
        // Per second.
        DefaultNla::new(2, 1_u64.to_be_bytes().to_vec()),
        number(3, burst),
        // NFT_LIMIT_PKTS and NFT_LIMIT_F_INV.
        number(4, 0),
        number(5, 1),
    ]
}

/// The mask of a prefix; `None`: the whole address.
fn mask(v6: bool, prefix: u8) -> Option<Vec<u8>> {
    let bits: u8 = if v6 { 128 } else { 32 };
    (prefix < bits).then(|| {
        let byte = |index: u8| {
            let ones = prefix.saturating_sub(index.saturating_mul(8)).min(8);
            u8::MAX.checked_shl(u32::from(8 - ones)).unwrap_or_default()
        };
        (0..bits / 8).map(byte).collect()
    })
}

/// `NFTA_LIST_ELEM` with `NFTA_EXPR_NAME` and `NFTA_EXPR_DATA`.
fn expression(name: &str, attributes: &[DefaultNla]) -> DefaultNla {
    let data = nested(attribute::EXPRESSION_DATA, attributes);
    nested(attribute::LIST_ITEM, &[text(attribute::EXPRESSION_NAME, name), data])
}

fn value_of(attribute: &DefaultNla) -> Vec<u8> {
    use netlink_packet_core::Nla as _;
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    value
}

pub(super) fn number(kind: u16, number: u32) -> DefaultNla {
    DefaultNla::new(kind, number.to_be_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_mask() {
        let rows: [(bool, u8, Option<&[u8]>); 6] = [
            (false, 32, None),
            (true, 128, None),
            (false, 1, Some(&[128, 0, 0, 0])),
            (false, 23, Some(&[255, 255, 254, 0])),
            (false, 24, Some(&[255, 255, 255, 0])),
            (true, 33, Some(&[255, 255, 255, 255, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        ];
        for (v6, prefix, expected) in rows {
            assert_eq!(mask(v6, prefix).as_deref(), expected, "{prefix}");
        }
    }
}
