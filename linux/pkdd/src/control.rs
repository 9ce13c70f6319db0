//! Requests to the running daemon, over a Unix socket that only its user and root may use. The client sends a line with
//! one word; the daemon answers with a text and closes the connection.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::IpAddr,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::mpsc::{self, Receiver, SyncSender},
    thread,
    time::Duration,
};

/// The time limit for reading a request and for writing an answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The time limit for making an answer: with iptables, pkdd has to start programs for it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum length of a request, in bytes.
const MAX_REQUEST: u64 = 64;

/// The kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// The status as JSON.
    Status,
    /// The status as text.
    StatusText,
    /// The status in Prometheus' text format.
    Metrics,
    /// Reloads the configuration; the answer is [`RELOADED`], or what is wrong.
    Reload,
    /// The accepted knocks that are still remembered, as events.
    #[cfg(feature = "events")]
    Events,
    /// Events from now on, without end.
    #[cfg(feature = "events")]
    Follow,
    /// Opens all services to an address for so many seconds; the answer is [`GRANTED`], or what is wrong.
    Grant(IpAddr, u32),
    /// Closes all services to an address; the answer is [`REVOKED`], or what is wrong.
    Revoke(IpAddr),
}

/// The answer to a reload that succeeded.
pub const RELOADED: &str = "configuration reloaded";
/// The answer to a grant that was made.
pub const GRANTED: &str = "granted";
/// The answer when an address is closed out.
pub const REVOKED: &str = "revoked";

impl Query {
    const ALL: &[(Self, &str)] = &[
        (Self::Status, "status"),
        (Self::StatusText, "status-text"),
        (Self::Metrics, "metrics"),
        (Self::Reload, "reload"),
        #[cfg(feature = "events")]
        (Self::Events, "events"),
        #[cfg(feature = "events")]
        (Self::Follow, "follow"),
    ];

    /// Whether its answer has no end.
    #[cfg_attr(not(feature = "events"), expect(clippy::unused_self, reason = "none is without events"))]
    const fn is_endless(self) -> bool {
        #[cfg(feature = "events")]
        return matches!(self, Self::Follow);
        #[cfg(not(feature = "events"))]
        false
    }

    fn line(self) -> String {
        match self {
            Self::Grant(address, seconds) => format!("grant {address} {seconds}"),
            Self::Revoke(address) => format!("revoke {address}"),
            _ => Self::ALL.iter().find(|(query, _)| *query == self).map_or("", |(_, word)| word).to_owned(),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        if let Some(rest) = line.strip_prefix("grant ") {
            let (address, seconds) = rest.split_once(' ')?;
            return Some(Self::Grant(address.parse().ok()?, seconds.parse().ok()?));
        }
        if let Some(address) = line.strip_prefix("revoke ") {
            return address.parse().ok().map(Self::Revoke);
        }
        Self::ALL.iter().find(|(_, word)| *word == line).map(|(query, _)| *query)
    }
}

/// A request that waits for its answer.
pub struct Request {
    /// The kind of request.
    pub query: Query,
    answer: SyncSender<String>,
    /// For an answer without end.
    stream: Option<UnixStream>,
}

impl Request {
    /// The client's stream, if the request was to follow; the next client need not wait for its end.
    #[must_use]
    pub fn into_stream(self) -> Option<UnixStream> {
        self.stream
    }

    /// Sends the answer.
    pub fn answer(self, text: String) {
        // Fails if the client has timed out.
        let _ = self.answer.send(text);
    }
}

/// Listens in a separate thread, which calls `wake` after it has queued a request.
///
/// # Errors
/// The socket cannot be created.
pub fn listen(path: &Path, wake: impl Fn() + Send + 'static) -> io::Result<Receiver<Request>> {
    // Left by an earlier process, which has ended: this one holds the folder's lock.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        // One at a time: a slow client delays other clients, but not the daemon.
        for stream in listener.incoming().flatten() {
            let Ok(query) = read(&stream) else { continue };
            let (answer, text) = mpsc::sync_channel(1);
            let Ok(clone) = query.is_endless().then(|| stream.try_clone()).transpose() else {
                continue;
            };
            if sender.send(Request { query, answer, stream: clone }).is_err() {
                return;
            }
            wake();
            if let Ok(text) = text.recv_timeout(ANSWER_TIMEOUT) {
                let _gone = (&stream).write_all(text.as_bytes());
            }
        }
    });
    Ok(requests)
}

fn read(stream: &UnixStream) -> io::Result<Query> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut line = String::new();
    BufReader::new(stream.take(MAX_REQUEST)).read_line(&mut line)?;
    let query = Query::parse(line.trim_end());
    let unknown = || io::Error::new(io::ErrorKind::InvalidInput, "unknown request");
    let found = query.ok_or_else(unknown);
    if found.is_err() {
        let mut stream = stream;
        stream.write_all(
            b"unknown request: expected status, metrics, reload, events, follow, grant ADDRESS SECONDS or revoke ADDRESS\n",
        )?;
    }
    found
}

/// Sends a request to the daemon that listens at `path`, and returns the answer.
///
/// # Errors
/// No daemon listens there, or it does not answer in time.
pub fn ask(path: &Path, query: Query) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT + TIMEOUT))?;
    writeln!(stream, "{}", query.line())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    if text.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no answer"));
    }
    Ok(text)
}

/// Asks the daemon that listens at `path` for all events from now on, and passes each line to `each` until that fails or the
/// daemon ends.
///
/// # Errors
/// No daemon listens there, the connection fails, or `each` does.
#[cfg(feature = "events")]
pub fn follow(path: &Path, mut each: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
    let mut stream = UnixStream::connect(path)?;
    writeln!(stream, "{}", Query::Follow.line())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        if !line.starts_with('{') {
            return Err(io::Error::other(line.trim_end().to_owned()));
        }
        each(&line)?;
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_and_an_unknown_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let requests = listen(&path, || ()).unwrap();
        let answers = thread::spawn(move || {
            for request in requests.iter().take(2) {
                let text = format!("{:?}", request.query);
                request.answer(text);
            }
        });
        for words in ["nonsense\n", "\n", "grant 192.0.2.1\n", "grant x 5\n", &"x".repeat(100)] {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(words.as_bytes()).unwrap();
            let mut text = String::new();
            let _reset = stream.read_to_string(&mut text);
            assert!(text.is_empty() || text.contains("unknown request"), "{text}");
        }
        // A client that disconnects without a request.
        drop(UnixStream::connect(&path).unwrap());
        assert_eq!(ask(&path, Query::Status).unwrap(), "Status");
        assert_eq!(ask(&path, Query::Metrics).unwrap(), "Metrics");
        answers.join().unwrap();
    }

    #[test]
    fn only_the_owner_may_use_the_socket_and_an_old_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let _requests = listen(&path, || ()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(ask(&folder.path().join("none"), Query::Status).is_err());
    }
}
