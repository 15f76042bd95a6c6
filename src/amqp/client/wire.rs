//! Pictures go to the socket past amiquip: the thread that has one sends it, method, header and body,
//! with one `writev` out of the buffer that FFmpeg was read into.
//!
//! amiquip makes the connection and keeps it: login, channels, declarations, confirms, heartbeats. But each
//! of its publishes clears and copies the picture three times and wakes its I/O thread three times, which was
//! more than half of what a frame cost. So the socket is shared here: amiquip writes to it through
//! [`Stream`], a publisher through [`Wire`], each whole AMQP frames, and nothing between the
//! parts of a message. amiquip never waits for a publisher, so it goes on reading.

use super::answers::Listeners;
use super::bounds::{FRAME_MAX, Refusal};
use super::encode::{BODY, END, FRAME_OVERHEAD, FRAME_START, METHOD, Message, frame_start};
use super::gather::{Awaited, Pace, REST};
use super::incoming::Incoming;
use mio::{Evented, Poll, PollOpt, Ready, Token};
use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::BTreeMap;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// What amiquip's first bytes are instead of a frame: `AMQP` and a version.
const PROTOCOL_HEADER: usize = 8;

/// Class and method.
const TUNE_OK: [u8; 4] = [0, 10, 0, 31];
const CHANNEL_OPEN: [u8; 4] = [0, 20, 0, 10];
const CHANNEL_CLOSE: [u8; 4] = [0, 20, 0, 40];
const CHANNEL_CLOSE_OK: [u8; 4] = [0, 20, 0, 41];

/// Of a body go into one `writev`: with RabbitMQ's frames 2 MB, and no more slices than fit on the stack.
const PIECES: usize = 16;

/// What both sides of a connection share.
#[derive(Debug)]
pub(super) struct Shared {
    socket: Arc<TcpStream>,
    turn: Mutex<Turn>,
    /// amiquip found a publisher writing: it comes next, or many publishers could keep it out for long.
    amiquip_next: AtomicBool,
    /// A publisher may write: amiquip has written, and no half frame.
    amiquip_wrote: Condvar,
    pub(super) listeners: Listeners,
    /// Why the connection was ended, if the broker stepped over its bounds.
    pub(super) refused: OnceLock<Refusal>,
    pub(super) awaited: Arc<Awaited>,
}

/// Whose turn it is to write: whoever holds the lock; but in the middle of a frame of amiquip's, amiquip's.
#[derive(Debug)]
struct Turn {
    amiquip: Scanner,
    /// The largest frame, as agreed with the broker.
    frame_max: usize,
    channels: BTreeMap<u16, Opening>,
}

/// A number stands for one channel after another. Only the one that it stands for now may send: the broker
/// ends the whole connection upon a message on a channel that is not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opening {
    count: u64,
    open: bool,
}

/// amiquip's side of the socket.
#[derive(Debug)]
pub(super) struct Stream {
    bytes: Bytes,
    incoming: Incoming,
    pace: Pace,
    shared: Arc<Shared>,
}

/// The bytes as AMQP has them.
#[derive(Debug)]
pub(super) enum Bytes {
    Plain(mio::net::TcpStream),
    Tls(native_tls::TlsStream<mio::net::TcpStream>),
}

impl Bytes {
    fn socket(&self) -> &mio::net::TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(session) => session.get_ref(),
        }
    }

    fn stream(&mut self) -> &mut dyn ReadWrite {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(session) => session,
        }
    }
}

trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

/// Both sides of `socket`, which must not block.
pub(super) fn share(socket: &Arc<TcpStream>, bytes: Bytes) -> (Stream, Arc<Shared>) {
    let shared = Arc::new(Shared {
        socket: Arc::clone(socket),
        turn: Mutex::new(Turn {
            amiquip: Scanner::default(),
            frame_max: FRAME_MAX,
            channels: BTreeMap::new(),
        }),
        amiquip_next: AtomicBool::new(false),
        amiquip_wrote: Condvar::new(),
        listeners: Listeners::default(),
        refused: OnceLock::new(),
        awaited: Arc::default(),
    });
    let stream = Stream {
        bytes,
        incoming: Incoming::default(),
        pace: Pace::default(),
        shared: Arc::clone(&shared),
    };
    (stream, shared)
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let listeners = &self.shared.listeners;
        let read = self.incoming.read(self.bytes.stream(), listeners, buf);
        if let Some(refusal) = self.incoming.refused() {
            let _ = self.shared.refused.set(refusal.clone());
        }
        // Under TLS this thread sends the pictures, too.
        if matches!(&read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            && matches!(self.bytes, Bytes::Plain(_))
            && self.pace.fast(self.incoming.take_answers(), Instant::now())
        {
            self.shared.awaited.rest(REST);
        }
        read
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let shared = &self.shared;
        // A publisher is writing: amiquip tries again as soon as the socket takes bytes.
        let Some(mut turn) = shared.turn.try_lock() else {
            shared.amiquip_next.store(true, Ordering::Relaxed);
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let written = self.bytes.stream().write(buf)?;
        let listeners = &shared.listeners;
        turn.wrote(buf.get(..written).unwrap_or_default(), listeners);
        self.incoming.agree(turn.frame_max);
        shared.amiquip_next.store(false, Ordering::Relaxed);
        if !turn.amiquip.in_frame() {
            shared.amiquip_wrote.notify_all();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // First, since a publisher that waits for the socket has the lock.
        let _ = self.shared.socket.shutdown(Shutdown::Both);
        let mut turn = self.shared.turn.lock();
        turn.amiquip = Scanner::at_frame();
        self.shared.amiquip_next.store(false, Ordering::Relaxed);
        self.shared.amiquip_wrote.notify_all();
        drop(turn);
        self.shared.listeners.end_all();
    }
}

impl Evented for Stream {
    fn register(
        &self,
        poll: &Poll,
        token: Token,
        interest: Ready,
        opts: PollOpt,
    ) -> io::Result<()> {
        self.bytes.socket().register(poll, token, interest, opts)
    }

    fn reregister(
        &self,
        poll: &Poll,
        token: Token,
        interest: Ready,
        opts: PollOpt,
    ) -> io::Result<()> {
        self.bytes.socket().reregister(poll, token, interest, opts)
    }

    fn deregister(&self, poll: &Poll) -> io::Result<()> {
        self.bytes.socket().deregister(poll)
    }
}

impl Turn {
    /// Notes what amiquip has written.
    fn wrote(&mut self, bytes: &[u8], listeners: &Listeners) {
        let Self {
            amiquip,
            frame_max,
            channels,
        } = self;
        amiquip.pass(bytes, |channel, method, args| match method {
            TUNE_OK => {
                // Channels at most, then the largest frame; 0 is no limit.
                let agreed = args.get(2..).and_then(<[u8]>::first_chunk);
                if let Some(agreed @ 1..) = agreed.map(|agreed| u32::from_be_bytes(*agreed)) {
                    *frame_max = usize::try_from(agreed).unwrap_or(FRAME_MAX);
                }
            }
            CHANNEL_OPEN => {
                let count = channels.get(&channel).map_or(0, |before| before.count) + 1;
                channels.insert(channel, Opening { count, open: true });
            }
            CHANNEL_CLOSE | CHANNEL_CLOSE_OK => {
                if let Some(opening) = channels.get_mut(&channel) {
                    opening.open = false;
                }
                listeners.end(channel);
            }
            _ => {}
        });
    }
}

/// Follows the frames in what amiquip writes, which the socket may take in pieces.
#[derive(Debug)]
struct Scanner {
    /// How a frame begins, as far as it has come: its start, the method, and what `TUNE_OK` says.
    start: [u8; FRAME_START + 4 + 6],
    seen: usize,
    /// Bytes of the frame that come after that.
    rest: usize,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            rest: PROTOCOL_HEADER,
            ..Self::at_frame()
        }
    }
}

impl Scanner {
    fn at_frame() -> Self {
        Self {
            start: [0; FRAME_START + 4 + 6],
            seen: 0,
            rest: 0,
        }
    }

    fn in_frame(&self) -> bool {
        self.seen > 0 || self.rest > 0
    }

    /// Calls `each` with channel, method and the first arguments of every method frame.
    fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(u16, [u8; 4], &[u8])) {
        while let Some((first, others)) = bytes.split_first() {
            if self.rest > 0 {
                let (_, others) = bytes.split_at(self.rest.min(bytes.len()));
                self.rest -= bytes.len() - others.len();
                bytes = others;
                continue;
            }
            if let Some(place) = self.start.get_mut(self.seen) {
                *place = *first;
            }
            (self.seen, bytes) = (self.seen + 1, others);
            let [kind, c0, c1, s0, s1, s2, s3, payload @ ..] = &self.start;
            let size = u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize;
            let known = size.min(payload.len());
            if self.seen >= FRAME_START && self.seen == FRAME_START + known {
                let payload = payload.get(..known).unwrap_or_default();
                if let (METHOD, Some((method, args))) = (*kind, payload.split_first_chunk()) {
                    each(u16::from_be_bytes([*c0, *c1]), *method, args);
                }
                (self.seen, self.rest) = (0, size - known + 1);
            }
        }
    }
}

/// A publisher's side of the socket: one channel.
#[derive(Debug)]
pub(super) struct Wire {
    shared: Arc<Shared>,
    channel: u16,
    opening: Option<Opening>,
    /// All of a message but its body, kept for its storage.
    envelope: Vec<u8>,
}

impl Wire {
    /// For the open channel of this number.
    pub(super) fn new(shared: &Arc<Shared>, channel: u16) -> Self {
        Self {
            opening: shared.turn.lock().channels.get(&channel).copied(),
            shared: Arc::clone(shared),
            channel,
            envelope: Vec::new(),
        }
    }

    /// Sends a message, if it still `goes` when its turn at the socket comes. Blocks while the socket takes nothing;
    /// woken by its being shut down.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] when the channel is closed. Any other ends the connection, since the
    /// broker may have half a message.
    pub(super) fn publish(
        &mut self,
        message: &Message<'_>,
        goes: impl FnOnce() -> bool,
    ) -> io::Result<()> {
        self.envelope.clear();
        message.head(self.channel, &mut self.envelope);
        let head = self.envelope.len();
        let Shared {
            socket,
            turn,
            amiquip_next,
            amiquip_wrote,
            ..
        } = &*self.shared;
        let mut turn = turn.lock();
        while turn.amiquip.in_frame() || amiquip_next.load(Ordering::Relaxed) {
            amiquip_wrote.wait(&mut turn);
        }
        let opening = turn.channels.get(&self.channel).copied();
        if opening != self.opening || !opening.is_some_and(|opening| opening.open) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if !goes() {
            return Ok(());
        }
        let piece = turn.frame_max.saturating_sub(FRAME_OVERHEAD).max(1);
        for piece in message.body.chunks(piece) {
            frame_start(&mut self.envelope, BODY, self.channel, piece.len());
            self.envelope.push(END);
        }
        let sent = send(socket, &self.envelope, head, message.body, piece);
        if sent.is_err() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        sent
    }
}

/// Sends `body` in pieces, each between its frame's start and end. `envelope` holds all else in its order: the
/// first `head` bytes, and for each piece those 7 bytes and the end mark.
fn send(
    socket: &TcpStream,
    envelope: &[u8],
    head: usize,
    body: &[u8],
    piece: usize,
) -> io::Result<()> {
    let split = |bytes: &[u8], at: usize| at.min(bytes.len());
    let (mut before, mut later) = envelope.split_at(split(envelope, head + FRAME_START));
    for group in body.chunks(piece.saturating_mul(PIECES)) {
        let mut slices = [IoSlice::new(&[]); 2 * PIECES + 1];
        let mut used = 0;
        for (pair, piece) in slices.chunks_exact_mut(2).zip(group.chunks(piece)) {
            pair.copy_from_slice(&[IoSlice::new(before), IoSlice::new(piece)]);
            // The end of this piece's frame and the start of the next one, if there is one.
            (before, later) = later.split_at(split(later, FRAME_OVERHEAD));
            used += 2;
        }
        if later.is_empty()
            && let Some(slice) = slices.get_mut(used)
        {
            *slice = IoSlice::new(before);
            used += 1;
        }
        write_all(socket, slices.get_mut(..used).unwrap_or_default())?;
    }
    match body {
        [] => write_all(socket, &mut [IoSlice::new(envelope)]),
        _ => Ok(()),
    }
}

fn write_all(mut socket: &TcpStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match socket.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut room = [PollFd::new(&socket, PollFlags::OUT)];
                match poll(&mut room, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::encode::{HEADER, frame};
    use super::*;
    use crate::message::Headers;
    use std::net::TcpListener;
    use std::time::Duration;

    /// Method frame without arguments beyond `args`.
    fn method(channel: u16, id: [u8; 4], args: &[u8]) -> Vec<u8> {
        let mut bytes = vec![];
        frame(&mut bytes, METHOD, channel, |out| {
            out.extend(id);
            out.extend(args);
        });
        bytes
    }

    fn opened(channel: u16) -> Vec<u8> {
        method(channel, CHANNEL_OPEN, &[0])
    }

    /// amiquip's side, what both share, and the broker.
    fn connection() -> (Stream, Arc<Shared>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (broker, _) = listener.accept().unwrap();
        broker
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        socket.set_nonblocking(true).unwrap();
        let bytes = mio::net::TcpStream::from_stream(socket.try_clone().unwrap());
        let (mut stream, shared) = share(&Arc::new(socket), Bytes::Plain(bytes.unwrap()));
        assert_eq!(stream.write(b"AMQP\0\0\x09\x01").unwrap(), 8);
        (stream, shared, broker)
    }

    /// As amiquip: from now on it comes next.
    fn find_a_publisher_writing(stream: &mut Stream, shared: &Shared) {
        let _writing = shared.turn.lock();
        let busy = stream.write(&opened(2)).unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::WouldBlock);
    }

    fn read(mut broker: &TcpStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        broker.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn message<'a>(headers: &'a Headers<'a>, body: &'a [u8]) -> Message<'a> {
        Message {
            exchange: "cameras",
            routing_key: "camera.door",
            mandatory: false,
            headers,
            body,
        }
    }

    /// Kind, channel and payload of each frame in `bytes`, all of it whole frames.
    fn frames(mut bytes: &[u8]) -> Vec<(u8, u16, &[u8])> {
        let mut frames = vec![];
        while !bytes.is_empty() {
            let size = u32::from_be_bytes(bytes[3..7].try_into().unwrap()) as usize;
            let channel = u16::from_be_bytes([bytes[1], bytes[2]]);
            frames.push((bytes[0], channel, &bytes[7..7 + size]));
            assert_eq!(bytes[7 + size], END);
            bytes = &bytes[size + FRAME_OVERHEAD..];
        }
        frames
    }

    #[test]
    fn a_scanner_sees_every_method_in_whatever_pieces_the_socket_took_them() {
        let mut heartbeat = vec![];
        frame(&mut heartbeat, 8, 0, |_| {});
        let bytes = [
            b"AMQP\0\0\x09\x01".to_vec(),
            method(0, TUNE_OK, &[7, 255, 0, 1, 0, 0, 0, 60]),
            heartbeat,
            opened(3),
            method(3, CHANNEL_CLOSE_OK, &[]),
        ]
        .concat();
        for piece in 1..=bytes.len() {
            let (mut scanner, mut seen) = (Scanner::default(), vec![]);
            for piece in bytes.chunks(piece) {
                scanner.pass(piece, |channel, method, args| {
                    seen.push((channel, method, args.to_vec()));
                });
            }
            assert!(!scanner.in_frame());
            let expected = [
                (0, TUNE_OK, vec![7, 255, 0, 1, 0, 0]),
                (3, CHANNEL_OPEN, vec![0]),
                (3, CHANNEL_CLOSE_OK, vec![]),
            ];
            assert_eq!(seen, expected, "in pieces of {piece}");
            let (last, _) = bytes.split_at(bytes.len() - 1);
            let mut scanner = Scanner::default();
            scanner.pass(last, |_, _, _| {});
            assert!(scanner.in_frame());
        }
    }

    #[test]
    fn a_picture_of_any_size_arrives_in_frames_as_large_as_agreed() {
        let (mut stream, shared, broker) = connection();
        let tune_ok = method(0, TUNE_OK, &[7, 255, 0, 0, 16, 0, 0, 60]);
        let before = [tune_ok, opened(1)].concat();
        assert_eq!(stream.write(&before).unwrap(), before.len());
        read(&broker, 8 + before.len());
        let mut wire = Wire::new(&shared, 1);
        let headers = Headers::default();
        let most = 4096 - FRAME_OVERHEAD;
        for size in [
            0,
            1,
            most,
            most + 1,
            most * PIECES,
            most * PIECES + 1,
            most * PIECES * 3,
        ] {
            let body: Vec<u8> = (0..size).map(|n| n as u8).collect();
            let pieces = size.div_ceil(most);
            let message = message(&headers, &body);
            let mut head = vec![];
            message.head(1, &mut head);
            let all = head.len() + size + pieces * FRAME_OVERHEAD;
            let got = std::thread::scope(|scope| {
                let reader = scope.spawn(|| read(&broker, all));
                wire.publish(&message, || true).unwrap();
                reader.join().unwrap()
            });
            let frames = frames(&got);
            assert_eq!(frames.len(), 2 + pieces, "{size} bytes");
            assert!(got.starts_with(&head));
            let bodies = frames.iter().filter(|(kind, ..)| *kind == BODY);
            let arrived: Vec<_> = bodies.flat_map(|(.., payload)| payload.to_vec()).collect();
            assert!(arrived == body, "{size} bytes");
        }
    }

    #[test]
    fn a_channel_that_is_closed_or_opened_for_another_sends_nothing() {
        let (mut stream, shared, _broker) = connection();
        let headers = Headers::default();
        assert_eq!(stream.write(&opened(1)).unwrap(), opened(1).len());
        let mut wire = Wire::new(&shared, 1);
        wire.publish(&message(&headers, b"jpeg"), || true).unwrap();
        let close = method(1, CHANNEL_CLOSE_OK, &[]);
        assert_eq!(stream.write(&close).unwrap(), close.len());
        let refused = wire
            .publish(&message(&headers, b"jpeg"), || true)
            .unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotConnected);
        assert_eq!(stream.write(&opened(1)).unwrap(), opened(1).len());
        let refused = wire
            .publish(&message(&headers, b"jpeg"), || true)
            .unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotConnected);
        let mut other = Wire::new(&shared, 1);
        other.publish(&message(&headers, b"jpeg"), || true).unwrap();
    }

    #[test]
    fn amiquip_never_waits_and_a_cut_frees_whoever_does() {
        let (mut stream, shared, _broker) = connection();
        assert_eq!(stream.write(&opened(1)).unwrap(), opened(1).len());
        let headers = Headers::default();
        // More than the sockets hold, and nobody reads.
        let body = vec![0; 32 << 20];
        let mut wire = Wire::new(&shared, 1);
        std::thread::scope(|scope| {
            let publisher = scope.spawn(|| wire.publish(&message(&headers, &body), || true));
            while shared.turn.try_lock().is_some() && !publisher.is_finished() {
                std::thread::yield_now();
            }
            let busy = stream.write(&opened(2)).unwrap_err();
            assert_eq!(busy.kind(), io::ErrorKind::WouldBlock);
            drop(stream);
            let freed = publisher.join().unwrap().unwrap_err();
            assert_ne!(freed.kind(), io::ErrorKind::NotConnected);
        });
    }

    #[test]
    fn amiquip_comes_next_when_it_found_a_publisher_writing() {
        let (mut stream, shared, broker) = connection();
        assert_eq!(stream.write(&opened(1)).unwrap(), opened(1).len());
        read(&broker, 8 + opened(1).len());
        find_a_publisher_writing(&mut stream, &shared);
        let headers = Headers::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut wire = Wire::new(&shared, 1);
                wire.publish(&message(&headers, b"jpeg"), || true).unwrap();
            });
            broker
                .set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            assert!((&broker).read(&mut [0]).is_err(), "the publisher waits");
            // The lock is free but for an instant in which the publisher looks.
            while stream.write(&opened(2)).is_err() {}
        });
        assert_eq!(read(&broker, opened(2).len()), opened(2));
    }

    #[test]
    fn what_no_longer_goes_when_its_turn_comes_is_not_sent() {
        let (mut stream, shared, broker) = connection();
        assert_eq!(stream.write(&opened(1)).unwrap(), opened(1).len());
        read(&broker, 8 + opened(1).len());
        find_a_publisher_writing(&mut stream, &shared);
        let headers = Headers::default();
        let goes = AtomicBool::new(true);
        std::thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                let goes = || goes.load(Ordering::Relaxed);
                Wire::new(&shared, 1).publish(&message(&headers, b"jpeg"), goes)
            });
            // Woken for nothing: it waits.
            while !shared.amiquip_wrote.notify_one() {
                std::thread::yield_now();
            }
            goes.store(false, Ordering::Relaxed);
            while stream.write(&opened(2)).is_err() {}
            publisher.join().unwrap().unwrap();
        });
        drop(stream);
        let mut all = vec![];
        (&broker).read_to_end(&mut all).unwrap();
        assert_eq!(all, opened(2));
    }

    #[test]
    fn a_publisher_does_not_cut_into_a_frame_of_amiquips() {
        let (mut stream, shared, broker) = connection();
        assert_eq!(stream.write(&opened(1)).unwrap(), opened(1).len());
        read(&broker, 8 + opened(1).len());
        let (first, rest) = (opened(2), opened(3));
        let (begun, later) = rest.split_at(5);
        assert_eq!(
            stream.write(&[&first, begun].concat()).unwrap(),
            first.len() + 5
        );
        let headers = Headers::default();
        std::thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                let mut wire = Wire::new(&shared, 1);
                wire.publish(&message(&headers, b"jpeg"), || true).unwrap();
            });
            // Only what amiquip had written, however long the publisher has tried.
            let mut early = vec![0; 1000];
            broker
                .set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            let count = (&broker).read(&mut early).unwrap();
            assert_eq!(early[..count], [&first, begun].concat());
            assert!((&broker).read(&mut early).is_err());
            // The lock is free but for an instant in which the publisher looks.
            while stream.write(later).is_err() {}
            publisher.join().unwrap();
        });
        assert_eq!(read(&broker, later.len()), later);
        drop(stream);
        drop(shared);
        let mut message = vec![];
        let _ = (&broker).read_to_end(&mut message);
        let kinds: Vec<_> = frames(&message).iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(kinds, [METHOD, HEADER, BODY]);
    }
}
