//! RTP packets that get lost damage pictures; those are not published.

use crate::clip::{Codec, Film};
use crate::outcome::Truth;
use crate::picture::Look;
use crate::rtsp::{Camera, Play};
use crate::trial::case;

const MEDIUM: Look = Look {
    width: 720,
    height: 400,
    ..Look::SMALL
};

#[track_caller]
fn one_of_a_hundred_is_lost(codec: Codec, transport: &str) {
    let clip = Film {
        codec,
        look: MEDIUM,
        seconds: 30,
        interval: 30,
        ..Film::H264
    }
    .clip();
    let camera = Camera::start(Play {
        loss: 0.01,
        ..Play::new([clip.clone()])
    });
    let what = format!("{codec:?} over {transport}, 1 of 100 RTP packets lost");
    let trial = case(&what, "gaps up to the next keyframe, no damaged picture")
        .with(&format!("transport: {transport}"))
        .start(&camera.url());
    trial.lasts(15);
    let outcome = trial.end(&Truth::new([&*clip], camera.sent()));
    outcome.all_good().no_restart();
    let corrupt = outcome.account.dropped("corrupt");
    assert!(
        corrupt > 0,
        "nothing was counted as corrupt: {}",
        outcome.summary()
    );
}

#[test]
fn h264_with_losses_publishes_no_damaged_picture() {
    one_of_a_hundred_is_lost(Codec::H264, "tcp");
}

#[test]
#[ignore = "make cameras"]
fn h264_over_udp_with_losses_publishes_no_damaged_picture() {
    one_of_a_hundred_is_lost(Codec::H264, "udp");
}

#[test]
fn h265_with_losses_publishes_no_damaged_picture() {
    one_of_a_hundred_is_lost(Codec::H265, "tcp");
}
