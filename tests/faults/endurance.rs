//! What happens a thousand times must leave nothing behind.

use crate::lab::{Lab, plan};
use crate::support::guarded::pid_of;
use crate::support::{self, wait_until};
use rustix::process::{Signal, kill_process};
use std::time::Duration;

const TWENTY: [&str; 20] = [
    "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "a10", "b1", "b2", "b3", "b4", "b5",
    "b6", "b7", "b8", "b9", "b10",
];
const ROUNDS: usize = 50;
const ROUND: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(5);

/// Waits for a frame of each camera.
fn all_send(lab: &mut Lab) {
    let from = support::unix_us();
    lab.await_frames(1, from, ROUND);
    lab.collect();
}

#[test]
fn a_thousand_reconnects_leave_nothing_behind() {
    let mut lab = plan("1,000 reconnects: 20 connections, 50 times")
        .cameras(TWENTY, "stream,fps=5")
        .amqp("  connections: 0\n")
        .start();
    lab.break_by(|lab| {
        for _ in 0..ROUNDS {
            wait_until(ROUND, "every connection", || {
                lab.proxy.connections() == TWENTY.len()
            });
            all_send(lab);
            lab.proxy.reset();
        }
    });
    lab.mend_by(|_| {});
    wait_until(ROUND, "every connection", || {
        lab.metric("broker_reconnects_total") >= 1000.0
    });
    lab.check(SOON);
}

#[test]
fn a_thousand_restarts_of_ffmpeg_leave_nothing_behind() {
    let mut lab = plan("1,000 restarts of FFmpeg: 20 cameras, 50 times")
        .cameras(TWENTY, "stream,fps=5")
        .config("circuit_breaker: {enabled: false, initial_backoff: 100ms}\n")
        .start();
    lab.break_by(|lab| {
        for _ in 0..ROUNDS {
            let mut children = vec![];
            wait_until(ROUND, "twenty FFmpegs", || {
                children = lab.daemon.children();
                children.len() == TWENTY.len()
            });
            for child in children {
                let _ = kill_process(pid_of(child), Signal::KILL);
            }
            all_send(lab);
        }
    });
    lab.mend_by(|_| {});
    let restarts = support::http::values(&lab.metrics(), "edge_video_ffmpeg_restarts_total");
    assert!(restarts.values().sum::<f64>() >= 1000.0);
    lab.check(SOON);
}
