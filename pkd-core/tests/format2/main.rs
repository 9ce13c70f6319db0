//! Format 2: what its checks refuse, whatever is altered, captured or replayed.

mod bindings;
mod bits;
mod hints;
mod randomness;
mod reboots;

use pkd_core::{
    Key, LENGTH, Packet, Port, ReplayCache, Tag, UnixMillis, Verdict, Window,
    format2::{Addresses, Bindings, Knock, KnockParams, Request, Rule},
};

const PORT: Port = Port(40_000);
/// In the middle of a slot.
const NOW: UnixMillis = UnixMillis(27_465_820 * 65_536 + 32_768);
const HERE: Addresses<'_> = Addresses::V4 { source: &[198, 51, 100, 7], destination: &[203, 0, 113, 9] };
const KNOCK: KnockParams =
    KnockParams { time: NOW, nonce: *b"twelve bytes", bindings: Bindings::NONE, request: Request::Open };

fn rule(window: u32) -> Rule {
    requiring(window, Bindings::NONE)
}

fn requiring(window: u32, require: Bindings) -> Rule {
    Rule::new(&Key::from_bytes([0xa5; Key::LENGTH]), Tag(*b"SSHK"), Window::from_secs(window), require)
}

fn seal(params: &KnockParams) -> [u8; LENGTH] {
    Knock::seal(rule(10).keys(), params, PORT, &HERE)
}

/// A gateway with a window of 10 s whose hints are always there.
struct Gateway {
    rule: Rule,
    cache: ReplayCache<4, UnixMillis>,
}

impl Gateway {
    fn new(rule: Rule) -> Self {
        Self { rule, cache: ReplayCache::new(UnixMillis(0)) }
    }

    fn check(&mut self, payload: &[u8], port: Port, addresses: &Addresses<'_>) -> Verdict {
        self.check_at(NOW, payload, port, addresses)
    }

    fn check_at(
        &mut self,
        now: UnixMillis,
        payload: &[u8],
        port: Port,
        addresses: &Addresses<'_>,
    ) -> Verdict {
        let packet = Packet { destination_port: port, payload };
        let hints = self.rule.hints(now);
        let verdict = self.rule.verify(&hints, &mut self.cache, now, &packet, addresses, &[]);
        // With hints of this time, noise is what ends at the first two checks.
        if let Some(reason) = self.rule.noise(&hints, &packet) {
            assert_eq!(verdict, Verdict::Ignore(reason));
        }
        verdict
    }
}
