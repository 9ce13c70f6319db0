//! Knocking until a port opens.

use std::{
    fmt::Write as _,
    io,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use pkd_core::Port;

use crate::{cli::SendOptions, datagram, model::Request, progress::Progress, send, socket, stderr::Stderr};

/// Timeout of the first connection attempt, and the maximum; it doubles with each attempt. The system would repeat a
/// dropped SYN only after a second.
const FIRST_TRY: Duration = Duration::from_millis(25);
const MAX_TRY: Duration = Duration::from_secs(2);
/// Pause before the second knock, and the maximum; it doubles, too. Gateways without a clock accept one knock a second.
const FIRST_PAUSE: Duration = Duration::from_millis(1500);
const MAX_PAUSE: Duration = Duration::from_secs(20);
/// How often the progress is updated.
const TICK: Duration = Duration::from_millis(200);

/// What is said meanwhile, on standard error.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Talk {
    /// No progress.
    pub(crate) is_quiet: bool,
    /// A line for each knock.
    pub(crate) is_verbose: bool,
}

impl From<&SendOptions> for Talk {
    fn from(options: &SendOptions) -> Self {
        Self { is_quiet: options.quiet, is_verbose: options.verbose }
    }
}

/// Why an address could not be reached.
struct Unreachable {
    address: SocketAddr,
    reason: String,
}

/// Knocks at the addresses of the host, repeatedly, until one of them accepts a connection to the TCP port; returns
/// that connection.
///
/// # Errors
/// The name cannot be resolved, or nothing answers within `limit`.
pub(crate) fn knock_and_connect(
    request: &Request,
    port: Port,
    limit: Duration,
    talk: Talk,
) -> Result<TcpStream> {
    let addresses = send::addresses(request, port)?;
    let begin = Instant::now();
    let request = Arc::new(request.clone());
    let is_done = Arc::new(AtomicBool::new(false));
    let (sender, answers) = mpsc::channel();
    let is_verbose = talk.is_verbose;
    for address in addresses {
        let (request, is_done, sender) = (Arc::clone(&request), Arc::clone(&is_done), sender.clone());
        // The result of a slower address is ignored.
        thread::spawn(move || {
            sender.send(knock_address(&request, address, begin + limit, &is_done, is_verbose))
        });
    }
    drop(sender);
    let mut progress = Progress::new(talk.is_quiet);
    let mut failures = Vec::new();
    loop {
        match answers.recv_timeout(TICK) {
            Ok(Ok(stream)) => {
                is_done.store(true, Ordering::Relaxed);
                return Ok(stream);
            }
            Ok(Err(failure)) => failures.push(failure),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let waited = begin.elapsed().as_secs();
                progress.show(&format!("waiting for {} port {}, {waited} s", request.label(), port.0));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                progress.clear();
                bail!("{}", summary(port, limit, begin.elapsed() < limit, &failures))
            }
        }
    }
}

/// `is_early`: there was no point in waiting longer.
fn summary(port: Port, limit: Duration, is_early: bool, failures: &[Unreachable]) -> String {
    let mut text = if is_early {
        format!("cannot reach port {}", port.0)
    } else {
        format!("port {} did not open within {} s", port.0, limit.as_secs())
    };
    for (row, Unreachable { address, reason }) in failures.iter().enumerate() {
        let join = if row == 0 { ':' } else { ';' };
        // Writing to a String cannot fail.
        let _ = write!(text, "{join} {}: {reason}", address.ip());
    }
    text
}

/// Alternates knocks and connection attempts until another address has succeeded.
fn knock_address(
    request: &Request,
    address: SocketAddr,
    end: Instant,
    is_done: &AtomicBool,
    is_verbose: bool,
) -> Result<TcpStream, Unreachable> {
    let (mut try_for, mut pause) = (FIRST_TRY, FIRST_PAUSE);
    let mut due = Instant::now();
    let mut reason = "no answer".to_owned();
    while !is_done.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= end {
            break;
        }
        if now >= due {
            due = now + pause;
            pause = (pause * 2).min(MAX_PAUSE);
            match knock(request, address) {
                Ok(port) if is_verbose => {
                    Stderr::note(&format!("knocked {} ({} port {port})", request.label(), address.ip()));
                }
                Ok(_) => {}
                Err(error) => {
                    reason = format!("{error:#}");
                    break;
                }
            }
        }
        let begin = Instant::now();
        let time = try_for.min(end.saturating_duration_since(begin)).max(Duration::from_millis(1));
        try_for = (try_for * 2).min(MAX_TRY);
        match socket::connect(&request.outlet, address, time) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                reason = match error.kind() {
                    io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer".to_owned(),
                    io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                    _ => error.to_string(),
                };
                // A refusal comes at once.
                thread::sleep(time.saturating_sub(begin.elapsed()));
            }
        }
    }
    Err(Unreachable { address, reason })
}

/// Sends one knock to this address, at the port of the request or a new random one; returns that port.
fn knock(request: &Request, mut address: SocketAddr) -> Result<u16> {
    address.set_port(datagram::destination_port(request).context("cannot knock")?.0);
    send::send_to_each(request, &[address]).map(|_| address.port())
}
