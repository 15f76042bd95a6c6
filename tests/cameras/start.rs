//! The first picture after a start: soon, and never a damaged one.

use crate::clip::{Codec, Film};
use crate::outcome::Truth;
use crate::rtsp::{Camera, Join, Play};
use crate::trial::{case, one_good_round};
use std::time::Duration;

/// A minute, so that each number means one picture. `interval` in seconds.
fn film(codec: Codec, interval: u32) -> Film {
    Film {
        codec,
        seconds: 60,
        interval: interval * 15,
        ..Film::H264
    }
}

fn name(codec: Codec) -> &'static str {
    if codec == Codec::H264 {
        "H.264"
    } else {
        "H.265"
    }
}

/// Each session of the camera begins with a keyframe.
#[track_caller]
fn joined_at_a_keyframe(codec: Codec, interval: u32) {
    one_good_round(|| joined_at_a_keyframe_once(codec, interval));
}

fn joined_at_a_keyframe_once(codec: Codec, interval: u32) {
    let clip = film(codec, interval).clip();
    let camera = Camera::start(Play::new([clip.clone()]));
    let what = format!(
        "{}, a keyframe each {interval} s, starting with one",
        name(codec)
    );
    let trial = case(&what, "pictures at once").start(&camera.url());
    trial.lasts(4);
    let outcome = trial.end(&Truth::new([&*clip], camera.sent()));
    outcome
        .first_within(3.0)
        .all_good()
        .at_least(14.5)
        .no_restart();
}

#[test]
fn h264_with_a_keyframe_each_second_shows_at_once() {
    joined_at_a_keyframe(Codec::H264, 1);
}

#[test]
#[ignore = "make cameras"]
fn h264_with_a_keyframe_each_ten_seconds_shows_at_once() {
    joined_at_a_keyframe(Codec::H264, 10);
}

#[test]
fn h264_with_a_keyframe_each_thirty_seconds_shows_at_once() {
    joined_at_a_keyframe(Codec::H264, 30);
}

#[test]
#[ignore = "make cameras"]
fn h265_with_a_keyframe_each_second_shows_at_once() {
    joined_at_a_keyframe(Codec::H265, 1);
}

#[test]
#[ignore = "make cameras"]
fn h265_with_a_keyframe_each_ten_seconds_shows_at_once() {
    joined_at_a_keyframe(Codec::H265, 10);
}

#[test]
fn h265_with_a_keyframe_each_thirty_seconds_shows_at_once() {
    joined_at_a_keyframe(Codec::H265, 30);
}

/// A session begins `before` seconds before the next keyframe.
#[track_caller]
fn joined_in_the_middle(codec: Codec, interval: u32, before: f64) {
    one_good_round(|| joined_in_the_middle_once(codec, interval, before));
}

fn joined_in_the_middle_once(codec: Codec, interval: u32, before: f64) {
    let clip = film(codec, interval).clip();
    let join = Join::Middle(f64::from(interval) - before);
    let camera = Camera::start(Play {
        join,
        ..Play::new([clip.clone()])
    });
    let what = format!(
        "{}, a keyframe each {interval} s, joined {before} s before one",
        name(codec)
    );
    let trial = case(&what, "pictures from the next keyframe on").start(&camera.url());
    trial.lasts(4);
    let sent = camera.sent();
    let outcome = trial.end(&Truth::new([&*clip], sent.clone()));
    outcome.all_good().at_least(14.5).no_restart();
    let key = sent
        .iter()
        .find(|sent| sent.key)
        .expect("a keyframe was sent");
    let first = outcome.pictures[0].number.unwrap();
    // None before it; and that one, but for what fell due together with it.
    assert!(
        (key.number..key.number + 8).contains(&first),
        "key {key:?}, first {first}"
    );
    let waited = (outcome.pictures[0].arrived_us - key.taken_us) as f64 / 1e6;
    assert!(
        waited < 3.0,
        "{waited} s after the keyframe: {}",
        outcome.summary()
    );
}

#[test]
#[ignore = "make cameras"]
fn h264_joined_in_the_middle_of_a_second_shows_from_the_keyframe_on() {
    joined_in_the_middle(Codec::H264, 1, 0.5);
}

#[test]
fn h264_joined_in_the_middle_of_ten_seconds_shows_from_the_keyframe_on() {
    joined_in_the_middle(Codec::H264, 10, 5.0);
}

#[test]
#[ignore = "make cameras"]
fn h264_joined_in_the_middle_of_thirty_seconds_shows_from_the_keyframe_on() {
    joined_in_the_middle(Codec::H264, 30, 18.0);
}

#[test]
#[ignore = "make cameras"]
fn h265_joined_in_the_middle_of_a_second_shows_from_the_keyframe_on() {
    joined_in_the_middle(Codec::H265, 1, 0.5);
}

#[test]
fn h265_joined_in_the_middle_of_ten_seconds_shows_from_the_keyframe_on() {
    joined_in_the_middle(Codec::H265, 10, 5.0);
}

#[test]
#[ignore = "make cameras"]
fn h265_joined_in_the_middle_of_thirty_seconds_shows_from_the_keyframe_on() {
    joined_in_the_middle(Codec::H265, 30, 18.0);
}

/// Streams without any keyframe but the first, which was long ago.
#[test]
#[ignore = "make cameras"]
fn a_stream_that_never_marks_a_keyframe_shows_too() {
    let clip = Film {
        intra_refresh: true,
        seconds: 60,
        interval: 15,
        ..Film::H264
    }
    .clip();
    let camera = Camera::start(Play {
        join: Join::Middle(5.0),
        ..Play::new([clip.clone()])
    });
    let trial = case(
        "H.264 with intra refresh, no keyframes",
        "pictures once a refresh is complete",
    )
    .start(&camera.url());
    assert!(trial.first(Duration::from_secs(25)), "no picture");
    trial.lasts(4);
    let outcome = trial.end(&Truth::new([&*clip], camera.sent()));
    outcome.all_good().at_least(14.5).no_restart();
}

#[test]
#[ignore = "make cameras"]
fn parameter_sets_within_the_stream_alone_are_enough() {
    for codec in [Codec::H264, Codec::H265] {
        let clip = film(codec, 10).clip();
        let camera = Camera::start(Play {
            sprop: false,
            ..Play::new([clip.clone()])
        });
        let what = format!("{}, no parameter sets in the SDP", name(codec));
        let trial = case(&what, "pictures at once").start(&camera.url());
        trial.lasts(4);
        let outcome = trial.end(&Truth::new([&*clip], camera.sent()));
        outcome
            .first_within(3.0)
            .all_good()
            .at_least(14.5)
            .no_restart();
    }
}

/// `pictures: keyframes` without passthrough: FFmpeg decodes nothing else.
#[track_caller]
fn only_keyframes(codec: Codec, interval: u32, seconds: u64) {
    let clip = film(codec, interval).clip();
    let camera = Camera::start(Play::new([clip.clone()]));
    let what = format!(
        "{}, a keyframe each {interval} s, pictures: keyframes",
        name(codec)
    );
    let trial = case(&what, "a picture for each keyframe")
        .with("pictures: keyframes")
        .start(&camera.url());
    trial.lasts(seconds);
    let sent = camera.sent();
    let outcome = trial.end(&Truth::new([&*clip], sent.clone()));
    // Also between keyframes that are further apart than a picture's watchdog is long.
    outcome.all_good().no_restart();
    let keys: Vec<_> = sent
        .iter()
        .filter(|it| it.key)
        .map(|it| it.number)
        .collect();
    let seen: Vec<_> = outcome.pictures.iter().filter_map(|it| it.number).collect();
    assert!(seen.len() >= 2, "{seen:?} of {keys:?}");
    let each_once = seen.windows(2).all(|pair| pair[0] < pair[1]);
    let only_keys = seen.iter().all(|number| keys.contains(number));
    assert!(each_once && only_keys, "{seen:?} of {keys:?}");
}

#[test]
fn keyframes_alone_of_h264_are_published_each_once() {
    only_keyframes(Codec::H264, 1, 6);
}

#[test]
#[ignore = "make cameras"]
fn keyframes_alone_of_h265_are_published_each_once() {
    only_keyframes(Codec::H265, 1, 6);
}

#[test]
#[ignore = "make cameras"]
fn a_camera_with_a_keyframe_each_ten_seconds_is_waited_for() {
    only_keyframes(Codec::H264, 10, 25);
}
