//! As much of AMQP 0-9-1 as the floor and the consumer need, at the lowest cost: with std only, and
//! for TLS with the library that the daemon uses.

use native_tls::{TlsConnector, TlsStream};
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xce;
/// RabbitMQ's own limit, which it proposes to every client.
const FRAME_MAX: usize = 131_072;
const CHANNEL: u16 = 1;
/// The class of content: `basic`.
const BASIC: u16 = 60;

/// A connection with one open channel.
pub struct Client {
    stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// The socket, or the TLS session on it with its output.
enum Stream {
    Plain(TcpStream),
    Tls(TlsStream<TcpStream>, Vec<u8>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(session, _) => session.get_ref(),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(session, _) => session.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(session, _) => session.write_all(bytes),
        }
    }

    /// One `writev`, unless the socket takes less. A TLS session takes one piece of memory, so the
    /// slices are copied together and given to it with one call.
    fn write_slices(&mut self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => {
                while !slices.is_empty() {
                    let written = socket.write_vectored(slices)?;
                    IoSlice::advance_slices(&mut slices, written);
                }
                Ok(())
            }
            Self::Tls(session, output) => {
                output.clear();
                slices.iter().for_each(|slice| output.extend(&**slice));
                session.write_all(output)
            }
        }
    }
}

/// A frame as it lies in the client's buffer.
pub struct Frame {
    kind: u8,
    payload: std::ops::Range<usize>,
}

impl Client {
    /// Logs in as guest and opens a channel; over TLS, if there is a connector.
    pub fn connect(port: u16, tls: Option<&TlsConnector>) -> io::Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        let stream = match tls {
            None => Stream::Plain(socket),
            Some(tls) => {
                let session = tls.connect("127.0.0.1", socket).map_err(io::Error::other)?;
                Stream::Tls(session, Vec::new())
            }
        };
        let mut client = Self {
            stream,
            buffer: vec![0; 1 << 20],
            start: 0,
            end: 0,
        };
        client.stream.write_all(b"AMQP\0\0\x09\x01")?;
        client.expect(10, 10)?;
        let start_ok = Args::default()
            .long(b"")
            .short("PLAIN")
            .long(b"\0guest\0guest")
            .short("en_US");
        client.method(0, 10, 11, start_ok)?;
        client.expect(10, 30)?;
        let tune_ok = Args::default().u16(2047).u32(FRAME_MAX as u32).u16(0);
        client.method(0, 10, 31, tune_ok)?;
        client.method(0, 10, 40, Args::default().short("/").short("").u8(0))?;
        client.expect(10, 41)?;
        client.call(20, 10, Args::default().short(""))?;
        Ok(client)
    }

    /// A handle with which another thread can end this connection.
    pub fn handle(&self) -> io::Result<TcpStream> {
        self.stream.socket().try_clone()
    }

    pub fn declare_exchange(&mut self, name: &str) -> io::Result<()> {
        let durable = 2;
        let args = Args::default()
            .u16(0)
            .short(name)
            .short("topic")
            .u8(durable);
        self.call(40, 10, args.long(b""))
    }

    pub fn select_confirms(&mut self) -> io::Result<()> {
        self.call(85, 10, Args::default().u8(0))
    }

    /// Consumes all of `exchange` from a queue of its own, without acknowledgements.
    pub fn consume(&mut self, exchange: &str) -> io::Result<()> {
        let exclusive = 4;
        let queue = Args::default().u16(0).short("").u8(exclusive).long(b"");
        self.call(50, 10, queue)?;
        let bind = Args::default()
            .u16(0)
            .short("")
            .short(exchange)
            .short("#")
            .u8(0);
        self.call(50, 20, bind.long(b""))?;
        let no_ack = 2;
        let consume = Args::default().u16(0).short("").short("").u8(no_ack);
        self.call(60, 20, consume.long(b""))
    }

    /// Everything of a message except its body, made once and reused.
    pub fn envelope(exchange: &str, routing_key: &str, body: usize) -> Envelope {
        let publish = Args::default()
            .u16(0)
            .short(exchange)
            .short(routing_key)
            .u8(0);
        let mut head = publish.method(CHANNEL, BASIC, 40);
        let content_type = 0x8000;
        let header = Args::default()
            .u16(BASIC)
            .u16(0)
            .u64(body as u64)
            .u16(content_type)
            .short("image/jpeg");
        head.extend(frame(HEADER, CHANNEL, &header.0));
        let chunk = FRAME_MAX - 8;
        let sizes: Vec<_> = (0..body)
            .step_by(chunk)
            .map(|at| chunk.min(body - at))
            .collect();
        // Before each piece of the body: the end of the frame before it, and the start of its own.
        let mut between = Vec::new();
        for (n, &size) in sizes.iter().enumerate() {
            let mut bytes = if n == 0 {
                std::mem::take(&mut head)
            } else {
                vec![END]
            };
            bytes.push(BODY);
            bytes.extend(CHANNEL.to_be_bytes());
            bytes.extend((size as u32).to_be_bytes());
            between.push((bytes, size));
        }
        Envelope { between }
    }

    pub fn publish(&mut self, envelope: &Envelope, body: &[u8]) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); 32];
        let (mut count, mut rest) = (0, body);
        for (before, size) in &envelope.between {
            let (piece, more) = rest.split_at(*size);
            slices[count] = IoSlice::new(before);
            slices[count + 1] = IoSlice::new(piece);
            (count, rest) = (count + 2, more);
        }
        slices[count] = IoSlice::new(&[END]);
        self.stream.write_slices(&mut slices[..=count])
    }

    /// The next frame of any type.
    pub fn next_frame(&mut self) -> io::Result<Frame> {
        loop {
            let bytes = &self.buffer[self.start..self.end];
            if let Some(header) = bytes.first_chunk::<7>() {
                let size =
                    u32::from_be_bytes([header[3], header[4], header[5], header[6]]) as usize;
                if bytes.len() >= size + 8 {
                    let at = self.start + 7;
                    let kind = header[0];
                    self.start = at + size + 1;
                    return Ok(Frame {
                        kind,
                        payload: at..at + size,
                    });
                }
            }
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            match self.stream.read(&mut self.buffer[self.end..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.end += count,
            }
        }
    }

    /// Calls `each` with the first piece of every delivered body, and its whole length, once it has
    /// arrived completely.
    pub fn deliveries(&mut self, mut each: impl FnMut(&[u8], usize)) -> io::Result<()> {
        let (mut length, mut missing, mut first) = (0, 0, Vec::new());
        loop {
            let frame = self.next_frame()?;
            let bytes = &self.buffer[frame.payload];
            match (frame.kind, bytes) {
                (HEADER, [_, _, _, _, size @ ..]) => {
                    let size = size
                        .first_chunk()
                        .map_or(0, |size| u64::from_be_bytes(*size));
                    length = usize::try_from(size).unwrap_or(0);
                    missing = length;
                }
                (BODY, piece) => {
                    if missing == length {
                        first.clear();
                        first.extend_from_slice(&piece[..piece.len().min(256)]);
                    }
                    missing -= piece.len();
                    if missing == 0 {
                        each(&first, length);
                    }
                }
                _ => {}
            }
        }
    }

    fn call(&mut self, class: u16, method: u16, args: Args) -> io::Result<()> {
        self.method(CHANNEL, class, method, args)?;
        self.expect(class, method + 1)
    }

    fn method(&mut self, channel: u16, class: u16, method: u16, args: Args) -> io::Result<()> {
        self.stream.write_all(&args.method(channel, class, method))
    }

    fn expect(&mut self, class: u16, method: u16) -> io::Result<()> {
        let frame = self.next_frame()?;
        let bytes = &self.buffer[frame.payload];
        let wanted = [class.to_be_bytes(), method.to_be_bytes()].concat();
        if bytes.starts_with(&wanted) {
            return Ok(());
        }
        let text = String::from_utf8_lossy(bytes);
        Err(io::Error::other(format!("the broker says {text:?}")))
    }
}

/// What surrounds the pieces of a body.
pub struct Envelope {
    between: Vec<(Vec<u8>, usize)>,
}

/// The arguments of a method.
#[derive(Default)]
struct Args(Vec<u8>);

impl Args {
    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn short(mut self, text: &str) -> Self {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self
    }

    /// A long string; an empty one is an empty table too.
    fn long(mut self, bytes: &[u8]) -> Self {
        self.0.extend((bytes.len() as u32).to_be_bytes());
        self.0.extend(bytes);
        self
    }

    fn method(self, channel: u16, class: u16, method: u16) -> Vec<u8> {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), &self.0].concat();
        frame(METHOD, channel, &payload)
    }
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes.push(END);
    bytes
}
