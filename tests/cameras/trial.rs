//! What all cases have in common: the daemon watches one played camera, and what it publishes is
//! compared with what the camera sent.
//!
//! ```text
//! case(behaviour, what a user sees) -> start(url) -> first(limit), lasts(time)
//!     -> end(truth) -> Outcome
//! ```

use crate::outcome::{Outcome, Truth};
use crate::support::consumer::Consumer;
use crate::support::daemon::Daemon;
use crate::support::rabbit::Rabbit;
use crate::support::{self, http, unix_us};
use crate::table::Row;
use std::panic::Location;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Names the FFmpeg that the daemon runs, if it is not the system's: see `scripts/cameras`.
const FFMPEG: &str = "EDGE_VIDEO_FFMPEG";
/// The id of the camera.
pub const ID: &str = "cam";
/// What a colour may be off by, of 255.
pub const COLOUR: f64 = 4.0;

/// The FFmpeg that the daemon runs.
pub fn ffmpeg() -> String {
    std::env::var(FFMPEG).unwrap_or_else(|_| "ffmpeg".to_owned())
}

/// A case, not yet running.
pub struct Case {
    row: Row,
    settings: String,
}

/// `behaviour` is what the camera does, `sees` what its user then sees.
#[track_caller]
pub fn case(behaviour: &str, sees: &str) -> Case {
    let at = Location::caller();
    let row = Row {
        file: at.file().to_owned(),
        line: at.line(),
        behaviour: behaviour.to_owned(),
        sees: sees.to_owned(),
        ..Row::default()
    };
    Case {
        row,
        settings: String::new(),
    }
}

impl Case {
    /// Settings of the camera, as in YAML's braces.
    pub fn with(mut self, settings: &str) -> Self {
        self.settings = format!(", {settings}");
        self
    }

    /// Starts the daemon.
    pub fn start(self, url: &str) -> Trial {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let rabbit = Rabbit::shared();
        let exchange = format!("cameras.{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let consumer = Consumer::start(rabbit.port(), &exchange);
        let config = format!(
            "amqp:\n  url: {}\n  exchange: {exchange}\nffmpeg: {{path: \"{}\"}}\n{}cameras:\n  \
             - {{id: {ID}, url: \"{url}\"{}}}\n",
            rabbit.url(),
            ffmpeg(),
            http::ON,
            self.settings,
        );
        Trial {
            began_us: unix_us(),
            daemon: Daemon::start(&config),
            consumer,
            row: self.row,
            url: url.to_owned(),
        }
    }
}

/// A daemon with its camera.
pub struct Trial {
    pub daemon: Daemon,
    pub consumer: Consumer,
    began_us: i64,
    row: Row,
    url: String,
}

impl Trial {
    /// Waits for the first picture; `false` if there is none within `limit`.
    pub fn first(&self, limit: Duration) -> bool {
        support::holds_within(limit, || self.consumer.count() > 0)
    }

    /// Waits for the first picture, at most a minute, and then for so many seconds.
    pub fn lasts(&self, seconds: u64) {
        if self.first(Duration::from_secs(60)) {
            let first = self.consumer.all()[0].arrived_us;
            let end = first + i64::try_from(seconds).unwrap() * 1_000_000;
            support::wait_until(Duration::from_secs(seconds + 20), "time to pass", || {
                unix_us() >= end
            });
        }
    }

    /// The process id of the FFmpeg that reads the camera.
    #[track_caller]
    pub fn ffmpeg(&self) -> u32 {
        let reads = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains(&self.url) && !line.contains("--exec-child-of")
        };
        let ours = || self.daemon.children().into_iter().find(reads);
        support::wait_for(support::SOON, "the camera's FFmpeg", ours)
    }

    /// Ends the daemon and compares what it published with what was sent.
    #[track_caller]
    pub fn end(mut self, truth: &Truth) -> Outcome {
        let exit = self.daemon.terminate();
        assert_eq!(exit.code(), Some(0));
        let report = exit.report();
        report.check_accounting();
        let account = report.camera(ID).clone();
        let published = usize::try_from(account.published).unwrap();
        support::wait_until(support::SOON, "every published picture to arrive", || {
            self.consumer.count() >= published
        });
        let began_us = self.began_us;
        let seen: Vec<_> = self
            .consumer
            .take()
            .iter()
            .filter(|frame| truth.knows(frame))
            .map(|frame| truth.see(frame))
            .collect();
        let log = self.daemon.log();
        Outcome::new(self.row, seen, account, log, began_us, truth).noted()
    }
}

/// Runs a case again, twice at most, if it fails while the machine is busy with other things:
/// bounds are as narrow as on an idle machine, and are asked of one good round.
#[track_caller]
pub fn one_good_round(round: impl Fn()) {
    for _ in 0..2 {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&round));
        match result {
            Ok(()) => return,
            Err(panic) if !is_busy() => std::panic::resume_unwind(panic),
            Err(_) => {}
        }
    }
    round();
}

/// Whether more threads wanted to run in the last minute than there are cores.
fn is_busy() -> bool {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = load.split(' ').next().unwrap().parse().unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    load > cores as f64
}

/// Waits for so long; for what has no condition to wait for.
pub fn pass(time: Duration) {
    let end = Instant::now() + time;
    support::wait_until(time + support::SOON, "time to pass", || {
        Instant::now() >= end
    });
}
