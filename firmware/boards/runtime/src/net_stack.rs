//! The gateway's network stack: its address, SNTP, and the counters.

use core::fmt::{self, Write};

use embassy_executor::Spawner;
use embassy_net::{
    Config as NetConfig, DhcpConfig, Ipv4Cidr, Runner, Stack, StackResources, StaticConfigV4,
    udp::{PacketMetadata, UdpSocket},
};
use embassy_net_driver_channel::Device;
use heapless::String;
use pkd_gateway::{Address, DATAGRAM, Instant, TimeSource, WithoutComments, datagrams};
use static_cell::ConstStaticCell;

use crate::{MTU, SharedGateway, StandardConfig, StandardGateway, Updates, http, now, time};

/// A function that returns random numbers.
pub type Random = fn() -> u64;

/// A function that returns the least that has been free of the stack since the start, in bytes.
pub type FreeStack = fn() -> u32;

/// Sockets for DHCP, DNS, SNTP, the counters over UDP, and the clients over HTTP.
const SOCKETS: usize = 4 + http::CLIENTS;
/// The greatest length of all metrics without comments, in bytes.
const METRICS_LENGTH: usize = 2_048;

fn config(config: &StandardConfig) -> NetConfig {
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

/// What the servers need.
#[derive(Clone, Copy)]
pub(crate) struct Served {
    pub(crate) gateway: &'static SharedGateway,
    pub(crate) config: &'static StandardConfig,
    pub(crate) free_stack: FreeStack,
    #[cfg_attr(not(feature = "update"), expect(dead_code, reason = "there is none"))]
    pub(crate) updates: Option<&'static Updates>,
}

/// Starts the stack on its device, and its tasks.
// Inlined, what it builds would stay on the stack below everything that starts before it.
#[inline(never)]
pub(crate) fn start(
    spawner: Spawner,
    device: Device<'static, MTU>,
    served: Served,
    random: Random,
) -> Stack<'static> {
    static RESOURCES: ConstStaticCell<StackResources<SOCKETS>> = ConstStaticCell::new(StackResources::new());

    let Served { gateway, config, free_stack, .. } = served;
    let (stack, network) = embassy_net::new(device, self::config(config), RESOURCES.take(), random());
    let started = run_network(network).map(|task| spawner.spawn(task)).is_ok()
        && time::sync(stack, gateway, config, random).map(|task| spawner.spawn(task)).is_ok()
        && (0..http::CLIENTS).all(|_| http::serve(stack, served).map(|task| spawner.spawn(task)).is_ok())
        && serve_udp(stack, gateway, config.counters_port, free_stack)
            .map(|task| spawner.spawn(task))
            .is_ok();
    if !started {
        defmt::panic!("a task was started twice");
    }
    stack
}

#[embassy_executor::task]
async fn run_network(mut network: Runner<'static, Device<'static, MTU>>) -> ! {
    network.run().await
}

/// Writes all metrics. `free_stack` is in bytes.
pub(crate) fn write_metrics(
    gateway: &StandardGateway,
    now: Instant,
    free_stack: u32,
    out: &mut dyn Write,
) -> fmt::Result {
    gateway.write_metrics(now, out)?;
    writeln!(out, "# TYPE pkd_stack_free_bytes gauge\npkd_stack_free_bytes {free_stack}")
}

#[embassy_executor::task]
async fn serve_udp(stack: Stack<'static>, gateway: &'static SharedGateway, port: u16, free_stack: FreeStack) {
    if port == 0 {
        return;
    }
    let (mut received, mut sent) = ([0; 64], [0; DATAGRAM]);
    let (mut received_slots, mut sent_slots) = ([PacketMetadata::EMPTY; 2], [PacketMetadata::EMPTY; 1]);
    let mut socket = UdpSocket::new(stack, &mut received_slots, &mut received, &mut sent_slots, &mut sent);
    if socket.bind(port).is_err() {
        defmt::panic!("the port of the counters is in use");
    }
    let mut ignored = [0; 64];
    loop {
        let Ok((_, from)) = socket.recv_from(&mut ignored).await else { continue };
        let mut text = String::<METRICS_LENGTH>::new();
        let written = gateway.lock(|gateway| {
            let mut out = WithoutComments::new(&mut text);
            write_metrics(&gateway.borrow(), now(), free_stack(), &mut out)
        });
        if written.is_ok() {
            for part in datagrams(&text) {
                // The client may have gone.
                let _sent = socket.send_to(part.as_bytes(), from).await;
            }
        }
    }
}
