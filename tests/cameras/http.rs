//! HTTP cameras: Motion JPEG in the dialects that cameras speak, streams and segments.

use crate::clip::{Codec, Film};
use crate::outcome::{Outcome, Truth};
use crate::picture::Look;
use crate::trial::{case, one_good_round};
use crate::web::{Dialect, Page, Site};
use std::collections::HashSet;
use std::time::Duration;

/// Fifteen pictures a second for 30 s, in the range that JPEG has.
const JPEGS: Film = Film {
    codec: Codec::Mjpeg,
    seconds: 30,
    look: Look {
        full_range: true,
        ..Look::SMALL
    },
    ..Film::H264
};

#[track_caller]
fn every_picture(what: &str, film: Film, dialect: Dialect) {
    one_good_round(|| every_picture_once(what, film, dialect));
}

fn every_picture_once(what: &str, film: Film, dialect: Dialect) {
    let clip = film.clip();
    let site = Site::start(Page::Mjpeg(clip.clone(), dialect));
    let trial = case(&format!("Motion JPEG, {what}"), "every picture").start(&site.url("video"));
    trial.lasts(6);
    let outcome = trial.end(&Truth::new([&*clip], site.sent()));
    // A dialect may be found out by a first try that fails.
    outcome
        .all_good()
        .at_least(f64::from(film.fps) * 14.5 / 15.0);
    assert!(
        outcome.account.restarts_in_all() <= 1,
        "{}",
        outcome.summary()
    );
}

#[test]
fn motion_jpeg_loses_nothing() {
    every_picture("15 a second", JPEGS, Dialect::PLAIN);
}

#[test]
fn motion_jpeg_at_ten_a_second_loses_nothing() {
    every_picture("10 a second", Film { fps: 10, ..JPEGS }, Dialect::PLAIN);
}

#[test]
#[ignore = "make cameras"]
fn motion_jpeg_in_chunks_loses_nothing() {
    every_picture(
        "in chunks",
        JPEGS,
        Dialect {
            chunked: true,
            ..Dialect::PLAIN
        },
    );
}

#[test]
#[ignore = "make cameras"]
fn motion_jpeg_without_lengths_loses_nothing() {
    every_picture(
        "no Content-Length",
        JPEGS,
        Dialect {
            length_off: None,
            ..Dialect::PLAIN
        },
    );
}

#[test]
fn motion_jpeg_without_a_first_boundary_is_read() {
    let dialect = Dialect {
        first_boundary: false,
        ..Dialect::PLAIN
    };
    every_picture("no boundary before the first picture", JPEGS, dialect);
}

#[test]
#[ignore = "make cameras"]
fn motion_jpeg_with_wrong_lengths_is_read() {
    for off in [4, -4] {
        let dialect = Dialect {
            length_off: Some(off),
            ..Dialect::PLAIN
        };
        every_picture(&format!("Content-Length off by {off}"), JPEGS, dialect);
    }
}

#[test]
#[ignore = "make cameras"]
fn bare_jpegs_are_read() {
    every_picture(
        "JPEGs alone, nothing between them",
        JPEGS,
        Dialect {
            bare: true,
            ..Dialect::PLAIN
        },
    );
}

#[test]
fn jpegs_that_are_cut_are_not_published() {
    let clip = JPEGS.clip();
    let dialect = Dialect {
        cut: Some(5),
        ..Dialect::PLAIN
    };
    let site = Site::start(Page::Mjpeg(clip.clone(), dialect));
    let trial = case(
        "Motion JPEG, each fifth picture cut in half",
        "the others, whole",
    )
    .start(&site.url("video"));
    trial.lasts(6);
    let outcome = trial.end(&Truth::new([&*clip], site.sent()));
    outcome.all_good().at_least(11.5).no_restart();
    let corrupt = outcome.account.dropped("corrupt");
    assert!(
        corrupt > 0,
        "nothing was counted as corrupt: {}",
        outcome.summary()
    );
}

/// What is published of a camera that sends these pictures, and whether each is the camera's own,
/// byte for byte.
fn published(what: &str, settings: &str, dialect: Dialect) -> (Outcome, bool) {
    let clip = JPEGS.clip();
    let site = Site::start(Page::Mjpeg(clip.clone(), dialect));
    let trial = case(&format!("Motion JPEG, {what}"), "every picture")
        .with(settings)
        .start(&site.url("video"));
    trial.lasts(6);
    let sent: HashSet<&[u8]> = clip.units.iter().map(|unit| &*unit.parts[0]).collect();
    let frames = trial.consumer.all();
    assert!(frames.len() > 10, "{} frames", frames.len());
    let own = frames.iter().all(|frame| sent.contains(frame.jpeg()));
    (trial.end(&Truth::new([&*clip], site.sent())), own)
}

#[test]
fn motion_jpeg_is_published_byte_for_byte_unless_the_quality_is_chosen() {
    let (outcome, own) = published("15 a second, as it is", "enabled: true", Dialect::PLAIN);
    assert!(own, "{}", outcome.summary());
    outcome.all_good().no_restart();
    let (outcome, own) = published("encoded again", "quality: 5", Dialect::PLAIN);
    assert!(!own, "{}", outcome.summary());
    outcome.all_good();
}

#[test]
fn copied_pictures_above_the_rate_are_left_out() {
    let (outcome, own) = published("15 a second, fps: 5", "fps: 5", Dialect::PLAIN);
    assert!(own, "{}", outcome.summary());
    outcome.all_good().no_restart();
    assert!(outcome.fps < 5.5, "{}", outcome.summary());
    // What is left out was not captured: the camera has sent at least twice as much.
    let seen = &outcome.pictures;
    let sent = seen[seen.len() - 1].number.unwrap() - seen[0].number.unwrap();
    let captured = outcome.account.captured;
    assert!(
        captured < u64::from(sent) / 2,
        "{sent}: {}",
        outcome.summary()
    );
}

#[test]
fn copied_pictures_get_the_huffman_tables_that_they_lack() {
    let dialect = Dialect {
        without_tables: true,
        ..Dialect::PLAIN
    };
    let (outcome, own) = published("no Huffman tables", "enabled: true", dialect);
    assert!(!own, "the tables are elsewhere: {}", outcome.summary());
    outcome.all_good().no_restart();
}

#[test]
fn pictures_that_few_decoders_know_are_encoded_again() {
    let dialect = Dialect {
        field: true,
        ..Dialect::PLAIN
    };
    let (outcome, own) = published("marked as fields", "enabled: true", dialect);
    assert!(!own, "{}", outcome.summary());
    outcome.all_good().no_restart();
    let said = "INFO  cam: the camera's JPEGs are of a kind that few decoders know: encoding them";
    let said = outcome.log.iter().filter(|line| line.contains(said));
    assert_eq!(said.count(), 1, "{:?}", outcome.log);
}

#[test]
#[ignore = "make cameras"]
fn a_camera_that_takes_eight_seconds_to_wake_up_is_waited_for() {
    let clip = JPEGS.clip();
    let page = Page::Mjpeg(clip.clone(), Dialect::PLAIN);
    let site = Site::start_asleep(page, Duration::from_secs(8));
    let trial = case("Motion JPEG, wakes up for 8 s", "pictures once it is awake")
        .start(&site.url("video"));
    trial.lasts(3);
    let outcome = trial.end(&Truth::new([&*clip], site.sent()));
    outcome
        .first_within(3.0)
        .all_good()
        .at_least(14.5)
        .no_restart();
}

#[track_caller]
fn live(what: &str, film: Film, format: &'static str) {
    one_good_round(|| live_once(what, film, format));
}

fn live_once(what: &str, film: Film, format: &'static str) {
    let site = Site::start(Page::Live(film, format));
    let trial = case(what, "every picture").start(&site.url("live"));
    trial.lasts(8);
    let outcome = trial.end(&Truth::of(vec![film], site.sent()));
    outcome.all_good().at_least(14.5).no_restart();
}

#[test]
fn b_frames_over_mpeg_ts_cost_nothing() {
    let film = Film {
        b_frames: true,
        seconds: 60,
        ..Film::H264
    };
    live("H.264 with B frames, MPEG-TS over HTTP", film, "mpegts");
}

#[test]
#[ignore = "make cameras"]
fn mpeg_ts_loses_nothing() {
    live(
        "H.264, MPEG-TS over HTTP",
        Film {
            seconds: 60,
            ..Film::H264
        },
        "mpegts",
    );
}

#[test]
#[ignore = "make cameras"]
fn flv_loses_nothing() {
    live(
        "H.264, FLV over HTTP",
        Film {
            seconds: 60,
            ..Film::H264
        },
        "flv",
    );
}

/// Segments are seconds old when they are listed: their age is not the daemon's.
#[track_caller]
fn hls(what: &str, seconds: u64, path: &str) {
    one_good_round(|| hls_once(what, seconds, path));
}

fn hls_once(what: &str, seconds: u64, path: &str) {
    let film = Film {
        seconds: 60,
        ..Film::H264
    };
    let site = Site::start(Page::Hls(film, seconds));
    let trial = case(what, "every picture, at its own rate").start(&site.url(path));
    trial.lasts(4 * seconds.max(3));
    let outcome = trial.end(&Truth::of(vec![film], site.sent()));
    outcome.whole().at_least(14.0);
    // That it serves segments may be found out by a first session.
    assert!(
        outcome.account.restarts_in_all() <= 1,
        "{}",
        outcome.summary()
    );
    let lost = outcome.account.dropped_in_all();
    assert!(
        lost * 20 <= outcome.account.captured,
        "{}",
        outcome.summary()
    );
}

#[test]
fn short_segments_are_read_at_their_own_rate() {
    hls("HLS, segments of 2 s", 2, "live.m3u8");
}

#[test]
#[ignore = "make cameras"]
fn long_segments_are_waited_for() {
    hls("HLS, segments of 6 s", 6, "live.m3u8");
}

#[test]
#[ignore = "make cameras"]
fn segments_at_any_address_are_read_at_their_own_rate() {
    hls(
        "HLS, segments of 6 s, at an address without .m3u8",
        6,
        "live?channel=1",
    );
}
