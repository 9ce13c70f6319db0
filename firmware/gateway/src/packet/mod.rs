//! IP packets: parsed once, rewritten in place.

mod header;
mod ipv4;
mod ipv6;
mod quote;
mod rewrite;

pub(crate) use header::{
    ETHERNET_HEADER, Header, ICMP_HEADER, IPV6_HEADER, Transport, datagram, is_unicast_host,
};
pub(crate) use ipv4::{is_source_routed, parse as parse_v4};
pub(crate) use ipv6::parse as parse_v6;
pub(crate) use quote::Quote;
pub(crate) use rewrite::{Endpoints, readdress, rewrite, rewrite_quote};
