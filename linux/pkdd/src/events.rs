//! What happens at the gate, as lines of JSON for `pkdd events`.

use pkd_core::UnixMillis;
use serde::Serialize;

/// One event. README.md describes the lines.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event<'a> {
    /// The first line: what follows is everything from now on.
    Following {
        /// pkdd's version.
        version: &'a str,
        /// Current problems; empty if there are none.
        trouble: &'a str,
    },
    /// A valid knock.
    Accepted {
        /// Whose it is.
        user: &'a str,
        /// Where it came from.
        from: String,
        /// What it opens; empty if nothing could be opened.
        #[serde(skip_serializing_if = "Option::is_none")]
        services: Option<Vec<String>>,
        /// The sender's clock minus the gateway's, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        offset_ms: Option<i64>,
    },
    /// A valid request to close.
    Closed {
        /// Whose it is.
        user: &'a str,
        /// Where it came from.
        from: String,
        /// What it has closed.
        #[serde(skip_serializing_if = "Option::is_none")]
        services: Option<Vec<String>>,
    },
    /// A service is open to an address, or for longer than it was.
    Granted {
        /// The service.
        service: &'a str,
        /// Whom it is open to.
        address: &'a str,
        /// For how long from now on.
        seconds: u64,
    },
    /// The end of such a grant, whatever has ended it.
    Ended {
        /// The service.
        service: &'a str,
        /// Whom it was open to.
        address: &'a str,
    },
    /// A datagram that began as a knock and opened nothing.
    Ignored {
        /// Why.
        reason: &'static str,
        /// Where it came from.
        from: String,
        /// The sender's clock minus the gateway's, in milliseconds, as the datagram says; unknown if absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        offset_ms: Option<i64>,
    },
    /// Current problems have changed.
    Trouble {
        /// All of them; empty if there are none any more.
        text: &'a str,
    },
    /// Events that this reader was too slow for.
    Missed {
        /// How many.
        count: u64,
    },
}

impl Event<'_> {
    /// A line of JSON, which begins with the time.
    #[must_use]
    pub fn line(&self, now: UnixMillis) -> String {
        // A name or an address cannot fail to be JSON.
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{{\"time_ms\":{},{}\n", now.0, json.get(1..).unwrap_or("}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_one_line_of_json() {
        let from = || "192.0.2.7".to_owned();
        let services = || Some(vec!["ssh".to_owned()]);
        let rows = [
            (
                Event::Following { version: "0.1.0", trouble: "" },
                r#""event":"following","version":"0.1.0","trouble":"""#,
            ),
            (
                Event::Accepted { user: "me", from: from(), services: services(), offset_ms: Some(-7) },
                r#""event":"accepted","user":"me","from":"192.0.2.7","services":["ssh"],"offset_ms":-7"#,
            ),
            (
                Event::Accepted { user: "me", from: from(), services: None, offset_ms: None },
                r#""event":"accepted","user":"me","from":"192.0.2.7""#,
            ),
            (
                Event::Closed { user: "me", from: from(), services: services() },
                r#""event":"closed","user":"me","from":"192.0.2.7","services":["ssh"]"#,
            ),
            (
                Event::Granted { service: "ssh", address: "192.0.2.7", seconds: 30 },
                r#""event":"granted","service":"ssh","address":"192.0.2.7","seconds":30"#,
            ),
            (
                Event::Ended { service: "ssh", address: "192.0.2.7" },
                r#""event":"ended","service":"ssh","address":"192.0.2.7""#,
            ),
            (
                Event::Ignored { reason: "digest", from: from(), offset_ms: Some(1) },
                r#""event":"ignored","reason":"digest","from":"192.0.2.7","offset_ms":1"#,
            ),
            (Event::Trouble { text: "a \"b\"\nc" }, r#""event":"trouble","text":"a \"b\"\nc""#),
            (Event::Missed { count: 3 }, r#""event":"missed","count":3"#),
        ];
        for (event, expected) in rows {
            let line = event.line(UnixMillis(1_800_000_000_123));
            assert_eq!(line, format!("{{\"time_ms\":1800000000123,{expected}}}\n"));
        }
    }
}
