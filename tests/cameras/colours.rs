//! Colours are those that the camera took.

use crate::clip::{Codec, Film};
use crate::outcome::Truth;
use crate::picture::{Chroma, Look, Matrix};
use crate::rtsp::{Camera, Play};
use crate::trial::{COLOUR, case};

#[track_caller]
fn are_right(codec: Codec, matrix: Matrix, full_range: bool, chroma: Chroma) {
    let look = Look {
        matrix,
        full_range,
        chroma,
        ..Look::SMALL
    };
    let clip = Film {
        codec,
        look,
        ..Film::H264
    }
    .clip();
    let camera = Camera::start(Play::new([clip.clone()]));
    let what = format!(
        "{codec:?}, {}, {} range, {}",
        if matrix == Matrix::Bt601 {
            "BT.601"
        } else {
            "BT.709"
        },
        if full_range { "full" } else { "limited" },
        if chroma == Chroma::C420 {
            "4:2:0"
        } else {
            "4:2:2"
        },
    );
    let trial = case(&what, "the right colours")
        .with("quality: 2")
        .start(&camera.url());
    trial.lasts(2);
    let outcome = trial.end(&Truth::new([&*clip], camera.sent()));
    outcome.all_good().right_colours(COLOUR);
}

#[test]
fn bt709_in_limited_range_is_right() {
    are_right(Codec::H264, Matrix::Bt709, false, Chroma::C420);
}

#[test]
fn bt601_in_full_range_is_right() {
    are_right(Codec::H264, Matrix::Bt601, true, Chroma::C422);
}

#[test]
#[ignore = "make cameras"]
fn every_matrix_range_and_sampling_is_right() {
    for codec in [Codec::H264, Codec::H265] {
        for matrix in [Matrix::Bt601, Matrix::Bt709] {
            for full_range in [false, true] {
                for chroma in [Chroma::C420, Chroma::C422] {
                    are_right(codec, matrix, full_range, chroma);
                }
            }
        }
    }
}
