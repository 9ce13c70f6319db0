//! `pktables` says which address may pass which service.

#![forbid(unsafe_code)]

fn main() {}
