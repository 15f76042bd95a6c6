//! What the broker answers to published messages goes straight to whoever published them: acks, nacks and
//! returned messages are taken out of the bytes on their way to amiquip, on its I/O thread. The rest passes.
//!
//! Through amiquip each answer was an allocation and a wake-up of the publisher, which seldom has anything
//! to do then but to count.

use super::encode::{BODY, END, FRAME_OVERHEAD, FRAME_START, HEADER, METHOD};
use crossbeam_channel::Sender;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

/// Class and method.
const BASIC_RETURN: [u8; 4] = [0, 60, 0, 50];
const BASIC_ACK: [u8; 4] = [0, 60, 0, 80];
const BASIC_NACK: [u8; 4] = [0, 60, 0, 120];

/// Answers are 21 bytes each. Grows when a frame is larger.
const ROOM: usize = 4096;

/// An empty frame of type 8 on channel 0.
const HEARTBEAT: [u8; FRAME_OVERHEAD] = [8, 0, 0, 0, 0, 0, 0, END];

/// The broker's answer to a message, or to several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirm {
    /// Which: publishes of a channel are counted from 1.
    pub tag: u64,
    /// And all before it.
    pub multiple: bool,
    /// Taken, not refused.
    pub acked: bool,
}

/// Who published on a channel. Called on the connection's I/O thread, so it must not wait.
pub trait Listener: Send + Sync {
    /// The broker answered.
    fn confirmed(&self, confirm: Confirm);

    /// A message reached no queue. Comes before its confirm.
    fn returned(&self, message_id: &str);

    /// The channel has ended, and amiquip knows why. Nothing comes any more.
    fn ended(&self);
}

/// For one that waits: what is heard, and disconnected when the channel has ended.
impl Listener for Sender<Confirm> {
    fn confirmed(&self, confirm: Confirm) {
        let _ = self.send(confirm);
    }

    fn returned(&self, _: &str) {}

    fn ended(&self) {}
}

/// Who listens on which channel of a connection. Dropped when the channel has ended.
#[derive(Default)]
pub(super) struct Listeners(Mutex<Listening>);

#[derive(Default)]
struct Listening {
    /// The connection has ended.
    over: bool,
    by_channel: BTreeMap<u16, Arc<dyn Listener>>,
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set()
            .entries(self.0.lock().by_channel.keys())
            .finish()
    }
}

impl Listeners {
    /// From now on `listener` hears what comes for this channel.
    pub(super) fn listen(&self, channel: u16, listener: Arc<dyn Listener>) {
        let mut listening = self.0.lock();
        if listening.over {
            listener.ended();
        } else {
            listening.by_channel.insert(channel, listener);
        }
    }

    /// This channel has ended.
    pub(super) fn end(&self, channel: u16) {
        if let Some(listener) = self.0.lock().by_channel.remove(&channel) {
            listener.ended();
        }
    }

    /// The connection has ended.
    pub(super) fn end_all(&self) {
        let mut listening = self.0.lock();
        listening.over = true;
        for listener in std::mem::take(&mut listening.by_channel).into_values() {
            listener.ended();
        }
    }
}

impl Listening {
    /// Whether it was an answer. Nobody who listens consumes, so content is that of a returned message.
    fn hear(&self, frame: &Frame<'_>) -> bool {
        let Some(listener) = self.by_channel.get(&frame.channel) else {
            return false;
        };
        match (frame.kind, frame.payload.split_first_chunk()) {
            (METHOD, Some((method @ (&BASIC_ACK | &BASIC_NACK), args))) => {
                if let Some((tag, [bits, ..])) = args.split_first_chunk() {
                    listener.confirmed(Confirm {
                        tag: u64::from_be_bytes(*tag),
                        multiple: bits & 1 != 0,
                        acked: *method == BASIC_ACK,
                    });
                }
                true
            }
            (METHOD, Some((&BASIC_RETURN, _))) | (BODY, _) => true,
            (HEADER, _) => {
                if let Some(id) = message_id(frame.payload) {
                    listener.returned(id);
                }
                true
            }
            _ => false,
        }
    }
}

/// One AMQP frame.
struct Frame<'a> {
    kind: u8,
    channel: u16,
    payload: &'a [u8],
    /// All of it.
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first in `bytes`, if it is there completely, and what is behind it.
    fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let ([kind, c0, c1, s0, s1, s2, s3], _) = bytes.split_first_chunk::<FRAME_START>()?;
        let size = u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize;
        let (bytes, behind) = bytes.split_at_checked(size.checked_add(FRAME_OVERHEAD)?)?;
        let frame = Self {
            kind: *kind,
            channel: u16::from_be_bytes([*c0, *c1]),
            payload: bytes.get(FRAME_START..FRAME_START + size)?,
            bytes,
        };
        Some((frame, behind))
    }
}

/// The message id in a content header.
fn message_id(header: &[u8]) -> Option<&str> {
    // Class, a field that is not used, and the body's size; then a bit for each property that follows.
    let (_, rest) = header.split_at_checked(12)?;
    let (flags, mut rest) = rest.split_first_chunk()?;
    let has = |bit: u16| u16::from_be_bytes(*flags) >> bit & 1 != 0;
    // What may come before it: content type and encoding, headers, delivery mode, priority, correlation
    // id, reply to, expiration. The number is that of the bytes which hold the length.
    let before = [1, 1, 4, 0, 0, 1, 1, 1];
    for (bit, width) in (8..16).rev().zip(before) {
        if has(bit) {
            (_, rest) = value(rest, width)?;
        }
    }
    let (id, _) = has(7).then(|| value(rest, 1))??;
    std::str::from_utf8(id).ok()
}

/// A property whose length has so many bytes, and what is behind it; without, it is one byte.
fn value(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(width)?;
    let length = length
        .iter()
        .fold(0, |length, &byte| length << 8 | usize::from(byte));
    rest.split_at_checked(if width == 0 { 1 } else { length })
}

/// What comes from the broker, sorted: answers to their listeners, the rest to amiquip.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
    /// So many of them are read and not sorted yet: less than a frame.
    filled: usize,
    for_amiquip: Vec<u8>,
    given: usize,
    answers: u32,
}

impl Incoming {
    /// How many answers were read since this was asked last.
    pub(super) fn take_answers(&mut self) -> u32 {
        std::mem::take(&mut self.answers)
    }

    /// For amiquip, as if it read `socket` itself.
    ///
    /// # Errors
    /// Those of `socket`.
    pub(super) fn read(
        &mut self,
        socket: &mut (impl Read + ?Sized),
        listeners: &Listeners,
        buf: &mut [u8],
    ) -> io::Result<usize> {
        while self.given == self.for_amiquip.len() {
            self.for_amiquip.clear();
            self.given = 0;
            if self.filled == self.bytes.len() {
                self.bytes.resize(self.filled * 2 + ROOM, 0);
            }
            let space = self.bytes.get_mut(self.filled..).unwrap_or_default();
            match socket.read(space)? {
                0 => return Ok(0),
                count => self.filled += count,
            }
            self.sort(listeners);
        }
        // A slice is a reader that never fails.
        let mut left = self.for_amiquip.get(self.given..).unwrap_or_default();
        let count = left.read(buf)?;
        self.given += count;
        Ok(count)
    }

    fn sort(&mut self, listeners: &Listeners) {
        let listening = listeners.0.lock();
        let mut rest = self.bytes.get(..self.filled).unwrap_or_default();
        let mut heard = 0;
        while let Some((frame, behind)) = Frame::first(rest) {
            if listening.hear(&frame) {
                heard += 1;
            } else {
                self.for_amiquip.extend_from_slice(frame.bytes);
            }
            rest = behind;
        }
        // It ends a connection on which nothing comes, and RabbitMQ sends no heartbeat beside answers.
        if heard > 0 && self.for_amiquip.is_empty() {
            self.for_amiquip.extend(HEARTBEAT);
        }
        self.answers += heard;
        let rest = self.filled - rest.len()..self.filled;
        self.filled = rest.len();
        self.bytes.copy_within(rest, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode::{Message, frame};
    use super::*;
    use crate::message::Headers;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Listener for Heard {
        fn confirmed(&self, confirm: Confirm) {
            let Confirm {
                tag,
                multiple,
                acked,
            } = confirm;
            let word = if acked { "ack" } else { "nack" };
            let more = if multiple { " and before" } else { "" };
            self.0.lock().push(format!("{word} {tag}{more}"));
        }

        fn returned(&self, message_id: &str) {
            self.0.lock().push(format!("returned {message_id}"));
        }

        fn ended(&self) {
            self.0.lock().push("ended".to_owned());
        }
    }

    fn method(channel: u16, method: [u8; 4], args: &[u8]) -> Vec<u8> {
        let mut bytes = vec![];
        frame(&mut bytes, METHOD, channel, |out| {
            out.extend(method);
            out.extend(args);
        });
        bytes
    }

    fn answer(kind: [u8; 4], channel: u16, tag: u64, bits: u8) -> Vec<u8> {
        method(channel, kind, &[&tag.to_be_bytes()[..], &[bits]].concat())
    }

    /// A message of ours on its way back.
    fn returned(channel: u16, seq: i64, body: &[u8]) -> Vec<u8> {
        let headers = Headers {
            camera_id: "door".into(),
            epoch: 7,
            seq,
            ..Headers::default()
        };
        let message = Message {
            exchange: "cameras",
            routing_key: "camera.door",
            mandatory: true,
            headers: &headers,
            body,
        };
        let mut sent = vec![];
        message.head(channel, &mut sent);
        // Behind the method with which it was published.
        let (_, content) = Frame::first(&sent).unwrap();
        let mut bytes = method(channel, BASIC_RETURN, &[1, 56, 0, 0, 0]);
        bytes.extend(content);
        frame(&mut bytes, BODY, channel, |out| out.extend(body));
        bytes
    }

    /// Gives each of its pieces in turn.
    struct Pieces<'a>(std::slice::Chunks<'a, u8>);

    impl Read for Pieces<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let mut piece = self.0.next().ok_or(io::ErrorKind::WouldBlock)?;
            assert!(piece.len() <= buf.len());
            piece.read(buf)
        }
    }

    /// What amiquip gets of `bytes`, which come in pieces of that size.
    fn passed(
        incoming: &mut Incoming,
        listeners: &Listeners,
        bytes: &[u8],
        piece: usize,
    ) -> Vec<u8> {
        let (mut socket, mut passed) = (Pieces(bytes.chunks(piece)), vec![]);
        let mut buf = [0; 10];
        loop {
            match incoming.read(&mut socket, listeners, &mut buf) {
                Ok(count) => passed.extend(&buf[..count]),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    return passed;
                }
            }
        }
    }

    #[test]
    fn answers_reach_their_listener_and_all_else_amiquip_in_whatever_pieces_they_come() {
        let bytes = [
            answer(BASIC_ACK, 1, 1, 0),
            answer(BASIC_ACK, 2, 1, 0),
            returned(1, 42, &[0; 100]),
            answer(BASIC_ACK, 1, 3, 1),
            method(1, [0, 20, 0, 40], b"close"),
            answer(BASIC_NACK, 1, 4, 2),
        ]
        .concat();
        let for_amiquip = [
            answer(BASIC_ACK, 2, 1, 0),
            method(1, [0, 20, 0, 40], b"close"),
        ]
        .concat();
        for piece in 1..=bytes.len() {
            let (listeners, heard) = (Listeners::default(), Arc::new(Heard::default()));
            listeners.listen(1, Arc::clone(&heard) as _);
            let passed = passed(&mut Incoming::default(), &listeners, &bytes, piece);
            let mut frames: Vec<u8> = vec![];
            let mut rest = passed.as_slice();
            while let Some((frame, behind)) = Frame::first(rest) {
                if frame.bytes != HEARTBEAT {
                    frames.extend(frame.bytes);
                }
                rest = behind;
            }
            assert!(rest.is_empty());
            assert_eq!(frames, for_amiquip, "in pieces of {piece}");
            assert_eq!(
                *heard.0.lock(),
                ["ack 1", "returned door/7/42", "ack 3 and before", "nack 4"],
                "in pieces of {piece}"
            );
        }
    }

    #[test]
    fn amiquip_learns_that_the_broker_lives_when_only_answers_come() {
        let (listeners, mut incoming) = (Listeners::default(), Incoming::default());
        listeners.listen(1, Arc::new(Heard::default()));
        let bytes = answer(BASIC_ACK, 1, 1, 0).repeat(3);
        assert_eq!(passed(&mut incoming, &listeners, &bytes, 63), HEARTBEAT);
        // Half an answer tells nothing: at the start of a connection, it could be half of anything.
        assert!(passed(&mut incoming, &listeners, &bytes[..20], 20).is_empty());
    }

    #[test]
    fn who_listens_hears_the_end_once_and_of_nothing_after_it() {
        let (listeners, mut incoming) = (Listeners::default(), Incoming::default());
        let heard = [(); 3].map(|()| Arc::new(Heard::default()));
        listeners.listen(1, Arc::clone(&heard[0]) as _);
        listeners.listen(2, Arc::clone(&heard[1]) as _);
        listeners.end(1);
        let late = answer(BASIC_ACK, 1, 1, 0);
        assert_eq!(passed(&mut incoming, &listeners, &late, 21), late);
        listeners.end_all();
        listeners.end_all();
        listeners.listen(3, Arc::clone(&heard[2]) as _);
        for heard in heard {
            assert_eq!(*heard.0.lock(), ["ended"]);
        }
    }

    #[test]
    fn an_answer_costs_no_allocation() {
        struct Deaf;
        impl Listener for Deaf {
            fn confirmed(&self, _: Confirm) {}
            fn returned(&self, _: &str) {}
            fn ended(&self) {}
        }
        let (listeners, mut incoming) = (Listeners::default(), Incoming::default());
        listeners.listen(1, Arc::new(Deaf));
        let bytes = answer(BASIC_ACK, 1, 1, 0);
        let mut buf = [0; 100];
        let mut one = || {
            let mut socket = bytes.as_slice();
            incoming.read(&mut socket, &listeners, &mut buf).unwrap();
        };
        one();
        let cost = allocation_counter::measure(|| (0..100).for_each(|_| one()));
        assert_eq!(cost.count_total, 0, "{cost:?}");
    }
}
