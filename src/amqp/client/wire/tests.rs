//! Both sides of a socket, with a broker that only reads.

use super::send::PIECES;
use super::*;
use crate::amqp::client::encode::Message;
use crate::amqp::client::frame::{BODY, END, FRAME_OVERHEAD, HEADER, METHOD, write_frame};
use crate::message::Headers;
use std::net::TcpListener;
use std::time::Duration;

/// Method frame without arguments beyond `args`.
fn method(channel: u16, id: [u8; 4], args: &[u8]) -> Vec<u8> {
    let mut bytes = vec![];
    write_frame(&mut bytes, METHOD, channel, |out| {
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
    let _writing = shared.write_side.lock();
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
    write_frame(&mut heartbeat, 8, 0, |_| {});
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
        while shared.write_side.try_lock().is_some() && !publisher.is_finished() {
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
