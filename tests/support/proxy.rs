//! A TCP proxy on loopback that disturbs the network between daemon and broker.
//!
//! One [`Weather`] describes what the network does to all connections; it may change at any time.
//! The kernel's socket buffers on both sides have their effect, as in a real network.

use super::wait_until;
use rustix::net::sockopt::set_socket_linger;
use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Interval at which a thread that waits for bytes checks the weather.
const POLL: Duration = Duration::from_millis(5);
/// How many bytes one direction holds at most: delayed ones, or those that wait for a limited rate.
/// When it is full, it stops reading.
const QUEUE_MAX: usize = 16 * 1024 * 1024;
/// The burst of the uplink's token bucket: as much as a thread that wakes up late must catch up.
const BUCKET: Duration = Duration::from_millis(100);

/// What the network does.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    paused: bool,
    refusing: bool,
    vanished: bool,
    delay: Duration,
    /// Bytes per second in each direction of each connection.
    rate: Option<u32>,
    /// Bytes per second of all connections together towards the target: one token bucket.
    uplink: Option<u32>,
    /// Connections with another number are to be reset.
    generation: u64,
    closed: bool,
}

/// The proxy. Dropping it resets its connections and ends its threads.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    weather: Mutex<Weather>,
    /// When the uplink will have carried what it was given.
    uplink_free: Mutex<Instant>,
    /// Connections, each with its generation.
    open: Mutex<BTreeMap<u64, usize>>,
    accepted: AtomicUsize,
    threads: AtomicUsize,
}

impl Proxy {
    /// Forwards everything to this port on 127.0.0.1.
    pub fn start(target: u16) -> Self {
        // Another process may take the free port first.
        let (port, listener) = super::wait_for(super::SOON, "a port to listen on", || {
            let port = super::free_port();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            listener.ok().map(|listener| (port, listener))
        });
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            target,
            weather: Mutex::default(),
            uplink_free: Mutex::new(Instant::now()),
            open: Mutex::default(),
            accepted: AtomicUsize::new(0),
            threads: AtomicUsize::new(0),
        });
        spawn(&shared, "proxy-accept", {
            let shared = Arc::clone(&shared);
            move || accept(port, Some(listener), &shared)
        });
        Self { port, shared }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shared.open.lock().unwrap().values().sum()
    }

    /// How many connections there were in all.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// No disturbance: everything passes at once.
    pub fn pass(&self) {
        self.change(|weather| {
            *weather = Weather {
                generation: weather.generation,
                ..Weather::default()
            };
        });
        wait_until(super::SOON, "the proxy to listen", || {
            super::listening(self.port)
        });
    }

    /// Nothing passes, but connections stay open and new ones are accepted. They continue with
    /// [`pass`](Self::pass).
    pub fn pause(&self) {
        self.change(|weather| weather.paused = true);
    }

    /// Resets all present connections; new ones are accepted.
    pub fn reset(&self) {
        let mut generation = 0;
        self.change(|weather| {
            weather.generation += 1;
            generation = weather.generation;
        });
        // New ones may come before the last old one has ended.
        wait_until(super::SOON, "the proxy to reset its connections", || {
            let open = self.shared.open.lock().unwrap();
            open.range(..generation).all(|(_, &count)| count == 0)
        });
    }

    /// Resets all connections and lets the kernel refuse new ones, as without a listener.
    pub fn refuse(&self) {
        self.change(|weather| weather.refusing = true);
        wait_until(super::SOON, "the proxy to stop listening", || {
            !super::listening(self.port)
        });
        self.reset();
    }

    /// Resets all connections, and leaves new ones without any answer, as if the host were off.
    pub fn vanish(&self) {
        self.change(|weather| weather.vanished = true);
        // The first one takes the only place in the accept queue.
        let address = (Ipv4Addr::LOCALHOST, self.port).into();
        let try_connect =
            || TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err();
        wait_until(
            super::SOON,
            "connects to stay without an answer",
            try_connect,
        );
        self.reset();
    }

    /// Each direction takes this long from now on.
    pub fn delay(&self, delay: Duration) {
        self.change(|weather| weather.delay = delay);
    }

    /// Each direction of each connection carries so many bytes per second at most.
    pub fn throttle(&self, bytes_per_second: u32) {
        self.change(|weather| weather.rate = Some(bytes_per_second));
    }

    /// All connections together carry so many bytes per second towards the target at most.
    pub fn uplink(&self, bytes_per_second: u32) {
        self.change(|weather| weather.uplink = Some(bytes_per_second));
    }

    fn change(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.shared.weather.lock().unwrap());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change(|weather| weather.closed = true);
        // No panic here: this may run during another panic.
        super::holds_within(super::SOON, || {
            self.shared.threads.load(Ordering::SeqCst) == 0
        });
    }
}

impl Shared {
    fn weather(&self) -> Weather {
        *self.weather.lock().unwrap()
    }
}

fn spawn(shared: &Arc<Shared>, name: &str, work: impl FnOnce() + Send + 'static) {
    let shared = Arc::clone(shared);
    shared.threads.fetch_add(1, Ordering::SeqCst);
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            work();
            shared.threads.fetch_sub(1, Ordering::SeqCst);
        })
        .unwrap();
}

fn accept(port: u16, mut listener: Option<TcpListener>, shared: &Arc<Shared>) {
    let mut vanished = false;
    loop {
        let weather = shared.weather();
        if weather.closed {
            return;
        }
        if weather.refusing {
            listener = None;
        } else if listener.is_none() {
            let new = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            new.set_nonblocking(true).unwrap();
            listener = Some(new);
        }
        if weather.vanished != vanished
            && let Some(listener) = &listener
        {
            vanished = weather.vanished;
            // With a full accept queue, the kernel ignores new connections.
            rustix::net::listen(listener, if vanished { 0 } else { 128 }).unwrap();
        }
        if vanished {
            std::thread::sleep(POLL);
            continue;
        }
        match listener.as_ref().map(TcpListener::accept) {
            Some(Ok((client, _))) => connect(client, weather.generation, shared),
            _ => std::thread::sleep(POLL),
        }
    }
}

/// Opens the second half of a connection and starts the threads that copy bytes between the two.
fn connect(client: TcpStream, generation: u64, shared: &Arc<Shared>) {
    shared.accepted.fetch_add(1, Ordering::SeqCst);
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.target)) else {
        reset_on_close(&client);
        return;
    };
    *shared.open.lock().unwrap().entry(generation).or_default() += 1;
    for stream in [&client, &server] {
        stream.set_nonblocking(false).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(POLL)).unwrap();
        stream.set_write_timeout(Some(POLL)).unwrap();
    }
    let link = Arc::new(Link {
        shared: Arc::clone(shared),
        generation,
        broken: Mutex::new(false),
    });
    let ways = [
        (
            client.try_clone().unwrap(),
            server.try_clone().unwrap(),
            true,
        ),
        (server, client, false),
    ];
    for (from, to, up) in ways {
        let way = Arc::new(Way::default());
        spawn(shared, "proxy-read", {
            let (link, way) = (Arc::clone(&link), Arc::clone(&way));
            move || read(&link, &way, from)
        });
        spawn(shared, "proxy-write", {
            let link = Arc::clone(&link);
            move || write(&link, &way, to, up)
        });
    }
}

/// One connection. It is open as long as one of its four threads holds this.
struct Link {
    shared: Arc<Shared>,
    generation: u64,
    broken: Mutex<bool>,
}

impl Link {
    /// The weather, or `None` if this connection is to be reset.
    fn weather(&self) -> Option<Weather> {
        let weather = self.shared.weather();
        let doomed = weather.closed || weather.generation != self.generation;
        (!doomed && !*self.broken.lock().unwrap()).then_some(weather)
    }

    fn tear(&self) {
        *self.broken.lock().unwrap() = true;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut open = self.shared.open.lock().unwrap();
        *open.entry(self.generation).or_default() -= 1;
    }
}

/// One direction of a connection: bytes with the time at which they are due.
#[derive(Default)]
struct Way {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// The sender has closed its side.
    complete: bool,
}

fn read(link: &Link, way: &Way, mut from: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Some(weather) = link.weather() {
        if weather.paused || way.queue.lock().unwrap().bytes >= QUEUE_MAX {
            std::thread::sleep(POLL);
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => {
                way.queue.lock().unwrap().complete = true;
                way.more.notify_one();
                return;
            }
            Ok(count) => {
                let due = Instant::now() + weather.delay;
                let mut queue = way.queue.lock().unwrap();
                queue.pieces.push_back((due, buffer[..count].to_vec()));
                queue.bytes += count;
                way.more.notify_one();
            }
            Err(error) if is_timeout(&error) => {}
            Err(_) => link.tear(),
        }
    }
    reset_on_close(&from);
}

fn write(link: &Link, way: &Way, mut to: TcpStream, up: bool) {
    // With a limited rate: when the next byte may go.
    let mut next = Instant::now();
    while let Some(weather) = link.weather() {
        let now = Instant::now();
        let uplink = weather.uplink.filter(|_| up);
        if uplink.is_some() && *link.shared.uplink_free.lock().unwrap() > now {
            std::thread::sleep(POLL / 5);
            continue;
        }
        let mut queue = way.queue.lock().unwrap();
        if weather.paused || weather.rate.is_some() && next > now {
            drop(queue);
            std::thread::sleep(POLL);
            continue;
        }
        let Some((due, piece)) = queue.pieces.pop_front() else {
            if queue.complete {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            drop(way.more.wait_timeout(queue, POLL).unwrap());
            continue;
        };
        if due > now {
            queue.pieces.push_front((due, piece));
            drop(queue);
            std::thread::sleep((due - now).min(POLL));
            continue;
        }
        drop(queue);
        // With a limited rate, in small pieces, so that the flow is steady.
        let limit = weather
            .rate
            .or(uplink.map(|rate| rate * 2))
            .map_or(piece.len(), |rate| (rate as usize / 100).max(1));
        let (now_to_go, rest) = piece.split_at(limit.min(piece.len()));
        let sent = match to.write(now_to_go) {
            Ok(sent) => sent,
            Err(error) if is_timeout(&error) => 0,
            Err(_) => {
                link.tear();
                break;
            }
        };
        if let Some(rate) = weather.rate {
            next = now + Duration::from_secs_f64(sent as f64 / f64::from(rate));
        }
        if let Some(rate) = uplink {
            let mut free = link.shared.uplink_free.lock().unwrap();
            let took = Duration::from_secs_f64(sent as f64 / f64::from(rate));
            *free = (*free).max(now.checked_sub(BUCKET).unwrap_or(now)) + took;
        }
        let left = [&now_to_go[sent..], rest].concat();
        let mut queue = way.queue.lock().unwrap();
        queue.bytes -= sent;
        if !left.is_empty() {
            queue.pieces.push_front((due, left));
        }
    }
    reset_on_close(&to);
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// Closing it then sends RST and not FIN.
fn reset_on_close(stream: &TcpStream) {
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}
