//! A camera's reader thread: keeps one FFmpeg running, cuts its output into frames and puts the newest
//! into the mailbox.
//!
//! It never touches the network. `run` retries for ever, `run_once` is one FFmpeg session that ends
//! with a reason.

pub mod child;
mod environment;
pub mod ffmpeg;
pub mod jpeg;
pub mod splitter;

use crate::backoff::random;
use crate::breaker::{Breaker, Decision, State};
use crate::clock::{Stamp, process_us, unix_us};
use crate::config::Camera;
use crate::frame::{Frame, Picture};
use crate::handoff::hurry::Hurry;
use crate::handoff::mailbox::MailboxSender;
use crate::handoff::peek::Peek;
use crate::handoff::pool::Pool;
use crate::memory::{Relief, Thinning};
use crate::metrics::{CameraMetrics, Restart};
use crate::repeat::Repeat;
use crate::shutdown::Stop;
use crate::status::CameraStatus;
use child::{Child, Output};
use ffmpeg::Ffmpeg;
use parking_lot::Mutex;
use splitter::{Part, Skip, SplitError, Splitter};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long FFmpeg may take to log off from its camera before it is killed. An RTSP TEARDOWN needs a
/// round trip; the rest is for a board that is busy.
const GRACE: Duration = Duration::from_secs(1);

/// Apart from each other, connects to one host: a recorder with 32 channels must not be asked for all
/// in one instant, and yet all be asked within a few seconds.
const HOST_SPACING: Duration = Duration::from_millis(100);

/// Apart from each other, starts of FFmpeg: each is some 75 ms of a processor's time, nearly all for
/// its libraries (`ffmpeg -version` on an AMD EPYC takes as much), and no two begin that in one instant.
/// Not longer, so that 200 cameras are started within 2 s.
const START_SPACING: Duration = Duration::from_millis(10);

/// The reader thread's state.
#[derive(Debug)]
pub struct Reader {
    /// What to capture.
    pub camera: Arc<Camera>,
    /// With what.
    pub ffmpeg: Arc<Ffmpeg>,
    /// Shared by all cameras.
    pub hosts: Arc<Hosts>,
    /// Ends the reader.
    pub stop: Arc<Stop>,
    /// Where the frames go. Closed when the reader is dropped.
    pub mailbox: MailboxSender<Frame>,
    /// For those who look at the frames on their way.
    pub peek: Arc<Peek<Picture>>,
    /// Where the buffers come from.
    pub pool: Pool,
    /// The books.
    pub metrics: Arc<CameraMetrics>,
    /// What it gives when memory is short.
    pub relief: Arc<Relief>,
    /// What the camera is doing, for those who ask.
    pub status: Arc<CameraStatus>,
    /// When a failing camera is left alone.
    pub breaker: Breaker,
    /// Larger frames are dropped. Bytes.
    pub max_frame_bytes: usize,
}

/// Why a session ended.
#[derive(Debug)]
enum Ended {
    /// We were told to stop.
    Stopped,
    /// FFmpeg must be started again.
    Failed(Restart, Failure),
}

/// What went wrong.
#[derive(Debug)]
struct Failure {
    /// All that is known, for the log.
    full: String,
    /// The cause in a few words, for who looks at the camera's state.
    brief: String,
}

impl From<String> for Failure {
    fn from(full: String) -> Self {
        let brief = full.clone();
        Self { full, brief }
    }
}

impl Reader {
    /// Runs sessions until it is told to stop.
    pub fn run(&mut self) {
        self.retry_until_stopped();
        self.status.stopped();
    }

    fn retry_until_stopped(&mut self) {
        let mut said = Repeat::default();
        loop {
            while let Decision::Wait(left) = self.breaker.before_session(Instant::now()) {
                if self.stop.sleep(left) {
                    return;
                }
            }
            if self
                .stop
                .sleep(self.hosts.turn(&self.camera, Instant::now()))
            {
                return;
            }
            self.note_breaker();
            self.status.connecting();
            match self.run_once(&mut said) {
                Ended::Stopped => return,
                Ended::Failed(reason, failure) => self.failed(reason, &failure, &mut said),
            }
        }
    }

    fn failed(&mut self, reason: Restart, failure: &Failure, said: &mut Repeat) {
        let why = &failure.full;
        let now = Instant::now();
        self.metrics.reader.restarted(reason);
        self.breaker.session_failed(now, random());
        let left = match self.breaker.before_session(now) {
            Decision::Wait(left) => left,
            Decision::Go | Decision::Trial => Duration::ZERO,
        };
        let state = self.breaker.state();
        self.note_breaker();
        let open = state == State::Open;
        self.status.failed(&failure.brief, why, now + left, open);
        let left = left.as_secs_f64();
        let (what, pause) = match state {
            State::Open => ("failed too often, left alone for", format!("{left:.0} s")),
            State::Closed | State::HalfOpen => ("starting again in", format!("{left:.1} s")),
        };
        if let Some(again) = said.say(&format!("{why}; {what}"), now) {
            log::warn!(camera_id = self.camera.id; "{why}{again}; {what} {pause}");
        }
    }

    /// One FFmpeg session.
    fn run_once(&mut self, said: &mut Repeat) -> Ended {
        let version = match self.ffmpeg.version(&self.stop) {
            Ok(version) => version,
            Err(_) if self.stop.requested() => return Ended::Stopped,
            Err(why) => return Ended::Failed(Restart::Exited, why.into()),
        };
        let args = ffmpeg::arguments(&self.camera, version);
        let id = Some(Arc::clone(&self.camera.id));
        let mut child = match Child::spawn(self.ffmpeg.path(), &args, id) {
            Ok(child) => child,
            Err(error) => {
                let why = format!("cannot start FFmpeg: {error}");
                return Ended::Failed(Restart::Exited, why.into());
            }
        };
        self.metrics.reader.ffmpeg_pid.set(child.id().into());
        let why = self.read_frames(&mut child, said);
        // What a hung FFmpeg says from here on is only its answer to our signal.
        let before = child.last_words();
        let end = child.end(GRACE);
        self.metrics.reader.ffmpeg_pid.set(0);
        match why {
            Why::Stopped => Ended::Stopped,
            Why::Exited => {
                let ended = format!("FFmpeg ended ({})", end.status);
                let full = with_words(&ended, ": ", &end.last_words);
                let cause = ffmpeg::cause(&end.last_words);
                let brief = cause.map_or_else(|| full.clone(), str::to_owned);
                Ended::Failed(Restart::Exited, Failure { full, brief })
            }
            Why::Hung(reason, why) => {
                let full = with_words(&why, "; FFmpeg said: ", &before);
                Ended::Failed(reason, Failure { full, brief: why })
            }
        }
    }

    fn read_frames(&mut self, child: &mut Child, said: &mut Repeat) -> Why {
        let started = Instant::now();
        // Later than the last one's even if the clock was set back: epochs order the sessions.
        let last = self.metrics.reader.epoch.get().cast_signed();
        let epoch = (unix_us() / 1000).max(last + 1);
        self.metrics.reader.epoch.set(epoch.cast_unsigned());
        let output = Output {
            child,
            stop: &self.stop,
            deadline: started + self.camera.first_frame_timeout,
        };
        let mut splitter = Splitter::new(output, self.max_frame_bytes, Stamp::now);
        let mut buffer = self.pool.take();
        let (mut seq, mut live) = (0, false);
        let mut skipped = Skipped::default();
        let mut thinning = Thinning::default();
        let mut hurry = Hurry::default();
        // What was asked of the FFmpeg before this one.
        self.relief.take_restart();
        loop {
            match splitter.next(&mut buffer) {
                Ok(Part::Frame { first_byte, size }) => {
                    seq += 1;
                    self.metrics.reader.captured.increment();
                    let frame = Frame {
                        epoch,
                        seq,
                        captured: first_byte,
                        width: size.width,
                        height: size.height,
                        jpeg: buffer,
                    };
                    self.note(&frame);
                    if thinning.keeps(self.relief.level(), first_byte.monotonic) {
                        self.peek.offer(|| Picture::from(&frame));
                        if let Some(displaced) = self.mailbox.put(frame) {
                            drop(displaced);
                            self.metrics.reader.overwritten.increment();
                        }
                    } else {
                        drop(frame);
                        self.metrics.reader.throttled.increment();
                    }
                    buffer = self.pool.take();
                    skipped = Skipped::default();
                    let now = Instant::now();
                    self.breaker.on_frame(now);
                    self.note_breaker();
                    splitter.get_mut().deadline = now + self.camera.stale_timeout;
                    if !live {
                        self.status.live();
                    }
                    if !live && said.over() {
                        log::info!(camera_id = self.camera.id;
                            "live: {}x{}, first frame after {} ms",
                            size.width, size.height, (now - started).as_millis());
                    }
                    live = true;
                    if let Some(bytes) = self.relief.take_restart() {
                        let mb = bytes as f64 / 1e6;
                        return Why::Hung(
                            Restart::Memory,
                            format!("memory is short, and its FFmpeg has most of it, {mb:.0} MB"),
                        );
                    }
                    // For a moment only: a publisher that is stuck does not stop a reader.
                    hurry.frame(now);
                    while hurry.lasts(Instant::now) && self.mailbox.waiting() {
                        std::thread::yield_now();
                    }
                }
                Ok(Part::Skipped(why)) => {
                    seq += 1;
                    self.metrics.reader.captured.increment();
                    match why {
                        Skip::Oversize => {
                            skipped.oversize += 1;
                            self.metrics.reader.oversize.increment();
                        }
                        _ => {
                            skipped.corrupt += 1;
                            self.metrics.reader.corrupt.increment();
                        }
                    }
                    log::trace!(camera_id = self.camera.id; "frame {seq} skipped: {why}");
                }
                Err(SplitError::Eof) => return Why::Exited,
                Err(SplitError::Lost) => {
                    return Why::Hung(
                        Restart::Corrupt,
                        "FFmpeg sends something that is not a stream of JPEG pictures".to_owned(),
                    );
                }
                Err(SplitError::Io(_)) if self.stop.requested() => return Why::Stopped,
                Err(SplitError::Io(error)) if error.kind() == std::io::ErrorKind::TimedOut => {
                    return self.timed_out(live, &skipped);
                }
                Err(SplitError::Io(error)) => {
                    return Why::Hung(Restart::Exited, format!("cannot read from FFmpeg: {error}"));
                }
            }
        }
    }

    fn note(&self, frame: &Frame) {
        let (books, captured) = (&self.metrics.reader, frame.captured);
        books.frame_size.observe(frame.jpeg.picture().len() as u64);
        books.last_frame_us.set(process_us(captured.monotonic));
        books
            .last_frame_unix_us
            .set(captured.unix_us.cast_unsigned());
        books.width.set(frame.width.into());
        books.height.set(frame.height.into());
    }

    fn note_breaker(&self) {
        self.metrics.reader.breaker.set(self.breaker.state() as u64);
    }

    fn timed_out(&self, live: bool, skipped: &Skipped) -> Why {
        let (reason, timeout, what) = if live {
            (Restart::Stalled, self.camera.stale_timeout, "no frame")
        } else {
            (
                Restart::NoFirstFrame,
                self.camera.first_frame_timeout,
                "no first frame",
            )
        };
        let but = match skipped {
            Skipped {
                oversize: 0,
                corrupt: 0,
            } => String::new(),
            Skipped {
                oversize,
                corrupt: 0,
            } => format!(
                ", but {oversize} that are larger than max_frame_bytes ({}): raise it, or quality",
                self.max_frame_bytes
            ),
            Skipped { oversize, corrupt } => format!(", but {} broken ones", oversize + corrupt),
        };
        let seconds = timeout.as_secs_f64();
        Why::Hung(reason, format!("{what} for {seconds} s{but}"))
    }
}

/// Parts that were no good, since the last frame.
#[derive(Default)]
struct Skipped {
    oversize: u64,
    corrupt: u64,
}

fn with_words(why: &str, link: &str, words: &str) -> String {
    match words {
        "" => why.to_owned(),
        words => format!("{why}{link}{words}"),
    }
}

/// Why reading frames ended, before FFmpeg's own end has been seen.
enum Why {
    Stopped,
    Exited,
    Hung(Restart, String),
}

/// Spaces the starts of FFmpeg, and the connects to each camera host.
#[derive(Debug, Default)]
pub struct Hosts(Mutex<Turns>);

#[derive(Debug, Default)]
struct Turns {
    /// The next start of any FFmpeg.
    any: Option<Instant>,
    by_host: HashMap<String, Instant>,
}

impl Hosts {
    /// How long this camera has to wait for its turn.
    fn turn(&self, camera: &Camera, now: Instant) -> Duration {
        self.turn_of(camera.source.host.as_deref(), now)
    }

    fn turn_of(&self, host: Option<&str>, now: Instant) -> Duration {
        let mut turns = self.0.lock();
        let mut turn = turns.any.map_or(now, |any| any.max(now));
        turns.any = Some(turn + START_SPACING);
        if let Some(host) = host {
            let next = turns.by_host.entry(host.to_owned()).or_insert(turn);
            turn = turn.max(*next);
            *next = turn + HOST_SPACING;
        }
        turn - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_spread_and_more_so_towards_one_host() {
        let (hosts, now) = (Hosts::default(), Instant::now());
        let turn = |host| hosts.turn_of(host, now).as_millis();
        assert_eq!([turn(None), turn(None), turn(Some("a"))], [0, 10, 20]);
        assert_eq!([turn(Some("a")), turn(Some("a"))], [120, 220]);
        assert_eq!([turn(Some("b")), turn(None)], [50, 60]);
        let later = now + Duration::from_secs(1);
        assert_eq!(hosts.turn_of(Some("a"), later), Duration::ZERO);
    }
}
