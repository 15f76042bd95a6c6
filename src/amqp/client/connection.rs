//! A connection: login, channels, what the broker says of its own accord, and the goodbye.

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

/// amiquip's buffer behind our hand-off, and the messages a channel may queue before it. With a
/// window of unconfirmed frames 1 MiB is as fast as the default of 16; 1 or 2 messages cost 30-50 %.
const BUFFERED_BYTES: usize = 1 << 20;
const BUFFERED_MESSAGES: usize = 16;

/// Of its product's name and of its version.
const LONGEST_NAME: usize = 64;

/// An open connection to a broker.
#[derive(Debug)]
pub struct Connection {
    pub(super) inner: amiquip::Connection,
    events: BlockedNotices,
    pub(super) wire: Arc<wire::Shared>,
    tls: bool,
}

/// Blocked and unblocked, as they come; disconnected when the connection has ended.
#[derive(Debug, Clone)]
pub struct BlockedNotices(Receiver<ConnectionBlockedNotification>);

impl BlockedNotices {
    /// To wait on.
    pub fn receiver(&self) -> &Receiver<ConnectionBlockedNotification> {
        &self.0
    }

    /// Whether the broker said something that nobody has heard yet.
    pub fn unheard(&self) -> bool {
        !self.0.is_empty()
    }
}

/// What a connection reports by itself; its end shows as a disconnected channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockedNotice {
    /// The broker does not take messages for now (a memory or disk alarm), for the reason given.
    Blocked(String),
    /// It takes messages again.
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
    /// TLS where the endpoint says so, and the AMQP handshake. Blocks until the broker answers;
    /// woken by [`Socket::cut`].
    ///
    /// # Errors
    /// When the broker refuses, does not answer, or a TLS file cannot be used.
    pub fn open(socket: &Socket, endpoint: &Endpoint, amqp: &Amqp) -> Result<Self, Error> {
        Self::log_in(socket, endpoint, amqp).map_err(|error| {
            // What answers to a login may repeat it.
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
            // Longer than ours, so that it is always ours that ends a silent handshake: amiquip
            // takes its own for a refused login.
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
            // amiquip takes any end during the login for a refusal of the password.
            Err(error) => match wire.refused.get() {
                Some(refusal) => Err(refusal.into()),
                None => Err(match (Self::is_reset(&error), endpoint.tls) {
                    (true, true) => Error::new(ErrorKind::Down, tls::words::reset(&amqp.tls)),
                    _ => error.into(),
                }),
            },
        }
    }

    /// Whether the broker ended the connection without AMQP's words and without those of TLS.
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

    /// What the broker says of its own accord.
    pub fn events(&self) -> &BlockedNotices {
        &self.events
    }

    /// Says goodbye, or learns why the connection has ended. Blocks; woken by [`Socket::cut`].
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
