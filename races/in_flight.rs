//! Tries every order in which threads can meet over the unconfirmed frames of a channel
//! (`make loom`): the publisher, which adds frames and leaves the channel, the I/O thread, which
//! records what the broker answers, and a thread that reads the account.
//!
//! It compiles the source of the accounting, of the counters, and of the queue of video, whose
//! units hang on each other. Only the synchronisation below them is a model, and what they are
//! given: the configuration, the clock, the connection.

#[allow(dead_code)]
#[path = "../src/metrics/account.rs"]
mod account;
#[allow(dead_code)]
#[path = "../src/metrics/camera.rs"]
mod camera;
#[allow(dead_code)]
#[path = "../src/metrics/counter.rs"]
mod counter;
#[allow(dead_code)]
#[path = "../src/frame.rs"]
mod frame;
#[allow(dead_code)]
#[path = "../src/handoff/gops.rs"]
mod gops;
#[allow(dead_code)]
#[path = "../src/publish/in_flight.rs"]
mod in_flight;
#[allow(dead_code)]
#[path = "../src/handoff/mailbox.rs"]
mod mailbox;
#[allow(dead_code)]
#[path = "../src/message.rs"]
mod message;
#[allow(dead_code)]
#[path = "../src/handoff/pool.rs"]
mod pool;
#[allow(dead_code)]
#[path = "../src/publish/source.rs"]
mod source;
#[allow(dead_code)]
#[path = "../src/amqp/unconfirmed.rs"]
mod unconfirmed;
#[allow(dead_code)]
#[path = "../src/metrics/video.rs"]
mod video;
#[allow(dead_code)]
#[path = "../src/publish/window.rs"]
mod window;

#[allow(dead_code)]
mod around;
mod orders;
#[allow(dead_code)]
mod sync;

use account::{Account, Dropped, Restarts};
use around::{Broker, Publisher, amqp, clock, config, handoff, histogram, idle, metrics, notice};
use camera::{CameraMetrics, PublisherCounters};
use counter::{Counter, Gauge};
use histogram::{Histogram, LATENCY_BOUNDS, SIZE_BOUNDS};
use video::{VideoAccount, VideoMetrics};

use amqp::{Confirm, Listener};
use clock::Stamp;
use frame::{Codec, Frame, Unit};
use gops::{Gop, Placed, gops};
use in_flight::{ClosedWhenDropped, InFlight};
use loom::thread::{self, JoinHandle};
use source::{Item, Source, Units};
use std::sync::Arc;
use std::time::{Duration, Instant};
use sync::Parker;

/// What the broker does, once the message of that tag has been sent.
#[derive(Clone, Copy)]
enum Act {
    Ack(u64),
    AckAllUpTo(u64),
    Nack(u64),
    /// With the end of its message's id.
    Return(u64, &'static str),
    /// The channel ends, in any moment.
    End,
    /// A broker that breaks the protocol: it acks what was not sent.
    AckUnsent(u64),
}

/// The I/O thread: does what the broker says as soon as it can be, or later.
fn answer(in_flight: &InFlight, broker: &Broker, acts: &'static [Act]) {
    for act in acts {
        let confirm = |tag, multiple, acked| {
            in_flight.confirmed(Confirm {
                tag,
                multiple,
                acked,
            });
        };
        let (Act::Ack(tag) | Act::AckAllUpTo(tag) | Act::Nack(tag) | Act::Return(tag, _)) = *act
        else {
            match *act {
                Act::AckUnsent(tag) => confirm(tag, true, true),
                _ => in_flight.ended(),
            }
            continue;
        };
        if !broker.receives(tag) {
            break;
        }
        match *act {
            Act::Ack(tag) => confirm(tag, false, true),
            Act::AckAllUpTo(tag) => confirm(tag, true, true),
            Act::Nack(tag) => confirm(tag, false, false),
            Act::Return(_, id) => in_flight.returned(&format!("door/1/{id}")),
            Act::End | Act::AckUnsent(_) => {}
        }
    }
}

/// A publisher's side of a channel.
struct Channel {
    in_flight: ClosedWhenDropped,
    broker: Arc<Broker>,
}

/// A new channel, and the thread that reads the broker's answers.
fn open(publisher: &Publisher, acts: &'static [Act]) -> (Channel, JoinHandle<()>) {
    let in_flight = Arc::new(InFlight::new(publisher, &Arc::default()));
    let broker = Arc::new(Broker::new());
    let channel = Channel {
        in_flight: ClosedWhenDropped(Arc::clone(&in_flight)),
        broker: Arc::clone(&broker),
    };
    let reader = thread::spawn(move || answer(&in_flight, &broker, acts));
    (channel, reader)
}

impl Publisher {
    /// The scheduler lets a frame go, and it is sent, as `publish.rs` does it.
    fn sends(&self, channel: &Channel, seq: u64) {
        channel
            .in_flight
            .0
            .put(&self.takes(seq), seq, Instant::now());
        channel.broker.gets();
    }

    /// The same, but when the socket is free, the frame is too old.
    fn sends_too_late(&self, channel: &Channel, seq: u64) {
        channel
            .in_flight
            .0
            .put(&self.takes(seq), seq, Instant::now());
        channel.in_flight.0.take_back_too_old();
    }

    /// A frame comes from the reader and leaves the mailbox.
    fn takes(&self, seq: u64) -> Item {
        self.metrics.reader.captured.increment();
        self.metrics.publisher.taken.increment();
        Item::Frame(Frame {
            epoch: 1,
            seq,
            captured: Stamp::now(),
            width: 16,
            height: 16,
            jpeg: self.pool.take(),
        })
    }

    /// As after each channel.
    fn settle(&self) {
        let counters = &self.metrics.publisher;
        counters.unknown.add(counters.in_flight());
    }

    /// Leaves the channel and closes it.
    fn leaves(&self, channel: Channel) {
        let broker = Arc::clone(&channel.broker);
        drop(channel);
        self.settle();
        broker.cut();
    }

    /// Each frame that was taken has one outcome in the counters, and one in the budget.
    fn check(&self) -> Account {
        let account = self.metrics.snapshot();
        let outcomes = account.published + account.dropped.total();
        assert_eq!(account.captured, outcomes, "{account:?}");
        assert_eq!((account.in_flight, account.waiting), (0, 0));
        assert!(self.share.told().windows(2).all(|two| two[0] < two[1]));
        account
    }
}

/// The broker answers to some frames while the publisher leaves the channel, as after an error.
fn leaves(window: usize, frames: u64, acts: &'static [Act]) -> Account {
    let publisher = Publisher::new(window);
    let (channel, reader) = open(&publisher, acts);
    for seq in 1..=frames {
        publisher.sends(&channel, seq);
    }
    publisher.leaves(channel);
    reader.join().unwrap();
    publisher.check()
}

/// Answers of every kind, each before or after the end.
fn each_frame_has_one_outcome() {
    leaves(
        3,
        3,
        &[Act::Ack(1), Act::Return(2, "2"), Act::Ack(2), Act::Nack(3)],
    );
}

/// One answer for several frames, and one that comes twice.
fn an_answer_for_several_frames_counts_each_once() {
    leaves(3, 3, &[Act::Ack(2), Act::AckAllUpTo(3), Act::AckAllUpTo(3)]);
}

/// The channel ends while frames are sent, and an answer comes after that.
fn nothing_is_counted_after_the_end() {
    let account = leaves(3, 3, &[Act::Ack(1), Act::End, Act::Nack(2)]);
    assert_eq!(account.dropped.nacked, 0);
}

/// As the publisher does while its window is full, and while it waits for the last confirms.
fn waits(publisher: &Publisher, channel: &Channel, frames: u64) -> bool {
    let mut sent = 0;
    loop {
        let view = channel.in_flight.0.look(sent == frames);
        if view.over || view.empty && sent == frames {
            return view.over;
        }
        if view.room && sent < frames {
            sent += 1;
            publisher.sends(channel, sent);
        } else {
            publisher.parker.park();
        }
    }
}

/// A publisher with a full window is woken by the confirm that makes room, and by the last one.
fn a_confirm_wakes_a_publisher_that_waits() {
    let publisher = Publisher::new(1);
    let (channel, reader) = open(&publisher, &[Act::Ack(1), Act::Nack(2)]);
    assert!(!waits(&publisher, &channel, 2));
    publisher.leaves(channel);
    reader.join().unwrap();
    let account = publisher.check();
    assert_eq!((account.published, account.dropped.nacked), (1, 1));
}

/// The end of the channel, or a panic of the thread that reads it, wakes a publisher that waits.
fn the_end_wakes_a_publisher_that_waits() {
    let publisher = Publisher::new(1);
    let (channel, reader) = open(&publisher, &[Act::Ack(1), Act::End]);
    assert!(waits(&publisher, &channel, 3));
    publisher.leaves(channel);
    reader.join().unwrap();
    let account = publisher.check();
    assert!(account.published <= 1 && account.dropped.unknown <= 2);
}

/// A frame gets too old while the publisher waits for the socket; the next one gets its tag.
fn a_frame_that_is_taken_back_is_too_old_and_nothing_else() {
    let publisher = Publisher::new(3);
    let (channel, reader) = open(&publisher, &[Act::Ack(1), Act::Ack(2)]);
    publisher.sends(&channel, 1);
    publisher.sends_too_late(&channel, 2);
    publisher.sends(&channel, 3);
    publisher.leaves(channel);
    reader.join().unwrap();
    assert_eq!(publisher.check().dropped.too_old, 1);
}

/// The broker acks a frame that is not sent, before it is taken back or after.
fn an_answer_to_what_was_not_sent_counts_nothing_twice() {
    let publisher = Publisher::new(3);
    let (channel, reader) = open(&publisher, &[Act::AckUnsent(2)]);
    publisher.sends(&channel, 1);
    publisher.sends_too_late(&channel, 2);
    publisher.leaves(channel);
    reader.join().unwrap();
    publisher.check();
}

/// The publisher panics at some point of a frame, and goes on with a new channel while the old one
/// still answers.
fn panics(at: fn(&Publisher, &Channel)) {
    let publisher = Publisher::new(2);
    let (old, old_reader) = open(&publisher, &[Act::Ack(1), Act::Ack(2)]);
    let broker = Arc::clone(&old.broker);
    publisher.sends(&old, 1);
    at(&publisher, &old);
    // All that unwinding does here. (loom runs its threads on one, so a real panic would disturb
    // the others.)
    drop(old);
    // As it does first when it runs again.
    publisher.settle();
    broker.cut();
    let (new, new_reader) = open(&publisher, &[Act::Ack(1)]);
    publisher.sends(&new, 3);
    publisher.leaves(new);
    old_reader.join().unwrap();
    new_reader.join().unwrap();
    publisher.check();
}

fn a_panic_with_a_frame_in_hand_leaves_nothing_open() {
    panics(|publisher, _| drop(publisher.takes(2)));
}

fn a_panic_with_frames_on_the_wire_leaves_nothing_open() {
    panics(|publisher, old| publisher.sends(old, 2));
}

/// A third thread reads the account meanwhile: it is always right.
fn the_account_is_right_at_any_moment() {
    let publisher = Publisher::new(2);
    let (channel, reader) = open(&publisher, &[Act::Ack(1), Act::Nack(2)]);
    let metrics = Arc::clone(&publisher.metrics);
    let observer = thread::spawn(move || {
        let account = metrics.snapshot();
        let open = account.in_flight + account.waiting;
        let outcomes = account.published + account.dropped.total();
        assert_eq!(account.captured, outcomes + open, "{account:?}");
    });
    publisher.sends(&channel, 1);
    publisher.sends(&channel, 2);
    publisher.leaves(channel);
    reader.join().unwrap();
    observer.join().unwrap();
    publisher.check();
}

/// A publisher of two groups of pictures of two units each, which wait.
fn publisher_of_units() -> Publisher {
    let (parker, metrics) = (Parker::new(), Arc::<CameraMetrics>::default());
    let (tx, rx) = gops(100, Duration::MAX, parker.unparker().clone());
    for n in 0..4 {
        let key = n % 2 == 0;
        let gop = Gop {
            epoch: 1,
            number: n as i64 / 2 + 1,
        };
        let captured = Stamp::now();
        let unit = Unit {
            epoch: 1,
            seq: n + 1,
            gop: gop.number,
            gop_index: i32::from(!key),
            key,
            pts_us: 0,
            captured,
            width: 16,
            height: 16,
            codec: Codec::H264,
        };
        let placed = Placed {
            gop,
            key,
            since: captured.monotonic,
            unit,
        };
        metrics.video.reader.captured.increment();
        assert_eq!(tx.put(placed, &[7]).total(), 0);
    }
    let units = Units::new(rx, Arc::clone(&metrics));
    Publisher::of(Source::Units(units), 3, parker, metrics)
}

/// The broker answers while the units of two groups of pictures are sent. Returns the numbers of
/// those that were, and the account.
fn sends_units(acts: &'static [Act]) -> (Vec<u64>, VideoAccount) {
    let publisher = publisher_of_units();
    let (channel, reader) = open(&publisher, acts);
    let mut sent = vec![];
    while let Some(unit) = publisher.source.take(Instant::now()) {
        publisher.metrics.video.publisher.taken.increment();
        let (_, seq) = unit.number();
        channel.in_flight.0.put(&unit, seq, Instant::now());
        channel.broker.gets();
        publisher.source.put_back(unit);
        sent.push(seq);
    }
    let broker = Arc::clone(&channel.broker);
    drop(channel);
    let counters = &publisher.metrics.video.publisher;
    counters.unknown.add(counters.in_flight());
    broker.cut();
    reader.join().unwrap();
    let account = publisher.metrics.video_snapshot();
    let outcomes = account.published + account.dropped.total();
    assert_eq!(account.captured, outcomes, "{account:?}");
    (sent, account)
}

/// Nothing of a group of pictures is sent any more once the broker has refused a unit of it, and
/// the next group is whole.
fn a_refused_unit_takes_what_hangs_on_it_along() {
    let (sent, account) = sends_units(&[Act::Nack(1)]);
    assert!(
        [&[1, 2, 3, 4][..], &[1, 3, 4]].contains(&&sent[..]),
        "{sent:?}"
    );
    assert_eq!(account.dropped.no_key, 4 - sent.len() as u64);
}

/// The same of one that no queue takes.
fn a_returned_unit_takes_what_hangs_on_it_along() {
    let (sent, account) = sends_units(&[Act::Return(1, "v1"), Act::Ack(1)]);
    assert!(
        [&[1, 2, 3, 4][..], &[1, 3, 4]].contains(&&sent[..]),
        "{sent:?}"
    );
    assert_eq!(account.dropped.no_key, 4 - sent.len() as u64);
}

fn main() {
    // There are too many orders in all, so only those with a few preemptions (a thread is stopped
    // although it could run).
    let models: [(&str, usize, fn()); 12] = [
        ("each frame has one outcome", 5, each_frame_has_one_outcome),
        (
            "an answer for several frames counts each once",
            5,
            an_answer_for_several_frames_counts_each_once,
        ),
        (
            "nothing is counted after the end",
            5,
            nothing_is_counted_after_the_end,
        ),
        (
            "a confirm wakes a publisher that waits",
            5,
            a_confirm_wakes_a_publisher_that_waits,
        ),
        (
            "the end wakes a publisher that waits",
            5,
            the_end_wakes_a_publisher_that_waits,
        ),
        (
            "a frame that is taken back is too old and nothing else",
            5,
            a_frame_that_is_taken_back_is_too_old_and_nothing_else,
        ),
        (
            "an answer to what was not sent counts nothing twice",
            5,
            an_answer_to_what_was_not_sent_counts_nothing_twice,
        ),
        (
            "a panic with a frame in hand leaves nothing open",
            2,
            a_panic_with_a_frame_in_hand_leaves_nothing_open,
        ),
        (
            "a panic with frames on the wire leaves nothing open",
            2,
            a_panic_with_frames_on_the_wire_leaves_nothing_open,
        ),
        (
            "the account is right at any moment",
            2,
            the_account_is_right_at_any_moment,
        ),
        (
            "a refused unit takes what hangs on it along",
            3,
            a_refused_unit_takes_what_hangs_on_it_along,
        ),
        (
            "a returned unit takes what hangs on it along",
            3,
            a_returned_unit_takes_what_hangs_on_it_along,
        ),
    ];
    for (name, preemptions, model) in models {
        orders::try_all(name, Some(preemptions), model);
    }
}
