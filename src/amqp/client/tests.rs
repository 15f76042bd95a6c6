//! Tests of the behaviour of amiquip that we rely on. The table in `client.rs` names them.

use super::channel::properties;
use super::encode::Message;
use super::played::{Did, Played, Rules, SOON, wait_until};
use super::*;
use crate::amqp::dial::dial;
use crate::frame::Codec;
use crate::message::{Headers, VideoHeaders};
use crate::shutdown::Stop;
use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic::AMQPMethod};
use crossbeam_channel::{Receiver, Sender, unbounded};
use proptest::prelude::*;
use std::sync::Arc;

fn open(broker: &Played) -> Result<Connection, Error> {
    open_with(broker, "")
}

fn open_with(broker: &Played, more: &str) -> Result<Connection, Error> {
    let (endpoint, amqp) = (broker.endpoint(), broker.config(more).amqp);
    let socket = dial(&endpoint, SOON, &Stop::new().unwrap())?;
    Connection::open(&socket, &endpoint, &amqp)
}

fn publish(channel: &Channel, body: &[u8]) -> Result<(), Error> {
    let headers = Headers::default();
    channel.publish("cameras", "camera.door", false, &headers, body, || true)
}

/// Hears all in words.
struct Words(Sender<String>);

impl Listener for Words {
    fn confirmed(&self, confirm: Confirm) {
        let word = if confirm.acked { "acked" } else { "nacked" };
        let _ = self.0.send(format!("{word} {}", confirm.tag));
    }

    fn returned(&self, message_id: &str) {
        let _ = self.0.send(format!("returned {message_id}"));
    }

    fn ended(&self) {
        let _ = self.0.send("ended".to_owned());
    }
}

fn listen(channel: &Channel) -> Receiver<String> {
    let (words, heard) = unbounded();
    channel.listen(Arc::new(Words(words)));
    heard
}

#[test]
fn it_writes_again_although_only_a_publisher_was_in_its_way() {
    let broker = Played::start(Rules::default());
    let mut connection = open(&broker).unwrap();
    let shared = Arc::clone(&connection.wire);
    std::thread::scope(|scope| {
        let writing = shared.publisher_is_writing();
        let opened = scope.spawn(|| connection.open_channel());
        // It has met us, and the socket has been writable all the time.
        wait_until(|| shared.amiquip_waits());
        drop(writing);
        opened.join().unwrap().unwrap();
    });
    broker.wait_for(&Did::Opened(1));
}

#[test]
fn it_reads_all_that_came_at_once() {
    let broker = Played::start(Rules::default());
    let mut connection = open(&broker).unwrap();
    let channel = connection.open_channel().unwrap();
    let heard = listen(&channel);
    for tag in 1..=20_000 {
        broker.confirm(1, tag, false, true);
    }
    for tag in 1..=20_000 {
        assert_eq!(heard.recv_timeout(SOON).unwrap(), format!("acked {tag}"));
    }
}

#[test]
fn a_number_stands_for_one_channel_after_another_and_a_dropped_one_is_closed() {
    let rules = Rules {
        channel_max: 1,
        ..Rules::default()
    };
    let broker = Played::start(rules);
    let mut connection = open(&broker).unwrap();
    let channel = connection.open_channel().unwrap();
    assert_eq!(
        connection.open_channel().unwrap_err().kind,
        ErrorKind::Full,
        "the connection lives"
    );
    publish(&channel, b"jpeg").unwrap();
    broker.wait_for(&Did::Published(1, 4));
    drop(channel);
    broker.wait_for(&Did::Closed(1));
    let channel = connection.open_channel().unwrap();
    broker.wait_for(&Did::Opened(1));
    publish(&channel, b"jpeg").unwrap();
    broker.wait_for(&Did::Published(1, 4));
}

#[test]
fn it_agrees_to_the_brokers_frame_size() {
    let rules = Rules {
        frame_max: 4096,
        ..Rules::default()
    };
    let broker = Played::start(rules);
    let mut connection = open(&broker).unwrap();
    let channel = connection.open_channel().unwrap();
    publish(&channel, &[7; 100_000]).unwrap();
    broker.wait_for(&Did::Published(1, 100_000));
}

#[test]
fn it_takes_a_login_that_is_cut_for_wrong_credentials() {
    let rules = Rules {
        drops_logins: true,
        ..Rules::default()
    };
    let broker = Played::start(rules);
    let refused = open(&broker).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Refused);
    assert_eq!(
        refused.text,
        "the broker closed the connection during the login: wrong user name or password"
    );
}

#[test]
fn it_says_why_a_channel_was_closed_to_the_first_who_asks_and_nothing_is_sent() {
    let broker = Played::start(Rules::default());
    let mut connection = open(&broker).unwrap();
    let channel = connection.open_channel().unwrap();
    let heard = listen(&channel);
    broker.close_channel(1, 403, "ACCESS_REFUSED - no");
    assert_eq!(heard.recv_timeout(SOON).unwrap(), "ended");
    let why = publish(&channel, b"jpeg").unwrap_err();
    assert_eq!(
        (why.kind, &*why.text),
        (ErrorKind::Channel, "ACCESS_REFUSED - no")
    );
    assert_eq!(channel.why_ended().kind, ErrorKind::Down, "asked again");
    let next = connection.open_channel().unwrap();
    publish(&next, b"jpeg").unwrap();
    let did: Vec<_> = std::iter::from_fn(|| broker.did.recv_timeout(SOON).ok())
        .take_while(|did| *did != Did::Published(2, 4))
        .collect();
    assert_eq!(did, [Did::Connected, Did::Opened(1), Did::Opened(2)]);
}

#[test]
fn it_knows_why_the_connection_was_closed_and_frees_all_who_use_it() {
    let broker = Played::start(Rules::default());
    let mut connection = open(&broker).unwrap();
    let channel = connection.open_channel().unwrap();
    let (heard, events) = (listen(&channel), connection.events().clone());
    broker.close_connection(320, "CONNECTION_FORCED - bye");
    assert_eq!(heard.recv_timeout(SOON).unwrap(), "ended");
    assert!(events.receiver().recv_timeout(SOON).is_err(), "and these");
    let why = connection.close().unwrap_err();
    assert_eq!(
        (why.kind, &*why.text),
        (
            ErrorKind::Down,
            "closed by the broker: CONNECTION_FORCED - bye"
        )
    );
    assert_eq!(channel.why_ended(), why);
}

#[test]
fn a_connection_that_is_cut_ends_for_all_who_use_it() {
    let broker = Played::start(Rules::default());
    let mut connection = open(&broker).unwrap();
    let channel = connection.open_channel().unwrap();
    let heard = listen(&channel);
    broker.cut();
    assert_eq!(heard.recv_timeout(SOON).unwrap(), "ended");
    let why = connection.close().unwrap_err();
    assert_eq!(why.kind, ErrorKind::Down);
    assert!(publish(&channel, b"jpeg").is_err());
}

#[test]
fn a_panic_of_its_thread_ends_the_connection_for_all_who_use_it() {
    struct Panics;
    impl Listener for Panics {
        fn confirmed(&self, _: Confirm) {
            panic!("a panic on purpose, on amiquip's thread");
        }
        fn returned(&self, _: &str) {}
        fn ended(&self) {}
    }
    let broker = Played::start(Rules::default());
    let mut connection = open(&broker).unwrap();
    let channels = [(); 2].map(|()| connection.open_channel().unwrap());
    channels[0].listen(Arc::new(Panics));
    let heard = listen(&channels[1]);
    broker.confirm(1, 1, false, true);
    assert_eq!(heard.recv_timeout(SOON).unwrap(), "ended");
    assert!(connection.open_channel().is_err());
    assert!(connection.close().is_err());
}

#[test]
fn it_tells_when_the_broker_blocks_and_unblocks_the_connection() {
    let broker = Played::start(Rules::default());
    let connection = open(&broker).unwrap();
    let events = connection.events().receiver().clone();
    broker.block(Some("low on memory"));
    broker.block(None);
    let next = || BlockedNotice::from(events.recv_timeout(SOON).unwrap());
    assert_eq!(next(), BlockedNotice::Blocked("low on memory".to_owned()));
    assert_eq!(next(), BlockedNotice::Unblocked);
}

/// Takes 5 s: a heartbeat has whole seconds.
#[test]
fn its_heartbeats_go_on_beside_our_messages_and_whatever_is_read_counts_as_one() {
    let rules = Rules {
        heartbeat: 1,
        ..Rules::default()
    };
    let broker = Played::start(rules);
    let mut connection = open_with(&broker, "heartbeat: 1s").unwrap();
    let channel = connection.open_channel().unwrap();
    let heard = listen(&channel);
    // Past amiquip we write and read, and it misses neither: after 2 s without it gives up.
    for tag in 1..=3 {
        publish(&channel, b"jpeg").unwrap();
        broker.wait_for(&Did::Heartbeat);
        broker.confirm(1, tag, false, true);
        assert_eq!(heard.recv_timeout(SOON).unwrap(), format!("acked {tag}"));
    }
    assert_eq!(heard.recv_timeout(SOON).unwrap(), "ended");
    let why = connection.close().unwrap_err();
    assert_eq!(why.text, "no heartbeats from the broker");
}

proptest! {
    /// Without TLS a message's head is ours, with TLS it is amiquip's.
    #[test]
    fn both_encoders_of_a_message_say_the_same(
        camera_id in "[A-Za-z0-9._-]{1,64}",
        (seq, epoch, captured_at_us) in any::<(i64, i64, i64)>(),
        (width, height) in any::<(u16, u16)>(),
        video in any::<Option<(bool, i64, i32, i64, bool)>>(),
        (exchange, routing_key) in (".{0,60}", ".{0,60}"),
        mandatory in any::<bool>(),
        channel in 1_u16..,
        size in 0_usize..1_000_000,
    ) {
        let headers = Headers {
            camera_id: camera_id.into(),
            seq,
            epoch,
            captured_at_us,
            width: width.into(),
            height: height.into(),
            video: video.map(|(key, gop, gop_index, pts_us, h264)| VideoHeaders {
                key,
                gop,
                gop_index,
                pts_us,
                codec: if h264 { Codec::H264 } else { Codec::H265 },
            }),
        };
        let body = vec![0; size];
        let message = Message {
            exchange: &exchange,
            routing_key: &routing_key,
            mandatory,
            headers: &headers,
            body: &body,
        };
        let mut head = vec![];
        message.head(channel, &mut head);
        let (behind, method) = parse_frame(&head).unwrap();
        let AMQPFrame::Method(on, AMQPClass::Basic(AMQPMethod::Publish(publish))) = method else {
            panic!("{method:?}");
        };
        prop_assert_eq!(
            (on, publish.exchange, publish.routing_key, publish.mandatory, publish.immediate),
            (channel, exchange, routing_key, mandatory, false)
        );
        let (behind, header) = parse_frame(behind).unwrap();
        prop_assert!(behind.is_empty());
        let AMQPFrame::Header(on, class, content) = header else {
            panic!("{header:?}");
        };
        prop_assert_eq!((on, class, content.body_size), (channel, 60, size as u64));
        prop_assert_eq!(content.properties, properties(&headers));
    }
}
