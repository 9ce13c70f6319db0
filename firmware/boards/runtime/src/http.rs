//! Serves the status page and the counters over HTTP.

use core::fmt::Write;

use embassy_net::{Stack, tcp::TcpSocket};
use embassy_time::{Duration, Timer, with_timeout};
use pkd_gateway::{
    RESPONSE_LIMIT,
    http::{self, Buffer, RequestError, RequestReader, Target},
};

use crate::{FreeStack, SharedGateway, net_stack::write_metrics, now};

/// How many clients are served at once.
pub(crate) const CLIENTS: usize = 3;
/// How long a client has for its whole request, and to receive the whole response. Then it is cut off.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves one client after the other. There are [`CLIENTS`] of these tasks.
#[embassy_executor::task(pool_size = CLIENTS)]
pub(crate) async fn serve(
    stack: Stack<'static>,
    gateway: &'static SharedGateway,
    port: u16,
    free_stack: FreeStack,
) {
    if port == 0 {
        return;
    }
    // A response fits the second one, so the client's pace does not matter until the connection closes.
    let (mut received, mut sent) = ([0; 256], [0; RESPONSE_LIMIT]);
    loop {
        let mut socket = TcpSocket::new(stack, &mut received, &mut sent);
        // Also of one that sends nothing but its first segment.
        socket.set_timeout(Some(CLIENT_TIMEOUT));
        if socket.accept(port).await.is_err() {
            Timer::after_millis(100).await;
            continue;
        }
        let answered = with_timeout(CLIENT_TIMEOUT, answer(&mut socket, gateway, free_stack)).await;
        match answered {
            Ok(Ok(())) => {}
            Ok(Err(error)) => defmt::debug!("http: {}", defmt::Debug2Format(&error)),
            Err(_) => defmt::info!("http: client cut off after {} s", CLIENT_TIMEOUT.as_secs()),
        }
        socket.abort();
        // Sends the RST, if the connection is not closed yet.
        let _gone = socket.flush().await;
    }
}

/// Answers a client, and closes the connection when it has received everything.
async fn answer(
    socket: &mut TcpSocket<'_>,
    gateway: &SharedGateway,
    free_stack: FreeStack,
) -> Result<(), embassy_net::tcp::Error> {
    let request = read(socket).await?;
    let (now, free) = (now(), free_stack());
    // The buffer is empty, so its largest part is all of it.
    socket
        .write_with(|bytes| {
            let mut out = Buffer::new(bytes);
            let written = gateway.lock(|gateway| {
                let gateway = gateway.borrow();
                let body = |target, out: &mut dyn Write| match target {
                    Target::Status => gateway.write_status_page(now, out),
                    Target::Metrics => write_metrics(&gateway, now, free, out),
                };
                http::respond(request, body, &mut out)
            });
            if written.is_err() {
                defmt::error!("http: the response does not fit");
            }
            (if written.is_ok() { out.written() } else { 0 }, ())
        })
        .await?;
    socket.close();
    socket.flush().await
}

async fn read(socket: &mut TcpSocket<'_>) -> Result<Result<Target, RequestError>, embassy_net::tcp::Error> {
    let mut reader = RequestReader::new();
    loop {
        let request = socket
            .read_with(|bytes| {
                let complete =
                    bytes.iter().enumerate().find_map(|(at, byte)| Some((at, reader.push(*byte)?)));
                complete.map_or((bytes.len(), None), |(at, request)| (at + 1, Some(request)))
            })
            .await?;
        if let Some(request) = request {
            return Ok(request);
        }
    }
}
