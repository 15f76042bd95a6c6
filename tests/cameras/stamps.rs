//! Cameras whose clock is wrong lose nothing.

use crate::clip::Film;
use crate::outcome::Truth;
use crate::rtp::Stamps;
use crate::rtsp::{Camera, Play};
use crate::trial::{case, one_good_round};

#[track_caller]
fn full_rate(what: &str, stamps: Stamps) {
    one_good_round(|| full_rate_once(what, stamps));
}

fn full_rate_once(what: &str, stamps: Stamps) {
    let clip = Film {
        seconds: 30,
        ..Film::H264
    }
    .clip();
    let camera = Camera::start(Play {
        stamps,
        ..Play::new([clip.clone()])
    });
    let trial = case(what, "every picture").start(&camera.url());
    trial.lasts(10);
    let outcome = trial.end(&Truth::new([&*clip], camera.sent()));
    outcome.all_good().at_least(14.5).no_restart();
}

#[test]
fn equal_stamps_cost_nothing() {
    full_rate("all time stamps equal", Stamps::Equal);
}

#[test]
fn a_clock_at_half_speed_costs_nothing() {
    full_rate("clock at half speed", Stamps::Speed(0.5));
}

#[test]
#[ignore = "make cameras"]
fn a_clock_ten_times_too_fast_costs_nothing() {
    full_rate("clock ten times too fast", Stamps::Speed(10.0));
}

#[test]
fn jitter_costs_nothing() {
    full_rate("time stamps off by up to 0.2 s", Stamps::Jitter(0.2));
}

#[test]
fn a_clock_that_is_put_back_again_and_again_costs_nothing() {
    full_rate("clock put back 1.5 s every 3 s", Stamps::Back(3.0, 1.5));
}

#[test]
#[ignore = "make cameras"]
fn stamps_that_overflow_cost_nothing() {
    full_rate("time stamps overflow 32 bits after 5 s", Stamps::Wrap(5.0));
}

#[test]
fn right_stamps_show_what_is_possible() {
    full_rate("right time stamps", Stamps::Right);
}
