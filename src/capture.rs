//! A camera's reader thread: keeps one FFmpeg running, cuts its output into frames and puts the
//! newest into the mailbox.
//!
//! It never touches the network. `run` retries forever, `run_once` is one FFmpeg session that ends
//! with a reason.

pub mod abilities;
pub mod backlog;
pub mod child;
pub mod decode;
mod decoder;
mod environment;
pub mod ffmpeg;
pub mod idle;
pub mod installed;
pub mod jpeg;
pub mod judge;
pub mod lag;
mod last_words;
pub mod learnt;
mod losses;
mod pacer;
pub mod pipe;
pub mod remarks;
pub mod session;
pub mod splitter;
pub mod starts;
pub mod still;
pub mod survey;
pub mod tap;
pub mod units;
pub mod video;
pub mod words;

use crate::backoff::random;
use crate::breaker::{Breaker, BreakerState, Decision};
use crate::clock::span_text;
use crate::config::{Camera, SourceKind};
use crate::frame::{Frame, Picture};
use crate::handoff::mailbox::MailboxSender;
use crate::handoff::peek::Peek;
use crate::handoff::pool::Pool;
use crate::memory::Relief;
use crate::metrics::{CameraMetrics, Restart};
use crate::os_error::error_text;
use crate::quality::Quality;
use crate::repeat::Repeat;
use crate::shutdown::Stop;
use crate::snapshot::Order;
use crate::status::CameraStatus;
use child::{Child, End};
use decode::{Decoding, Ladder};
use idle::Idling;
use installed::{Ffmpeg, Version};
use learnt::Learnt;
use session::{Heard, Session, Why};
use starts::Starts;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use still::Still;
use tap::Tap;
use video::Video;
use words::Explained;

/// How long FFmpeg may take to log off from its camera before it is killed. An RTSP TEARDOWN needs
/// a round trip; the rest is for a board that is busy.
const GRACE: Duration = Duration::from_secs(1);

/// Our own program, also when its file has been replaced or removed meanwhile.
const OURSELVES: &str = "/proc/self/exe";

/// How FFmpeg ends when a film is over.
const FILM_OVER: &str = "exit code 0";

/// If a session lasted at least this long and ended because the size of the pictures changed or a
/// film was over, the next one follows at once. What comes more often is left to the breaker.
const APART: Duration = Duration::from_secs(2);

/// The reader thread's state.
#[derive(Debug)]
pub struct Reader {
    /// What to capture.
    pub camera: Arc<Camera>,
    /// With what.
    pub ffmpeg: Arc<Ffmpeg>,
    /// Shared by all cameras.
    pub starts: Arc<Starts>,
    /// Ends the reader.
    pub stop: Arc<Stop>,
    /// Where the frames go. Closed when the reader is dropped.
    pub mailbox: MailboxSender<Frame>,
    /// For those who look at the frames on their way.
    pub peek: Arc<Peek<Picture>>,
    /// Where the buffers come from.
    pub pool: Pool,
    /// If the camera's stream is passed through: what of the units outlives a session.
    pub video: Option<Video>,
    /// If `idle.after` is set.
    pub idle: Option<Idling>,
    /// Its counters.
    pub metrics: Arc<CameraMetrics>,
    /// That of its pictures, which the main thread may change.
    pub quality: Arc<Quality>,
    /// What it gives when memory is short.
    pub relief: Arc<Relief>,
    /// What the camera is doing, for those who ask.
    pub status: Arc<CameraStatus>,
    /// When the next session of a failing camera may begin.
    pub breaker: Breaker,
    /// In bytes. Larger frames are dropped.
    pub max_frame_bytes: usize,
    /// Pictures that lag behind the camera by more than this are dropped.
    pub max_age: Duration,
    /// What earlier sessions have shown of the source.
    pub learnt: Learnt,
    /// What it decodes with.
    pub ladder: Ladder,
    /// What was said of late pictures.
    pub late_said: Repeat,
    /// If a frozen picture is to be found.
    pub still: Option<Still>,
    /// Whether the first picture ends the session, which waits no longer for it than
    /// `first_frame_timeout`.
    pub only_one: bool,
}

/// What came of one try.
#[derive(Debug)]
pub enum Tried {
    /// Size and decoder, for the user.
    Live(String),
    /// Why no picture came, and what to do.
    Failed(String),
}

/// Why a session ended.
#[derive(Debug)]
enum Ended {
    /// We were told to stop.
    Stopped,
    /// It was to bring one picture and has: what it is.
    One(String),
    /// FFmpeg is started again at once, with other arguments.
    Again,
    /// The same, because other pictures are wanted of a camera that is well.
    Switched,
    /// FFmpeg must be started again.
    Failed(Restart, Explained),
    /// The same, and the next session will use what this one has shown of the source.
    Learnt(Restart, Explained),
}

/// More sessions in a row cannot each show something new of the source: there are fewer decoders
/// and properties. FFmpeg is started again with a pause then.
const MOST_IN_VAIN: u32 = 16;

impl Reader {
    /// Runs sessions until it is told to stop.
    pub fn run(&mut self) {
        self.retry_until_stopped();
        self.status.stopped();
    }

    fn retry_until_stopped(&mut self) {
        let mut said = Repeat::default();
        let (mut switched, mut in_vain) = (false, 0);
        loop {
            while let Decision::Wait(left) = self.breaker.before_session(Instant::now()) {
                if self.stop.sleep(left) {
                    return;
                }
            }
            let host = self.camera.source.host.as_deref();
            if self.stop.sleep(self.starts.next(host, Instant::now())) {
                return;
            }
            self.note_breaker();
            // For the moment that a switch takes, nobody needs to know.
            if !std::mem::take(&mut switched) {
                self.status.connecting();
            }
            let before = self.captured();
            let mut ended = self.run_once(&mut said);
            if self.captured() != before {
                in_vain = 0;
            } else if let Ended::Again = ended {
                in_vain += 1;
                if in_vain > MOST_IN_VAIN {
                    let why = "each session shows something else of the source, and none a picture";
                    ended = Ended::Failed(Restart::Exited, why.to_owned().into());
                }
            }
            match ended {
                Ended::Stopped => return,
                Ended::Switched => switched = true,
                Ended::Again | Ended::One(_) => {}
                Ended::Failed(reason, failure) | Ended::Learnt(reason, failure) => {
                    self.failed(reason, &failure, &mut said);
                }
            }
        }
    }

    /// Pictures and units so far.
    fn captured(&self) -> u64 {
        self.metrics.reader.captured.get() + self.metrics.video.reader.captured.get()
    }

    fn failed(&mut self, reason: Restart, failure: &Explained, said: &mut Repeat) {
        let why = &failure.full;
        let now = Instant::now();
        self.metrics.reader.restarted(reason);
        self.breaker.session_ended(now, random());
        let left = match self.breaker.before_session(now) {
            Decision::Wait(left) => left,
            Decision::Go | Decision::Trial => Duration::ZERO,
        };
        let state = self.breaker.state();
        self.note_breaker();
        let open = state == BreakerState::Open;
        self.status.failed(&failure.brief, why, now + left, open);
        self.note_idle();
        let what = match state {
            BreakerState::Open => "failed too often, next try in",
            BreakerState::Closed | BreakerState::HalfOpen => "starting again in",
        };
        let pause = span_text(left.as_secs_f64());
        if let Some(again) = said.say(&format!("{why}; {what}"), now) {
            log::warn!(camera_id = self.camera.id; "{why}{again}; {what} {pause}");
        }
    }

    /// Runs sessions until the first picture or a failure, at most `until` then. To be called with
    /// `only_one`.
    pub fn try_once(&mut self, until: Instant) -> Tried {
        let host = self.camera.source.host.as_deref();
        std::thread::sleep(self.starts.next(host, Instant::now()));
        loop {
            // Also a second session, with other arguments, has no more than what is left.
            let left = until.saturating_duration_since(Instant::now());
            let camera = Arc::make_mut(&mut self.camera);
            camera.first_frame_timeout = camera.first_frame_timeout.min(left);
            match self.run_once(&mut Repeat::default()) {
                Ended::One(text) => return Tried::Live(text),
                Ended::Stopped => return Tried::Failed("stopping".to_owned()),
                Ended::Learnt(..) if Instant::now() < until => {}
                Ended::Failed(_, why) | Ended::Learnt(_, why) => return Tried::Failed(why.full),
                Ended::Again | Ended::Switched => {}
            }
        }
    }

    /// One FFmpeg session.
    fn run_once(&mut self, said: &mut Repeat) -> Ended {
        self.follow_idleness();
        let version = self.ffmpeg.version(&self.stop);
        let (version, decoding) = match version.and_then(|it| Ok((it, self.decoding()?))) {
            Ok(known) => known,
            Err(_) if self.stop.requested() => return Ended::Stopped,
            Err(why) => return Ended::Failed(Restart::Exited, why.into()),
        };
        let tap = match self.tap(&decoding) {
            Ok(tap) => tap,
            Err(error) => {
                let why = format!("cannot start FFmpeg: {}", error_text(&error));
                return Ended::Failed(Restart::Exited, why.into());
            }
        };
        let mut camera = Arc::clone(&self.camera);
        if self.quality.now() != camera.quality {
            Arc::make_mut(&mut camera).quality = self.quality.now();
        }
        let outputs = ffmpeg::sizes(&camera, version, &decoding);
        let film = tap.is_some() && self.camera.source.kind == SourceKind::File;
        let mut child = match self.child(&camera, version, &decoding, tap.as_ref()) {
            Ok(child) => child,
            Err(error) => {
                let why = format!("cannot start FFmpeg: {}", error_text(&error));
                return Ended::Failed(Restart::Exited, why.into());
            }
        };
        self.metrics.reader.ffmpeg_pid.set(child.id().into());
        let stop = Arc::clone(&self.stop);
        let started = Instant::now();
        let (why, heard) =
            Session::begin(self, &mut child, (outputs, camera.quality), tap, &stop).run(said);
        if self.still.as_mut().is_some_and(|it| !it.session_ended()) {
            self.status.frozen(None);
        }
        // What a hung FFmpeg says from here on is only its answer to our signal.
        let before = child.last_words();
        let end = child.end(GRACE);
        self.metrics.reader.ffmpeg_pid.set(0);
        if !matches!(why, Why::Relearn) {
            self.learnt.session_ended(&heard);
        }
        match why {
            Why::Stopped => Ended::Stopped,
            Why::One(text) => Ended::One(text),
            Why::Relearn => Ended::Again,
            Why::OtherQuality => Ended::Switched,
            Why::Idleness => {
                self.metrics.reader.restarted(Restart::Idle);
                Ended::Switched
            }
            Why::Resized(old, new) => {
                let what = format!(
                    "the pictures' size has changed from {}x{} to {}x{}",
                    old.0, old.1, new.0, new.1
                );
                self.changed(&what, started.elapsed())
            }
            Why::NewParameters => {
                let what = "the stream's parameter sets have changed";
                self.changed(what, started.elapsed())
            }
            Why::Exited if film && end.status == FILM_OVER && started.elapsed() >= APART => {
                Ended::Again
            }
            Why::Exited => self.exited(&end, &heard, started.elapsed()),
            Why::Hung(reason, why) => self.hung(reason, why, &heard, &before),
        }
    }

    /// FFmpeg has ended.
    fn exited(&mut self, end: &End, heard: &Heard, lasted: Duration) -> Ended {
        if let Some(ended) = self.decoder_refused(end, heard) {
            return ended;
        }
        let kind = self.camera.source.kind;
        let known = self.learnt;
        self.learnt.ended(kind, heard, &end.last_words);
        let explained = self.explain(end, heard, lasted);
        if explained.brief == words::ONE_JPEG && self.is_to_be_polled() {
            return Ended::Again;
        }
        if let Some(ended) = self.decoder_is_useless(&explained.brief, heard) {
            return ended;
        }
        let reason = match explained.brief.starts_with(words::NO_PICTURE_FOR) {
            true => Restart::Stalled,
            false => Restart::Exited,
        };
        match self.learnt == known {
            true => Ended::Failed(reason, explained),
            false => Ended::Learnt(reason, explained),
        }
    }

    /// FFmpeg was ended, after the lines in `before`.
    fn hung(
        &mut self,
        reason: Restart,
        why: String,
        heard: &Heard,
        before: &[(Duration, String)],
    ) -> Ended {
        if let Some(ended) = self.decoder_is_silent(reason, &why, heard) {
            return ended;
        }
        let full = with_words(&why, "; FFmpeg said: ", &words::quote(before));
        Ended::Failed(reason, Explained { full, brief: why })
    }

    /// Starts what reads the camera.
    fn child(
        &self,
        camera: &Camera,
        version: Version,
        decoding: &Decoding,
        tap: Option<&Tap>,
    ) -> std::io::Result<Child> {
        let id = Some(Arc::clone(&self.camera.id));
        if self.learnt.is_polled() {
            let order = Order {
                url: camera.source.address.expose(),
                // While it is idle, the session leaves out most of these.
                fps: camera.one_every.map_or(camera.fps, |_| 1),
                max_bytes: self.max_frame_bytes,
                timeout: camera.stale_timeout.max(camera.first_frame_timeout),
            };
            return Child::spawn(Path::new(OURSELVES), &order.arguments(), id);
        }
        let paths = tap.map(Tap::paths);
        let args = ffmpeg::arguments(camera, version, &self.learnt, decoding, paths.as_ref());
        Child::spawn(self.ffmpeg.path(), &args, id)
    }

    /// The camera has answered with one JPEG.
    fn is_to_be_polled(&mut self) -> bool {
        let news = self.learnt.sends_one_jpeg(&self.camera);
        if news {
            log::info!(camera_id = self.camera.id;
                "this address sends one JPEG for each request: polling it, {} times a second at most",
                self.camera.fps);
        }
        news
    }

    /// The pipes for the camera's own stream, if it is to be passed through.
    fn tap(&self, decoding: &Decoding) -> std::io::Result<Option<Tap>> {
        let copies = *decoding != Decoding::Asking && !self.learnt.is_without_video();
        let wanted = self.video.is_some() && copies;
        wanted.then(Tap::new).transpose()
    }

    /// The stream has changed so that FFmpeg must be started again for it.
    fn changed(&self, what: &str, lasted: Duration) -> Ended {
        if lasted < APART {
            return Ended::Failed(Restart::Parameters, what.to_owned().into());
        }
        self.metrics.reader.restarted(Restart::Parameters);
        log::info!(camera_id = self.camera.id; "{what}; restarting FFmpeg");
        Ended::Again
    }

    fn explain(&self, end: &End, heard: &Heard, lasted: Duration) -> Explained {
        words::explain(&words::Session {
            kind: self.camera.source.kind,
            transport: self.camera.transport,
            login: has_login(&self.camera),
            exit: &end.status,
            lines: &end.last_words,
            format: heard.format.as_deref(),
            live_for: heard.live_for(),
            lasted,
            stale_timeout: self.camera.stale_timeout,
        })
    }
}

/// Whether the camera's address has a user name.
fn has_login(camera: &Camera) -> bool {
    let address = camera.source.address.expose();
    let after_scheme = address.split_once("://").map(|(_, rest)| rest);
    let authority = after_scheme.and_then(|rest| rest.split('/').next());
    authority.is_some_and(|authority| authority.contains('@'))
}

fn with_words(why: &str, link: &str, words: &str) -> String {
    match words {
        "" => why.to_owned(),
        words => format!("{why}{link}{words}"),
    }
}
