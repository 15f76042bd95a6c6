//! The decision under simulated time, and which cameras a binding concerns.

use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(60);

/// A camera, and the clock that only the test moves.
struct Played {
    decision: Decision,
    now: Instant,
}

impl Played {
    fn new() -> Self {
        Self {
            decision: Decision::new(AFTER),
            now: Instant::now(),
        }
    }

    /// Messages of this stream come back for `time`, ten a second.
    fn returned_for(&mut self, stream: Stream, time: Duration) -> bool {
        let until = self.now + time;
        loop {
            self.decision.returned(stream, self.now);
            if self.now >= until {
                return self.decision.idle;
            }
            self.now += SECOND / 10;
        }
    }

    fn taken(&mut self, stream: Stream) -> bool {
        self.decision.taken(stream);
        self.decision.idle
    }
}

#[test]
fn a_camera_is_idle_when_all_has_come_back_for_so_long_and_not_before() {
    let mut played = Played::new();
    assert!(!played.returned_for(Stream::Frames, AFTER - SECOND / 10));
    assert!(played.returned_for(Stream::Frames, SECOND / 10));
    assert!(
        played.returned_for(Stream::Frames, 100 * AFTER),
        "and stays so"
    );
}

#[test]
fn one_frame_that_reaches_a_queue_ends_idleness_and_the_time_counts_anew() {
    let mut played = Played::new();
    assert!(!played.returned_for(Stream::Frames, AFTER - SECOND));
    assert!(!played.taken(Stream::Frames));
    assert!(!played.returned_for(Stream::Frames, AFTER - SECOND));
    assert!(played.returned_for(Stream::Frames, SECOND));
    assert!(!played.taken(Stream::Frames));
    assert_eq!(played.decision.sign, Sign::Taken);
    assert!(!played.returned_for(Stream::Frames, AFTER - SECOND));
}

#[test]
fn without_answers_nothing_changes() {
    let mut played = Played::new();
    played.now += 1000 * AFTER;
    assert!(!played.decision.idle, "the broker is away");
    played.returned_for(Stream::Frames, AFTER);
    played.decision.lost(Stream::Frames);
    assert!(played.decision.idle, "a lost channel shows no consumer");
}

#[test]
fn what_came_back_before_a_channel_ended_counts_no_longer() {
    let mut played = Played::new();
    played.returned_for(Stream::Frames, AFTER - SECOND);
    played.decision.lost(Stream::Frames);
    played.now += AFTER;
    assert!(!played.returned_for(Stream::Frames, AFTER - SECOND));
    assert!(played.returned_for(Stream::Frames, SECOND));
}

#[test]
fn a_consumer_of_either_stream_keeps_the_camera_awake() {
    let mut played = Played::new();
    assert!(!played.taken(Stream::Frames), "a keyframe, every 30 s");
    assert!(!played.returned_for(Stream::Units, 10 * AFTER));
    // The consumer of pictures goes.
    assert!(!played.returned_for(Stream::Frames, AFTER - SECOND));
    assert!(played.returned_for(Stream::Frames, SECOND));
    // One of video comes.
    assert!(!played.taken(Stream::Units));
    assert!(!played.returned_for(Stream::Frames, 10 * AFTER));
}

#[test]
fn a_viewer_or_a_binding_ends_idleness_and_the_time_counts_anew() {
    for sign in [Sign::Viewed, Sign::Bound] {
        let mut played = Played::new();
        assert!(played.returned_for(Stream::Frames, AFTER));
        played.decision.wanted(sign);
        assert_eq!((played.decision.idle, played.decision.sign), (false, sign));
        assert!(!played.returned_for(Stream::Frames, AFTER - SECOND));
        played.decision.wanted(sign);
        assert!(!played.returned_for(Stream::Frames, AFTER - SECOND));
        assert!(played.returned_for(Stream::Frames, SECOND));
    }
}

proptest! {
    /// Whatever happens: idle only if nothing reached a queue and nobody looked for `after`, and
    /// what came back shows it; awake at once when something reaches a queue.
    #[test]
    fn a_camera_is_idle_only_without_any_sign_of_a_consumer_for_so_long(
        acts in prop::collection::vec((0_u8..8, 0_u64..40), 0..200)
    ) {
        let mut played = Played::new();
        let mut sign_at = played.now;
        for (act, seconds) in acts {
            played.now += Duration::from_secs(seconds);
            let stream = if act % 2 == 0 { Stream::Frames } else { Stream::Units };
            match act {
                0..=4 => played.decision.returned(stream, played.now),
                5 => played.decision.lost(stream),
                6 => {
                    played.decision.taken(stream);
                    sign_at = played.now;
                }
                _ => {
                    played.decision.wanted(Sign::Viewed);
                    sign_at = played.now;
                }
            }
            let quiet_for = played.now - sign_at;
            prop_assert!(!played.decision.idle || quiet_for >= AFTER, "{quiet_for:?}");
        }
    }
}

#[test]
fn a_reader_sees_a_change_once() {
    let idleness = Idleness::new(Duration::ZERO);
    let mut followed = Followed::new(Arc::clone(&idleness));
    assert!(!followed.has_changed());
    idleness.returned(Stream::Frames, Instant::now());
    assert!(followed.has_changed());
    assert!(followed.look() && !followed.has_changed());
    idleness.wanted(Sign::Bound);
    assert!(followed.has_changed() && !followed.look());
    assert_eq!(followed.sign(), Sign::Bound);
}

#[test]
fn a_binding_wakes_the_cameras_whose_messages_it_takes() {
    let routes = Routes::default();
    let idle = |exchange, key| {
        let idleness = Idleness::new(Duration::ZERO);
        idleness.returned(Stream::Frames, Instant::now());
        routes.add(exchange, key, &idleness);
        idleness
    };
    let (gate, yard) = (
        idle("cameras", "camera.gate"),
        idle("cameras", "camera.yard"),
    );
    let video = idle("cameras.video", "video.gate");
    let gone = idle("cameras", "camera.gone");
    drop(gone);
    routes.bound("cameras", "camera.gate");
    assert_eq!(
        [&gate, &yard, &video].map(|it| it.is_idle()),
        [false, true, true]
    );
    routes.bound("cameras.video", "#");
    assert!(yard.is_idle() && !video.is_idle());
    assert_eq!(
        routes.0.lock().len(),
        3,
        "without the camera that has ended"
    );
}

#[test]
fn binding_keys_match_as_the_broker_matches_them() {
    for (binding_key, routing_key, is_match) in [
        ("camera.gate", "camera.gate", true),
        ("camera.gate", "camera.gates", false),
        ("camera.*", "camera.gate", true),
        ("camera.*", "camera.gate.north", false),
        ("*", "camera.gate", false),
        ("#", "camera.gate", true),
        ("#", "", true),
        ("camera.#", "camera", true),
        ("camera.#", "camera.gate.north", true),
        ("#.north", "camera.gate.north", true),
        ("#.gate", "camera.gate.north", false),
        ("#.#", "camera", true),
        ("camera.#.north", "camera.north", true),
        ("*.#.*", "camera", false),
        ("", "camera.gate", true),
    ] {
        assert_eq!(
            matches(binding_key, routing_key),
            is_match,
            "{binding_key} {routing_key}"
        );
    }
}
