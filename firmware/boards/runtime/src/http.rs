//! Serves the status page and the counters over HTTP.

use core::fmt::{self, Write};

use embassy_net::{
    Stack,
    tcp::{Error, TcpSocket},
};
use embassy_time::{Duration, Timer, with_timeout};
use pkd_gateway::{
    RESPONSE_LIMIT,
    http::{self, Buffer, RequestError, RequestReader, Target},
};

#[cfg(feature = "update")]
use crate::update::read_exact;
use crate::{
    net_stack::{Served, write_metrics},
    now,
};
#[cfg(feature = "update")]
use pkd_gateway::update::HEADER_LENGTH;

/// How many clients are served at once.
pub(crate) const CLIENTS: usize = 3;
/// How long a client has for its whole request, and to receive the whole response. Then it is cut off.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves one client after the other. There are [`CLIENTS`] of these tasks.
#[embassy_executor::task(pool_size = CLIENTS)]
pub(crate) async fn serve(stack: Stack<'static>, served: Served) {
    let port = served.config.counters_port;
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
        let request = with_timeout(CLIENT_TIMEOUT, answer(&mut socket, &served)).await;
        match request {
            #[cfg(feature = "update")]
            Ok(Ok(Some(image))) => update(&mut socket, &served, &image).await,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => defmt::debug!("http: {}", defmt::Debug2Format(&error)),
            Err(_) => defmt::info!("http: client cut off after {} s", CLIENT_TIMEOUT.as_secs()),
        }
        socket.abort();
        // Sends the RST, if the connection is not closed yet.
        let _gone = socket.flush().await;
    }
}

/// A request for an update: its header, and its length with the header.
#[cfg(feature = "update")]
struct Image([u8; HEADER_LENGTH], u32);
#[cfg(not(feature = "update"))]
struct Image;

/// Answers a client, and closes the connection when it has received everything. Returns a request for an update instead.
async fn answer(socket: &mut TcpSocket<'_>, served: &Served) -> Result<Option<Image>, Error> {
    let request = match read(socket).await? {
        #[cfg(feature = "update")]
        Ok(Target::Update(length)) if served.updates.is_some() => {
            let mut header = [0; HEADER_LENGTH];
            return match read_exact(socket, &mut header).await {
                Ok(()) => Ok(Some(Image(header, length))),
                Err(_) => Err(Error::ConnectionReset),
            };
        }
        Ok(Target::Update(_)) => Err(RequestError::NotFound),
        request => request,
    };
    let (now, free) = (now(), (served.free_stack)());
    respond(socket, |out| {
        served.gateway.lock(|gateway| {
            let gateway = gateway.borrow();
            let body = |target, out: &mut dyn Write| match target {
                Target::Status => gateway.write_status_page(now, out),
                Target::Metrics => write_metrics(&gateway, now, free, out),
                Target::Update(_) => Ok(()),
            };
            http::respond(request, body, out)
        })
    })
    .await?;
    Ok(None)
}

/// Sends a response, and closes the connection when the client has received it.
async fn respond(
    socket: &mut TcpSocket<'_>,
    write: impl FnOnce(&mut Buffer<'_>) -> fmt::Result,
) -> Result<(), Error> {
    // The buffer is empty, so its largest part is all of it.
    socket
        .write_with(|bytes| {
            let mut out = Buffer::new(bytes);
            if write(&mut out).is_err() {
                defmt::error!("http: the response does not fit");
                return (0, ());
            }
            (out.written(), ())
        })
        .await?;
    socket.close();
    socket.flush().await
}

/// Receives an image. Resets the board if it was accepted.
#[cfg(feature = "update")]
async fn update(socket: &mut TcpSocket<'_>, served: &Served, Image(header, length): &Image) {
    let Some(updates) = served.updates else { return };
    let outcome = updates.receive(socket, served.config, header, *length).await;
    // The client may have gone; the image counts.
    let _gone = with_timeout(CLIENT_TIMEOUT, async {
        respond(socket, |out| match outcome {
            Ok(version) => http::respond_line("200 OK", &format_args!("version {version} starts now"), out),
            Err(why) => http::respond_line("422 Unprocessable Content", &why, out),
        })
        .await?;
        // The rest of a refused image: a client that is reset while it sends may lose the response.
        let mut rest = [0; 64];
        while socket.read(&mut rest).await? > 0 {}
        Ok::<(), Error>(())
    })
    .await;
    match outcome {
        Ok(version) => {
            defmt::info!("update: version {} starts now", defmt::Display2Format(&version));
            updates.reset();
        }
        Err(why) => defmt::warn!("update refused: {}", defmt::Display2Format(&why)),
    }
}

async fn read(socket: &mut TcpSocket<'_>) -> Result<Result<Target, RequestError>, Error> {
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
