//! Opens TCP connections to a broker.

use super::error::{Error, ErrorKind, error_text};
use super::resolve::resolve;
use super::socket::Socket;
use crate::config::Endpoint;
use crate::shutdown::Stop;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Finds a peer that vanished on a connection that carries nothing. AMQP's heartbeat finds it
/// sooner.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The addresses of the endpoint's host, at least one. Woken by `stop`, and at `until`.
///
/// # Errors
/// When the name does not resolve, or not in time, or `stop` was thrown.
pub(super) fn addresses(
    endpoint: &Endpoint,
    until: Instant,
    stop: &Stop,
) -> Result<Vec<SocketAddr>, Error> {
    let mut addresses = match endpoint.host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, endpoint.port)],
        Err(_) => resolve(&endpoint.host, until, stop)?,
    };
    for address in &mut addresses {
        address.set_port(endpoint.port);
    }
    match addresses.is_empty() {
        true => Err(Error::new(ErrorKind::Down, "the name has no address")),
        false => Ok(addresses),
    }
}

/// Deadline of the next of `count` addresses: an equal share of the time, so that one that does not
/// answer leaves time for the others.
pub(super) fn share_of_time(now: Instant, until: Instant, count: usize) -> Instant {
    let left = until.saturating_duration_since(now);
    now + left / u32::try_from(count.max(1)).unwrap_or(u32::MAX)
}

/// Opens a TCP connection to the first address of the endpoint that takes one. Woken by `stop`.
///
/// # Errors
/// When the name does not resolve, no address answers within `timeout`, or `stop` was thrown.
pub fn dial(endpoint: &Endpoint, timeout: Duration, stop: &Stop) -> Result<Socket, Error> {
    let until = Instant::now() + timeout;
    let addresses = addresses(endpoint, until, stop)?;
    let mut last = Error::new(ErrorKind::Down, "the name has no address");
    for (n, address) in addresses.iter().enumerate() {
        let until = share_of_time(Instant::now(), until, addresses.len() - n);
        match dial_address(*address, until, stop) {
            Ok(socket) => return Ok(socket),
            Err(error) if error.kind == ErrorKind::Stopped => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Opens a TCP connection to one address. Woken by `stop`, and at `until`. Not
/// `TcpStream::connect_timeout`: nothing could wake that before its time-out.
///
/// # Errors
/// When the address does not answer in time, or `stop` was thrown.
pub(super) fn dial_address(
    address: SocketAddr,
    until: Instant,
    stop: &Stop,
) -> Result<Socket, Error> {
    let down = |error: io::Error| Error::new(ErrorKind::Down, error_text(&error));
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)
        .map_err(|error| down(error.into()))?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(down(error.into())),
    }
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(ErrorKind::Down, "no answer to the TCP connect"));
        }
        let mut fds = [
            PollFd::new(&socket, PollFlags::OUT),
            PollFd::new(stop, PollFlags::IN),
        ];
        let timeout =
            Timespec::try_from(left).map_err(|_| down(io::ErrorKind::InvalidInput.into()))?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(down(error.into())),
        }
        let [connected, stopped] = fds.map(|fd| !fd.revents().is_empty());
        if stopped {
            return Err(Error::new(ErrorKind::Stopped, "stopping"));
        }
        if connected {
            break;
        }
    }
    sockopt::socket_error(&socket)
        .map_err(|error| down(error.into()))?
        .map_err(|error| down(error.into()))?;
    let _ = sockopt::set_tcp_nodelay(&socket, true);
    let _ = sockopt::set_socket_keepalive(&socket, true);
    let _ = sockopt::set_tcp_keepidle(&socket, KEEPALIVE);
    Ok(Socket(Arc::new(TcpStream::from(socket))))
}
