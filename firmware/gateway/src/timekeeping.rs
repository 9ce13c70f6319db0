//! The gateway's part in keeping the time: which replies its network stack may receive, and how old its clock is.

use core::net::{Ipv4Addr, SocketAddrV4};

use crate::{
    Instant, STALE_AFTER, config::TimeSource, counters::increment, gateway::Gateway, light::Light,
    time_client::TimeFailure,
};

impl<const FLOWS: usize, const GRANTS: usize, const RULES: usize, const KNOCKS: usize>
    Gateway<'_, FLOWS, GRANTS, RULES, KNOCKS>
{
    /// Adds what the gateway has to know to a request in the first `length` bytes of `frame`, which
    /// [`on_stack_frame`](Self::on_stack_frame) has written: the time servers, to one of DHCP. Returns the new length. Without
    /// room for it, the request stays unchanged.
    pub fn complete_request(&mut self, frame: &mut [u8], length: usize) -> usize {
        if matches!(self.config.time, TimeSource::Dhcp { .. }) {
            return self.dhcp.on_request(frame, length);
        }
        length
    }

    /// Reads what the gateway has to know from a frame that its network stack is about to receive.
    pub fn before_stack(&mut self, frame: &[u8]) {
        if matches!(self.config.time, TimeSource::Dhcp { .. }) {
            self.dhcp.on_answer(frame);
        }
    }

    /// The time servers that DHCP names.
    #[must_use]
    pub fn dhcp_time_servers(&self) -> &[Ipv4Addr] {
        self.dhcp.servers()
    }

    /// Lets the network stack receive replies of this server from now on, and of no other: the time server that it asks, or the
    /// DNS server.
    pub fn expect_reply(&mut self, server: SocketAddrV4) {
        self.awaited = Some(server.into());
    }

    /// Counts a failure of a time server. [`set_time`](Self::set_time) counts the times that it rejects.
    pub fn time_failed(&mut self, why: TimeFailure) {
        let counters = &mut self.counters;
        match why {
            TimeFailure::Disbelieved => {}
            TimeFailure::Rate | TimeFailure::Denied => increment(Some(&mut counters.time_refused)),
            TimeFailure::NoReply | TimeFailure::NotSynchronised | TimeFailure::NoServer => {
                increment(Some(&mut counters.time_missing));
            }
        }
    }

    /// Seconds since a time server has last set the clock. `None` if the time is not known.
    #[must_use]
    pub fn clock_age(&self, now: Instant) -> Option<u64> {
        self.clock.age(now)
    }

    /// What the LED shows.
    #[must_use]
    pub fn light(&self, now: Instant) -> Light {
        let stale_after = STALE_AFTER.max(3 * u32::from(self.config.time.interval()));
        match self.clock_age(now) {
            _ if self.is_looped(now) => Light::Loop,
            _ if self.config.time == TimeSource::None => Light::Normal,
            None => Light::NoTime,
            Some(age) if age >= u64::from(stale_after) => Light::Stale,
            Some(_) => Light::Normal,
        }
    }
}
