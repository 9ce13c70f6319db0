//! Sockets that use an [`Outlet`].

use std::{
    io,
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

#[cfg(feature = "desktop")]
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::model::Outlet;

/// A UDP socket for this destination, bound to `local`.
///
/// # Errors
/// There is no such address or interface.
pub(crate) fn udp(outlet: &Outlet, local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(local)?;
    #[cfg(feature = "desktop")]
    bind_device(outlet, &SockRef::from(&socket))?;
    #[cfg(not(feature = "desktop"))]
    let _ = outlet;
    Ok(socket)
}

/// Connects to a TCP port.
///
/// # Errors
/// As for [`TcpStream::connect_timeout`], or there is no such address or interface.
#[cfg(feature = "desktop")]
pub(crate) fn connect(outlet: &Outlet, address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    if *outlet == Outlet::default() {
        return TcpStream::connect_timeout(&address, limit);
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    bind_device(outlet, &SockRef::from(&socket))?;
    socket.bind(&outlet.local(address).into())?;
    socket.connect_timeout(&address.into(), limit)?;
    Ok(socket.into())
}

/// As above: without the feature no interface can be given, and nothing but knocks has a source.
///
/// # Errors
/// As for [`TcpStream::connect_timeout`].
#[cfg(not(feature = "desktop"))]
pub(crate) fn connect(_: &Outlet, address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&address, limit)
}

#[cfg(all(feature = "desktop", any(target_os = "linux", target_os = "android")))]
fn bind_device(outlet: &Outlet, socket: &SockRef<'_>) -> io::Result<()> {
    outlet.interface.as_ref().map_or(Ok(()), |name| socket.bind_device(Some(name.as_bytes())))
}

#[cfg(all(feature = "desktop", not(any(target_os = "linux", target_os = "android"))))]
fn bind_device(outlet: &Outlet, _: &SockRef<'_>) -> io::Result<()> {
    match outlet.interface {
        Some(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "--interface needs Linux; use --source")),
        None => Ok(()),
    }
}
