//! Consumes published frames, for `edge-video watch`.

use super::connection::Connection;
use super::inbox::{BYTES, Inbox, Received};
use crate::amqp::error::{Error, ErrorKind};
use amiquip::{AmqpValue, ConsumerMessage, ConsumerOptions, FieldTable, QueueDeclareOptions};
use std::sync::Arc;
use std::time::Duration;

impl Connection {
    /// Consumes everything published to `exchanges` through a queue of its own that lives as long
    /// as the connection. It holds the newest messages, at most `queue_length` of 64 MiB together,
    /// and as many may wait here. Calls `each` until it returns false.
    ///
    /// # Errors
    /// [`ErrorKind::Absent`] when an exchange does not exist, [`ErrorKind::Channel`] when the
    /// broker refuses one or the queue, any other when the connection ends.
    pub fn consume(
        &mut self,
        exchanges: &[String],
        queue_length: u16,
        mut each: impl FnMut(Option<Received>) -> bool,
    ) -> Result<(), Error> {
        let channel = self.inner.open_channel(None)?;
        // Looked for, not declared: a mistyped exchange would stay on the broker.
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
                    arguments: FieldTable::from([
                        limit("x-max-length", queue_length.into()),
                        limit("x-max-length-bytes", BYTES as i64),
                    ]),
                    ..QueueDeclareOptions::default()
                },
            )
            .map_err(permission)?;
        for exchange in exchanges {
            channel
                .queue_bind(queue.name(), exchange.as_str(), "#", FieldTable::new())
                .map_err(permission)?;
        }
        let inbox = Arc::new(Inbox::new(queue_length.into()));
        let listeners = &self.wire.listeners;
        listeners.consume(channel.channel_id(), Arc::clone(&inbox));
        let consumer = queue.consume(ConsumerOptions {
            no_ack: true,
            ..ConsumerOptions::default()
        })?;
        loop {
            // `each` is also called without a message, so that the caller can look at the clock.
            let received = inbox.next(Duration::from_millis(100));
            if received.is_none() {
                self.still_consumes(&consumer)?;
            }
            if !each(received) {
                return Ok(());
            }
        }
    }

    /// Messages pass amiquip by, but the reason of their end does not.
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

fn limit(name: &str, most: i64) -> (String, AmqpValue) {
    (name.to_owned(), AmqpValue::LongLongInt(most))
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

/// Adds to a 403 which rights a consumer needs.
fn permission(error: amiquip::Error) -> Error {
    match error {
        amiquip::Error::ServerClosedChannel {
            code: 403, message, ..
        } => Error::new(
            ErrorKind::Channel,
            format!(
                "{message}; a consumer needs read on the exchange, and configure, write and read \
                 on its queue amq.gen-*"
            ),
        ),
        error => error.into(),
    }
}
