//! Tests of what counts as a problem, and of the keys of `/status`.

use super::*;
use crate::clock::process_us;
use crate::metrics::UnitsDropped;
use serde_json::Value;
use std::time::Duration;

fn frames(captured: u64, overwritten: u64) -> Account {
    Account {
        captured,
        dropped: Dropped {
            overwritten,
            ..Dropped::default()
        },
        ..Account::default()
    }
}

fn units(captured: u64, overwritten: u64, no_key: u64) -> VideoAccount {
    VideoAccount {
        captured,
        dropped: UnitsDropped {
            overwritten,
            no_key,
            ..UnitsDropped::default()
        },
        ..VideoAccount::default()
    }
}

#[test]
fn dropped_units_are_a_problem_as_dropped_frames_are() {
    let few = units(900, 4, 0);
    let many = units(900, 40, 8);
    let text = |frames: Account, units| dropping(&frames, units);
    assert_eq!(text(frames(900, 40), Some(&few)), None);
    assert_eq!(text(frames(900, 40), None), None);
    assert_eq!(
        text(frames(900, 50), Some(&few)).as_deref(),
        Some("live, but dropping: 50 overwritten in a minute")
    );
    assert_eq!(
        text(frames(0, 0), Some(&many)).as_deref(),
        Some("live, but dropping video: 40 overwritten, 8 no_key in a minute")
    );
    assert_eq!(
        text(frames(900, 50), Some(&many)).as_deref(),
        Some(
            "live, but dropping: 50 overwritten, and of the video 40 overwritten, 8 no_key in a \
             minute"
        )
    );
}

fn status(overview: &Overview) -> Value {
    let history = History::new(overview.cameras.len());
    serde_json::to_value(PageState::new(overview, &history, true)).unwrap()
}

/// Sorted.
fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn without_passthrough_the_keys_are_those_of_frames() {
    let config = "cameras: [{id: a, url: /a}, {id: b, url: /b, passthrough: true}]";
    let status = status(&Overview::for_test(config, &[]));
    let [a, b] = status["cameras"].as_array().unwrap().as_slice() else {
        panic!("two cameras")
    };
    let of_a = "activity age_seconds asked_fps breaker bytes captured captured_fps \
        consecutive_failures decoder dropped dropped_last_minute ffmpeg_resident_bytes \
        frame_bytes height history id in_flight last_error level p50_ms p99_ms published published_fps \
        restarts since_seconds slow waiting width words";
    assert_eq!(keys(a).join(" "), of_a);
    let mut of_b = keys(b);
    of_b.retain(|key| *key != "video");
    assert_eq!(of_b, keys(a));
    let of_video = "bytes captured captured_per_second codec dropped dropped_last_minute \
        gop_seconds height in_flight kbit_per_second p50_ms p99_ms pictures published \
        published_per_second waiting width";
    assert_eq!(keys(&b["video"]).join(" "), of_video);

    let plain = Overview::for_test("cameras: [{id: a, url: /a}]", &[]);
    let of_total = "bytes bytes_per_second cameras captured captured_fps dropped in_flight live \
        published published_fps restarts slow waiting";
    assert_eq!(keys(&self::status(&plain)["total"]).join(" "), of_total);
}

#[test]
fn a_camera_without_pictures_lives_by_its_units() {
    let config = "cameras: [{id: a, url: /a, passthrough: true, pictures: none}]";
    let overview = Overview::for_test(config, &[]);
    let view = &overview.cameras[0];
    let camera = || status(&overview)["cameras"][0].take();
    assert_eq!(camera()["words"], "waiting for its first access unit");
    view.status.live();
    let reader = &view.metrics.video.reader;
    reader.last_unit_us.set(process_us(Instant::now()));
    assert_eq!(
        camera()["words"],
        "live, but not published: the broker is not connected"
    );
    let now = Instant::now();
    let level = |seconds| live_level(view, Some(Duration::from_secs(seconds)), None, now);
    assert_eq!(
        level(4),
        (
            Level::Poor,
            Some("live, but no access unit for 4 s".to_owned())
        )
    );
    assert_eq!(
        level(6),
        (
            Level::Down,
            Some("no access unit for 6 s: starting again".to_owned())
        )
    );
}

#[test]
fn of_a_camera_that_may_be_idle_a_picture_may_come_late_and_reach_no_queue() {
    let config = "idle: {after: 5m}\ncameras: [{id: a, url: /a}]";
    let overview = Overview::for_test(config, &[]);
    let (view, now) = (&overview.cameras[0], Instant::now());
    view.status.live();
    let camera = || status(&overview)["cameras"][0].take();
    assert_eq!(camera()["idle"], false);
    let level = |seconds| live_level(view, Some(Duration::from_secs(seconds)), None, now).0;
    assert_eq!([level(4), level(6)], [Level::Poor, Level::Down]);
    view.status.idle(true);
    assert_eq!(camera()["idle"], true);
    assert_eq!(view.words(Instant::now()), "idle: no queue is bound");
    let (_, words) = live_level(view, Some(Duration::from_secs(31)), None, now);
    assert_eq!(
        words.unwrap(),
        "live, but not published: the broker is not connected"
    );
    assert_eq!([level(40), level(80)], [Level::Poor, Level::Down]);

    let mut account = frames(900, 4);
    account.dropped.returned = 890;
    assert!(dropping(&account, None).is_some());
    account = account.without_returned();
    assert_eq!((account.captured, account.dropped.total()), (10, 4));
    assert_eq!(dropping(&account, None), None);
    let mut account = units(900, 0, 0);
    account.dropped.returned = 900;
    assert_eq!(account.without_returned(), VideoAccount::default());
}
