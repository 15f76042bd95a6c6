//! A connection: login, channels, reports of blocking, close.

use super::bounds::FRAME_MAX;
use super::channel::Channel;
use super::wire::{self, Bytes};
use super::{for_amiquip, tls};
use crate::amqp::error::{Error, ErrorKind, plain};
use crate::amqp::socket::Socket;
use crate::config::{Amqp, Endpoint};
use crate::redact;
use amiquip::{
    AmqpValue, Auth, ConnectionBlockedNotification, ConnectionOptions, ConnectionTuning,
};
use crossbeam_channel::Receiver;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// amiquip's output buffer, and the messages that a channel may queue before it. With a window of
/// unconfirmed frames 1 MiB is as fast as the default of 16 MiB; 1 or 2 messages are 30-50 %
/// slower.
const BUFFERED_BYTES: usize = 1 << 20;
const BUFFERED_MESSAGES: usize = 16;

/// Longest product name and version that are shown, in characters.
const LONGEST_NAME: usize = 64;

/// An open connection to a broker.
#[derive(Debug)]
pub struct Connection {
    pub(super) inner: amiquip::Connection,
    events: BlockedNotices,
    pub(super) wire: Arc<wire::Shared>,
    tls: bool,
}

/// The broker's reports of blocking. Disconnected when the connection has ended.
#[derive(Debug, Clone)]
pub struct BlockedNotices(Receiver<ConnectionBlockedNotification>);

impl BlockedNotices {
    /// The channel to wait on.
    pub fn receiver(&self) -> &Receiver<ConnectionBlockedNotification> {
        &self.0
    }

    /// Whether a report waits to be read.
    pub fn unheard(&self) -> bool {
        !self.0.is_empty()
    }
}

/// What the broker reports without being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockedNotice {
    /// The broker has blocked publishing (a memory or disk alarm), for this reason.
    Blocked(String),
    /// The broker has unblocked publishing.
    Unblocked,
}

impl From<ConnectionBlockedNotification> for BlockedNotice {
    fn from(notification: ConnectionBlockedNotification) -> Self {
        match notification {
            ConnectionBlockedNotification::Blocked(reason) => Self::Blocked(reason),
            ConnectionBlockedNotification::Unblocked => Self::Unblocked,
        }
    }
}

impl Connection {
    /// Makes the TLS session, if the endpoint wants one, and the AMQP handshake. Blocks until the
    /// broker answers; woken by [`Socket::cut`].
    ///
    /// # Errors
    /// When the broker refuses, does not answer, or a TLS file cannot be used.
    pub fn open(socket: &Socket, endpoint: &Endpoint, amqp: &Amqp) -> Result<Self, Error> {
        Self::log_in(socket, endpoint, amqp).map_err(|error| {
            // The answer to a login may repeat the password.
            let mut hidden = redact::Hidden::default();
            hidden.hide(endpoint.password.expose());
            let text = redact::words(&error.text, &hidden);
            Error { text, ..error }
        })
    }

    fn log_in(socket: &Socket, endpoint: &Endpoint, amqp: &Amqp) -> Result<Self, Error> {
        let options = ConnectionOptions::default()
            .auth(Auth::Plain {
                username: endpoint.username.clone(),
                password: endpoint.password.expose().to_owned(),
            })
            .virtual_host(endpoint.vhost.as_str())
            .heartbeat(u16::try_from(amqp.heartbeat.as_secs()).unwrap_or(u16::MAX))
            // Longer than ours, so that ours always ends a silent handshake: amiquip reports its
            // own as a refused login.
            .connection_timeout(Some(amqp.connect_timeout + Duration::from_secs(1)))
            .information(Some("edge-video".to_owned()))
            .frame_max(u32::try_from(FRAME_MAX).unwrap_or(0));
        let tuning = ConnectionTuning::default()
            .mem_channel_bound(BUFFERED_MESSAGES)
            .buffered_writes_high_water(BUFFERED_BYTES);
        let bytes = match endpoint.tls {
            true => Bytes::Tls(tls::session(socket, endpoint, &amqp.tls)?),
            false => Bytes::Plain(for_amiquip(socket)?),
        };
        let (stream, wire) = wire::share(&socket.0, bytes);
        let opened = amiquip::Connection::insecure_open_stream(stream, options, tuning).and_then(
            |mut inner| {
                let events = BlockedNotices(inner.listen_for_connection_blocked()?);
                Ok((inner, events))
            },
        );
        match opened {
            Ok((inner, events)) => Ok(Self {
                inner,
                events,
                wire,
                tls: endpoint.tls,
            }),
            // amiquip reports any end during the login as a refused password.
            Err(error) => match wire.refused.get() {
                Some(refusal) => Err(refusal.into()),
                None => Err(match (Self::is_reset(&error), endpoint.tls) {
                    (true, true) => Error::new(ErrorKind::Down, tls::words::reset(&amqp.tls)),
                    _ => error.into(),
                }),
            },
        }
    }

    /// Whether the broker ended the connection without a reason in AMQP or TLS.
    fn is_reset(error: &amiquip::Error) -> bool {
        use amiquip::Error as E;
        match error {
            E::IoErrorReadingSocket { source } | E::IoErrorWritingSocket { source } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ),
            _ => false,
        }
    }

    /// Opens a channel with confirms on. Blocks; woken by [`Socket::cut`].
    ///
    /// # Errors
    /// When the connection is gone or the broker has no channel left.
    pub fn open_channel(&mut self) -> Result<Channel, Error> {
        let inner = self.inner.open_channel(None)?;
        Channel::new(inner, &self.wire, self.tls)
    }

    /// Where the broker's reports of blocking arrive.
    pub fn events(&self) -> &BlockedNotices {
        &self.events
    }

    /// Closes the connection, or returns why it has ended. Blocks; woken by [`Socket::cut`].
    ///
    /// # Errors
    /// Why it had ended before, if it had.
    pub fn close(self) -> Result<(), Error> {
        Ok(self.inner.close()?)
    }

    /// Product and version of the broker, as it calls itself.
    pub fn broker_version(&self) -> String {
        let property = |name: &str| match self.inner.server_properties().get(name) {
            Some(AmqpValue::LongString(text)) => plain(text, LONGEST_NAME),
            _ => "?".to_owned(),
        };
        format!("{} {}", property("product"), property("version"))
    }
}
