//! A channel: exchanges, publishing, and who receives the answers.

use super::answers::Listener;
use super::encode::Message;
use super::gather::AnswerWaiters;
use super::wire::{self, Wire};
use crate::amqp::error::{Error, ErrorKind, error_text};
use crate::message::{self, Headers};
use amiquip::{
    AmqpProperties, AmqpValue, ExchangeDeclareOptions, ExchangeType, FieldTable, Publish,
};
use crossbeam_channel::Receiver;
use std::cell::RefCell;
use std::io;
use std::sync::Arc;

/// A channel in confirm mode: delivery tags count its publishes from 1.
pub struct Channel {
    inner: amiquip::Channel,
    shared: Arc<wire::Shared>,
    wire: Option<RefCell<Wire>>,
    /// Held because amiquip logs what comes between the end of a listener and that of the channel.
    _unheard: (Receiver<amiquip::Confirm>, Receiver<amiquip::Return>),
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "channel {}", self.inner.channel_id())
    }
}

impl Channel {
    /// Turns confirms on, which blocks. Under TLS all bytes pass one session, which is amiquip's.
    pub(super) fn new(
        inner: amiquip::Channel,
        shared: &Arc<wire::Shared>,
        tls: bool,
    ) -> Result<Self, Error> {
        let unheard = (
            inner.listen_for_publisher_confirms()?,
            inner.listen_for_returns()?,
        );
        inner.enable_publisher_confirms()?;
        let wire = (!tls).then(|| RefCell::new(Wire::new(shared, inner.channel_id())));
        Ok(Self {
            inner,
            shared: Arc::clone(shared),
            wire,
            _unheard: unheard,
        })
    }

    /// Checks that the exchange exists. Needs no right to configure it, and accepts any kind.
    ///
    /// # Errors
    /// [`ErrorKind::Absent`] when it does not exist; the broker has then closed the channel.
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
    /// [`ErrorKind::Channel`] when the broker has one of that name that is different, or forbids
    /// it.
    pub fn declare_exchange(&self, name: &str) -> Result<(), Error> {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        self.inner
            .exchange_declare(ExchangeType::Topic, name, options)?;
        Ok(())
    }

    /// Publishes a frame or a unit of video. Afterwards the system has its bytes, or under TLS
    /// amiquip, so the buffer is free. Blocks while their buffers are full; woken by
    /// [`Socket::cut`](super::Socket::cut). `goes` is asked once the socket is free; if it says no,
    /// nothing is sent.
    ///
    /// # Errors
    /// When the channel or its connection is gone.
    pub fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        mandatory: bool,
        headers: &Headers<'_>,
        body: &[u8],
        goes: impl FnOnce() -> bool,
    ) -> Result<(), Error> {
        if let Some(wire) = &self.wire {
            let message = Message {
                exchange,
                routing_key,
                mandatory,
                headers,
                body,
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
            body,
            routing_key: routing_key.to_owned(),
            mandatory,
            immediate: false,
            properties: properties(headers),
        };
        Ok(self.inner.basic_publish(exchange, publish)?)
    }

    /// Publishes an event.
    ///
    /// # Errors
    /// When the channel or its connection is gone.
    pub fn publish_event(
        &self,
        exchange: &str,
        event: &message::EventMessage,
    ) -> Result<(), Error> {
        let properties = AmqpProperties::default()
            .with_content_type(message::EVENT_CONTENT_TYPE.to_owned())
            // 1 = transient: all states are sent again after a restart of the broker.
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

    /// Sends the broker's answers to `listener` from now on. To be called before the first publish.
    pub fn listen(&self, listener: Arc<dyn Listener>) {
        let channel = self.inner.channel_id();
        self.shared.listeners.listen(channel, listener);
    }

    /// Where to register while waiting for an answer. Otherwise it may be read up to 10 ms late.
    pub fn answer_waiters(&self) -> &Arc<AnswerWaiters> {
        &self.shared.answer_waiters
    }

    /// Why the channel has ended, once its listener knows that it has. Ask once: amiquip tells only
    /// the first caller.
    pub fn why_ended(&self) -> Error {
        match self.inner.enable_publisher_confirms_nowait() {
            Err(error) => error.into(),
            Ok(()) => Error::new(ErrorKind::Down, "the connection was cut"),
        }
    }
}

/// As [`Message::head`] writes them, for amiquip.
pub(super) fn properties(headers: &Headers<'_>) -> AmqpProperties {
    let mut table = FieldTable::from([
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
    if let Some(video) = &headers.video {
        table.extend([
            ("key".to_owned(), AmqpValue::Boolean(video.key)),
            ("gop".to_owned(), AmqpValue::LongLongInt(video.gop)),
            ("gop_index".to_owned(), AmqpValue::LongInt(video.gop_index)),
            ("pts_us".to_owned(), AmqpValue::LongLongInt(video.pts_us)),
            (
                "codec".to_owned(),
                AmqpValue::LongString(video.codec.name().to_owned()),
            ),
        ]);
    }
    AmqpProperties::default()
        .with_content_type(headers.content_type().to_owned())
        .with_headers(table)
        .with_delivery_mode(message::DELIVERY_MODE)
        .with_message_id(headers.message_id().to_string())
        .with_timestamp(headers.timestamp())
        .with_type_(headers.kind().to_owned())
        .with_app_id(message::APP_ID.to_owned())
}
