//! The order of the checks.

use crate::{Knock, KnockId, Packet, Reason, ReplayStore, Rule, UnixSeconds, Verdict};

impl Rule {
    /// Decides about a datagram at the time `now`; the first check that fails gives the reason.
    ///
    /// `store` must be the one that all rules with this tag and key share; a second one would accept the same knock
    /// again. `now` is the gateway's clock; it is ignored with [`Window::Monotonic`](crate::Window::Monotonic). The
    /// caller must have filtered out fragments and datagrams with a wrong checksum.
    ///
    /// ```
    /// use pkd_core::{Key, Knock, KnockParams, Packet, Port, Reason, ReplayCache, Rule, Tag, UnixSeconds, Verdict, Window};
    ///
    /// let rule = Rule::new(Key::from_bytes([7; 40]), Tag::default(), Window::default());
    /// let mut cache = ReplayCache::<256>::new(UnixSeconds(0));
    /// let now = UnixSeconds(1_800_000_000);
    /// let params = KnockParams { key: rule.key(), tag: rule.tag(), time: now, nonce: [7; 12] };
    /// let payload = Knock::seal(&params, Port(40_000));
    /// let packet = Packet { destination_port: Port(40_000), payload: &payload };
    ///
    /// assert_eq!(rule.verify(&mut cache, now, &packet), Verdict::Accept);
    /// assert_eq!(rule.verify(&mut cache, now, &packet), Verdict::Ignore(Reason::Replay));
    /// ```
    pub fn verify<S: ReplayStore>(&self, store: &mut S, now: UnixSeconds, packet: &Packet<'_>) -> Verdict {
        match self.first_failure(store, now, packet) {
            Some(reason) => Verdict::Ignore(reason),
            None => Verdict::Accept,
        }
    }

    /// There is a second look at the store because another CPU may have accepted the same bytes between the first
    /// look and the end of the hash.
    fn first_failure<S: ReplayStore>(
        &self,
        store: &mut S,
        now: UnixSeconds,
        packet: &Packet<'_>,
    ) -> Option<Reason> {
        let window = self.window();
        let Some(knock) = Knock::parse(packet.payload) else {
            return Some(Reason::Length);
        };
        if knock.tag() != self.tag() {
            return Some(Reason::Tag);
        }
        if !window.admits(now, knock.time()) {
            return Some(Reason::Window);
        }
        let claimed = knock.digest();
        let id = KnockId::new(knock.time(), &claimed);
        if store.refuses(id, window) {
            return Some(Reason::Replay);
        }
        if !knock.expected_digest(self.key(), packet.destination_port).matches(&claimed) {
            return Some(Reason::Digest);
        }
        if !store.record(id, window) {
            return Some(Reason::Replay);
        }
        None
    }
}

/// Decides about a datagram for which several rules exist: the first one that accepts it wins.
///
/// A rule is whatever the caller iterates over; `verify` calls [`Rule::verify`] for it. Rules after the one that
/// accepts are not asked.
///
/// ```
/// use pkd_core::{Key, Knock, KnockParams, Packet, Port, Reason, ReplayCache, Rule, Tag, UnixSeconds, Window, verify_any};
///
/// let now = UnixSeconds(1_800_000_000);
/// let rule = |byte| Rule::new(Key::from_bytes([byte; 40]), Tag::default(), Window::default());
/// let mut users = [("anna", rule(1)), ("bob", rule(2))].map(|(name, rule)| {
///     (name, rule, ReplayCache::<256>::new(UnixSeconds(0)))
/// });
///
/// let params = KnockParams { key: &Key::from_bytes([2; 40]), tag: Tag::default(), time: now, nonce: [7; 12] };
/// let payload = Knock::seal(&params, Port(40_000));
/// let packet = Packet { destination_port: Port(40_000), payload: &payload };
/// let mut user_of = |packet| {
///     verify_any(packet, &mut users, |(_, rule, cache)| rule.verify(cache, now, packet)).map(|user| user.0)
/// };
///
/// assert_eq!(user_of(&packet), Ok("bob"));
/// assert_eq!(user_of(&packet), Err(Reason::Digest)); // anna's key does not fit; for bob it is a replay
/// ```
///
/// # Errors
/// No rule accepts the datagram. The reason is that of the rule for which most checks passed. Without any rule it is
/// [`Reason::Tag`], or [`Reason::Length`] if the datagram is no knock. A request to close
/// ([`Verdict::Close`]) is [`Reason::Request`].
pub fn verify_any<R>(
    packet: &Packet<'_>,
    rules: impl IntoIterator<Item = R>,
    mut verify: impl FnMut(&mut R) -> Verdict,
) -> Result<R, Reason> {
    if Knock::parse(packet.payload).is_none() {
        return Err(Reason::Length);
    }
    let mut furthest = Reason::Tag;
    for mut rule in rules {
        match verify(&mut rule) {
            Verdict::Accept => return Ok(rule),
            // Whoever asks here opens: a request to close must never do that.
            Verdict::Close => return Err(Reason::Request),
            Verdict::Ignore(reason) => furthest = furthest.max(reason),
        }
    }
    Err(furthest)
}
