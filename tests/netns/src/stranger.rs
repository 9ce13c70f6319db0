//! A stranger who never knocks and tries to connect all the time, whatever happens to the gateway meanwhile.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

use crate::{
    namespace,
    network::{CLIENT, Family},
    probe::own,
    process::wait,
};

/// The time between two tries.
pub const PACE: Duration = Duration::from_millis(50);

/// Connections that have begun and are not decided yet. The kernel repeats their SYN after 1, 3 and 7 seconds, so each of
/// them is several tries.
const MOST_PENDING: usize = 400;

/// Tries to connect from the client's other address until it is stopped.
#[derive(Debug)]
pub struct Stranger {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    tries: AtomicU64,
    /// When which connection was let in.
    let_in: Mutex<Vec<String>>,
}

impl Stranger {
    /// Tries these ports of the gateway over IPv4 and IPv6, each every [`PACE`].
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn start(ports: &[u16]) -> Result<Self> {
        Self::start_with(ports, PACE)
    }

    /// Like [`start`](Self::start), with another pace.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn start_with(ports: &[u16], pace: Duration) -> Result<Self> {
        let to = |family: Family| {
            ports.iter().map(move |port| (family.other(), SocketAddr::new(family.gateway(), *port)))
        };
        let targets: Vec<(IpAddr, SocketAddr)> = Family::BOTH.into_iter().flat_map(to).collect();
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("stranger".to_owned())
            .spawn(move || namespace::at(CLIENT, || own.run(&targets, pace)))?;
        Ok(Self { shared, thread })
    }

    /// Tries these pairs of source and target from where it is started.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn here(targets: Vec<(IpAddr, SocketAddr)>, pace: Duration) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let run = move || own.run(&targets, pace);
        let thread = thread::Builder::new().name("stranger".to_owned()).spawn(run)?;
        Ok(Self { shared, thread })
    }

    /// How many connections it has begun.
    #[must_use]
    pub fn tries(&self) -> u64 {
        self.shared.tries.load(Ordering::Relaxed)
    }

    /// Waits until it has begun this many more.
    ///
    /// # Errors
    /// It has stopped.
    pub fn more(&self, tries: u64) -> Result<()> {
        let wanted = self.tries() + tries;
        let ask = || {
            ensure!(!self.thread.is_finished(), "the stranger has stopped");
            Ok(self.tries())
        };
        wait("tries", ask, |tries| *tries >= wanted).map(drop)
    }

    /// The connections that were let in so far.
    #[must_use]
    pub fn let_in(&self) -> Vec<String> {
        self.shared.let_in.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops it, and returns the number of its tries.
    ///
    /// # Errors
    /// A connection was let in, or the stranger could not try.
    pub fn finish(self) -> Result<u64> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the stranger panicked"))??;
        let tries = self.shared.tries.load(Ordering::Relaxed);
        let let_in = self.shared.let_in.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(let_in.is_empty(), "a stranger was let in {} times of {tries}: {let_in:?}", let_in.len());
        ensure!(tries > 0, "the stranger has tried nothing");
        Ok(tries)
    }
}

impl Shared {
    fn run(&self, targets: &[(IpAddr, SocketAddr)], pace: Duration) -> Result<()> {
        let start = Instant::now();
        let mut pending: Vec<(SocketAddr, Instant, Socket)> = Vec::new();
        loop {
            let stops = self.stop.load(Ordering::Relaxed);
            // Undecided connections are looked at once more at the end.
            pending.retain(|(to, begun, socket)| {
                if socket.peer_addr().is_ok() {
                    let (at, after) = (begun.duration_since(start), begun.elapsed());
                    let text = format!("{to}, begun after {at:?}, seen {after:?} later");
                    self.let_in.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                    return false;
                }
                // Refused or unreachable: decided, and not let in.
                !matches!(socket.take_error(), Ok(Some(_)) | Err(_))
            });
            // What is stopped at once has tried too, else its silence would say nothing.
            if stops && self.tries.load(Ordering::Relaxed) > 0 {
                return Ok(());
            }
            let too_many = pending.len().saturating_sub(MOST_PENDING);
            pending.drain(..too_many);
            for (from, to) in targets {
                let socket = Socket::new(Domain::for_address(*to), Type::STREAM, None)?;
                socket.set_nonblocking(true)?;
                // Ends with a reset, so that no port stays in use.
                socket.set_linger(Some(Duration::ZERO))?;
                socket.bind(&own(*from, *to).into()).context("cannot bind")?;
                let begun = Instant::now();
                match socket.connect(&(*to).into()).map_err(|error| error.raw_os_error()) {
                    Ok(()) => pending.push((*to, begun, socket)),
                    Err(Some(code)) if code == Errno::EINPROGRESS as i32 => {
                        pending.push((*to, begun, socket));
                    }
                    // A refusal can be immediate.
                    Err(_) => {}
                }
                self.tries.fetch_add(1, Ordering::Relaxed);
            }
            thread::sleep(pace);
        }
    }
}
