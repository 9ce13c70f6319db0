//! Format 2: the same 56 bytes, in which nothing is in clear. A knock can be bound to its sender's address and to the
//! gateway's, and forgeries are refused at the cost of two SipHashes.
//!
//! ```
//! use pkd_core::{Key, Packet, Port, Reason, ReplayCache, Tag, UnixMillis, Verdict, Window};
//! use pkd_core::format2::{Addresses, Bindings, Knock, KnockParams, Request, Rule};
//!
//! let rule = Rule::new(&Key::parse("test")?, Tag::parse("SSHK")?, Window::from_secs(10), Bindings::default());
//! let time = UnixMillis(1_800_000_000_123);
//! let sender = Addresses::V4 { source: &[198, 51, 100, 7], destination: &[203, 0, 113, 9] };
//! let params = KnockParams { time, nonce: [7; 12], bindings: Bindings::SOURCE, request: Request::Open };
//! let payload = Knock::seal(rule.keys(), &params, Port(40_000), &sender);
//!
//! let now = UnixMillis(1_800_000_002_000);
//! let hints = rule.hints(now); // anew before each slot begins, see [`Hints`]
//! let mut cache = ReplayCache::<256, UnixMillis>::new(UnixMillis(0));
//! let packet = Packet { destination_port: Port(40_000), payload: &payload };
//! let elsewhere = Addresses::V4 { source: &[198, 51, 100, 8], destination: &[203, 0, 113, 9] };
//! let mut verify = |from| rule.verify(&hints, &mut cache, now, &packet, from, &[]);
//! assert_eq!(verify(&elsewhere), Verdict::Ignore(Reason::Digest), "the source is bound");
//! assert_eq!(verify(&sender), Verdict::Accept);
//! assert_eq!(verify(&sender), Verdict::Ignore(Reason::Replay));
//! # Ok::<(), pkd_core::SecretError>(())
//! ```

mod addresses;
mod hints;
mod keys;
mod knock;
mod rule;
mod sip;

pub use addresses::{Addresses, Bindings};
pub use hints::Hints;
pub use keys::Keys;
pub use knock::{Contents, Knock, KnockParams, Request};
pub use rule::Rule;
