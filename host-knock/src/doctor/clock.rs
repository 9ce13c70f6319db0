//! The time of a server: by SNTP (RFC 4330), else from the `Date` header of HTTP.
//!
//! Neither is authenticated: an attacker on the path can make a right clock look wrong. knock only reports the result.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use pkd_sntp::{PACKET_LENGTH, Reply, SERVER_PORT};

use crate::send;

/// The servers, unless another is given.
const SNTP_SERVER: &str = "pool.ntp.org";
const HTTP_SERVER: &str = "www.kernel.org";
const HTTP_PORT: u16 = 80;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);

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
        None => (SNTP_SERVER, SERVER_PORT),
        Some(server) => match server.rsplit_once(':').filter(|(host, _)| !host.ends_with(':')) {
            Some((host, port)) => (host, crate::parse::port(port)?.0),
            None => (server, SERVER_PORT),
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
    let mut cookie = [0; 8];
    getrandom::fill(&mut cookie).context("cannot get random bytes")?;
    let sent = SystemTime::now();
    socket.send(&pkd_sntp::request(cookie))?;
    // Longer than a reply, which may have an authenticator.
    let mut answer = [0; 2 * PACKET_LENGTH];
    let length = socket.recv(&mut answer).context("no answer")?;
    let arrived = SystemTime::now();
    let reply = Reply::parse(answer.get(..length).unwrap_or_default(), cookie)?;
    let received = reply.received().context("server is not synchronized")?;
    // RFC 4330, section 5: the mean of both directions, which cancels the delay.
    let (there, back) =
        (received.as_secs_f64() - unix(sent), reply.transmitted().as_secs_f64() - unix(arrived));
    Ok(-f64::midpoint(there, back))
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
