//! Tests of what is told of the cameras.

use super::*;
use crate::clock::process_us;

const SECOND: Duration = Duration::from_secs(1);
/// What is kept is in microseconds.
const ROUNDING: Duration = Duration::from_millis(1);

/// Cameras with a `stale_timeout` of 5 s.
fn overview(ids: &[&str], old: &[Arc<View>]) -> Arc<Overview> {
    let cameras: String = ids
        .iter()
        .map(|id| format!("  - {{id: {id}, url: /a.mp4}}\n"))
        .collect();
    let text = format!("cameras:\n{cameras}");
    Arc::new(Overview::for_test(&text, old))
}

fn stamp(monotonic: Instant) -> Stamp {
    Stamp {
        monotonic,
        unix_us: 0,
    }
}

fn publish(view: &View, at: Instant) {
    let at = process_us(at);
    view.metrics.reader.last_frame_us.set(at);
    view.metrics.publisher.last_published_us.set(at);
}

/// What is told at that moment, in short, and when it looks again.
fn told(board: &mut Board, at: Instant) -> (Vec<String>, Instant) {
    let (due, again) = board.look(stamp(at));
    let words = due.iter().map(|(_, event)| {
        let body: serde_json::Value = serde_json::from_slice(&event.json).unwrap();
        match event.kind {
            "camera_status" => format!(
                "{} {}: {}",
                body["camera_id"].as_str().unwrap(),
                body["state"].as_str().unwrap(),
                body["message"].as_str().unwrap()
            ),
            _ => format!("{} of {}", body["active_cameras"], body["total_cameras"]),
        }
    });
    (words.collect(), again)
}

#[test]
fn a_camera_is_active_while_fresh_frames_are_published() {
    let overview = overview(&["a"], &[]);
    let view = &overview.cameras[0];
    // Counts from its first call in the process.
    process_us(Instant::now());
    let start = Instant::now() + SECOND;
    let mut board = Board::new(Arc::clone(&overview), start);
    let (words, again) = told(&mut board, start);
    assert_eq!(words, ["a inactive: waiting for its first frame", "0 of 1"]);
    assert_eq!(again, start + COUNTS_EVERY, "the bell tells the rest");

    view.status.live();
    view.metrics.reader.last_frame_us.set(process_us(start));
    let (words, again) = told(&mut board, start);
    assert!(words.is_empty(), "captured is not published: {words:?}");
    assert_eq!(again, start + LOOK_AGAIN);

    publish(view, start);
    let (words, again) = told(&mut board, start);
    assert_eq!(words, ["a active: live", "1 of 1"]);
    assert!(again <= start + 5 * SECOND && again > start + 5 * SECOND - ROUNDING);
    assert!(told(&mut board, start + SECOND).0.is_empty(), "no news");

    let (words, _) = told(&mut board, start + 5 * SECOND);
    assert_eq!(words, ["a inactive: no frame for 5 s", "0 of 1"]);
    let late = start + 6 * SECOND;
    view.metrics.reader.last_frame_us.set(process_us(late));
    let condition = board.entries[0].condition(&overview, false, late).0;
    assert_eq!(
        condition.message,
        "live, but not published: the broker is not connected"
    );
}

#[test]
fn a_camera_without_pictures_is_active_while_its_units_are_published() {
    let yaml = "passthrough: true\npictures: none\ncameras: [{id: a, url: /a}]";
    let overview = Arc::new(Overview::for_test(yaml, &[]));
    let view = &overview.cameras[0];
    process_us(Instant::now());
    let start = Instant::now() + SECOND;
    let mut board = Board::new(Arc::clone(&overview), start);
    let (words, _) = told(&mut board, start);
    assert_eq!(
        words,
        ["a inactive: waiting for its first access unit", "0 of 1"]
    );
    view.status.live();
    let units = &view.metrics.video;
    units.reader.last_unit_us.set(process_us(start));
    units.publisher.last_published_us.set(process_us(start));
    assert_eq!(told(&mut board, start).0, ["a active: live", "1 of 1"]);
    let (words, _) = told(&mut board, start + 5 * SECOND);
    assert_eq!(words, ["a inactive: no access unit for 5 s", "0 of 1"]);
}

#[test]
fn a_frozen_picture_is_news_and_its_end_is() {
    let overview = overview(&["a"], &[]);
    let view = &overview.cameras[0];
    process_us(Instant::now());
    let start = Instant::now() + SECOND;
    let mut board = Board::new(Arc::clone(&overview), start);
    view.status.live();
    publish(view, start);
    told(&mut board, start);
    view.status.frozen(Some(start));
    let (due, _) = board.look(stamp(start + 4 * SECOND));
    let body: serde_json::Value = serde_json::from_slice(&due[0].1.json).unwrap();
    assert_eq!(body["state"], "active");
    assert_eq!(body["picture_frozen"], true);
    assert_eq!(body["message"], "live, but picture frozen for 4 s");
    view.status.frozen(None);
    let (due, _) = board.look(stamp(start + 4 * SECOND));
    let body: serde_json::Value = serde_json::from_slice(&due[0].1.json).unwrap();
    assert_eq!(body["message"], "live");
    assert_eq!(body.get("picture_frozen"), None);
}

#[test]
fn a_camera_without_a_consumer_is_active_and_that_it_is_idle_is_news() {
    let yaml = "idle: {after: 5m}\ncameras: [{id: a, url: /a}]";
    let overview = Arc::new(Overview::for_test(yaml, &[]));
    let view = &overview.cameras[0];
    process_us(Instant::now());
    let start = Instant::now() + SECOND;
    let mut board = Board::new(Arc::clone(&overview), start);
    told(&mut board, start);
    view.status.live();
    let returned = |at| {
        view.metrics.reader.last_frame_us.set(process_us(at));
        let publisher = &view.metrics.publisher;
        publisher.last_returned_us.set(process_us(at));
    };
    returned(start);
    assert_eq!(told(&mut board, start).0, ["a active: live", "1 of 1"]);
    view.status.idle(true);
    let (words, _) = told(&mut board, start);
    assert_eq!(words, ["a active: idle: no queue is bound"]);
    // One picture every 10 s, and the next one is late.
    assert!(told(&mut board, start + 25 * SECOND).0.is_empty());
    let (words, _) = told(&mut board, start + 75 * SECOND);
    assert_eq!(words[0], "a inactive: no frame for 75 s");
    returned(start + 76 * SECOND);
    view.status.idle(false);
    let (words, _) = told(&mut board, start + 76 * SECOND);
    assert_eq!(words[0], "a active: live");
}

#[test]
fn each_failure_is_news_and_that_they_are_forgotten_is_none() {
    let overview = overview(&["a"], &[]);
    let status = &overview.cameras[0].status;
    let now = Instant::now();
    let mut board = Board::new(Arc::clone(&overview), now);
    told(&mut board, now);
    for (open, expected) in [
        (false, "a inactive: next try in 2 s: refused"),
        (false, "a inactive: next try in 2 s: refused"),
        (true, "a offline: next try in 2 s after 3 failures: refused"),
    ] {
        status.failed("refused", "exit code 1: refused", now + 2 * SECOND, open);
        assert_eq!(told(&mut board, now).0, [expected]);
    }
    status.connecting();
    assert_eq!(
        told(&mut board, now).0,
        ["a inactive: trying again: refused"]
    );
    status.live();
    assert!(told(&mut board, now).0.is_empty());
    status.failed("refused", "exit code 1: refused", now + SECOND, false);
    assert_eq!(told(&mut board, now).0.len(), 1, "counted anew");
}

#[test]
fn the_counts_come_every_30_s_and_all_comes_anew_over_a_new_channel() {
    let overview = overview(&["a", "b"], &[]);
    let start = Instant::now();
    let mut board = Board::new(overview, start);
    assert_eq!(told(&mut board, start).0.len(), 3);
    let later = start + COUNTS_EVERY;
    assert_eq!(told(&mut board, later).0, ["0 of 2"]);
    board.tell_all_anew();
    assert_eq!(told(&mut board, later).0.len(), 3);
}

#[test]
fn what_the_broker_refuses_is_told_again_after_a_pause() {
    let overview = overview(&["a"], &[]);
    let now = Instant::now();
    let mut board = Board::new(overview, now);
    let (due, _) = board.look(stamp(now));
    for (what, _) in &due {
        board.answered(what, false, now);
    }
    let (words, again) = told(&mut board, now);
    assert!(words.is_empty(), "{words:?}");
    assert_eq!(again, now + REFUSED_PAUSE);
    assert_eq!(told(&mut board, again).0.len(), 2);
}

#[test]
fn a_removed_camera_is_offline_until_that_is_confirmed_and_then_forgotten() {
    let before = overview(&["a", "b"], &[]);
    let now = Instant::now();
    let mut board = Board::new(Arc::clone(&before), now);
    let (first, _) = board.look(stamp(now));
    board.follow(overview(&["b", "c"], &before.cameras), now);
    let (due, _) = board.look(stamp(now));
    // The answers to what was told before come late.
    for (what, _) in &first {
        board.answered(what, true, now);
    }
    assert_eq!(board.entries.len(), 3);
    board.tell_all_anew();
    let (words, _) = told(&mut board, now);
    assert_eq!(words[0], "a offline: removed");
    for (what, _) in &due {
        board.answered(what, true, now);
    }
    let ids: Vec<_> = board.entries.iter().map(|it| &*it.view.camera.id).collect();
    assert_eq!(ids, ["b", "c"]);
}

#[test]
fn when_it_stops_all_are_offline() {
    let overview = overview(&["a", "b"], &[]);
    let now = Instant::now();
    let mut board = Board::new(Arc::clone(&overview), now);
    overview.cameras[0].status.live();
    publish(&overview.cameras[0], now);
    told(&mut board, now);
    board.stop();
    let (words, _) = told(&mut board, now);
    assert_eq!(
        words,
        ["a offline: stopping", "b offline: stopping", "0 of 2"]
    );
}
