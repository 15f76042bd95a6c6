//! Tests of `incoming.rs` with the bytes from the broker in pieces of any size.

use super::super::answers::{Confirm, Listener};
use super::super::bounds::FRAME_MAX;
use super::super::encode::Message;
use super::super::frame::{BASIC_ACK, BASIC_NACK, BASIC_RETURN, BODY, Frame, write_frame};
use super::super::inbox::Inbox;
use super::*;
use crate::message::Headers;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

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
    write_frame(&mut bytes, 1, channel, |out| {
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
    write_frame(&mut bytes, BODY, channel, |out| out.extend(body));
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
fn passed(incoming: &mut Incoming, listeners: &Listeners, bytes: &[u8], piece: usize) -> Vec<u8> {
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
            if frame.bytes != HEARTBEAT_FRAME {
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
    assert_eq!(
        passed(&mut incoming, &listeners, &bytes, 63),
        HEARTBEAT_FRAME
    );
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
    assert_eq!(
        passed(&mut incoming, &listeners, &late, 21),
        HEARTBEAT_FRAME
    );
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
    // A frame of the largest allowed size, of which the end never comes.
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
            "the broker requires TLS on this port: use amqps:// in the URL",
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
    let inbox = Arc::new(Inbox::new(16));
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
    assert_eq!(passed, HEARTBEAT_FRAME);
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
