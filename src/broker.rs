//! The AMQP client; the only file that knows amiquip.
//!
//! amiquip 0.4.2 is good at the protocol and has traps that this file takes away:
//! its `open` knows neither connect timeout nor TCP_NODELAY, so the socket is made here; none of its
//! waits has a time-out, so each connection comes with a [`Socket`] that frees whoever is blocked in
//! it; publishes and confirms cost it several copies and wake-ups, so they pass it by (`wire.rs`,
//! `answers.rs`).

mod answers;
mod bounds;
mod dial;
mod encode;
mod gather;
mod handshake;
mod inbox;
mod incoming;
mod resolve;
mod wire;

use crate::config::tls::Unusable;
use crate::config::{self, Amqp, Endpoint, Tls};
use crate::message::{self, Headers};
use crate::redact;
use amiquip::{
    AmqpProperties, AmqpValue, Auth, ConnectionBlockedNotification, ConnectionOptions,
    ConnectionTuning, ConsumerMessage, ConsumerOptions, ExchangeDeclareOptions, ExchangeType,
    FieldTable, Publish, QueueDeclareOptions,
};
use crossbeam_channel::Receiver;
use encode::Message;
use native_tls::HandshakeError;
use rustix::event::{PollFd, PollFlags, poll};
use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use wire::{Bytes, Wire};

pub use answers::{Confirm, Listener, Listeners};
pub use bounds::{Bounds, FRAME_MAX, Frame, Refusal};
pub use dial::{addresses, dial, dial_address, share};
pub use gather::{Awaited, Awaiting};
pub use inbox::{Inbox, Received};
pub use incoming::Incoming;

/// amiquip's buffer behind our hand-off, and the messages a channel may queue before it. With a
/// window of unconfirmed frames 1 MiB is as fast as the default of 16; 1 or 2 messages cost 30-50 %.
const BUFFERED_BYTES: usize = 1 << 20;
const BUFFERED_MESSAGES: usize = 16;

/// Characters of a broker's words that are shown: AMQP's own texts have 255 bytes at most. But a list of
/// login mechanisms, for example, may fill a frame.
const LONGEST_TEXT: usize = 500;
/// Of its product's name and of its version.
const LONGEST_NAME: usize = 64;

/// Why no connection could be made, or why it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// One sentence for the log, without secrets.
    pub text: String,
    /// What is to be done about it.
    pub kind: ErrorKind,
}

/// How an [`Error`] is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The peer or the way to it is down: try again soon.
    Down,
    /// The broker refuses us: a person must change something, so try again slowly.
    Refused,
    /// The broker closed this one channel; the connection lives.
    Channel,
    /// The broker closed this one channel upon a message larger than these bytes, which is the most
    /// that it takes.
    TooLarge(u64),
    /// The broker closed this one channel: there is no such exchange.
    Absent,
    /// The broker grants no further channel on this connection.
    Full,
    /// We are stopping.
    Stopped,
}

impl ErrorKind {
    /// Whether the broker refused what a channel was used for: a person must change something.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Channel | Self::TooLarge(_))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

impl Error {
    fn new(kind: ErrorKind, text: impl AsRef<str>) -> Self {
        Self {
            kind,
            text: plain(&redact::clean(text.as_ref()), LONGEST_TEXT),
        }
    }
}

/// One line, without what a terminal obeys, of so many characters at most: a broker's own words.
fn plain(text: &str, most: usize) -> String {
    let text = text.chars().take(most);
    text.map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl From<amiquip::Error> for Error {
    fn from(error: amiquip::Error) -> Self {
        use amiquip::Error as E;
        match &error {
            E::InvalidCredentials => Self::new(
                ErrorKind::Refused,
                "it dropped the connection during the login: user name or password are wrong",
            ),
            // 403 and 530: the user, the virtual host or a limit. RabbitMQ's words say which.
            E::ServerClosedConnection {
                code: 403 | 530,
                message,
            } => Self::new(ErrorKind::Refused, format!("it refuses us: {message}")),
            E::ServerClosedConnection { message, .. } => {
                Self::new(ErrorKind::Down, format!("closed by the broker: {message}"))
            }
            E::ServerClosedChannel { code, message, .. } => {
                let kind = match (code, largest_message(message)) {
                    (406, Some(bytes)) => ErrorKind::TooLarge(bytes),
                    _ => ErrorKind::Channel,
                };
                Self::new(kind, message)
            }
            E::ExhaustedChannelIds => Self::new(
                ErrorKind::Full,
                "the broker grants no further channel on this connection",
            ),
            E::UnexpectedSocketClose => Self::new(ErrorKind::Down, "the connection was cut"),
            E::IoErrorReadingSocket { source } | E::IoErrorWritingSocket { source } => {
                let text = error_text(source);
                let (kind, text) = handshake::later(&text).unwrap_or((ErrorKind::Down, text));
                Self::new(kind, text)
            }
            E::MissedServerHeartbeats => {
                Self::new(ErrorKind::Down, "no sign of life: heartbeats are missing")
            }
            E::ConnectionTimeout => Self::new(ErrorKind::Down, "no answer to the AMQP handshake"),
            other => Self::new(ErrorKind::Down, other.to_string()),
        }
    }
}

/// The limit in RabbitMQ's `PRECONDITION_FAILED - message size 300 is larger than configured max size
/// 200`. No field of the protocol has it.
fn largest_message(text: &str) -> Option<u64> {
    let (before, after) = text.split_once("max size ")?;
    let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
    before
        .contains("message size")
        .then(|| digits.parse().ok())?
}

impl From<&Refusal> for Error {
    fn from(refusal: &Refusal) -> Self {
        Self::new(ErrorKind::Down, refusal.to_string())
    }
}

/// The way to free whoever is blocked in a connection: abort it from outside.
#[derive(Debug, Clone)]
pub struct Socket(Arc<TcpStream>);

impl Socket {
    /// Ends the connection at once, for both sides and every thread, and takes back what has not left
    /// this machine.
    pub fn cut(&self) {
        // After shutdown(2) alone the kernel goes on sending what it holds: over a slow link these old
        // frames would arrive after newer ones. So the connection is reset first; the shutdown then
        // wakes who waits to read. Each fails only when it is down already.
        let _ = rustix::net::connect_unspec(&self.0);
        let _ = self.0.shutdown(Shutdown::Both);
    }

    fn for_amiquip(&self) -> Result<mio::net::TcpStream, Error> {
        let stream = self
            .0
            .try_clone()
            .and_then(mio::net::TcpStream::from_stream);
        stream.map_err(|error| Error::new(ErrorKind::Down, error.to_string()))
    }
}

/// An open connection to a broker.
#[derive(Debug)]
pub struct Connection {
    inner: amiquip::Connection,
    events: Events,
    wire: Arc<wire::Shared>,
    tls: bool,
}

impl amiquip::IoStream for wire::Stream {}

/// Blocked and unblocked, as they come; disconnected when the connection has ended.
#[derive(Debug, Clone)]
pub struct Events(Receiver<ConnectionBlockedNotification>);

impl Events {
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
pub enum Event {
    /// The broker does not take messages for now (a memory or disk alarm), for the reason given.
    Blocked(String),
    /// It takes messages again.
    Unblocked,
}

impl From<ConnectionBlockedNotification> for Event {
    fn from(notification: ConnectionBlockedNotification) -> Self {
        match notification {
            ConnectionBlockedNotification::Blocked(reason) => Self::Blocked(reason),
            ConnectionBlockedNotification::Unblocked => Self::Unblocked,
        }
    }
}

/// The system's words without Rust's `(os error 111)`, which helps nobody at night.
fn error_text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
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
            true => Bytes::Tls(tls_session(socket, endpoint, &amqp.tls)?),
            false => Bytes::Plain(socket.for_amiquip()?),
        };
        let (stream, wire) = wire::share(&socket.0, bytes);
        let opened = amiquip::Connection::insecure_open_stream(stream, options, tuning).and_then(
            |mut inner| {
                let events = Events(inner.listen_for_connection_blocked()?);
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
                    (true, true) => Error::new(ErrorKind::Down, handshake::reset(&amqp.tls)),
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
        let unheard = (
            inner.listen_for_publisher_confirms()?,
            inner.listen_for_returns()?,
        );
        inner.enable_publisher_confirms()?;
        // Not under TLS, where all bytes pass one session, which is amiquip's.
        let wire = (!self.tls).then(|| RefCell::new(Wire::new(&self.wire, inner.channel_id())));
        Ok(Channel {
            inner,
            shared: Arc::clone(&self.wire),
            wire,
            _unheard: unheard,
        })
    }

    /// What the broker says of its own accord.
    pub fn events(&self) -> &Events {
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

/// Blocks until the handshake is done; woken by [`Socket::cut`].
fn tls_session(
    socket: &Socket,
    endpoint: &Endpoint,
    tls: &Tls,
) -> Result<native_tls::TlsStream<mio::net::TcpStream>, Error> {
    let refused = |text: String| Error::new(ErrorKind::Refused, text);
    let connector = tls_connector(tls).map_err(refused)?;
    let mut shaken = connector.connect(&endpoint.host, socket.for_amiquip()?);
    loop {
        match shaken {
            Ok(session) => return Ok(session),
            Err(HandshakeError::Failure(error)) => {
                return Err(refused(handshake::explain(
                    &error.to_string(),
                    endpoint,
                    tls,
                )));
            }
            Err(HandshakeError::WouldBlock(half)) => {
                // What we say is short; it is the broker's words that are waited for.
                let mut answer = [PollFd::new(&socket.0, PollFlags::IN)];
                match poll(&mut answer, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(Error::new(ErrorKind::Down, error.to_string())),
                }
                shaken = half.handshake();
            }
        }
    }
}

fn tls_connector(tls: &Tls) -> Result<native_tls::TlsConnector, String> {
    // Read at every connect: certificates are renewed while we run.
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let mut builder = native_tls::TlsConnector::builder();
    builder.min_protocol_version(Some(native_tls::Protocol::Tlsv12));
    if let Some(path) = &tls.ca_file {
        // A private CA is named to trust it and no other.
        builder.disable_built_in_roots(true);
        let certificates = config::tls::authorities(&read(path)?);
        for certificate in certificates.map_err(|why| format!("{}: {why}", path.display()))? {
            builder.add_root_certificate(certificate);
        }
    }
    if let (Some(cert), Some(key)) = (&tls.cert_file, &tls.key_file) {
        let identity = config::tls::identity(&read(cert)?, &read(key)?);
        let identity = identity.map_err(|unusable| match unusable {
            Unusable::Certificate(why) => format!("{}: {why}", cert.display()),
            Unusable::Key(why) => format!("{}: {why}", key.display()),
        })?;
        builder.identity(identity);
    }
    builder.build().map_err(|error| error.to_string())
}

/// One camera's channel, in confirm mode: delivery tags count its publishes from 1.
pub struct Channel {
    inner: amiquip::Channel,
    shared: Arc<wire::Shared>,
    wire: Option<RefCell<Wire>>,
    /// amiquip would print whatever comes between the end of listening and that of the channel.
    _unheard: (Receiver<amiquip::Confirm>, Receiver<amiquip::Return>),
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "channel {}", self.inner.channel_id())
    }
}

impl Channel {
    /// Looks whether the exchange is there. Needs no right to configure it, and it may be of any kind.
    ///
    /// # Errors
    /// [`ErrorKind::Absent`] when it is not; the channel is closed then.
    pub fn find_exchange(&self, name: &str) -> Result<(), Error> {
        match self.inner.exchange_declare_passive(name) {
            Ok(_) => Ok(()),
            Err(amiquip::Error::ServerClosedChannel {
                code: 404, message, ..
            }) => Err(Error::new(ErrorKind::Absent, message)),
            Err(error) => Err(error.into()),
        }
    }

    /// Declares the durable topic exchange.
    ///
    /// # Errors
    /// [`ErrorKind::Channel`] when the broker has one of that name that is different, or forbids it.
    pub fn declare_exchange(&self, name: &str) -> Result<(), Error> {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        self.inner
            .exchange_declare(ExchangeType::Topic, name, options)?;
        Ok(())
    }

    /// Hands a picture to the broker: the system has it, or under TLS amiquip, so the buffer is free
    /// afterwards. Blocks when their buffers are full; woken by [`Socket::cut`]. Where it waited for others, who
    /// send through the same socket, it is not sent unless it still `goes`.
    ///
    /// # Errors
    /// When the channel or its connection is gone.
    pub fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        mandatory: bool,
        headers: &Headers<'_>,
        jpeg: &[u8],
        goes: impl FnOnce() -> bool,
    ) -> Result<(), Error> {
        if let Some(wire) = &self.wire {
            let message = Message {
                exchange,
                routing_key,
                mandatory,
                headers,
                body: jpeg,
            };
            let sent = wire.borrow_mut().publish(&message, goes);
            return sent.map_err(|error| match error.kind() {
                io::ErrorKind::NotConnected | io::ErrorKind::BrokenPipe => self.why_ended(),
                _ => Error::new(ErrorKind::Down, error_text(&error)),
            });
        }
        if !goes() {
            return Ok(());
        }
        let publish = Publish {
            body: jpeg,
            routing_key: routing_key.to_owned(),
            mandatory,
            immediate: false,
            properties: properties(headers),
        };
        Ok(self.inner.basic_publish(exchange, publish)?)
    }

    /// The same with an event.
    ///
    /// # Errors
    /// When the channel or its connection is gone.
    pub fn publish_event(&self, exchange: &str, event: &message::Event) -> Result<(), Error> {
        let properties = AmqpProperties::default()
            .with_content_type(message::EVENT_CONTENT_TYPE.to_owned())
            // 1 = transient: after a restart of the broker all is told anew.
            .with_delivery_mode(1)
            .with_timestamp(event.timestamp)
            .with_type_(event.kind.to_owned())
            .with_app_id(message::APP_ID.to_owned());
        let publish = Publish {
            body: &event.json,
            routing_key: event.routing_key.to_owned(),
            mandatory: false,
            immediate: false,
            properties,
        };
        Ok(self.inner.basic_publish(exchange, publish)?)
    }

    /// From now on `listener` hears what the broker answers. To be called before anything is published.
    pub fn listen(&self, listener: Arc<dyn Listener>) {
        let channel = self.inner.channel_id();
        self.shared.listeners.listen(channel, listener);
    }

    /// For whoever waits for an answer: without, it may lie unread for a moment.
    pub fn awaited(&self) -> &Arc<Awaited> {
        &self.shared.awaited
    }

    /// Why the channel has ended, once its listener has heard of it.
    pub fn why_ended(&self) -> Error {
        match self.inner.enable_publisher_confirms_nowait() {
            Err(error) => error.into(),
            Ok(()) => Error::new(ErrorKind::Down, "the connection was cut"),
        }
    }
}

fn properties(headers: &Headers<'_>) -> AmqpProperties {
    let table = FieldTable::from([
        (
            "camera_id".to_owned(),
            AmqpValue::LongString(headers.camera_id.to_string()),
        ),
        ("seq".to_owned(), AmqpValue::LongLongInt(headers.seq)),
        ("epoch".to_owned(), AmqpValue::LongLongInt(headers.epoch)),
        (
            "captured_at_us".to_owned(),
            AmqpValue::LongLongInt(headers.captured_at_us),
        ),
        ("width".to_owned(), AmqpValue::LongInt(headers.width)),
        ("height".to_owned(), AmqpValue::LongInt(headers.height)),
    ]);
    AmqpProperties::default()
        .with_content_type(message::CONTENT_TYPE.to_owned())
        .with_headers(table)
        .with_delivery_mode(message::DELIVERY_MODE)
        .with_message_id(headers.message_id().to_string())
        .with_timestamp(headers.timestamp())
        .with_type_(message::TYPE.to_owned())
        .with_app_id(message::APP_ID.to_owned())
}

impl Connection {
    /// Consumes everything published to `exchanges` through a queue of its own that lives as long
    /// as the connection and holds at most `queue_length` messages, the newest. Calls `each` until
    /// it returns false.
    ///
    /// # Errors
    /// [`ErrorKind::Absent`] when an exchange does not exist, [`ErrorKind::Channel`] when the broker
    /// refuses one or the queue, any other when the connection ends.
    pub fn consume(
        &mut self,
        exchanges: &[String],
        queue_length: i32,
        mut each: impl FnMut(Option<Received>) -> bool,
    ) -> Result<(), Error> {
        let channel = self.inner.open_channel(None)?;
        // Only asked for: a name that is mistyped would stay at the broker for ever.
        for exchange in exchanges {
            channel
                .exchange_declare_passive(exchange.as_str())
                .map_err(|error| missing(exchange, error))?;
        }
        let queue = channel
            .queue_declare(
                "",
                QueueDeclareOptions {
                    exclusive: true,
                    auto_delete: true,
                    arguments: FieldTable::from([(
                        "x-max-length".to_owned(),
                        AmqpValue::LongInt(queue_length),
                    )]),
                    ..QueueDeclareOptions::default()
                },
            )
            .map_err(permission)?;
        for exchange in exchanges {
            channel
                .queue_bind(queue.name(), exchange.as_str(), "#", FieldTable::new())
                .map_err(permission)?;
        }
        let inbox = Arc::new(Inbox::default());
        let listeners = &self.wire.listeners;
        listeners.consume(channel.channel_id(), Arc::clone(&inbox));
        let consumer = queue.consume(ConsumerOptions {
            no_ack: true,
            ..ConsumerOptions::default()
        })?;
        loop {
            // A turn without a message too, so that the caller can look at the clock.
            let received = inbox.next(Duration::from_millis(100));
            if received.is_none() {
                self.still_consumes(&consumer)?;
            }
            if !each(received) {
                return Ok(());
            }
        }
    }

    /// Messages come past amiquip; why no more come does not.
    fn still_consumes(&self, consumer: &amiquip::Consumer<'_>) -> Result<(), Error> {
        match consumer.receiver().try_recv() {
            Err(crossbeam_channel::TryRecvError::Empty) => Ok(()),
            Ok(
                ConsumerMessage::ServerClosedChannel(error)
                | ConsumerMessage::ServerClosedConnection(error),
            ) => Err(error.into()),
            Ok(ConsumerMessage::ServerCancelled) => {
                Err(Error::new(ErrorKind::Down, "the broker deleted the queue"))
            }
            Ok(_) | Err(crossbeam_channel::TryRecvError::Disconnected) => {
                let cut = || Error::new(ErrorKind::Down, "the connection was cut");
                Err(self.wire.refused.get().map_or_else(cut, Error::from))
            }
        }
    }
}

fn missing(exchange: &str, error: amiquip::Error) -> Error {
    match error {
        amiquip::Error::ServerClosedChannel { code: 404, .. } => Error::new(
            ErrorKind::Absent,
            format!("there is no exchange \"{exchange}\""),
        ),
        error => permission(error),
    }
}

/// Adds to a 403 what a consumer needs.
fn permission(error: amiquip::Error) -> Error {
    match error {
        amiquip::Error::ServerClosedChannel {
            code: 403, message, ..
        } => Error::new(
            ErrorKind::Channel,
            format!(
                "{message}; a consumer needs read on the exchange, and configure, write and read on \
                 its queue amq.gen-*"
            ),
        ),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_broker_are_one_line_of_bounded_length() {
        let closed = amiquip::Error::ServerClosedConnection {
            code: 320,
            message: format!("bye\r\n\x1b[2J{}", "x".repeat(100_000)),
        };
        let text = Error::from(closed).text;
        assert!(
            text.starts_with("closed by the broker: bye???[2Jx"),
            "{text}"
        );
        assert_eq!(text.len(), LONGEST_TEXT);
    }

    #[test]
    fn the_largest_message_is_read_from_the_brokers_words() {
        let closed = |code, message: &str| {
            Error::from(amiquip::Error::ServerClosedChannel {
                channel_id: 1,
                code,
                message: message.to_owned(),
            })
            .kind
        };
        let text = "PRECONDITION_FAILED - message size 300 is larger than configured max size 200";
        assert_eq!(closed(406, text), ErrorKind::TooLarge(200));
        let old = "PRECONDITION_FAILED - message size 300 larger than max size 200";
        assert_eq!(closed(406, old), ErrorKind::TooLarge(200));
        assert_eq!(closed(403, text), ErrorKind::Channel);
        for other in [
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'max size 3'",
            "PRECONDITION_FAILED - message size 300 is larger than max size ",
            "PRECONDITION_FAILED - message size 300 is larger than max size 99999999999999999999",
        ] {
            assert_eq!(closed(406, other), ErrorKind::Channel, "{other}");
        }
    }
}
