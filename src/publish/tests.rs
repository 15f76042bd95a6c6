//! Tests of a publisher with a real connection owner and a played broker.

use super::*;
use crate::amqp::ConnectionUser;
use crate::amqp::owner_tests::start;
use crate::amqp::played::{Did, Played, Rules, SOON, wait_until};
use crate::clock::Stamp;
use crate::config::Config;
use crate::frame::Frame;
use crate::handoff::mailbox::{MailboxSender, mailbox};
use crate::handoff::pool::Pool;
use crate::metrics::Account;
use crate::status::CameraStatus;
use crossbeam_utils::sync::Parker;

/// A camera's side of a publisher that runs.
pub(super) struct Camera {
    frames: MailboxSender<Frame>,
    pub(super) metrics: Arc<CameraMetrics>,
    status: Arc<CameraStatus>,
    pool: Pool,
    seq: std::cell::Cell<u64>,
}

/// One for the first camera of the configuration, at that connection.
pub(super) fn publisher(shared: &SharedConnection, config: &Config) -> (Camera, Publisher) {
    let parker = Parker::new();
    let (frames, mailbox) = mailbox(parker.unparker().clone());
    let camera = Camera {
        frames,
        metrics: Arc::default(),
        status: Arc::default(),
        pool: Pool::new(),
        seq: std::cell::Cell::default(),
    };
    let waker = parker.unparker().clone();
    let sitter = ConnectionUser {
        name: "door".into(),
        waker: Some(waker.clone()),
        status: Some(Arc::clone(&camera.status)),
    };
    let publisher = Publisher {
        camera: Arc::new(config.cameras[0].clone()),
        amqp: Arc::new(config.amqp.clone()),
        source: Source::Frames(mailbox),
        route: Route {
            exchange: config.cameras[0].exchange.clone(),
            routing_key: config.cameras[0].routing_key.clone(),
            fps: config.cameras[0].fps,
            max_age: config.amqp.max_age,
        },
        metrics: Arc::clone(&camera.metrics),
        connection: ConnectionHandle::new(shared.clone(), sitter),
        share: Arc::new(Share::new(&shared.scheduler, waker)),
        parker,
        notices: None,
        idleness: None,
    };
    (camera, publisher)
}

impl Camera {
    /// The next frame, of this many bytes.
    pub(super) fn next(&self, bytes: usize) -> Frame {
        self.seq.set(self.seq.get() + 1);
        let mut jpeg = self.pool.take();
        jpeg.storage(bytes);
        jpeg.mark(0, bytes);
        Frame {
            epoch: 1,
            seq: self.seq.get(),
            captured: Stamp::now(),
            width: 320,
            height: 240,
            jpeg,
        }
    }

    /// As its reader.
    fn captures(&self, bytes: usize) {
        self.metrics.reader.captured.increment();
        if self.frames.put(self.next(bytes)).is_some() {
            self.metrics.reader.overwritten.increment();
        }
    }

    fn account(&self) -> Account {
        let account = self.metrics.snapshot();
        let fates = account.published + account.dropped.total();
        assert_eq!(
            account.captured,
            fates + account.in_flight + account.waiting,
            "{account:?}"
        );
        account
    }

    /// Waits until `count` frames are settled; returns how many are published, nacked, returned and
    /// unknown.
    fn settled(&self, count: u64) -> [u64; 4] {
        wait_until(|| {
            let account = self.account();
            account.published + account.dropped.total() == count
        });
        let account = self.account();
        let dropped = account.dropped;
        [
            account.published,
            dropped.nacked,
            dropped.returned,
            dropped.unknown,
        ]
    }
}

/// Plays `script` to a publisher with this `amqp` configuration, and then ends it.
fn with_publisher(rules: Rules, amqp: &str, script: impl FnOnce(&Played, &Camera)) {
    let broker = Played::start(rules);
    let config = broker.config(amqp);
    std::thread::scope(|scope| {
        let running = start(scope, &broker);
        let (camera, mut publisher) = publisher(&running.shared, &config);
        let thread = scope.spawn(move || publisher.run());
        script(&broker, &camera);
        drop(camera.frames);
        thread.join().unwrap();
        running.ends();
    });
}

#[test]
fn each_fate_of_a_frame_is_counted_once_and_nothing_after_its_channel() {
    with_publisher(
        Rules::default(),
        "mandatory: true, max_in_flight: 4",
        |broker, camera| {
            let captures = || {
                camera.captures(100);
                broker.wait_for(&Did::Published(1, 100));
            };
            captures();
            broker.confirm(1, 1, false, true);
            assert_eq!(camera.settled(1), [1, 0, 0, 0]);
            captures();
            broker.confirm(1, 2, false, false);
            assert_eq!(camera.settled(2), [1, 1, 0, 0]);
            captures();
            captures();
            broker.give_back(1, "door/1/3");
            // One answer to both.
            broker.confirm(1, 4, true, true);
            assert_eq!(camera.settled(4), [2, 1, 1, 0]);
            captures();
            assert_eq!(camera.account().in_flight, 1);
            broker.close_channel(1, 403, "ACCESS_REFUSED - no");
            assert_eq!(camera.settled(5), [2, 1, 1, 1]);
            wait_until(|| camera.status.get().refused.is_some());
            assert_eq!(
                camera.status.get().refused.as_deref(),
                Some("the broker refuses exchange \"cameras\": ACCESS_REFUSED - no")
            );
            // A new channel counts its messages from 1.
            broker.wait_for(&Did::Opened(2));
            camera.captures(200);
            broker.wait_for(&Did::Published(2, 200));
            broker.confirm(2, 1, false, true);
            assert_eq!(camera.settled(6), [3, 1, 1, 1]);
            wait_until(|| camera.status.get().refused.is_none());
        },
    );
}

#[test]
fn the_answers_tell_whether_the_camera_has_a_consumer() {
    let broker = Played::start(Rules::default());
    let config = broker.config("");
    std::thread::scope(|scope| {
        let running = start(scope, &broker);
        let (camera, mut publisher) = publisher(&running.shared, &config);
        let idleness = Idleness::new(Duration::ZERO);
        publisher.idleness = Some(Arc::clone(&idleness));
        let thread = scope.spawn(move || publisher.run());
        let mut tag = 0;
        let mut answers = |returned: bool, acked: bool| {
            tag += 1;
            camera.captures(100);
            broker.wait_for(&Did::Published(1, 100));
            if returned {
                broker.give_back(1, &format!("door/1/{tag}"));
            }
            broker.confirm(1, tag, false, acked);
            camera.settled(tag);
            idleness.is_idle()
        };
        assert!(answers(true, true));
        assert!(!answers(false, true));
        assert!(answers(true, true));
        assert!(!answers(false, false), "a queue that is full is bound");
        assert!(answers(true, true));
        assert_eq!(camera.settled(5), [1, 1, 3, 0]);
        assert!(camera.metrics.publisher.last_returned_us.get() > 0);
        drop(camera.frames);
        thread.join().unwrap();
        assert!(idleness.is_idle(), "the end shows no consumer");
        running.ends();
    });
}

#[test]
fn after_the_readers_end_the_last_frame_is_waited_for() {
    let broker = Played::start(Rules::default());
    let config = broker.config("");
    std::thread::scope(|scope| {
        let running = start(scope, &broker);
        let (camera, mut publisher) = publisher(&running.shared, &config);
        let thread = scope.spawn(move || publisher.run());
        camera.captures(100);
        broker.wait_for(&Did::Published(1, 100));
        camera.captures(200);
        let Camera {
            frames, metrics, ..
        } = camera;
        drop(frames);
        broker.confirm(1, 1, false, true);
        broker.wait_for(&Did::Published(1, 200));
        assert!(!thread.is_finished());
        broker.confirm(1, 2, false, true);
        thread.join().unwrap();
        assert_eq!(metrics.snapshot().published, 2);
        broker.wait_for(&Did::Closed(1));
        running.ends();
    });
}

#[test]
fn a_connection_that_is_cut_makes_what_is_in_flight_unknown_and_nothing_is_sent_again() {
    with_publisher(Rules::default(), "", |broker, camera| {
        camera.captures(100);
        broker.wait_for(&Did::Published(1, 100));
        broker.cut();
        assert_eq!(camera.settled(1), [0, 0, 0, 1]);
        broker.wait_for(&Did::Opened(1));
        camera.captures(200);
        let next = broker.did.recv_timeout(SOON);
        assert_eq!(next, Ok(Did::Published(1, 200)));
        broker.confirm(1, 1, false, true);
        assert_eq!(camera.settled(2), [1, 0, 0, 1]);
    });
}

#[test]
fn a_message_that_is_too_large_teaches_the_limit_and_the_next_channel_comes_at_once() {
    with_publisher(Rules::default(), "", |broker, camera| {
        camera.captures(1000);
        broker.wait_for(&Did::Published(1, 1000));
        let why = "PRECONDITION_FAILED - message size 1000 is larger than configured max size 500";
        broker.close_channel(1, 406, why);
        broker.wait_for(&Did::Opened(2));
        assert_eq!(camera.settled(1), [0, 0, 0, 1]);
        camera.captures(501);
        wait_until(|| camera.account().dropped.oversize == 1);
        camera.captures(500);
        let next = broker.did.recv_timeout(SOON);
        assert_eq!(next, Ok(Did::Published(2, 500)));
        assert_eq!(camera.status.get().refused, None);
        broker.confirm(2, 1, false, true);
    });
}

#[test]
fn an_exchange_that_is_absent_is_declared_over_the_next_channel() {
    with_publisher(
        Rules {
            exchange_absent: true,
            ..Rules::default()
        },
        "",
        |broker, camera| {
            broker.wait_for(&Did::Declared(2));
            camera.captures(100);
            broker.wait_for(&Did::Published(2, 100));
            broker.confirm(2, 1, false, true);
            assert_eq!(camera.settled(1), [1, 0, 0, 0]);
        },
    );
}

#[test]
fn a_publisher_that_is_moved_sends_over_the_other_connection() {
    let (full, other) = (
        Played::start(Rules {
            channel_max: 1,
            ..Rules::default()
        }),
        Played::start(Rules::default()),
    );
    let config = full.config("");
    std::thread::scope(|scope| {
        let (here, there) = (start(scope, &full), start(scope, &other));
        let first = here.asks("first");
        full.wait_for(&Did::Opened(1));
        let (camera, mut publisher) = publisher(&here.shared, &config);
        let thread = scope.spawn(move || publisher.run());
        let callers = here.surplus();
        assert_eq!(crate::amqp::names(&callers.0), "door");
        callers.0[0].tell(Control::Move(there.shared.clone()));
        camera.captures(100);
        other.wait_for(&Did::Published(1, 100));
        other.confirm(1, 1, false, true);
        assert_eq!(camera.settled(1), [1, 0, 0, 0]);
        drop((camera.frames, first));
        thread.join().unwrap();
        here.ends();
        there.ends();
    });
}
