//! The AMQP client: amiquip, and our own code that sends and receives messages in its place. The
//! only room that knows amiquip.
//!
//! amiquip 0.4.2 makes the connection and keeps it: login, channels, declarations, heartbeats.
//! Messages, confirms and deliveries do not go through it, because it would cost several copies and
//! wake-ups for each (`wire.rs`, `answers.rs`). All that a broker sends is checked by `bounds.rs`
//! before amiquip sees it.
//!
//! Its version is pinned, because this room relies on its internals. Each line names the test that
//! fails when the line is no longer true. Those without a path are in `tests.rs`.
//!
//! | what amiquip does | what we do with it | test |
//! |---|---|---|
//! | its I/O thread polls by edges and registers the socket anew for writing as long as it has something to write | a publisher that holds the socket makes its write fail with `WouldBlock`, and it tries again | `it_writes_again_although_only_a_publisher_was_in_its_way` |
//! | after an edge it reads until `WouldBlock` | [`Incoming`] may give it less than the socket has | `it_reads_all_that_came_at_once` |
//! | it writes `AMQP 0-9-1`, then whole frames, one after the other | the scanner finds where a frame of ours may go | `wire::tests::a_scanner_sees_every_method_in_whatever_pieces_the_socket_took_them`, and `played.rs` in each test |
//! | it agrees to the smaller `frame_max`, and says which in `tune-ok` | a body is cut into frames of that size | `it_agrees_to_the_brokers_frame_size` |
//! | it reuses the number of a channel that was closed | what it opens and closes is followed in the bytes that it writes | `a_number_stands_for_one_channel_after_another_and_a_dropped_one_is_closed` |
//! | it grants `channel_max` channels and refuses the next one without a word to the broker | cameras beyond it move to another connection | the same |
//! | it answers to `channel.close` by itself, and says why to the first who asks | a publisher hears the end from its listener and then asks | `it_says_why_a_channel_was_closed_to_the_first_who_asks_and_nothing_is_sent` |
//! | it keeps why the broker closed the connection until `close` | the owner asks there | `it_knows_why_the_connection_was_closed_and_frees_all_who_use_it` |
//! | its thread drops the stream when it ends, by a panic as well | `wire::Stream` tells all listeners of the end then | `a_connection_that_is_cut_ends_for_all_who_use_it`, `a_panic_of_its_thread_ends_the_connection_for_all_who_use_it` |
//! | it takes an end of the connection between `start-ok` and `tune` for wrong credentials, its own time-out too | `connection_timeout` is longer than ours | `it_takes_a_login_that_is_cut_for_wrong_credentials` |
//! | it passes `connection.blocked` on, and drops the channel with its thread | the owner and [`Link`](super::Link) wait on it | `it_tells_when_the_broker_blocks_and_unblocks_the_connection` |
//! | it counts every read as a sign of life, gives up after two heartbeats without one, and sends its own whatever else is written to the socket | in the place of a confirm it gets a heartbeat to read | `its_heartbeats_go_on_beside_our_messages_and_whatever_is_read_counts_as_one` |
//! | its parser reads or refuses a whole frame within [`Bounds`] without harm | nothing else reaches it | `fuzz/properties.rs`, `broker` |
//!
//! None of its waits has a time-out, so each connection comes with a [`Socket`] that frees whoever
//! is blocked in it. Its `open` knows neither connect timeout nor TCP_NODELAY, so the socket is
//! made elsewhere (`dial.rs`).

mod answers;
mod bindings;
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
#[cfg(test)]
pub(crate) mod played;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

use super::error::{Error, ErrorKind, error_text};
use super::socket::Socket;

pub use answers::{Confirm, Listener, Listeners};
pub use bindings::{BindingConsumer, BindingListener, BindingQueue};
pub use bounds::{Bounds, FRAME_MAX, Refusal};
pub use channel::Channel;
pub use connection::{BlockedNotice, BlockedNotices, Connection};
pub use frame::Frame;
pub use gather::{AnswerWaiter, AnswerWaiters};
pub use inbox::{Inbox, Received};
pub use incoming::Incoming;

/// The same socket, as amiquip and TLS take it.
fn for_amiquip(socket: &Socket) -> Result<mio::net::TcpStream, Error> {
    let stream = socket
        .0
        .try_clone()
        .and_then(mio::net::TcpStream::from_stream);
    stream.map_err(|error| Error::new(ErrorKind::Down, error_text(&error)))
}

impl amiquip::IoStream for wire::Stream {}
