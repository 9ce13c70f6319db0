//! What IPv6 addresses have and IPv4 addresses do not: the first 12 bytes. Most flows are of IPv4, so flows keep only the last
//! four bytes of their addresses, and those of IPv6 the rest here.

use crate::{flow::Tuple, ip::Ip};

/// Flows of IPv6 at the same time.
pub(crate) const FLOWS_V6: usize = 256;

/// The first three words of a client's address, and of its server's.
type Pair = [u32; 6];

/// The rest of both addresses of each flow of IPv6. An empty table is all zeros.
#[derive(Debug)]
pub(crate) struct Prefixes {
    pairs: [Pair; FLOWS_V6],
}

impl Prefixes {
    pub(crate) const fn new() -> Self {
        Self { pairs: [[0; 6]; FLOWS_V6] }
    }

    /// The place of a flow's prefixes, plus one. 0 for IPv4. `None` if all places are taken.
    pub(crate) fn take(&mut self, tuple: &Tuple) -> Option<u16> {
        if tuple.client.ip.is_v4() {
            return Some(0);
        }
        let new = pair(tuple);
        // Addresses that begin with 32 zero bits have been deprecated (RFC 4291, section 2.5.5.1), except for mapped ones.
        if new[0] == 0 {
            return None;
        }
        let (index, place) = self.pairs.iter_mut().enumerate().find(|(_, place)| place[0] == 0)?;
        *place = new;
        u16::try_from(index + 1).ok()
    }

    /// Frees a place.
    pub(crate) fn free(&mut self, place: u16) {
        if let Some(pair) = usize::from(place).checked_sub(1).and_then(|index| self.pairs.get_mut(index)) {
            *pair = [0; 6];
        }
    }

    /// Whether a flow with its prefixes at this place has those of the tuple.
    #[inline(always)]
    #[allow(clippy::inline_always)] // saves each frame a call
    pub(crate) fn is(&self, place: u16, tuple: &Tuple) -> bool {
        match usize::from(place).checked_sub(1) {
            None => tuple.client.ip.is_v4(),
            Some(index) => self.pairs.get(index).is_some_and(|known| *known == pair(tuple)),
        }
    }

    /// The addresses of the client and the server whose last words are `low`.
    pub(crate) fn join(&self, place: u16, low: [u32; 2]) -> [Ip; 2] {
        let [client, server] = low;
        let pair = usize::from(place).checked_sub(1).and_then(|index| self.pairs.get(index));
        match pair {
            None => [Ip::v4(client), Ip::v4(server)],
            Some([a, b, c, d, e, f]) => {
                [Ip::from_words([*a, *b, *c, client]), Ip::from_words([*d, *e, *f, server])]
            }
        }
    }
}

fn pair(tuple: &Tuple) -> Pair {
    let ([a, b, c, _], [d, e, f, _]) = (tuple.client.ip.words(), tuple.server.ip.words());
    [a, b, c, d, e, f]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{FlowKind, Peer};

    #[test]
    fn a_flow_of_ipv4_is_none_of_ipv6_with_the_same_last_bytes() {
        let tuple = |client, server| Tuple {
            kind: FlowKind::Tcp,
            client: Peer { ip: client, port: 1 },
            server: Peer { ip: server, port: 2 },
        };
        let v4 = tuple(Ip::v4(7), Ip::v4(8));
        let v6 = tuple(Ip::from_words([0x2001_0db8, 0, 0, 7]), Ip::from_words([0x2001_0db8, 0, 0, 8]));
        let other = tuple(Ip::from_words([0x2001_0db8, 0, 1, 7]), Ip::from_words([0x2001_0db8, 0, 0, 8]));
        let mut prefixes = Prefixes::new();
        let places = (prefixes.take(&v4), prefixes.take(&v6));
        assert_eq!(places, (Some(0), Some(1)));
        for (place, own) in [(0, v4), (1, v6)] {
            for tuple in [v4, v6, other] {
                assert_eq!(prefixes.is(place, &tuple), tuple == own, "{place}: {tuple:?}");
            }
            assert_eq!(prefixes.join(place, [7, 8]), [own.client.ip, own.server.ip]);
        }
        let mapped = tuple(Ip::from_words([0, 0, 0, 7]), Ip::from_words([0, 0, 0, 8]));
        assert_eq!(prefixes.take(&mapped), None, "its place would seem to be free");
    }
}
