//! Cameras that hang up, stall, allow one session, or offer several streams.

use crate::clip::Film;
use crate::outcome::Truth;
use crate::picture::Look;
use crate::rtsp::{Camera, Play};
use crate::support::wait_until;
use crate::trial::{case, pass};
use crate::web::{Page, Site};
use std::time::Duration;

#[test]
#[ignore = "make cameras"]
fn a_camera_that_hangs_up_again_and_again_is_soon_asked_again() {
    let clip = Film {
        seconds: 60,
        ..Film::H264
    }
    .clip();
    let camera = Camera::start(Play {
        close_after: Some(10.0),
        ..Play::new([clip.clone()])
    });
    let trial = case("hangs up after 10 s", "gaps of 2 s at most").start(&camera.url());
    trial.lasts(45);
    let outcome = trial.end(&Truth::new([&*clip], camera.sent()));
    outcome.all_good();
    // 50 s of pictures a minute.
    let least = 45 * 15 * 50 / 60;
    assert!(outcome.pictures.len() >= least, "{}", outcome.summary());
}

#[test]
fn a_stalled_camera_is_logged_off_from() {
    let clip = Film {
        seconds: 30,
        ..Film::H264
    }
    .clip();
    let play = Play {
        stall: Some((5.0, 600.0)),
        sessions: Some(1),
        ..Play::new([clip.clone()])
    };
    let camera = Camera::start(play);
    let trial = case(
        "allows one session, and stalls after 5 s",
        "pictures again after a restart",
    )
    .with("stale_timeout: 2s")
    .start(&camera.url());
    wait_until(
        Duration::from_secs(60),
        "pictures of a second session",
        || {
            let asked = camera.asked();
            let play = asked.iter().rposition(|method| method == "PLAY");
            play.is_some_and(|play| asked[..play].iter().any(|method| method == "TEARDOWN"))
        },
    );
    pass(Duration::from_secs(4));
    let outcome = trial.end(&Truth::new([&*clip], camera.sent()));
    let twice = outcome
        .pictures
        .iter()
        .filter(|seen| seen.number == Some(40))
        .count();
    assert!(
        twice >= 2,
        "number 40 came {twice} times: {}",
        outcome.summary()
    );
    outcome.all_good();
}

#[test]
#[ignore = "make cameras"]
fn of_two_video_streams_the_largest_is_taken() {
    let small = Film {
        seconds: 30,
        ..Film::H264
    }
    .clip();
    let look = Look {
        width: 720,
        height: 400,
        ..Look::SMALL
    };
    let large = Film {
        seconds: 30,
        look,
        first: 1000,
        ..Film::H264
    }
    .clip();
    let play = Play {
        streams: vec![vec![small.clone()], vec![large.clone()]],
        ..Play::new([])
    };
    let camera = Camera::start(play);
    let trial =
        case("two video streams, the smaller one first", "the larger one").start(&camera.url());
    trial.lasts(4);
    let outcome = trial.end(&Truth::new([&*small, &*large], camera.sent()));
    outcome.all_good().at_least(14.0).no_restart();
    let of_small = outcome
        .pictures
        .iter()
        .filter(|seen| seen.number < Some(1000))
        .count();
    assert_eq!(of_small, 0, "{}", outcome.summary());
}

#[test]
#[ignore = "make cameras"]
fn a_snapshot_address_is_called_one() {
    let clip = Film {
        codec: crate::clip::Codec::Mjpeg,
        ..Film::H264
    }
    .clip();
    let site = Site::start(Page::Snapshot(clip.clone()));
    let trial = case(
        "an address that sends one JPEG, scaled",
        "no pictures, and why",
    )
    .with("width: 320")
    .start(&site.url("snapshot.jpg"));
    let line = trial
        .daemon
        .wait_for_log("sends one JPEG, not a stream", Duration::from_secs(30));
    assert!(line.contains("cam: "), "{line}");
    trial.end(&Truth::new([&*clip], site.sent()));
}

/// A refusal is said in words that name it.
#[track_caller]
fn refusal(what: &str, play: Play, words: &str) {
    let camera = Camera::start(play);
    let trial = case(what, "no pictures, and why").start(&camera.url());
    trial.daemon.wait_for_log(words, Duration::from_secs(30));
    trial.end(&Truth::of(vec![Film::H264], camera.sent()));
}

#[test]
#[ignore = "make cameras"]
fn a_wrong_path_and_a_wrong_password_are_said() {
    let refused = |method, status| Play {
        refuse: Some((method, status)),
        ..Play::new([Film::H264.clip()])
    };
    let login = "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"camera\"";
    refusal(
        "401",
        refused("DESCRIBE", login),
        "the camera requires a login (401 Unauthorized): set username and password",
    );
    refusal(
        "404",
        refused("DESCRIBE", "404 Not Found"),
        "check the path in the url",
    );
}
