//! Reports of new bindings, from RabbitMQ's plugin `rabbitmq_event_exchange`. The right to read
//! them is seldom given, so a broker without them is no failure.

use super::bounds::{Entry, entry};
use super::connection::Connection;
use super::inbox::content;
use super::wire;
use crate::amqp::error::{Error, ErrorKind};
use amiquip::{AmqpValue, ConsumerOptions, FieldTable, QueueDeclareOptions};
use std::fmt;
use std::sync::Arc;

/// The plugin's exchange, and the routing key of what is of interest there.
const EXCHANGE: &str = "amq.rabbitmq.event";
const CREATED: &str = "binding.created";

/// Reports that may wait at the broker: a client that binds without end must not fill its memory.
const WAITING_MAX: i64 = 256;

/// Longest name of AMQP, in bytes.
const LONGEST_NAME: usize = 255;

/// Is given the exchange and the binding key of each new binding. Called on the connection's I/O
/// thread, so it must not block.
#[derive(Clone)]
pub struct BindingListener(Arc<Bound>);

type Bound = dyn Fn(&str, &str) + Send + Sync;

impl BindingListener {
    /// Calls `bound`.
    pub fn new(bound: impl Fn(&str, &str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(bound))
    }
}

impl fmt::Debug for BindingListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BindingListener")
    }
}

/// A listener, and the virtual host whose bindings it hears of.
pub(super) struct Bindings {
    listener: BindingListener,
    vhost: String,
}

impl Bindings {
    /// A content header: all that a report says is in its table.
    pub(super) fn header(&self, payload: &[u8]) {
        let Some((_, mut table)) = content(payload) else {
            return;
        };
        let (mut exchange, mut key, mut vhost) = (None, None, None);
        while let Some((Entry { name, kind, bytes }, behind)) = entry(table) {
            table = behind;
            let text = (kind == b'S' && bytes.len() <= LONGEST_NAME)
                .then(|| std::str::from_utf8(bytes).ok())
                .flatten();
            match name {
                b"source_name" => exchange = text,
                b"routing_key" => key = text,
                b"vhost" => vhost = text,
                _ => {}
            }
        }
        // The plugin reports the bindings of all virtual hosts.
        if let (Some(exchange), Some(key), Some(vhost)) = (exchange, key, vhost)
            && vhost == self.vhost
        {
            (self.listener.0)(exchange, key);
        }
    }
}

/// A queue that gets the reports, and its channel.
pub struct BindingQueue {
    channel: amiquip::Channel,
    queue: String,
    shared: Arc<wire::Shared>,
}

impl Connection {
    /// Makes a queue for the reports of new bindings. Blocks; woken by
    /// [`Socket::cut`](crate::amqp::Socket::cut).
    ///
    /// # Errors
    /// [`ErrorKind::Absent`] without the plugin, [`ErrorKind::Channel`] without the right to read
    /// its reports, [`ErrorKind::Full`] without a channel, any other when the connection ends.
    pub fn binding_queue(&mut self) -> Result<BindingQueue, Error> {
        let channel = self.inner.open_channel(None)?;
        match channel.exchange_declare_passive(EXCHANGE) {
            Ok(_) => {}
            Err(amiquip::Error::ServerClosedChannel { code: 404, .. }) => {
                let text = "the plugin rabbitmq_event_exchange is not enabled";
                return Err(Error::new(ErrorKind::Absent, text));
            }
            Err(error) => return Err(error.into()),
        }
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            arguments: FieldTable::from([(
                "x-max-length".to_owned(),
                AmqpValue::LongLongInt(WAITING_MAX),
            )]),
            ..QueueDeclareOptions::default()
        };
        let queue = channel.queue_declare("", options)?.name().to_owned();
        channel.queue_bind(queue.as_str(), EXCHANGE, CREATED, FieldTable::new())?;
        Ok(BindingQueue {
            channel,
            queue,
            shared: Arc::clone(&self.wire),
        })
    }
}

impl BindingQueue {
    /// Tells `listener` of the new bindings in this virtual host, until what is returned is
    /// dropped.
    ///
    /// # Errors
    /// As for [`Connection::binding_queue`].
    pub fn consume(
        &self,
        listener: BindingListener,
        vhost: &str,
    ) -> Result<BindingConsumer<'_>, Error> {
        let vhost = vhost.to_owned();
        let channel = self.channel.channel_id();
        let listeners = &self.shared.listeners;
        listeners.hear_bindings(channel, Bindings { listener, vhost });
        let options = ConsumerOptions {
            no_ack: true,
            ..ConsumerOptions::default()
        };
        let consumer = self.channel.basic_consume(self.queue.as_str(), options)?;
        Ok(BindingConsumer {
            _consumer: consumer,
        })
    }
}

/// As long as it lives, reports come.
pub struct BindingConsumer<'a> {
    _consumer: amiquip::Consumer<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// A long string in a table.
    fn text(name: &str, value: &str) -> Vec<u8> {
        let length = u32::try_from(value.len()).unwrap().to_be_bytes();
        let name_length = [u8::try_from(name.len()).unwrap()];
        [
            &name_length,
            name.as_bytes(),
            b"S",
            &length,
            value.as_bytes(),
        ]
        .concat()
    }

    /// The content header of a report with this table.
    fn report(table: &[u8]) -> Vec<u8> {
        let length = u32::try_from(table.len()).unwrap().to_be_bytes();
        [&[0, 60, 0, 0], &[0_u8; 8][..], &[0x20, 0], &length, table].concat()
    }

    #[test]
    fn a_report_is_heard_if_it_is_whole_and_of_our_virtual_host() {
        let heard = Arc::new(Mutex::new(vec![]));
        let told = Arc::clone(&heard);
        let bindings = Bindings {
            listener: BindingListener::new(move |exchange, key| {
                told.lock().push(format!("{exchange} {key}"));
            }),
            vhost: "/".to_owned(),
        };
        let table = |exchange: &str, key: &str, vhost: &str| {
            [
                text("source_name", exchange),
                text("source_kind", "exchange"),
                text("routing_key", key),
                b"\x09argumentsA\0\0\0\0".to_vec(),
                text("vhost", vhost),
            ]
            .concat()
        };
        let whole = report(&table("cameras", "camera.*", "/"));
        bindings.header(&whole);
        assert_eq!(heard.lock().as_slice(), ["cameras camera.*"]);
        heard.lock().clear();
        bindings.header(&report(&table("cameras", "camera.*", "other")));
        bindings.header(&report(&table("cameras", &"x".repeat(256), "/")));
        bindings.header(&report(&text("source_name", "cameras")));
        bindings.header(&report(b"\x0bsource_nameS\0\0\0\x01\xff"));
        for length in 0..whole.len() {
            bindings.header(whole.get(..length).unwrap());
        }
        assert!(heard.lock().is_empty(), "{:?}", heard.lock());
    }
}
