//! The AMQP client library and what passes it by; the only room that knows amiquip.
//!
//! amiquip 0.4.2 is good at the protocol and has traps that this room takes away: its `open` knows
//! neither connect timeout nor TCP_NODELAY, so the socket is made elsewhere; none of its waits has a
//! time-out, so each connection comes with a [`Socket`] that frees whoever is blocked in it; publishes and
//! confirms cost it several copies and wake-ups, so they pass it by (`wire.rs`, `answers.rs`).

mod answers;
mod bounds;
mod channel;
mod connection;
mod consumer;
mod encode;
mod errors;
mod frame;
mod gather;
mod inbox;
mod incoming;
mod tls;
mod wire;

use super::error::{Error, ErrorKind};
use super::socket::Socket;

pub use answers::{Confirm, Listener, Listeners};
pub use bounds::{Bounds, FRAME_MAX, Refusal};
pub use channel::Channel;
pub use connection::{Connection, Event, Events};
pub use frame::Frame;
pub use gather::{Awaited, Awaiting};
pub use inbox::{Inbox, Received};
pub use incoming::Incoming;

/// The same socket, as amiquip and TLS take it.
fn for_amiquip(socket: &Socket) -> Result<mio::net::TcpStream, Error> {
    let stream = socket
        .0
        .try_clone()
        .and_then(mio::net::TcpStream::from_stream);
    stream.map_err(|error| Error::new(ErrorKind::Down, error.to_string()))
}

impl amiquip::IoStream for wire::Stream {}
