//! Packets of a capture file.

use std::fmt;

use pkd_core::UnixSeconds;

use crate::{
    Datagram,
    datagram::Seen,
    link::{self, LinkType},
};

/// A packet of a capture file.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// Its number in the file, from 1.
    pub number: u64,
    /// When it was captured; simple packet blocks do not say it.
    pub time: Option<UnixSeconds>,
    /// What it is.
    pub content: Content<'a>,
}

/// What a captured packet is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Content<'a> {
    /// A UDP datagram, as whole as it was sent.
    Datagram(Datagram<'a>),
    /// A packet that the capture has only the beginning of, because of its snap length, and that may be a datagram.
    Cut {
        /// The datagram, if its headers are there.
        datagram: Option<Datagram<'a>>,
        /// How much is there.
        cut: Cut,
    },
    /// The link type is not supported.
    UnknownLink(LinkType),
    /// The interface is not described before the packet.
    UnknownInterface,
    /// Not UDP, a fragment, or malformed.
    Other,
}

/// A packet whose end the capture does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// How many bytes the capture kept, with all headers.
    pub kept: usize,
    /// How many bytes there were.
    pub original: u32,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kept, original } = self;
        write!(f, "the capture kept only {kept} of {original} bytes; capture with -s 0")
    }
}

/// What the capture kept of a packet.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    pub(crate) bytes: &'a [u8],
    /// The length of the whole packet.
    pub(crate) original: u32,
}

impl Span<'_> {
    fn is_cut(&self) -> bool {
        u32::try_from(self.bytes.len()).is_ok_and(|kept| kept < self.original)
    }
}

impl<'a> Content<'a> {
    /// `link` is `None` if the interface is unknown.
    pub(crate) fn of(link: Option<LinkType>, span: Span<'a>) -> Self {
        let Some(link) = link else { return Self::UnknownInterface };
        let Some(seen) = link::seen(link, span.bytes) else { return Self::UnknownLink(link) };
        let cut = Cut { kept: span.bytes.len(), original: span.original };
        let cut = |datagram| Self::Cut { datagram, cut };
        match seen {
            Seen::Datagram(datagram) if span.is_cut() && !datagram.is_whole() => cut(Some(datagram)),
            Seen::Datagram(datagram) => Self::Datagram(datagram),
            Seen::Short if span.is_cut() => cut(None),
            Seen::Short | Seen::Other => Self::Other,
        }
    }
}
