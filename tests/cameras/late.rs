//! Whatever holds pictures back, none is published as new that is old.

use crate::clip::Film;
use crate::outcome::{Outcome, Truth};
use crate::picture::Look;
use crate::rtsp::{Camera, Play};
use crate::support::guarded::pid_of;
use crate::trial::{case, one_good_round, pass};
use rustix::process::{Signal, kill_process};
use std::time::{Duration, Instant};

/// Enough work for FFmpeg that a fiftieth of a core is too little.
const LARGE: Look = Look {
    width: 1260,
    height: 720,
    ..Look::SMALL
};

/// Pictures that were captured in the last seconds before the end, `n` at least.
#[track_caller]
fn is_live_at_the_end(outcome: &Outcome, seconds: u32, n: usize) {
    let last = outcome.pictures.last().map_or(0, |seen| seen.captured_us);
    let from = last - i64::from(seconds) * 1_000_000;
    let live = outcome
        .pictures
        .iter()
        .filter(|seen| seen.captured_us > from)
        .count();
    assert!(
        live >= n,
        "{live} in the last {seconds} s: {}",
        outcome.summary()
    );
}

#[test]
fn an_ffmpeg_that_cannot_keep_up_publishes_nothing_old() {
    one_good_round(starved_once);
}

fn starved_once() {
    let clip = Film {
        seconds: 30,
        look: LARGE,
        ..Film::H264
    }
    .clip();
    let camera = Camera::start(Play::new([clip.clone()]));
    // Small pictures: what they cost here is no matter.
    let trial = case(
        "1260x720, FFmpeg gets a fiftieth of a core for 10 s",
        "fewer pictures, none old",
    )
    .with("width: 360")
    .start(&camera.url());
    trial.lasts(2);
    let starved = Starved::start(trial.ffmpeg(), 0.02);
    pass(Duration::from_secs(10));
    drop(starved);
    pass(Duration::from_secs(5));
    let outcome = trial.end(&Truth::new([&*clip], camera.sent()));
    outcome.all_good();
    is_live_at_the_end(&outcome, 2, 25);
    let too_old = outcome.account.dropped("too_old");
    assert!(
        too_old > 0,
        "nothing was counted as too old: {}",
        outcome.summary()
    );
}

/// Who is stopped by SIGSTOP.
#[derive(Clone, Copy, PartialEq)]
enum Stopped {
    Daemon,
    Both,
    Ffmpeg,
}

#[track_caller]
fn stopped(what: &str, who: Stopped, seconds: u64) {
    one_good_round(|| stopped_once(what, who, seconds));
}

fn stopped_once(what: &str, who: Stopped, seconds: u64) {
    let clip = Film {
        seconds: 60,
        ..Film::H264
    }
    .clip();
    let camera = Camera::start(Play::new([clip.clone()]));
    let what = format!("{what} stopped for {seconds} s");
    let trial = case(&what, "live again afterwards, nothing old").start(&camera.url());
    trial.lasts(2);
    let mut pids = vec![];
    if who != Stopped::Ffmpeg {
        pids.push(trial.daemon.pid());
    }
    if who != Stopped::Daemon {
        pids.push(trial.ffmpeg());
    }
    let send = |signal| {
        for pid in &pids {
            kill_process(pid_of(*pid), signal).unwrap();
        }
    };
    send(Signal::STOP);
    pass(Duration::from_secs(seconds));
    send(Signal::CONT);
    pass(Duration::from_secs(6));
    let outcome = trial.end(&Truth::new([&*clip], camera.sent()));
    outcome.all_good();
    is_live_at_the_end(&outcome, 2, 25);
}

#[test]
fn a_daemon_that_was_stopped_publishes_nothing_old() {
    stopped("the daemon", Stopped::Daemon, 4);
}

#[test]
fn a_daemon_and_ffmpeg_that_were_stopped_publish_nothing_old() {
    stopped("the daemon and FFmpeg", Stopped::Both, 4);
}

#[test]
#[ignore = "make cameras"]
fn an_ffmpeg_that_was_stopped_publishes_nothing_old() {
    stopped("FFmpeg", Stopped::Ffmpeg, 4);
}

#[test]
#[ignore = "make cameras"]
fn a_daemon_that_was_stopped_for_long_publishes_nothing_old() {
    stopped("the daemon", Stopped::Daemon, 20);
}

#[test]
#[ignore = "make cameras"]
fn a_daemon_and_ffmpeg_that_were_stopped_for_long_publish_nothing_old() {
    stopped("the daemon and FFmpeg", Stopped::Both, 20);
}

/// Holds a process to a share of one core, until dropped: it is stopped whenever it has had more
/// since the start. By its own account, because on a busy machine it runs for longer than it is
/// meant to.
struct Starved {
    stop: std::sync::mpsc::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Starved {
    fn start(process: u32, share: f64) -> Self {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let pid = pid_of(process);
        let thread = std::thread::spawn(move || {
            let (began, before) = (Instant::now(), cpu_time(process));
            let goes_on = || {
                let time = Duration::from_millis(2);
                stopped.recv_timeout(time) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            };
            while goes_on() {
                let had = cpu_time(process).saturating_sub(before);
                let signal = match had > began.elapsed().mul_f64(share) {
                    true => Signal::STOP,
                    false => Signal::CONT,
                };
                let _ = kill_process(pid, signal);
            }
            let _ = kill_process(pid, Signal::CONT);
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

/// What all threads of a process have had of the cores, to the nanosecond; `/proc/PID/stat` counts
/// in hundredths of a second. Nothing once it has ended.
fn cpu_time(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let had = threads.filter_map(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(had.sum())
}

impl Drop for Starved {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
