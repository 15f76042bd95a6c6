//! A stream that changes on its way goes on, right before and after.

use crate::clip::{Codec, Film};
use crate::outcome::Truth;
use crate::picture::{Chroma, Look, Matrix};
use crate::rtsp::{Camera, Join, Play};
use crate::trial::{COLOUR, case, one_good_round};

const WIDE: Look = Look {
    width: 540,
    height: 304,
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

/// The two looks take turns every four seconds.
#[track_caller]
fn changes(what: &str, codec: Codec, looks: [Look; 2]) {
    one_good_round(|| changes_once(what, codec, looks));
}

fn changes_once(what: &str, codec: Codec, looks: [Look; 2]) {
    let [one, other] = looks;
    let first = Film {
        codec,
        look: one,
        ..Film::H264
    }
    .clip();
    let second = Film {
        codec,
        look: other,
        first: 1000,
        ..Film::H264
    }
    .clip();
    // A new session goes on where the camera is.
    let camera = Camera::start(Play {
        join: Join::Middle(0.0),
        ..Play::new([first.clone(), second.clone()])
    });
    let trial = case(what, "every picture, each as the camera sent it")
        .with("quality: 2")
        .start(&camera.url());
    trial.lasts(14);
    let outcome = trial.end(&Truth::new([&*first, &*second], camera.sent()));
    outcome
        .all_good()
        .restarted_for_sizes_only()
        .right_colours(COLOUR);
    // FFmpeg's encoder keeps its size, so another one takes another session. It shows from the camera's next
    // keyframe on, which comes within a second, and H.264 is probed for 0.6 s more.
    match (one.width, one.height) == (other.width, other.height) {
        true => outcome.no_restart().at_least(14.0),
        false => outcome.at_least(8.0),
    };
    let sizes_are_right = outcome.pictures.iter().all(|seen| seen.size_is_right);
    assert!(sizes_are_right, "{}", outcome.summary());
    let of_second = outcome
        .pictures
        .iter()
        .filter(|seen| seen.number >= Some(1000));
    assert!(of_second.count() > 30, "{}", outcome.summary());
}

#[test]
fn new_sizes_are_published_in_their_new_size() {
    changes(
        "H.264, another size every 4 s",
        Codec::H264,
        [Look::SMALL, WIDE],
    );
}

#[test]
#[ignore = "make cameras"]
fn new_sizes_of_h265_are_published_in_their_new_size() {
    changes(
        "H.265, another size every 4 s",
        Codec::H265,
        [Look::SMALL, WIDE],
    );
}

#[test]
fn another_pixel_format_costs_nothing() {
    changes(
        "H.264, 4:2:0 and 4:4:4 in turn every 4 s",
        Codec::H264,
        [Look::SMALL, DENSE],
    );
}

#[test]
#[ignore = "make cameras"]
fn another_range_is_right_before_and_after() {
    changes(
        "H.264, limited and full range in turn every 4 s",
        Codec::H264,
        [Look::SMALL, FULL],
    );
}

#[test]
#[ignore = "make cameras"]
fn another_matrix_is_right_before_and_after() {
    changes(
        "H.264, BT.601 and BT.709 in turn every 4 s",
        Codec::H264,
        [Look::SMALL, HD],
    );
}
