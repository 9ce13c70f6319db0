//! Questions to the running daemon, over a Unix socket that only its user and root may use. A line with a word
//! goes in, a text comes back, and the connection ends.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::mpsc::{self, Receiver, SyncSender},
    thread,
    time::Duration,
};

/// How long one who asks may take for it.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take: with iptables, some programs have to be started for it.
const ANSWER: Duration = Duration::from_secs(30);
/// Bytes of a request.
const MAX_REQUEST: u64 = 64;

/// What can be request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// The status as JSON.
    Status,
    /// The same for Prometheus.
    Metrics,
}

impl Query {
    const ALL: [(Self, &str); 2] = [(Self::Status, "status"), (Self::Metrics, "metrics")];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(query, _)| *query == self).map_or("", |(_, word)| word)
    }
}

/// A query that waits for its answer.
pub struct Request {
    /// Which.
    pub query: Query,
    answer: SyncSender<String>,
}

impl Request {
    /// Answers it.
    pub fn answer(self, text: String) {
        // Who has active up waiting needs none.
        let _ = self.answer.send(text);
    }
}

/// Listens, in a thread of its own; `wake` hears that a query is there.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(path: &Path, wake: impl Fn() + Send + 'static) -> io::Result<Receiver<Request>> {
    // What an earlier process left; the lock of the folder says that it is gone.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let (sender, requests) = mpsc::channel();
    thread::spawn(move || {
        // One at a time: whoever is slow makes others wait, and not the daemon.
        for stream in listener.incoming().flatten() {
            let Ok(query) = read(&stream) else { continue };
            let (answer, text) = mpsc::sync_channel(1);
            if sender.send(Request { query, answer }).is_err() {
                return;
            }
            wake();
            if let Ok(text) = text.recv_timeout(ANSWER) {
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
    let query = Query::ALL.into_iter().find(|(_, word)| *word == line.trim_end());
    let unknown = || io::Error::new(io::ErrorKind::InvalidInput, "no query");
    let found = query.ok_or_else(unknown);
    if found.is_err() {
        let mut stream = stream;
        stream.write_all(b"pkdd knows the requests status and metrics\n")?;
    }
    found.map(|(query, _)| query)
}

/// Asks the daemon that listens there.
///
/// # Errors
/// Nobody listens, or answers in time.
pub fn ask(path: &Path, query: Query) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER + TIMEOUT))?;
    writeln!(stream, "{}", query.word())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    if text.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it gave no answer"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_and_nonsense_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let requests = listen(&path, || ()).unwrap();
        let answers = thread::spawn(move || {
            for request in requests.iter().take(2) {
                let text = format!("{:?}", request.query);
                request.answer(text);
            }
        });
        for words in ["nonsense\n", "\n", &"x".repeat(100)] {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(words.as_bytes()).unwrap();
            let mut text = String::new();
            let _reset = stream.read_to_string(&mut text);
            assert!(text.is_empty() || text.contains("knows the requests"), "{text}");
        }
        // One who says nothing, and goes.
        drop(UnixStream::connect(&path).unwrap());
        assert_eq!(ask(&path, Query::Status).unwrap(), "Status");
        assert_eq!(ask(&path, Query::Metrics).unwrap(), "Metrics");
        answers.join().unwrap();
    }

    #[test]
    fn only_its_user_may_ask_and_a_socket_of_before_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let _questions = listen(&path, || ()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(ask(&folder.path().join("none"), Query::Status).is_err());
    }
}
