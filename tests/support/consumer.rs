//! A consumer on its own thread, which keeps all messages.

use super::unix_us;
use amiquip::{
    AmqpProperties, AmqpValue, Auth, Connection, ConnectionOptions, ConnectionTuning,
    ConsumerMessage, ConsumerOptions, ExchangeDeclareOptions, ExchangeType, FieldTable,
    QueueDeclareOptions,
};
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One message as it arrived.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub exchange: String,
    pub routing_key: String,
    pub properties: AmqpProperties,
    /// Length of the body, also when the body itself is not kept.
    pub len: usize,
    /// The JPEG, if the consumer keeps bodies.
    pub body: Option<Vec<u8>>,
    /// Microseconds since 1970.
    pub arrived_us: i64,
}

/// The headers are part of the public contract, types included: each getter panics if its header is
/// missing or of another type.
impl Delivery {
    pub fn camera_id(&self) -> &str {
        match self.header("camera_id") {
            AmqpValue::LongString(text) => text,
            other => panic!("camera_id is {other:?}"),
        }
    }

    pub fn seq(&self) -> i64 {
        self.int64("seq")
    }

    pub fn epoch(&self) -> i64 {
        self.int64("epoch")
    }

    pub fn captured_at_us(&self) -> i64 {
        self.int64("captured_at_us")
    }

    pub fn width(&self) -> i32 {
        self.int32("width")
    }

    pub fn height(&self) -> i32 {
        self.int32("height")
    }

    /// From capture to arrival.
    pub fn age(&self) -> Duration {
        Duration::from_micros(
            u64::try_from(self.arrived_us - self.captured_at_us()).unwrap_or_default(),
        )
    }

    /// The body; panics if the consumer does not keep bodies.
    pub fn jpeg(&self) -> &[u8] {
        self.body.as_deref().expect("the consumer keeps no bodies")
    }

    pub fn headers(&self) -> &FieldTable {
        self.properties
            .headers()
            .as_ref()
            .expect("the message has no headers")
    }

    fn header(&self, key: &str) -> &AmqpValue {
        self.headers()
            .get(key)
            .unwrap_or_else(|| panic!("no header {key} in {:?}", self.headers()))
    }

    fn int64(&self, key: &str) -> i64 {
        match self.header(key) {
            AmqpValue::LongLongInt(value) => *value,
            other => panic!("{key} is {other:?}"),
        }
    }

    fn int32(&self, key: &str) -> i32 {
        match self.header(key) {
            AmqpValue::LongInt(value) => *value,
            other => panic!("{key} is {other:?}"),
        }
    }
}

/// Declares a durable topic exchange, binds a queue of its own to it and collects what arrives.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    /// Shut down to end the thread: nothing else ends a client of a frozen broker.
    socket: mio::net::TcpStream,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    arrived: Mutex<Vec<Arc<Delivery>>>,
    more: Condvar,
    ended: Mutex<bool>,
}

impl Consumer {
    /// All messages of `exchange`, with their bodies. Returns when the queue is bound, so that no
    /// frame published from then on is missed.
    pub fn start(port: u16, exchange: &str) -> Self {
        Self::start_with(port, exchange, "#", true)
    }

    /// What matches `binding_key`, with or without bodies.
    pub fn start_with(port: u16, exchange: &str, binding_key: &str, bodies: bool) -> Self {
        Self::start_in("/", port, exchange, binding_key, bodies)
    }

    /// The same in a virtual host.
    pub fn start_in(
        vhost: &str,
        port: u16,
        exchange: &str,
        binding_key: &str,
        bodies: bool,
    ) -> Self {
        let options = ConnectionOptions::<Auth>::default().virtual_host(vhost);
        let stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let stream = mio::net::TcpStream::from_stream(stream).unwrap();
        let socket = stream.try_clone().unwrap();
        let shared = Arc::new(Shared::default());
        let (ready, is_ready) = crossbeam_channel::bounded(1);
        let (exchange, binding_key) = (exchange.to_owned(), binding_key.to_owned());
        let thread = std::thread::Builder::new()
            .name("test-consumer".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || {
                    let names = (exchange.as_str(), binding_key.as_str());
                    let result = consume(stream, options, names, bodies, &shared, &ready);
                    *shared.ended.lock().unwrap() = true;
                    if let Err(error) = result {
                        // After the queue was bound this is what stop() causes; before, the caller
                        // waits for it.
                        let _ = ready.send(Err(error.to_string()));
                    }
                }
            })
            .unwrap();
        is_ready
            .recv_timeout(super::SOON)
            .expect("the consumer gets no answer")
            .expect("the consumer cannot bind its queue");
        Self {
            shared,
            socket,
            thread: Some(thread),
        }
    }

    /// Whether the connection is gone.
    pub fn ended(&self) -> bool {
        *self.shared.ended.lock().unwrap()
    }

    /// All that arrived and was not taken.
    pub fn all(&self) -> Vec<Arc<Delivery>> {
        self.shared.arrived.lock().unwrap().clone()
    }

    /// All of one camera that arrived and was not taken.
    pub fn of(&self, camera_id: &str) -> Vec<Arc<Delivery>> {
        of(&self.shared.arrived.lock().unwrap(), camera_id)
    }

    /// How many arrived and were not taken.
    pub fn count(&self) -> usize {
        self.shared.arrived.lock().unwrap().len()
    }

    /// Takes all that arrived: what is asked for later are newer messages.
    pub fn take(&self) -> Vec<Arc<Delivery>> {
        std::mem::take(&mut self.shared.arrived.lock().unwrap())
    }

    /// Waits until `n` messages of this camera are there and returns all of it that are.
    #[track_caller]
    pub fn wait_for(&self, camera_id: &str, n: usize, limit: Duration) -> Vec<Arc<Delivery>> {
        let what = format!("{n} messages of {camera_id}");
        self.wait_until(limit, &what, |arrived| of(arrived, camera_id).len() >= n);
        self.of(camera_id)
    }

    /// Waits until what arrived fulfils `cond`.
    #[track_caller]
    pub fn wait_until(
        &self,
        limit: Duration,
        what: &str,
        mut cond: impl FnMut(&[Arc<Delivery>]) -> bool,
    ) {
        let deadline = Instant::now() + limit;
        let mut arrived = self.shared.arrived.lock().unwrap();
        while !cond(&arrived) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let count = arrived.len();
                // A poisoned lock would hide this message behind another one.
                drop(arrived);
                panic!("waited {limit:?} in vain: {what}; {count} messages arrived in all");
            }
            arrived = self.shared.more.wait_timeout(arrived, left).unwrap().0;
        }
    }

    /// Ends the connection and returns what was not taken.
    pub fn stop(mut self) -> Vec<Arc<Delivery>> {
        self.end();
        self.take()
    }

    fn end(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.end();
    }
}

fn of(arrived: &[Arc<Delivery>], camera_id: &str) -> Vec<Arc<Delivery>> {
    arrived
        .iter()
        .filter(|delivery| delivery.camera_id() == camera_id)
        .cloned()
        .collect()
}

fn consume(
    stream: mio::net::TcpStream,
    options: ConnectionOptions<Auth>,
    (exchange, binding_key): (&str, &str),
    bodies: bool,
    shared: &Shared,
    ready: &crossbeam_channel::Sender<Result<(), String>>,
) -> amiquip::Result<()> {
    let tuning = ConnectionTuning::default();
    let mut connection = Connection::insecure_open_stream(stream, options, tuning)?;
    let channel = connection.open_channel(None)?;
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let exchange = channel.exchange_declare(ExchangeType::Topic, exchange, durable)?;
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel.queue_declare("", exclusive)?;
    queue.bind(&exchange, binding_key, FieldTable::new())?;
    let consumer = queue.consume(ConsumerOptions {
        no_ack: true,
        ..ConsumerOptions::default()
    })?;
    let _ = ready.send(Ok(()));
    while let Ok(ConsumerMessage::Delivery(delivery)) = consumer.receiver().recv() {
        let delivery = Delivery {
            exchange: delivery.exchange,
            routing_key: delivery.routing_key,
            properties: delivery.properties,
            len: delivery.body.len(),
            body: bodies.then_some(delivery.body),
            arrived_us: unix_us(),
        };
        shared.arrived.lock().unwrap().push(Arc::new(delivery));
        shared.more.notify_all();
    }
    Ok(())
}
