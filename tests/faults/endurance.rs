//! What happens a thousand times must leave nothing behind.

use crate::broker::CUT;
use crate::lab::{Lab, plan};
use crate::support::guarded::pid_of;
use crate::support::{self, wait_until};
use rustix::process::{Signal, kill_process};
use std::time::Duration;

const TEN: [&str; 10] = ["a1", "a2", "a3", "a4", "a5", "b1", "b2", "b3", "b4", "b5"];
const ROUNDS: usize = 100;
/// What each thread needs the first few times it is not to need a thousand times.
const WARM_ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(5);

/// Waits for a frame of each camera.
fn all_send(lab: &mut Lab) {
    let from = support::unix_us();
    lab.await_frames(1, from, ROUND);
    lab.collect();
}

/// All connections are reset and made anew.
fn reconnect(lab: &mut Lab) {
    wait_until(ROUND, "every connection", || {
        lab.proxy.connections() == TEN.len()
    });
    lab.proxy.reset();
    all_send(lab);
}

#[test]
fn a_thousand_reconnects_leave_nothing_behind() {
    let mut lab = plan("1,000 reconnects: 10 connections, 100 times")
        .cameras(TEN, "stream,fps=5")
        .connections(10)
        .start();
    for _ in 0..WARM_ROUNDS {
        reconnect(&mut lab);
    }
    lab.become_well();
    lab.break_by(|lab| {
        for _ in 0..ROUNDS {
            reconnect(lab);
        }
    });
    assert!(lab.metric("broker_reconnects_total") >= 1000.0);
    lab.says_one_of(&CUT);
    lab.mend_by(|_| {});
    lab.check(SOON);
}

/// All FFmpegs are killed and started anew.
fn restart(lab: &mut Lab) {
    let mut children = vec![];
    wait_until(ROUND, "ten FFmpegs", || {
        children = lab.daemon.children();
        children.len() == TEN.len()
    });
    for child in children {
        let _ = kill_process(pid_of(child), Signal::KILL);
    }
    all_send(lab);
}

#[test]
fn a_thousand_restarts_of_ffmpeg_leave_nothing_behind() {
    let mut lab = plan("1,000 restarts of FFmpeg: 10 cameras, 100 times")
        .cameras(TEN, "stream,fps=5")
        .config("circuit_breaker: {enabled: false, initial_backoff: 100ms}\n")
        .start();
    for _ in 0..WARM_ROUNDS {
        restart(&mut lab);
    }
    lab.become_well();
    lab.break_by(|lab| {
        for _ in 0..ROUNDS {
            restart(lab);
        }
    });
    let restarts = support::http::values(&lab.metrics(), "edge_video_ffmpeg_restarts_total");
    assert!(restarts.values().sum::<f64>() >= 1000.0);
    lab.says("a1: FFmpeg ended (signal 9); starting again in ");
    lab.mend_by(|_| {});
    lab.check(SOON);
}
