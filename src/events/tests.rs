//! Tests of the events thread with a real connection owner and a played broker.

use super::*;
use crate::amqp::ConnectionUser;
use crate::amqp::owner_tests::{Running, start};
use crate::amqp::played::{Did, Played, Rules, SOON, wait_until};
use crossbeam_channel::bounded;
use std::thread::{Scope, ScopedJoinHandle};

/// The thread, and all that it listens to.
struct Telling<'a> {
    handle: Handle,
    _changed: Sender<()>,
    published: Sender<Published>,
    metrics: Arc<Metrics>,
    thread: ScopedJoinHandle<'a, ()>,
}

/// Of one camera, which never comes.
fn tell<'a>(scope: &'a Scope<'a, '_>, running: &Running<'_>) -> Telling<'a> {
    let overview = "cameras: [{id: door, url: 'rtsp://192.0.2.1/'}]";
    let overview = Arc::new(Overview::for_test(overview, &[]));
    let metrics = Arc::clone(&overview.metrics);
    let ((bell, changed), (published, frames)) = (bounded(1), unbounded());
    let connection = ConnectionHandle::new(
        running.shared.clone(),
        ConnectionUser {
            name: "events".into(),
            waker: None,
            status: None,
        },
    );
    let metadata = Metadata {
        enabled: true,
        exchange: "camera.metadata".to_owned(),
        frames: true,
    };
    let ears = Inputs {
        changed,
        published: frames,
    };
    let (mut events, handle) = Events::new(metadata, overview, ears, connection);
    Telling {
        handle,
        _changed: bell,
        published,
        metrics,
        thread: scope.spawn(move || events.run()),
    }
}

impl Telling<'_> {
    fn frame(&self, seq: u64) {
        let published = Published {
            camera_id: "door".into(),
            epoch: 1,
            seq,
            captured_unix_us: 0,
            width: 320,
            height: 240,
            bytes: 1000,
        };
        self.published.send(published).unwrap();
    }

    /// After the order to stop; whatever it says then is confirmed.
    fn ends(self, broker: &Played, channel: u16, last_tag: u64) {
        drop(self.handle);
        let stopping = || told(broker) == "door is offline: stopping";
        wait_until(stopping);
        broker.confirm(channel, last_tag, true, true);
        self.thread.join().unwrap();
    }
}

/// The next event, in short.
fn told(broker: &Played) -> String {
    let body = broker.bodies.recv_timeout(SOON).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    match &*text("event_type") {
        "camera_status" => {
            let (id, state) = (text("camera_id"), text("state"));
            format!("{id} is {state}: {}", text("message"))
        }
        "system_status" => format!("{} of {}", body["active_cameras"], body["total_cameras"]),
        _ => format!("frame {}", body["seq"]),
    }
}

/// Plays `script` to an events thread, which it ends.
fn with_events(script: impl FnOnce(&Played, Telling<'_>)) {
    let broker = Played::start(Rules::default());
    std::thread::scope(|scope| {
        let running = start(scope, &broker);
        script(&broker, tell(scope, &running));
        running.ends();
    });
}

const STATE: &str = "door is inactive: waiting for its first frame";

#[test]
fn all_is_told_anew_over_each_new_channel_and_frames_without_an_answer_are_lost() {
    with_events(|broker, events| {
        assert_eq!([told(broker), told(broker)], [STATE, "0 of 1"]);
        events.frame(1);
        events.frame(2);
        assert_eq!([told(broker), told(broker)], ["frame 1", "frame 2"]);
        // The third message: the first frame.
        broker.confirm(1, 3, false, true);
        wait_until(|| events.metrics.events.published.get() == 1);
        broker.cut();
        assert_eq!([told(broker), told(broker)], [STATE, "0 of 1"]);
        assert_eq!(events.metrics.events.lost_in_all(), 1, "the second frame");
        broker.confirm(1, 2, true, true);
        wait_until(|| events.metrics.events.published.get() == 3);
        events.ends(broker, 1, 4);
    });
}

#[test]
fn a_state_that_is_refused_is_told_again_and_a_frame_is_not() {
    with_events(|broker, events| {
        assert_eq!([told(broker), told(broker)], [STATE, "0 of 1"]);
        events.frame(1);
        assert_eq!(told(broker), "frame 1");
        broker.confirm(1, 3, true, false);
        wait_until(|| events.metrics.events.lost_in_all() == 1);
        assert_eq!([told(broker), told(broker)], [STATE, "0 of 1"]);
        events.ends(broker, 1, 7);
    });
}

#[test]
fn a_refused_exchange_is_tried_again_after_a_pause_and_the_end_is_not_held_up_by_it() {
    with_events(|broker, events| {
        assert_eq!(told(broker), STATE);
        broker.close_channel(1, 403, "ACCESS_REFUSED - no");
        // What was told, and a channel more.
        broker.wait_for(&Did::Opened(2));
        broker.close_channel(2, 403, "ACCESS_REFUSED - no");
        drop(events.handle);
        events.thread.join().unwrap();
    });
}
