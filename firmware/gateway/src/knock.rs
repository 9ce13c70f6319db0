//! Knocks: what an accepted one opens, and what a request to close ends.

use pkd_core::{LENGTH, Packet, Port as UdpPort, Reason, UnixMillis, Verdict, format2::Addresses};

use crate::{
    Instant,
    action::{KnockOutcome, KnockSender},
    config::{OWN_ADDRESSES, TimeSource},
    drop_reason::DropReason,
    floors::{Floors, seconds},
    gateway::Gateway,
    instant::CoarseInstant,
    packet::{self, Header},
    tables::Tables,
    verifier::{Arrival, Verifier},
};

impl<const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize>
    Gateway<'_, FLOWS, GRANTS, RULES, KNOCKS>
{
    /// Checks a datagram that was sent to the knock port against every rule.
    pub(crate) fn check_knock(
        &mut self,
        now: Instant,
        header: &Header,
        bytes: &[u8],
    ) -> Result<KnockOutcome, DropReason> {
        let payload = packet::datagram(header, bytes)?;
        let millis = match (self.clock.time(now), &self.config.time) {
            (Some(time), _) => time,
            // Every rule has window 0, which does not use the clock.
            (None, TimeSource::None) => UnixMillis(0),
            (None, _) => return Err(DropReason::NoTime),
        };
        // Slots that stay empty are no addresses of either family.
        let (mut outside, mut own) = ([[0; 4]; OWN_ADDRESSES], [&[][..]; OWN_ADDRESSES]);
        let addresses = self.config.own_addresses.iter().zip(&mut outside).zip(&mut own);
        for ((address, octets), slot) in addresses {
            *octets = address.octets();
            *slot = octets;
        }
        let (source, destination) = (header.source.octets(), header.destination.octets());
        let addresses = if header.source.is_v4() {
            // Of a mapped address, the last four bytes.
            match (source.last_chunk(), destination.last_chunk()) {
                (Some(source), Some(destination)) => Addresses::V4 { source, destination },
                _ => return Err(DropReason::Malformed),
            }
        } else {
            Addresses::V6 { source: &source, destination: &destination }
        };
        let port = UdpPort(header.destination_peer().port);
        let arrival = Arrival {
            seconds: seconds(millis),
            millis,
            packet: Packet { destination_port: port, payload },
            addresses,
            own: &own,
        };
        let (verdict, rule) = match self.verify(&arrival) {
            Ok(accepted) => accepted,
            Err(reason) => return Ok(self.outcome(Verdict::Ignore(reason), None)),
        };
        let sender = KnockSender { address: header.source.into(), rule };
        self.act(now, verdict, sender);
        Ok(self.outcome(verdict, Some(sender)))
    }

    /// The first rule that a knock was made for, and what the knock asks for; or the reason of the rule for which most checks
    /// passed.
    fn verify(&mut self, arrival: &Arrival<'_>) -> Result<(Verdict, u8), Reason> {
        // Known before any rule is asked, so that it also holds without rules.
        let is_knock = arrival.packet.payload.len() == LENGTH;
        let mut furthest = if is_knock { Reason::Tag } else { return Err(Reason::Length) };
        let rules = self.config.rules.iter().zip(&mut self.tables.verifiers).zip(0..);
        for ((rule, verifier), index) in rules {
            match verifier.verify(rule, arrival) {
                Verdict::Ignore(reason) => furthest = furthest.max(reason),
                verdict => return Ok((verdict, index)),
            }
        }
        Err(furthest)
    }

    /// Opens or closes, and notes the floors to save: a request to close must not work again either.
    fn act(&mut self, now: Instant, verdict: Verdict, sender: KnockSender) {
        let KnockSender { address, rule: index } = sender;
        let Tables { verifiers, grants, flows, .. } = &mut *self.tables;
        let at = usize::from(index);
        let (Some(rule), Some(verifier)) = (self.config.rules.get(at), verifiers.get(at)) else { return };
        if verdict == Verdict::Accept {
            let prefix = self.config.grant_prefix;
            grants.grant(
                address.into(),
                prefix,
                index,
                rule.services,
                CoarseInstant::from(now).after(rule.ttl),
            );
        } else {
            // During a migration, a key has a rule for each format.
            let of_key = self.config.rules.iter().zip(0..).filter(|(other, _)| other.has_key_of(rule));
            of_key.for_each(|(_, index)| grants.revoke(address.into(), index));
            flows.ask_again();
        }
        self.newest = self.newest.max(verifier.newest());
        let same_format = verifiers.iter().filter(|other| other.has_format_of(verifier));
        let accepted = same_format.map(Verifier::high_water_mark).fold(Floors::default(), Floors::max);
        self.unsaved_floors = Some(self.unsaved_floors.unwrap_or_default().max(accepted));
    }

    fn outcome(&self, verdict: Verdict, sender: Option<KnockSender>) -> KnockOutcome {
        KnockOutcome { verdict, sender, save_floors: self.unsaved_floors }
    }
}
