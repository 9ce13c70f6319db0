//! Those who read events while they happen. Each has a socket that is never waited for: its buffer in the kernel is the only
//! queue. Who is too slow learns how many events they missed.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
};

use crate::{date::now_millis, events::Event};

/// The most readers at a time.
const MOST_READERS: usize = 16;

/// The readers.
#[derive(Default)]
pub(crate) struct Feed(Vec<Reader>);

struct Reader {
    stream: UnixStream,
    missed: u64,
}

/// What became of a line.
enum Written {
    Whole,
    /// The buffer is full.
    Nothing,
    /// The reader has gone, or has only a part of the line.
    Gone,
}

impl Feed {
    /// Adds a reader, whose first event is `first`.
    ///
    /// # Errors
    /// There are too many readers, or the stream cannot be used without waiting.
    pub(crate) fn add(&mut self, stream: UnixStream, first: &Event<'_>) -> io::Result<()> {
        self.look();
        if self.0.len() >= MOST_READERS {
            (&stream).write_all(b"too many readers: end another pkdd events --follow\n")?;
            return Ok(());
        }
        stream.set_nonblocking(true)?;
        let mut reader = Reader { stream, missed: 0 };
        if reader.tell(&first.line(now_millis())) {
            self.0.push(reader);
        }
        Ok(())
    }

    /// Whether anybody reads. If not, events need not be made.
    pub(crate) fn has_readers(&self) -> bool {
        !self.0.is_empty()
    }

    /// Tells everybody.
    pub(crate) fn tell(&mut self, event: &Event<'_>) {
        if self.has_readers() {
            let line = event.line(now_millis());
            self.0.retain_mut(|reader| reader.tell(&line));
        }
    }

    /// Forgets who has gone, and tells who has caught up how much they missed. Call it once a second.
    pub(crate) fn look(&mut self) {
        self.0.retain_mut(|reader| reader.is_there() && reader.tell_missed());
    }
}

impl Reader {
    /// Whether the reader is still there.
    fn tell(&mut self, line: &str) -> bool {
        if !self.tell_missed() {
            return false;
        }
        // Nothing comes between the events that were missed and the line that says so.
        let written = if self.missed > 0 { Written::Nothing } else { self.write(line) };
        self.missed += u64::from(matches!(written, Written::Nothing));
        !matches!(written, Written::Gone)
    }

    fn tell_missed(&mut self) -> bool {
        if self.missed == 0 {
            return true;
        }
        let written = self.write(&Event::Missed { count: self.missed }.line(now_millis()));
        if matches!(written, Written::Whole) {
            self.missed = 0;
        }
        !matches!(written, Written::Gone)
    }

    /// The kernel takes a line whole or not at all, unless it is as long as the buffer.
    fn write(&mut self, line: &str) -> Written {
        match self.stream.write(line.as_bytes()) {
            Ok(length) if length == line.len() => Written::Whole,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Written::Nothing
            }
            _ => Written::Gone,
        }
    }

    /// A reader says nothing after its request, until it ends.
    fn is_there(&mut self) -> bool {
        let said = self.stream.read(&mut [0; 64]);
        said.map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |length| length > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use serde_json::Value;

    use super::*;

    fn trouble(number: u64) -> Event<'static> {
        Event::Granted { service: "ssh", address: "192.0.2.7", seconds: number }
    }

    #[test]
    fn a_slow_reader_learns_how_many_events_it_missed_and_delays_nobody() {
        let mut feed = Feed::default();
        let (slow, ours) = UnixStream::pair().unwrap();
        feed.add(ours, &trouble(0)).unwrap();
        let mut slow = BufReader::new(slow).lines();
        let mut next = || serde_json::from_str::<Value>(&slow.next().unwrap().unwrap()).unwrap();
        let number = |value: &Value| value["seconds"].as_u64();
        assert_eq!(number(&next()), Some(0));
        // Nobody reads meanwhile; to wait for it would never end.
        (1..=100_000).for_each(|number| feed.tell(&trouble(number)));
        let held = feed.0[0].missed;
        assert!(held > 90_000, "the kernel holds {}", 100_000 - held);
        for number_now in 1..=100_000 - held {
            assert_eq!(number(&next()), Some(number_now));
        }
        feed.tell(&trouble(100_001));
        let missed = next();
        assert_eq!((missed["event"].as_str(), missed["count"].as_u64()), (Some("missed"), Some(held)));
        assert_eq!(number(&next()), Some(100_001));
    }

    #[test]
    fn who_has_gone_is_forgotten_and_there_are_not_too_many() {
        let mut feed = Feed::default();
        let mut theirs = Vec::new();
        for _ in 0..MOST_READERS + 2 {
            let (one, ours) = UnixStream::pair().unwrap();
            feed.add(ours, &trouble(0)).unwrap();
            theirs.push(one);
        }
        assert_eq!(feed.0.len(), MOST_READERS);
        let mut refused = String::new();
        theirs.pop().unwrap().read_to_string(&mut refused).unwrap();
        assert!(refused.starts_with("too many readers: "), "{refused}");
        theirs.truncate(3);
        feed.look();
        assert_eq!(feed.0.len(), 3);
        theirs.clear();
        feed.tell(&trouble(1));
        assert!(!feed.has_readers());
    }
}
