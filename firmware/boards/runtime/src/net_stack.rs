//! The gateway's network stack: its address, SNTP, and the counters.

use core::fmt::{self, Write};

use embassy_executor::Spawner;
use embassy_net::{
    Config as NetConfig, DhcpConfig, Ipv4Cidr, Runner, Stack, StaticConfigV4,
    tcp::TcpSocket,
    udp::{PacketMetadata, UdpSocket},
};
use embassy_net_driver_channel::Device;
use embassy_time::{Duration, Timer};
use heapless::String;
use pkd_gateway::{Address, TimeSource};

use crate::{MTU, SharedGateway, StandardConfig, now, time};

/// A function that returns random numbers.
pub type Random = fn() -> u64;

/// A function that returns the least that has been free of the stack since the start, in bytes.
pub type FreeStack = fn() -> u32;

/// Sockets for DHCP, DNS, SNTP, and the counters over TCP and UDP.
pub(crate) const SOCKETS: usize = 5;
/// Length of all metrics as text in bytes, and of an HTTP header.
const METRICS_LENGTH: usize = 2_048;

pub(crate) fn config(config: &StandardConfig) -> NetConfig {
    match config.address {
        Address::Dhcp => NetConfig::dhcpv4(DhcpConfig::default()),
        Address::Static(interface) => NetConfig::ipv4_static(StaticConfigV4 {
            address: Ipv4Cidr::new(interface.network.address, interface.network.prefix),
            gateway: interface.router,
            dns_servers: match &config.time {
                TimeSource::Name(server) => server.dns.into_iter().collect(),
                _ => heapless::Vec::new(),
            },
        }),
    }
}

pub(crate) fn spawn(
    spawner: Spawner,
    network: Runner<'static, Device<'static, MTU>>,
    stack: Stack<'static>,
    gateway: &'static SharedGateway,
    config: &'static StandardConfig,
    random: Random,
    free_stack: FreeStack,
) {
    let started = run_network(network).map(|task| spawner.spawn(task)).is_ok()
        && time::sync(stack, gateway, config, random).map(|task| spawner.spawn(task)).is_ok()
        && serve_http(stack, gateway, config.counters_port, free_stack)
            .map(|task| spawner.spawn(task))
            .is_ok()
        && serve_udp(stack, gateway, config.counters_port, free_stack)
            .map(|task| spawner.spawn(task))
            .is_ok();
    if !started {
        defmt::panic!("a task was started twice");
    }
}

#[embassy_executor::task]
async fn run_network(mut network: Runner<'static, Device<'static, MTU>>) -> ! {
    network.run().await
}

/// Removes Prometheus comments, so that the rest fits one datagram.
fn strip_comments(text: &mut String<METRICS_LENGTH>) {
    let mut from = 0;
    while let Some(line) = text.as_str().get(from..).and_then(|rest| rest.split_inclusive('\n').next()) {
        let length = line.len();
        if line.starts_with('#') {
            // Both offsets are at the start of a line.
            text.drain(from..from + length);
        } else {
            from += length;
        }
    }
}

fn write_metrics(
    gateway: &SharedGateway,
    free_stack: FreeStack,
    text: &mut String<METRICS_LENGTH>,
) -> fmt::Result {
    gateway.lock(|gateway| gateway.borrow().write_metrics(now(), text))?;
    writeln!(text, "# TYPE pkd_stack_free_bytes gauge\npkd_stack_free_bytes {}", free_stack())
}

#[embassy_executor::task]
async fn serve_http(
    stack: Stack<'static>,
    gateway: &'static SharedGateway,
    port: u16,
    free_stack: FreeStack,
) {
    if port == 0 {
        return;
    }
    let (mut received, mut sent) = ([0; 512], [0; 1_024]);
    loop {
        let mut socket = TcpSocket::new(stack, &mut received, &mut sent);
        socket.set_timeout(Some(Duration::from_secs(5)));
        if socket.accept(port).await.is_err() {
            Timer::after_millis(100).await;
            continue;
        }
        if let Err(error) = answer_http(&mut socket, gateway, free_stack).await {
            defmt::debug!("counters: {}", defmt::Debug2Format(&error));
        }
        socket.close();
        // Until the client has received everything, or the timeout.
        let _gone = socket.flush().await;
        socket.abort();
        let _gone = socket.flush().await;
    }
}

/// Sends the metrics, whatever the request, and closes the connection.
async fn answer_http(
    socket: &mut TcpSocket<'_>,
    gateway: &SharedGateway,
    free_stack: FreeStack,
) -> Result<(), embassy_net::tcp::Error> {
    let mut end = [0_u8; 4];
    let mut byte = [0_u8; 1];
    for _ in 0..2_048 {
        if socket.read(&mut byte).await? == 0 {
            break;
        }
        end.rotate_left(1);
        end[3] = byte[0];
        if end == *b"\r\n\r\n" {
            break;
        }
    }
    let mut text = String::<METRICS_LENGTH>::new();
    let written = write_metrics(gateway, free_stack, &mut text);
    let mut head = String::<160>::new();
    let (status, length) =
        if written.is_ok() { ("200 OK", text.len()) } else { ("500 Internal Server Error", 0) };
    // The buffer has room for the longest number.
    let _fits = write!(
        head,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    for mut rest in [head.as_bytes(), text.as_bytes().get(..length).unwrap_or_default()] {
        while !rest.is_empty() {
            let written = socket.write(rest).await?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
    Ok(())
}

#[embassy_executor::task]
async fn serve_udp(stack: Stack<'static>, gateway: &'static SharedGateway, port: u16, free_stack: FreeStack) {
    if port == 0 {
        return;
    }
    let (mut received, mut sent) = ([0; 64], [0; 1_536]);
    let (mut received_slots, mut sent_slots) = ([PacketMetadata::EMPTY; 2], [PacketMetadata::EMPTY; 1]);
    let mut socket = UdpSocket::new(stack, &mut received_slots, &mut received, &mut sent_slots, &mut sent);
    if socket.bind(port).is_err() {
        defmt::panic!("the port of the counters is in use");
    }
    let mut ignored = [0; 64];
    loop {
        let Ok((_, from)) = socket.recv_from(&mut ignored).await else { continue };
        let mut text = String::<METRICS_LENGTH>::new();
        if write_metrics(gateway, free_stack, &mut text).is_ok() {
            strip_comments(&mut text);
            // The client may have gone.
            let _sent = socket.send_to(text.as_bytes(), from).await;
        }
    }
}
