//! Asks time servers, as [`TimeClient`] decides.

use core::net::{Ipv4Addr, SocketAddrV4};

use embassy_net::{
    IpAddress, IpEndpoint, Stack,
    dns::DnsQueryType,
    udp::{PacketMetadata, UdpSocket},
};
use embassy_time::{Duration, Instant as Uptime, Timer, with_timeout};
use heapless::Vec;
use pkd_core::UnixMillis;
use pkd_gateway::{DNS_PORT, TIME_SERVERS, TimeClient, TimeFailure, TimeSource, TimeTask, sntp};

use crate::{Random, SharedGateway, StandardConfig, now};

/// How long to wait for a reply of a time server.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait for DNS, which repeats its questions.
const DNS_TIMEOUT: Duration = Duration::from_secs(10);

#[embassy_executor::task]
pub(crate) async fn sync(
    stack: Stack<'static>,
    gateway: &'static SharedGateway,
    config: &'static StandardConfig,
    random: Random,
) {
    let Some(mut client) = TimeClient::new(&config.time) else { return };
    let (mut received, mut sent) = ([0; 128], [0; 64]);
    let (mut received_slots, mut sent_slots) = ([PacketMetadata::EMPTY; 2], [PacketMetadata::EMPTY; 1]);
    let mut socket = UdpSocket::new(stack, &mut received_slots, &mut received, &mut sent_slots, &mut sent);
    if socket.bind(sntp::CLIENT_PORT).is_err() {
        defmt::panic!("the SNTP port is in use");
    }
    let mut first = true;
    loop {
        stack.wait_config_up().await;
        match client.next(now()) {
            TimeTask::Wait(until) => Timer::at(Uptime::from_millis(until.0)).await,
            TimeTask::Find => {
                let servers = find(stack, gateway, &config.time).await;
                if servers.is_empty() {
                    gateway.lock(|gateway| gateway.borrow_mut().time_failed(TimeFailure::NoServer));
                    defmt::warn!("time: {}", defmt::Display2Format(&TimeFailure::NoServer));
                }
                client.found(now(), &servers);
            }
            TimeTask::Ask(server) => {
                gateway.lock(|gateway| gateway.borrow_mut().expect_reply(server));
                let reply = ask(&mut socket, server, random().to_be_bytes()).await;
                let outcome = reply.and_then(|time| set_clock(gateway, time, &mut first));
                if let Err(why) = outcome {
                    gateway.lock(|gateway| gateway.borrow_mut().time_failed(why));
                    defmt::warn!(
                        "time server {}: {}",
                        defmt::Display2Format(server.ip()),
                        defmt::Display2Format(&why)
                    );
                }
                client.finished(now(), *server.ip(), outcome);
            }
        }
    }
}

/// The servers that DHCP or DNS names. Empty, if there is no answer.
async fn find(
    stack: Stack<'static>,
    gateway: &SharedGateway,
    source: &TimeSource,
) -> Vec<Ipv4Addr, TIME_SERVERS> {
    let name = match source {
        TimeSource::Name(server) => server.name.as_str(),
        _ => {
            return gateway.lock(|gateway| {
                gateway.borrow().dhcp_time_servers().iter().copied().take(TIME_SERVERS).collect()
            });
        }
    };
    let Some(dns) = stack.config_v4().and_then(|config| config.dns_servers.first().copied()) else {
        return Vec::new();
    };
    gateway.lock(|gateway| gateway.borrow_mut().expect_reply(SocketAddrV4::new(dns, DNS_PORT)));
    let answer = with_timeout(DNS_TIMEOUT, stack.dns_query(name, DnsQueryType::A)).await;
    let Ok(Ok(addresses)) = answer else { return Vec::new() };
    addresses.iter().map(|IpAddress::Ipv4(address)| *address).take(TIME_SERVERS).collect()
}

/// Asks a server. Replies to other requests are ignored.
async fn ask(
    socket: &mut UdpSocket<'_>,
    server: SocketAddrV4,
    cookie: [u8; 8],
) -> Result<UnixMillis, TimeFailure> {
    let server = IpEndpoint::new((*server.ip()).into(), server.port());
    let answer = async {
        socket.send_to(&sntp::request(cookie), server).await.map_err(|_| TimeFailure::NoReply)?;
        let mut bytes = [0; 128];
        loop {
            // A packet that does not fit the buffer is not a reply.
            let Ok((length, from)) = socket.recv_from(&mut bytes).await else { continue };
            if from.endpoint == server
                && let Some(reply) = sntp::parse_reply(bytes.get(..length).unwrap_or_default(), cookie)
            {
                return reply;
            }
        }
    };
    with_timeout(REPLY_TIMEOUT, answer).await.unwrap_or(Err(TimeFailure::NoReply))
}

fn set_clock(gateway: &SharedGateway, time: UnixMillis, first: &mut bool) -> Result<(), TimeFailure> {
    if let Err(error) = gateway.lock(|gateway| gateway.borrow_mut().set_time(now(), time)) {
        defmt::warn!("time server rejected: {}", defmt::Display2Format(&error));
        return Err(TimeFailure::Disbelieved);
    }
    defmt::debug!("time {} ms", time.0);
    if core::mem::take(first) {
        defmt::info!("time set: {}", time.0 / 1_000);
        say!("time set: {}", time.0 / 1_000);
    }
    Ok(())
}
