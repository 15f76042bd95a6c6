//! HTTP cameras: Motion JPEG in the dialects that cameras speak, streams and segments.

use crate::clip::{Codec, Film};
use crate::outcome::Truth;
use crate::picture::Look;
use crate::trial::{case, one_good_round};
use crate::web::{Dialect, Page, Site};
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
