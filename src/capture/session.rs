//! One FFmpeg session: cuts FFmpeg's output into frames, judges them and puts the newest into the
//! mailbox.

mod copied;
mod decoder;
mod hear;
mod late;
mod still;
mod video;

use super::backlog::Backlog;
use super::child::{Child, Output};
use super::judge::{Cause, Judge, Verdict};
use super::pipe::Arrival;
use super::splitter::{Part, Skip, SplitError, Splitter};
use super::tap::Tap;
use super::video::VideoSession;
use super::{Reader, jpeg};
use crate::clock::{process_us, unix_us};
use crate::config::{Pictures, SourceKind};
use crate::frame::{Frame, Picture};
use crate::handoff::hurry::Hurry;
use crate::handoff::pool::Buffer;
use crate::memory::Thinning;
use crate::metrics::Restart;
use crate::os_error::error_text;
use crate::repeat::Repeat;
use crate::shutdown::Stop;
use copied::{Copied, Taken};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The least age from which on a picture is late, whatever `amqp.max_age` is: the bounds that we
/// have for a picture's age are not sharper.
const LEAST_LIMIT: Duration = Duration::from_millis(300);

/// How long the first picture may take from a stream that comes: cameras with a "smart codec"
/// send a keyframe every 30 s at the most, and the decoder gives nothing before one.
const FIRST_KEYFRAME: Duration = Duration::from_secs(45);

/// A stream in segments brings nothing new for as long as a segment takes. 10 s is the longest that
/// is usual (RFC 8216, section 8, has 8 to 10 s), and two may come late.
const SEGMENTS: Duration = Duration::from_secs(30);

/// Lateness that is over sooner is counted and not told.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// Why reading frames ended, before FFmpeg's own end has been seen.
pub(super) enum Why {
    Stopped,
    /// The only picture that is wanted has come: what it is.
    One(String),
    Exited,
    Hung(Restart, String),
    /// What the source is shows that FFmpeg has to be told something else.
    Relearn,
    /// The pictures are to have another quality.
    OtherQuality,
    /// The pictures have another size: width and height before, and now.
    Resized((u32, u32), (u32, u32)),
    /// The units' parameter sets have changed.
    NewParameters,
    /// The camera became idle, or is idle no longer.
    Idleness,
}

/// What a session has shown of its source.
#[derive(Debug, Default)]
pub struct Heard {
    /// FFmpeg's name of the input's format, once it has opened the input.
    pub format: Option<String>,
    /// FFmpeg's name of the codec of the input's first video stream.
    pub codec: Option<String>,
    /// FFmpeg's name of the decoder, for instance `h264 (native)`.
    pub decoder: Option<String>,
    /// Whether a picture was decoded, good or not.
    pub decoded: bool,
    /// The first and the newest picture or unit in time.
    pub pictures: Option<(Instant, Instant)>,
    /// A part was no picture.
    pub corrupt: bool,
}

impl Heard {
    /// From the first picture to the newest; `None` when no picture came.
    pub fn live_for(&self) -> Option<Duration> {
        self.pictures.map(|(first, newest)| newest - first)
    }
}

/// A running session.
pub(super) struct Session<'a> {
    reader: &'a mut Reader,
    splitter: Splitter<Output<'a>>,
    judge: Judge,
    /// If FFmpeg copies the camera's JPEGs.
    copied: Option<Copied>,
    /// If the camera's stream is passed through.
    video: Option<VideoSession>,
    /// When the last unit came that is in time.
    last_unit: Option<Instant>,
    /// How late the last unit was, if it was too late.
    units_late: Option<Duration>,
    started: Instant,
    epoch: i64,
    seq: u64,
    heard: Heard,
    live: bool,
    /// Those of the camera's pictures, not of what is published, in the order of their first
    /// picture.
    sizes: Vec<(u32, u32)>,
    /// For how many sizes FFmpeg has outputs.
    outputs: usize,
    stale_timeout: Duration,
    /// That of its pictures.
    quality: u32,
    skipped: Skipped,
    late: Option<Lateness>,
    backlog: Backlog,
    thinning: Thinning,
    hurry: Hurry,
}

/// Parts that were no good, since the last frame.
#[derive(Default)]
struct Skipped {
    oversize: u64,
    corrupt: u64,
}

/// Late pictures without one in time between them.
struct Lateness {
    since: Instant,
    pictures: u64,
    most: Duration,
    cause: Cause,
}

impl<'a> Session<'a> {
    /// The session of `child`, which has just been started with outputs for `outputs` sizes and
    /// pictures of this quality, and copies the camera's stream to `tap`.
    pub(super) fn begin(
        reader: &'a mut Reader,
        child: &'a mut Child,
        (outputs, quality): (usize, u32),
        tap: Option<Tap>,
        stop: &'a Stop,
    ) -> Self {
        let started = Instant::now();
        // Later than the last one's even if the clock was set back: epochs order the sessions.
        let last = reader.metrics.reader.epoch.get().cast_signed();
        let epoch = (unix_us() / 1000).max(last + 1);
        reader.metrics.reader.epoch.set(epoch.cast_unsigned());
        // What was asked of the FFmpeg before this one.
        reader.relief.take_restart();
        let id = child.id();
        let deadline = started + reader.camera.first_frame_timeout;
        let mut output = Output::new(child, stop, deadline);
        let idling = reader.idle.as_ref();
        // The units of a camera without pictures end the waits that it needs.
        let idling = idling.filter(|_| reader.camera.pictures != Pictures::None);
        output.followed = idling.map(|it| it.followed.clone());
        let tapped = reader.video.as_ref().filter(|_| tap.is_some());
        output.tap = tap;
        let kind = reader.camera.source.kind;
        let network = matches!(kind, SourceKind::Rtsp | SourceKind::Rtmp | SourceKind::Http);
        let is_idle = reader.camera.one_every.is_some();
        // What is polled cannot fall behind. Of copied JPEGs, rare ones have no time that says
        // anything: they count as 25 a second.
        let rare = is_idle && reader.learnt.is_copied();
        let live = network && !rare && !reader.learnt.is_polled();
        let limit = reader.max_age.max(LEAST_LIMIT);
        let mut stale_timeout = reader.camera.stale_timeout_if(is_idle);
        if reader.learnt.in_segments(&reader.camera) {
            stale_timeout = stale_timeout.max(SEGMENTS);
        }
        Self {
            splitter: Splitter::new(output, reader.max_frame_bytes, Output::arrival),
            judge: Judge::new(started, limit, live),
            copied: Copied::of(reader),
            video: tapped.map(|video| VideoSession::new(video, &reader.metrics, epoch, live)),
            last_unit: None,
            units_late: None,
            started,
            epoch,
            seq: 0,
            heard: Heard::default(),
            live: false,
            sizes: Vec::new(),
            outputs,
            stale_timeout,
            quality,
            skipped: Skipped::default(),
            late: None,
            backlog: Backlog::of(id),
            thinning: Thinning::default(),
            hurry: Hurry::default(),
            reader,
        }
    }

    /// Reads until the session ends. `said` is what was told of failures before.
    pub(super) fn run(mut self, said: &mut Repeat) -> (Why, Heard) {
        let mut why = self.read(said);
        if matches!(why, Why::Exited)
            && let Some(other) = self.hand_over_last_units(said)
        {
            why = other;
        }
        (why, self.heard)
    }

    fn read(&mut self, said: &mut Repeat) -> Why {
        let mut buffer = self.reader.pool.take();
        loop {
            if self.reader.idle_has_changed() {
                return Why::Idleness;
            }
            let part = self.splitter.next(&mut buffer);
            let mut heard = self.hear();
            if part.is_ok() && self.copied.is_none() && !self.judge.knows_next() {
                // A part that came with the one before may have overtaken its remark.
                self.splitter.get_mut().child.hear();
                heard = heard.or_else(|| self.hear());
            }
            if let Some(why) = heard.or_else(|| self.hand_over_units(said)) {
                return why;
            }
            match part {
                Ok(Part::Frame { first_byte, size }) => {
                    match self.take_copied(&mut buffer, first_byte.read.monotonic) {
                        Taken::Picture => {}
                        Taken::LeftOut => continue,
                        Taken::Unusual => return Why::Relearn,
                    }
                    buffer = self.frame(buffer, first_byte, size, said);
                    if self.reader.only_one && self.live {
                        return Why::One(self.what_came(size));
                    }
                    let now = Instant::now();
                    let why = self.units_are_missing(now);
                    if let Some(why) = why.or_else(|| self.look_at_picture(now)) {
                        return why;
                    }
                    if let Some(why) = self.memory_is_short() {
                        return why;
                    }
                    if self.reader.quality.now() != self.quality {
                        return Why::OtherQuality;
                    }
                }
                Ok(Part::Skipped(why)) => {
                    self.skip(why);
                    if self.copies_in_vain() {
                        return Why::Relearn;
                    }
                }
                Err(SplitError::Eof) => return Why::Exited,
                Err(SplitError::Lost) => {
                    return Why::Hung(
                        Restart::Corrupt,
                        "FFmpeg sends data that is not a stream of JPEG pictures".to_owned(),
                    );
                }
                Err(SplitError::Io(_)) if self.reader.stop.requested() => return Why::Stopped,
                Err(SplitError::Io(error)) if error.kind() == std::io::ErrorKind::TimedOut => {
                    // It was FFmpeg's remark that ended the wait, or that has put off the deadline.
                    if self.splitter.get_mut().deadline <= Instant::now() {
                        return self.timed_out();
                    }
                }
                Err(SplitError::Io(error)) => {
                    return Why::Hung(
                        Restart::Exited,
                        format!("cannot read from FFmpeg: {}", error_text(&error)),
                    );
                }
            }
        }
    }

    /// Why the session ends, if memory is short and its FFmpeg is to be started again.
    fn memory_is_short(&self) -> Option<Why> {
        let bytes = self.reader.relief.take_restart()?;
        let mb = bytes as f64 / 1e6;
        let why = format!("memory is short, and its FFmpeg uses most of it: {mb:.0} MB");
        Some(Why::Hung(Restart::Memory, why))
    }

    /// What the first picture is.
    fn what_came(&self, size: jpeg::Size) -> String {
        let how = match &self.copied {
            Some(_) => "published as it is".to_owned(),
            None => format!("decoded by {}", self.decoder_in_full()),
        };
        format!(
            "live: {}x{}, {how}, first frame after {} ms",
            size.width,
            size.height,
            self.started.elapsed().as_millis()
        )
    }

    /// A whole picture. Returns the buffer for the next one.
    fn frame(
        &mut self,
        buffer: Buffer,
        first_byte: Arrival,
        size: jpeg::Size,
        said: &mut Repeat,
    ) -> Buffer {
        self.seq += 1;
        let metrics = Arc::clone(&self.reader.metrics);
        let books = &metrics.reader;
        books.captured.increment();
        self.decoded();
        let now = Instant::now();
        match self.verdict(&first_byte) {
            Verdict::Damaged => {
                self.skipped.corrupt += 1;
                books.corrupt.increment();
                log::trace!(camera_id = self.reader.camera.id; "frame {} is damaged", self.seq);
                return buffer;
            }
            Verdict::Late { lag, cause } => {
                books.late.increment();
                self.note_late(lag, cause, now);
                return buffer;
            }
            Verdict::Good => {}
        }
        let frame = Frame {
            epoch: self.epoch,
            seq: self.seq,
            captured: first_byte.read,
            width: size.width,
            height: size.height,
            jpeg: buffer,
        };
        self.reader.note(&frame);
        self.hand_over(frame);
        self.in_time(size, now, said);
        self.hurry.frame(now);
        // For a moment only: a publisher that is stuck does not stop a reader.
        while self.hurry.lasts(Instant::now) && self.reader.mailbox.waiting() {
            std::thread::yield_now();
        }
        self.reader.pool.take()
    }

    fn verdict(&mut self, first_byte: &Arrival) -> Verdict {
        let (backlog, splitter) = (&mut self.backlog, &self.splitter);
        self.judge.judge(first_byte, || {
            backlog.store(|| !splitter.has_next() && splitter.get_ref().is_empty())
        })
    }

    fn hand_over(&mut self, frame: Frame) {
        let (reader, captured) = (&mut *self.reader, frame.captured.monotonic);
        let books = &reader.metrics.reader;
        if !self.thinning.keeps(reader.relief.level(), captured) {
            drop(frame);
            books.throttled.increment();
            return;
        }
        reader.peek.offer(|| Picture::from(&frame));
        if let Some(displaced) = reader.mailbox.put(frame) {
            drop(displaced);
            books.overwritten.increment();
        }
    }

    fn in_time(&mut self, size: jpeg::Size, now: Instant, said: &mut Repeat) {
        self.tell_late(now);
        self.late = None;
        self.skipped = Skipped::default();
        self.is_live((size.width.into(), size.height.into()), "frame", now, said);
    }

    /// A frame or a unit came.
    fn is_live(
        &mut self,
        (width, height): (u64, u64),
        what: &str,
        now: Instant,
        said: &mut Repeat,
    ) {
        let reader = &mut *self.reader;
        reader.breaker.on_frame(now);
        reader.note_breaker();
        self.splitter.get_mut().deadline = now + self.stale_timeout;
        if !self.live {
            reader.status.live();
            reader.note_idle();
            if said.over() {
                let decoder = reader.decoder_in_words(what);
                log::info!(camera_id = reader.camera.id;
                    "live: {width}x{height}, first {what} after {} ms{decoder}",
                    (now - self.started).as_millis());
            }
        }
        self.live = true;
        let first = self.heard.pictures.map_or(now, |(first, _)| first);
        self.heard.pictures = Some((first, now));
    }

    fn skip(&mut self, why: Skip) {
        self.seq += 1;
        self.judge.skip();
        let books = &self.reader.metrics.reader;
        books.captured.increment();
        match why {
            Skip::Oversize => {
                self.skipped.oversize += 1;
                books.oversize.increment();
            }
            _ => {
                self.heard.corrupt = true;
                self.skipped.corrupt += 1;
                books.corrupt.increment();
            }
        }
        log::trace!(camera_id = self.reader.camera.id; "frame {} skipped: {why}", self.seq);
    }
}

impl Reader {
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

    pub(super) fn note_breaker(&self) {
        self.metrics.reader.breaker.set(self.breaker.state() as u64);
    }
}
