//! The values that the other modules exchange. Nothing here reads a file, asks a terminal or uses the network.

mod bind;
mod host;
mod hosts;
mod options;
mod outlet;
mod profile;
mod request;
#[cfg(feature = "desktop")]
mod salt;
mod service;

pub(crate) use bind::Bind;
#[cfg(feature = "desktop")]
pub(crate) use bind::words as binding_words;
pub(crate) use host::Host;
pub(crate) use hosts::Hosts;
pub(crate) use options::{Families, Format, Source};
pub(crate) use outlet::Outlet;
pub(crate) use profile::{KeySource, Profile};
pub(crate) use request::Request;
#[cfg(feature = "desktop")]
pub(crate) use salt::Salt;
pub(crate) use service::Protocol;
#[cfg(feature = "desktop")]
pub(crate) use service::Service;
