//! The time of a server: by SNTP (RFC 4330), else from the `Date` header of HTTP.
//!
//! Neither is authenticated: an attacker on the path can make a right clock look wrong. knock only reports the result.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::send;

/// The servers, unless another is given.
const SNTP_SERVER: &str = "pool.ntp.org";
const HTTP_SERVER: &str = "www.kernel.org";
const SNTP_PORT: u16 = 123;
const HTTP_PORT: u16 = 80;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Seconds from the start of NTP era 0 (1900) to that of Unix time (1970).
const NTP_TO_UNIX: i64 = 2_208_988_800;
const PACKET_LENGTH: usize = 48;

/// How far this computer's clock is ahead of a server's.
#[derive(Debug)]
pub(crate) struct Offset {
    /// Seconds; negative: behind.
    pub(crate) seconds: f64,
    /// The server.
    pub(crate) server: String,
}

/// Asks `server`, or the default servers, by SNTP and then by HTTP.
///
/// # Errors
/// No answer; the error has both reasons.
pub(crate) fn offset(server: Option<&str>) -> Result<Offset> {
    let (host, port) = match server {
        None => (SNTP_SERVER, SNTP_PORT),
        Some(server) => match server.rsplit_once(':').filter(|(host, _)| !host.ends_with(':')) {
            Some((host, port)) => (host, crate::parse::port(port)?.0),
            None => (server, SNTP_PORT),
        },
    };
    let host = host.trim_matches(['[', ']']);
    let sntp_error = match sntp(host, port) {
        Ok(seconds) => return Ok(Offset { seconds, server: host.to_owned() }),
        Err(error) => error,
    };
    let host = server.map_or(HTTP_SERVER, |_| host);
    match http(host) {
        Ok(seconds) => Ok(Offset { seconds, server: format!("{host} (HTTP, to a second)") }),
        Err(error) => bail!("SNTP: {sntp_error:#}; HTTP: {error:#}"),
    }
}

fn sntp(host: &str, port: u16) -> Result<f64> {
    let address = first(host, port)?;
    let socket = UdpSocket::bind(send::wildcard(address))?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let mut request = [0_u8; PACKET_LENGTH];
    // Version 4, client. The transmit time is a cookie: only somebody who saw the request can repeat it.
    let (flags, rest) = request.split_at_mut(1);
    flags.fill(4 << 3 | 3);
    let (_, cookie) = rest.split_at_mut(39);
    getrandom::fill(cookie).context("cannot get random bytes")?;
    let sent = SystemTime::now();
    socket.send(&request)?;
    let mut answer = [0; PACKET_LENGTH];
    let length = socket.recv(&mut answer).context("no answer")?;
    let arrived = SystemTime::now();
    ensure!(length == PACKET_LENGTH, "answer of {length} bytes");
    let field = |at: usize| answer.get(at..at + 8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    let [leap_and_mode, stratum, ..] = answer;
    ensure!(
        leap_and_mode & 7 == 4 && field(24) == request.get(40..).and_then(|end| end.try_into().ok()),
        "answer to another request"
    );
    ensure!(leap_and_mode >> 6 != 3 && (1..=15).contains(&stratum), "server is not synchronized");
    let (received, transmitted) = (ntp_time(field(32))?, ntp_time(field(40))?);
    // RFC 4330, section 5: the mean of both directions, which cancels the delay.
    let (sent, arrived) = (unix(sent), unix(arrived));
    Ok(-((received - sent) + (transmitted - arrived)) / 2.0)
}

/// Unix seconds of a timestamp; era 1 begins in 2036 (RFC 4330, section 3).
#[expect(clippy::cast_precision_loss, reason = "a double resolves microseconds in these centuries")]
fn ntp_time(field: Option<[u8; 8]>) -> Result<f64> {
    let value = u64::from_be_bytes(field.context("answer too short")?);
    ensure!(value != 0, "server is not synchronized");
    let (seconds, fraction) = (i64::try_from(value >> 32)?, (value & 0xffff_ffff) as f64 / 4_294_967_296.0);
    let era = if seconds >> 31 == 1 { 0 } else { 1 << 32 };
    Ok((seconds + era - NTP_TO_UNIX) as f64 + fraction)
}

fn http(host: &str) -> Result<f64> {
    let mut stream = TcpStream::connect_timeout(&first(host, HTTP_PORT)?, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let sent = SystemTime::now();
    let request =
        format!("HEAD / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: knock\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(16 * 1024).read_to_end(&mut answer)?;
    let arrived = SystemTime::now();
    let answer = String::from_utf8_lossy(&answer);
    let date = answer.lines().take_while(|line| !line.is_empty()).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then(|| value.trim())
    });
    let date = httpdate::parse_http_date(date.context("no Date header")?).context("invalid Date header")?;
    // The second started up to a second before the header was written.
    Ok(f64::midpoint(unix(sent), unix(arrived)) - (unix(date) + 0.5))
}

fn first(host: &str, port: u16) -> Result<SocketAddr> {
    (host, port).to_socket_addrs().context("cannot resolve")?.next().context("cannot resolve")
}

/// Unix seconds; negative before 1970.
fn unix(time: SystemTime) -> f64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}
