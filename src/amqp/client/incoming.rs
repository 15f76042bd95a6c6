//! The bytes from the broker on their way to amiquip, on its I/O thread: whole frames within `bounds.rs`,
//! and none that somebody else has heard (`answers.rs`).

use super::answers::{Heard, Listeners};
use super::bounds::{Bounds, Refusal};
use super::encode::{END, FRAME_OVERHEAD};
use std::io::{self, Read};

/// Answers are 21 bytes each. Grows when a frame is larger, up to the largest that was agreed.
const ROOM: usize = 4096;

/// An empty frame of type 8 on channel 0.
const HEARTBEAT: [u8; FRAME_OVERHEAD] = [8, 0, 0, 0, 0, 0, 0, END];

/// What comes from the broker, sorted: answers to their listeners, the rest to amiquip.
#[derive(Debug, Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    /// So many of them are read and not sorted yet: less than a frame.
    filled: usize,
    for_amiquip: Vec<u8>,
    given: usize,
    answers: u32,
    bounds: Bounds,
    refused: Option<Refusal>,
}

impl Incoming {
    /// How many answers were read since this was asked last.
    pub(super) fn take_answers(&mut self) -> u32 {
        std::mem::take(&mut self.answers)
    }

    /// From now on no frame is larger than so many bytes, as agreed with the broker.
    pub fn agree(&mut self, frame_max: usize) {
        self.bounds.agree(frame_max);
    }

    /// Why nothing is read any more, if the broker stepped over its bounds.
    pub fn refused(&self) -> Option<&Refusal> {
        self.refused.as_ref()
    }

    /// Bytes of memory that this holds.
    pub fn held(&self) -> usize {
        self.bytes.capacity() + self.for_amiquip.capacity()
    }

    /// For amiquip, as if it read `socket` itself: whole frames within their bounds.
    ///
    /// # Errors
    /// Those of `socket`, and [`io::ErrorKind::InvalidData`] once the broker has stepped over its bounds.
    pub fn read(
        &mut self,
        socket: &mut (impl Read + ?Sized),
        listeners: &Listeners,
        buf: &mut [u8],
    ) -> io::Result<usize> {
        while self.given == self.for_amiquip.len() {
            self.for_amiquip.clear();
            self.given = 0;
            if let Some(refusal) = &self.refused {
                return Err(io::Error::new(io::ErrorKind::InvalidData, refusal.clone()));
            }
            if self.filled == self.bytes.len() {
                let most = self.bounds.frame_max();
                let size = (self.filled * 2 + ROOM).min(most);
                self.bytes.reserve_exact(size.saturating_sub(self.filled));
                self.bytes.resize(size, 0);
            }
            let (unsorted, space) = self.bytes.split_at_mut(self.filled);
            match socket.read(space) {
                Ok(0) => match self.bounds.at_end(unsorted) {
                    Some(refusal) => self.refused = Some(refusal),
                    None => return Ok(0),
                },
                Ok(count) => {
                    self.filled += count;
                    self.sort(listeners);
                }
                // RabbitMQ closes a socket by a reset, also behind its TLS alert.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    match self.bounds.at_end(unsorted) {
                        None | Some(Refusal::Cut) => return Err(error),
                        Some(refusal) => self.refused = Some(refusal),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        // A slice is a reader that never fails.
        let mut left = self.for_amiquip.get(self.given..).unwrap_or_default();
        let count = left.read(buf)?;
        self.given += count;
        Ok(count)
    }

    fn sort(&mut self, listeners: &Listeners) {
        let mut listening = listeners.0.lock();
        let mut rest = self.bytes.get(..self.filled).unwrap_or_default();
        let mut sorted = false;
        loop {
            match self.bounds.first(rest) {
                Ok(Some((frame, behind))) => {
                    match listening.hear(&frame) {
                        Heard::Answer => self.answers += 1,
                        Heard::Message => {}
                        Heard::Nothing => self.for_amiquip.extend_from_slice(frame.bytes),
                    }
                    sorted = true;
                    rest = behind;
                }
                Ok(None) => break,
                Err(refusal) => {
                    self.refused = Some(refusal);
                    break;
                }
            }
        }
        // It ends a connection on which nothing comes, and RabbitMQ sends no heartbeat beside answers.
        if sorted && self.for_amiquip.is_empty() {
            self.for_amiquip.extend(HEARTBEAT);
        }
        let rest = self.filled - rest.len()..self.filled;
        self.filled = rest.len();
        self.bytes.copy_within(rest, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::answers::{Confirm, Listener};
    use super::super::bounds::{FRAME_MAX, Frame};
    use super::super::encode::{BODY, Message, frame};
    use super::super::inbox::Inbox;
    use super::*;
    use crate::message::Headers;
    use parking_lot::Mutex;
    use std::sync::Arc;
    use std::time::Duration;

    /// Class and method.
    const BASIC_RETURN: [u8; 4] = [0, 60, 0, 50];
    const BASIC_ACK: [u8; 4] = [0, 60, 0, 80];
    const BASIC_NACK: [u8; 4] = [0, 60, 0, 120];

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
        frame(&mut bytes, 1, channel, |out| {
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

    /// `connection.start`, with this table of server properties.
    fn start(table: &[u8]) -> Vec<u8> {
        let mut args = vec![0, 9];
        for text in [table, b"PLAIN", b"en_US"] {
            args.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            args.extend(text);
        }
        method(0, [0, 10, 0, 10], &args)
    }

    /// The broker has said hello.
    fn started() -> Incoming {
        let mut incoming = Incoming::default();
        let listeners = Listeners::default();
        let start = start(b"");
        assert_eq!(passed(&mut incoming, &listeners, &start, 4096), start);
        incoming
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
    fn answers_reach_their_listener_and_what_is_amiquips_it_in_whatever_pieces_they_come() {
        let bytes = [
            answer(BASIC_ACK, 1, 1, 0),
            answer(BASIC_ACK, 2, 1, 0),
            returned(1, 42, &[0; 100]),
            answer(BASIC_ACK, 1, 3, 1),
            method(1, [0, 20, 0, 40], b"close"),
            answer(BASIC_NACK, 1, 4, 2),
        ]
        .concat();
        let for_amiquip = method(1, [0, 20, 0, 40], b"close");
        for piece in 1..=bytes.len() {
            let (listeners, heard) = (Listeners::default(), Arc::new(Heard::default()));
            listeners.listen(1, Arc::clone(&heard) as _);
            let passed = passed(&mut started(), &listeners, &bytes, piece);
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
        let (listeners, mut incoming) = (Listeners::default(), started());
        listeners.listen(1, Arc::new(Heard::default()));
        let bytes = answer(BASIC_ACK, 1, 1, 0).repeat(3);
        assert_eq!(passed(&mut incoming, &listeners, &bytes, 63), HEARTBEAT);
        // Half an answer tells nothing: at the start of a connection, it could be half of anything.
        assert!(passed(&mut incoming, &listeners, &bytes[..20], 20).is_empty());
    }

    #[test]
    fn who_listens_hears_the_end_once_and_of_nothing_after_it() {
        let (listeners, mut incoming) = (Listeners::default(), started());
        let heard = [(); 3].map(|()| Arc::new(Heard::default()));
        listeners.listen(1, Arc::clone(&heard[0]) as _);
        listeners.listen(2, Arc::clone(&heard[1]) as _);
        listeners.end(1);
        let late = answer(BASIC_ACK, 1, 1, 0);
        assert_eq!(passed(&mut incoming, &listeners, &late, 21), HEARTBEAT);
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
        let (listeners, mut incoming) = (Listeners::default(), started());
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

    #[test]
    fn what_came_before_a_broker_stepped_over_its_bounds_reaches_amiquip() {
        let mut blocked = method(0, [0, 10, 0, 60], b"\x05alarm");
        let whole = blocked.clone();
        blocked.extend(method(0, [0, 50, 0, 10], b"a client's method"));
        let (listeners, mut incoming) = (Listeners::default(), started());
        let (mut socket, mut buf) = (blocked.as_slice(), [0; 4096]);
        let count = incoming.read(&mut socket, &listeners, &mut buf).unwrap();
        assert_eq!(buf[..count], whole);
        for _ in 0..2 {
            let error = incoming.read(&mut socket, &listeners, &mut buf);
            let error = error.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(error.to_string(), Refusal::Method(50, 10, 0).to_string());
        }
        assert_eq!(incoming.refused(), Some(&Refusal::Method(50, 10, 0)));
    }

    #[test]
    fn a_frame_that_announces_more_than_is_allowed_makes_nothing_grow() {
        let announced = [1, 0, 0, 0xff, 0xff, 0xff, 0xf0];
        for mut incoming in [Incoming::default(), started()] {
            let listeners = Listeners::default();
            let mut socket = announced.chain(io::repeat(0));
            let error = incoming.read(&mut socket, &listeners, &mut [0; 4096]);
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidData);
            assert!(incoming.held() < 20_000, "{}", incoming.held());
        }
        // As large as allowed, and never complete.
        let mut incoming = started();
        let mut socket = [1, 0, 0, 0, 1, 0xff, 0xf8].chain(io::repeat(0).take(130_000));
        let end = incoming.read(&mut socket, &Listeners::default(), &mut [0; 4096]);
        assert_eq!(end.unwrap_err().to_string(), Refusal::Cut.to_string());
        assert!(incoming.held() <= FRAME_MAX + 4096, "{}", incoming.held());
    }

    /// Gives these bytes, and then is reset.
    struct Reset(&'static [u8]);

    impl Read for Reset {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match std::mem::take(&mut self.0) {
                b"" => Err(io::ErrorKind::ConnectionReset.into()),
                mut bytes => bytes.read(buf),
            }
        }
    }

    #[test]
    fn what_came_before_a_reset_tells_the_protocol_and_else_it_is_a_reset() {
        for (bytes, says) in [
            (
                &b"\x15\x03\x03\0\x02\x02\x0a"[..],
                "the broker wants TLS on this port: use amqps:// in the URL",
            ),
            (b"", "connection reset"),
            (b"\x01\0\0", "connection reset"),
        ] {
            let mut incoming = Incoming::default();
            let read = incoming.read(&mut Reset(bytes), &Listeners::default(), &mut [0; 9]);
            assert_eq!(read.unwrap_err().to_string(), says);
            assert_eq!(incoming.refused().is_some(), says.contains("TLS"));
        }
    }

    #[test]
    fn a_connection_that_ends_between_two_frames_just_ends() {
        for mut incoming in [Incoming::default(), started()] {
            let end = incoming.read(&mut io::empty(), &Listeners::default(), &mut [0; 9]);
            assert_eq!(end.unwrap(), 0);
            assert_eq!(incoming.refused(), None);
        }
    }

    #[test]
    fn a_delivery_reaches_its_consumer_and_no_one_else() {
        let (listeners, mut incoming) = (Listeners::default(), started());
        let inbox = Arc::new(Inbox::default());
        listeners.consume(1, Arc::clone(&inbox));
        let mut bytes = vec![];
        for channel in [1, 2] {
            // Tag, number, redelivered, exchange, and a routing key that is no text.
            let args = b"\x01t\0\0\0\0\0\0\0\x01\0\x07cameras\x02\xff\xfe";
            let delivered = returned(channel, 7, b"jpeg");
            let (_, content) = Frame::first(&delivered).unwrap();
            bytes.extend(method(channel, [0, 60, 0, 60], args));
            bytes.extend(content);
        }
        let passed = passed(&mut incoming, &listeners, &bytes, bytes.len());
        assert_eq!(passed, HEARTBEAT);
        assert_eq!(
            incoming.take_answers(),
            0,
            "nobody rests while deliveries come"
        );
        let message = inbox.next(Duration::ZERO).unwrap();
        assert_eq!(
            (&*message.headers.camera_id, message.headers.seq),
            ("door", 7)
        );
        assert_eq!(message.jpeg, b"jpeg");
        assert_eq!(inbox.next(Duration::ZERO), None);
        listeners.end(1);
        // The end wakes it.
        assert_eq!(inbox.next(Duration::from_secs(3600)), None);
    }
}
