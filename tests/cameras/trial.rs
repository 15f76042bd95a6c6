//! What all cases have in common: the daemon watches one played camera, and what it publishes is
//! compared with what the camera sent.
//!
//! ```text
//! case(behaviour, what a user sees) -> start(url) -> first(limit), lasts(time) -> end(truth) -> Outcome
//! ```

use crate::clip::{Clip, Film};
use crate::picture;
use crate::rtsp::Sent;
use crate::support::consumer::{Consumer, Delivery};
use crate::support::daemon::{Account, Daemon};
use crate::support::rabbit::Rabbit;
use crate::support::{self, http, jpeg, unix_us};
use crate::table::Row;
use std::panic::Location;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Names the FFmpeg that the daemon runs, if it is not the system's: see `scripts/cameras`.
const FFMPEG: &str = "EDGE_VIDEO_FFMPEG";
/// The id of the camera.
pub const ID: &str = "cam";
/// `amqp.max_age`, and what a true age may be above it: a picture's own time in FFmpeg and in pipes.
pub const OLDEST: f64 = 1.3;
/// What a colour may be off by, of 255.
pub const COLOUR: f64 = 4.0;
/// The rate is not counted in the first second after the first picture.
const SETTLING_US: i64 = 1_000_000;

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
            .map(|frame| truth.see(frame))
            .collect();
        let log = self.daemon.log();
        Outcome::new(self.row, seen, account, log, began_us, truth).noted()
    }
}

/// What a camera sent.
pub struct Truth {
    films: Vec<Film>,
    fps: f64,
    sent: Vec<Sent>,
}

impl Truth {
    /// Pictures of these clips, sent so.
    pub fn new<'a>(clips: impl IntoIterator<Item = &'a Clip>, sent: Vec<Sent>) -> Self {
        Self::of(clips.into_iter().map(|clip| clip.film).collect(), sent)
    }

    pub fn of(films: Vec<Film>, sent: Vec<Sent>) -> Self {
        Self {
            fps: f64::from(films[0].fps),
            films,
            sent,
        }
    }

    fn film(&self, number: u16) -> Option<&Film> {
        let has = |film: &&Film| {
            let pictures = film.fps * film.seconds;
            (u32::from(film.first)..u32::from(film.first) + pictures).contains(&number.into())
        };
        self.films.iter().find(has)
    }

    fn see(&self, frame: &Delivery) -> Seen {
        let picture = jpeg::decode(frame.jpeg());
        let number = picture.as_ref().ok().and_then(picture::number);
        let film = number.and_then(|number| self.film(number));
        let (mut damaged, mut size_is_right) = (true, false);
        let (mut colour_error, mut block_error) = (255.0, 255.0);
        if let (Ok(picture), Some(number), Some(film)) = (&picture, number, film) {
            damaged = film.look.is_damaged(number, picture);
            colour_error = film.look.colour_error(picture);
            block_error = film.look.worst_block(number, picture);
            size_is_right = (picture.width, picture.height) == (film.look.width, film.look.height);
        }
        let captured_us = frame.captured_at_us();
        // Of a number that was sent several times the newest that can be meant.
        let sent = self.sent.iter().rev();
        let mut sent =
            sent.filter(|sent| Some(sent.number) == number && sent.taken_us <= captured_us);
        Seen {
            number,
            damaged,
            colour_error,
            block_error,
            size_is_right,
            captured_us,
            arrived_us: frame.arrived_us,
            age: sent
                .next()
                .map(|sent| (captured_us - sent.taken_us) as f64 / 1e6),
        }
    }
}

/// A published picture.
#[derive(Debug, Clone)]
pub struct Seen {
    pub number: Option<u16>,
    /// Grey, smeared, mixed with another one, or not a JPEG at all.
    pub damaged: bool,
    pub colour_error: f64,
    /// By how much the worst block is off.
    pub block_error: f64,
    pub size_is_right: bool,
    pub captured_us: i64,
    pub arrived_us: i64,
    /// Seconds from when the camera took it to `captured_at_us`.
    pub age: Option<f64>,
}

/// What a case came to.
pub struct Outcome {
    /// Seconds from the daemon's start to the first picture.
    pub first: Option<f64>,
    /// Seconds from the first picture that the camera sent to the first one that was published.
    pub waited: Option<f64>,
    /// Pictures a second, from one second after the first to the last.
    pub fps: f64,
    pub pictures: Vec<Seen>,
    pub damaged: usize,
    /// The oldest true age, in seconds.
    pub oldest: f64,
    pub account: Account,
    pub log: Vec<String>,
    row: Row,
}

impl Outcome {
    fn new(
        row: Row,
        pictures: Vec<Seen>,
        account: Account,
        log: Vec<String>,
        began_us: i64,
        truth: &Truth,
    ) -> Self {
        let first_us = pictures.first().map(|first| first.arrived_us);
        let sent_us = truth.sent.first().map_or(began_us, |sent| sent.taken_us);
        let mut outcome = Self {
            first: first_us.map(|first| (first - began_us) as f64 / 1e6),
            waited: first_us.map(|first| (first - sent_us) as f64 / 1e6),
            fps: rate(&pictures),
            damaged: pictures.iter().filter(|seen| seen.damaged).count(),
            oldest: pictures
                .iter()
                .filter_map(|seen| seen.age)
                .fold(0.0, f64::max),
            pictures,
            account,
            log,
            row,
        };
        let row = &mut outcome.row;
        row.first = outcome.first;
        row.fps = outcome.fps;
        row.of = truth.fps;
        row.pictures = outcome.pictures.len();
        row.damaged = outcome.damaged;
        row.oldest = outcome.oldest;
        row.restarts = outcome.account.restarts_in_all();
        row.log = words(&outcome.log);
        outcome
    }

    /// Before any assertion, so that a failing case is in the table as well.
    fn noted(self) -> Self {
        self.row.write();
        println!("{}", self.summary());
        self
    }

    pub fn summary(&self) -> String {
        format!(
            "{}: first picture {:.2?} s, {:.2} fps, {} pictures, {} damaged (block {:.0}), oldest {:.2} s, dropped {:?}, \
             restarts {:?}",
            self.row.behaviour,
            self.first,
            self.fps,
            self.pictures.len(),
            self.damaged,
            self.pictures
                .iter()
                .filter(|seen| !seen.damaged)
                .map(|seen| seen.block_error)
                .fold(0.0, f64::max),
            self.oldest,
            self.account
                .dropped
                .iter()
                .filter(|(_, n)| **n > 0)
                .collect::<Vec<_>>(),
            self.account
                .restarts
                .iter()
                .filter(|(_, n)| **n > 0)
                .collect::<Vec<_>>(),
        )
    }

    /// The first picture came within so many seconds after the camera's first: how long a busy machine
    /// takes to start an FFmpeg is another matter.
    #[track_caller]
    pub fn first_within(&self, seconds: f64) -> &Self {
        let waited = self.waited.unwrap_or(f64::INFINITY);
        assert!(
            waited <= seconds,
            "first picture {waited:.2} s after the camera's: {}",
            self.summary()
        );
        self
    }

    /// No picture is damaged, and none is older than allowed.
    #[track_caller]
    pub fn all_good(&self) -> &Self {
        let bad = |seen: &&Seen| seen.damaged || seen.age.is_none();
        let bad: Vec<_> = self.pictures.iter().filter(bad).take(3).collect();
        assert!(bad.is_empty(), "{}: {bad:?}", self.summary());
        self.none_old()
    }

    /// No picture is damaged.
    #[track_caller]
    pub fn whole(&self) -> &Self {
        assert_eq!(self.damaged, 0, "{}", self.summary());
        self
    }

    /// No picture is older than allowed when it is said to have been captured.
    #[track_caller]
    pub fn none_old(&self) -> &Self {
        assert!(
            self.oldest <= OLDEST,
            "a picture is older than {OLDEST} s: {}",
            self.summary()
        );
        self
    }

    /// At least so many pictures a second.
    #[track_caller]
    pub fn at_least(&self, fps: f64) -> &Self {
        assert!(
            self.fps >= fps,
            "fewer than {fps} a second: {}",
            self.summary()
        );
        self
    }

    /// No patch of any picture is off by more than so much.
    #[track_caller]
    pub fn right_colours(&self, error: f64) -> &Self {
        let worst = self
            .pictures
            .iter()
            .map(|seen| seen.colour_error)
            .fold(0.0, f64::max);
        assert!(
            worst <= error,
            "colours are off by {worst:.1} of 255: {}",
            self.summary()
        );
        self
    }

    /// FFmpeg was started once.
    #[track_caller]
    pub fn no_restart(&self) -> &Self {
        let restarts = self.account.restarts_in_all();
        assert_eq!(restarts, 0, "FFmpeg was started again: {}", self.summary());
        self
    }
}

/// From one second after the first picture to the last.
fn rate(pictures: &[Seen]) -> f64 {
    let Some(first) = pictures.first() else {
        return 0.0;
    };
    let settled: Vec<_> = pictures
        .iter()
        .map(|seen| seen.captured_us)
        .filter(|captured| *captured >= first.captured_us + SETTLING_US)
        .collect();
    let (Some(first), Some(last)) = (settled.first(), settled.last()) else {
        return 0.0;
    };
    let seconds = (last - first) as f64 / 1e6;
    if seconds > 0.0 {
        (settled.len() - 1) as f64 / seconds
    } else {
        0.0
    }
}

/// Runs a case again, twice at most, if it fails while the machine is busy with other things: bounds
/// are as narrow as on an idle machine, and are asked of one good round.
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

/// The warnings of a log, without what differs from run to run.
fn words(log: &[String]) -> Vec<String> {
    let mut words: Vec<String> = vec![];
    for line in log {
        let at = line.find("WARN ").or_else(|| line.find("ERROR "));
        let Some(line) = at.map(|at| &line[at..]) else {
            continue;
        };
        let mut parts = line.split("127.0.0.1:");
        let mut shown = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            shown += "127.0.0.1:…";
            shown += part.trim_start_matches(|c: char| c.is_ascii_digit());
        }
        if !words.contains(&shown) {
            words.push(shown);
        }
    }
    words.truncate(3);
    words
}

/// Sends a process SIGSTOP and SIGCONT in turn, until dropped: it runs for `run` of each 100 ms.
pub struct Starved {
    stop: std::sync::mpsc::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Starved {
    pub fn start(pid: u32, run: Duration) -> Self {
        use rustix::process::{Signal, kill_process};
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let pid = support::guarded::pid_of(pid);
        let thread = std::thread::spawn(move || {
            let rest = Duration::from_millis(100) - run;
            let goes_on = |time| {
                stopped.recv_timeout(time) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            };
            loop {
                let _ = kill_process(pid, Signal::STOP);
                let on = goes_on(rest);
                let _ = kill_process(pid, Signal::CONT);
                if !on || !goes_on(run) {
                    return;
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for so long; for what has no condition to wait for.
pub fn pass(time: Duration) {
    let end = Instant::now() + time;
    support::wait_until(time + support::SOON, "time to pass", || {
        Instant::now() >= end
    });
}
