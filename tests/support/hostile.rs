//! Hostile peers instead of a broker: servers of other protocols, and ones that send harmful data.

use super::free_port;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What it does once a client has said `AMQP 0-9-1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    NestedArrays,
    NestedTables,
    ManyValues,
    /// Announces a frame of 4 GiB and sends bytes of it without end.
    HugeFrame,
    NoEndMark,
    /// A method that only clients send, with nested tables.
    ClientMethod,
    /// Ends in the middle of its first frame.
    Cut,
    OtherVersion,
    Http,
    TlsAlert,
}

/// All of them, each with the expected message.
pub const KINDS: [(Kind, &str); 10] = [
    (
        Kind::NestedArrays,
        "the broker's server properties are nested more than 8 deep; connection closed",
    ),
    (
        Kind::NestedTables,
        "the broker's server properties are nested more than 8 deep; connection closed",
    ),
    (
        Kind::ManyValues,
        "the broker's server properties contain more than 256 values; connection closed",
    ),
    (
        Kind::HugeFrame,
        "the broker announced a frame of 4294967280 bytes: at most 131064 are allowed; connection \
         closed",
    ),
    (
        Kind::NoEndMark,
        "the broker sent a frame without an end mark: the data is damaged or not AMQP; \
         connection closed",
    ),
    (
        Kind::ClientMethod,
        "the broker sent method 50.10 on channel 1: it is not allowed there; connection closed",
    ),
    (Kind::Cut, "the connection was cut in the middle of a frame"),
    (
        Kind::OtherVersion,
        "the broker speaks AMQP 0-9-0: AMQP 0-9-1 is needed; check the port",
    ),
    (
        Kind::Http,
        "no AMQP broker: an HTTP server answers; check host and port",
    ),
    (
        Kind::TlsAlert,
        "the broker requires TLS on this port: use amqps:// in the URL",
    ),
];

/// A listening peer of one kind. Ends when dropped.
#[derive(Debug)]
pub struct Hostile {
    port: u16,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ending: AtomicBool,
    served: AtomicUsize,
}

impl Hostile {
    pub fn start(kind: Kind) -> Self {
        Self::start_with(move |stream| play(kind, stream))
    }

    /// One that does `play` with each connection.
    pub fn start_with(play: impl Fn(&mut TcpStream) + Send + 'static) -> Self {
        let (port, listener) = super::wait_for(super::SOON, "a port to listen on", || {
            let port = free_port();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            listener.ok().map(|listener| (port, listener))
        });
        let shared = Arc::new(Shared::default());
        let listener = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in listener.incoming() {
                    if shared.ending.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(mut stream) = stream else { continue };
                    // A client that sends nothing delays the next one by at most this.
                    let longest = Some(Duration::from_secs(2));
                    stream.set_read_timeout(longest).unwrap();
                    stream.set_write_timeout(longest).unwrap();
                    play(&mut stream);
                    shared.served.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self {
            port,
            shared,
            listener: Some(listener),
        }
    }

    pub fn url(&self) -> String {
        super::rabbit::url(self.port, "guest", "guest", "/")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections it has had.
    pub fn served(&self) -> usize {
        self.shared.served.load(Ordering::SeqCst)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        let _ = self.listener.take().map(JoinHandle::join);
    }
}

fn play(kind: Kind, stream: &mut TcpStream) {
    if stream.read_exact(&mut [0; 8]).is_err() {
        return;
    }
    let bytes = match kind {
        Kind::NestedArrays => start(&nested_arrays(20_000)),
        Kind::NestedTables => start(&nested_tables(15_000)),
        Kind::ManyValues => start(&[&b"\x01aA"[..], &long(&[b'V'; 100_000])].concat()),
        Kind::HugeFrame => vec![1, 0, 0, 0xff, 0xff, 0xff, 0xf0],
        Kind::NoEndMark => {
            let mut bytes = start(b"");
            *bytes.last_mut().unwrap() = 0;
            bytes
        }
        Kind::ClientMethod => {
            let table = [&b"\0\0\x01q\0"[..], &long(&nested_tables(15_000))].concat();
            [start(b""), method(1, 50, 10, &table)].concat()
        }
        Kind::Cut => start(b"").split_at(20).0.to_vec(),
        Kind::OtherVersion => b"AMQP\0\0\x09\0".to_vec(),
        Kind::Http => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        Kind::TlsAlert => vec![0x15, 3, 3, 0, 2, 2, 0x46],
    };
    let mut sent = stream.write_all(&bytes);
    if kind == Kind::HugeFrame {
        // The client hangs up.
        while sent.is_ok() {
            sent = stream.write_all(&[0; 1 << 20]);
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    // Until the client has closed, so that a reset does not lose sent bytes.
    while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
}

/// Logs a client in. When it opens a channel, sends the end of the login again: amiquip then closes
/// the connection with an error of its own.
pub fn welcome_twice(stream: &mut TcpStream) {
    let open_ok = method(0, 10, 41, b"\0");
    // 2,047 channels, frames of 128 KiB, no heartbeats.
    let tune = method(0, 10, 30, &[7, 0xff, 0, 2, 0, 0, 0, 0]);
    let (open, open_channel) = ([0, 10, 0, 40], [0, 20, 0, 10]);
    let steps = [
        (*b"AMQP", start(b"")),
        ([0, 10, 0, 11], tune),
        (open, open_ok.clone()),
        (open_channel, open_ok),
    ];
    let mut heard = vec![];
    for (asked, answer) in steps {
        while !heard.windows(4).any(|bytes| bytes == asked) {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer) {
                Ok(count) if count > 0 => heard.extend_from_slice(&buffer[..count]),
                _ => return,
            }
        }
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
    while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
}

pub fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}

pub fn method(channel: u16, class: u8, method: u8, args: &[u8]) -> Vec<u8> {
    let payload = [&[0, class, 0, method], args].concat();
    let [c0, c1] = channel.to_be_bytes();
    [&[1, c0, c1], &long(&payload)[..], &[0xce]].concat()
}

/// `connection.start` with this table of server properties.
pub fn start(table: &[u8]) -> Vec<u8> {
    let args = [&[0, 9], &long(table)[..], &long(b"PLAIN"), &long(b"en_US")].concat();
    method(0, 10, 10, &args)
}

/// A table with this many nested arrays.
pub fn nested_arrays(depth: usize) -> Vec<u8> {
    let lengths = (0..depth).rev().map(|inner| 1 + 5 * inner);
    let mut table = b"\x01a".to_vec();
    for length in lengths {
        table.push(b'A');
        table.extend(u32::try_from(length).unwrap().to_be_bytes());
    }
    table.push(b'V');
    table
}

/// A table with this many nested tables.
pub fn nested_tables(depth: usize) -> Vec<u8> {
    let mut table = vec![];
    for inner in (0..depth).rev() {
        table.extend(b"\x01tF");
        table.extend(u32::try_from(3 + 7 * inner).unwrap().to_be_bytes());
    }
    table.extend(b"\x01vV");
    table
}
