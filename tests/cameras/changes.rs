//! A stream that changes on its way goes on, right before and after.

use crate::clip::{Codec, Film};
use crate::outcome::{Outcome, Truth};
use crate::picture::{Chroma, Look, Matrix};
use crate::rtsp::{Camera, Join, Play};
use crate::trial::{COLOUR, case, one_good_round};

const WIDE: Look = Look {
    width: 540,
    height: 304,
    ..Look::SMALL
};
const NARROW: Look = Look {
    width: 360,
    height: 480,
    ..Look::SMALL
};
const FULL: Look = Look {
    full_range: true,
    ..Look::SMALL
};
const HD: Look = Look {
    matrix: Matrix::Bt709,
    ..Look::SMALL
};
const DENSE: Look = Look {
    chroma: Chroma::C444,
    ..Look::SMALL
};

/// The looks take turns every four seconds.
#[track_caller]
fn changes(what: &str, codec: Codec, looks: &[Look]) {
    one_good_round(|| {
        let outcome = every_look(what, codec, looks);
        outcome.no_restart().at_least(14.0);
    });
}

fn every_look(what: &str, codec: Codec, looks: &[Look]) -> Outcome {
    let clips: Vec<_> = (0..)
        .step_by(1000)
        .zip(looks)
        .map(|(first, look)| {
            Film {
                codec,
                look: *look,
                first,
                ..Film::H264
            }
            .clip()
        })
        .collect();
    // A new session goes on where the camera is.
    let camera = Camera::start(Play {
        join: Join::Middle(0.0),
        ..Play::new(clips.clone())
    });
    let trial = case(what, "every picture, each as the camera sent it")
        .with("quality: 2")
        .start(&camera.url());
    trial.lasts(14);
    let truth = Truth::new(clips.iter().map(|clip| &**clip), camera.sent());
    let outcome = trial.end(&truth);
    outcome.all_good().right_colours(COLOUR);
    let sizes_are_right = outcome.pictures.iter().all(|seen| seen.size_is_right);
    assert!(sizes_are_right, "{}", outcome.summary());
    for look in 0..clips.len() {
        let of_look = |number: u16| usize::from(number / 1000) == look;
        let seen = outcome
            .pictures
            .iter()
            .filter(|seen| seen.number.is_some_and(of_look));
        let seen = seen.count();
        assert!(seen > 20, "{seen} of look {look}: {}", outcome.summary());
    }
    outcome
}

/// FFmpeg has an output for two sizes.
#[test]
#[ignore = "make cameras"]
fn a_third_size_starts_ffmpeg_again() {
    let looks = [Look::SMALL, WIDE, NARROW];
    one_good_round(|| {
        let outcome = every_look("H.264, three sizes in turn every 4 s", Codec::H264, &looks);
        outcome.restarted_for_sizes_only().at_least(10.0);
    });
}

#[test]
fn new_sizes_are_published_in_their_new_size() {
    changes(
        "H.264, another size every 4 s",
        Codec::H264,
        &[Look::SMALL, WIDE],
    );
}

#[test]
#[ignore = "make cameras"]
fn new_sizes_of_h265_are_published_in_their_new_size() {
    changes(
        "H.265, another size every 4 s",
        Codec::H265,
        &[Look::SMALL, WIDE],
    );
}

#[test]
fn another_pixel_format_costs_nothing() {
    changes(
        "H.264, 4:2:0 and 4:4:4 in turn every 4 s",
        Codec::H264,
        &[Look::SMALL, DENSE],
    );
}

#[test]
#[ignore = "make cameras"]
fn another_range_is_right_before_and_after() {
    changes(
        "H.264, limited and full range in turn every 4 s",
        Codec::H264,
        &[Look::SMALL, FULL],
    );
}

#[test]
#[ignore = "make cameras"]
fn another_matrix_is_right_before_and_after() {
    changes(
        "H.264, BT.601 and BT.709 in turn every 4 s",
        Codec::H264,
        &[Look::SMALL, HD],
    );
}
