//! What a camera sends, for `edge-video probe`: one FFmpeg session that decodes nothing. FFmpeg
//! lists the streams and writes a line for each picture.

mod measure;
mod streams;

pub use measure::{Measured, Stamps};
use streams::MOST as MOST_STREAMS;
pub use streams::{Content, Stream};

use super::child::{Child, Output};
use super::ffmpeg;
use super::installed::Ffmpeg;
use super::learnt::Learnt;
use super::remarks::Remark;
use super::session::Heard;
use super::starts::Starts;
use super::units::{Announced, TimeBase};
use super::{FILM_OVER, GRACE, has_login, words};
use crate::config::{Camera, SourceKind};
use crate::os_error::error_text;
use crate::shutdown::Stop;
use measure::{Clock, Picture, measure};
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// From the first picture on. Most cameras send several keyframes in this time.
const MEASURED_FOR: Duration = Duration::from_secs(10);

/// Pictures that are kept; 10 s of 60 a second, several times over.
const MOST_PICTURES: usize = 4096;

/// The longest line of the index that is read; see `units/index.rs`.
const LONGEST_LINE: usize = 4096;

/// With what cameras are surveyed.
#[derive(Debug)]
pub struct Surveyor<'a> {
    /// The FFmpeg.
    pub ffmpeg: &'a Ffmpeg,
    /// Shared by all cameras.
    pub starts: &'a Starts,
    /// Ends a survey.
    pub stop: &'a Stop,
}

/// What a camera sends.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// FFmpeg's name of the format, for instance `rtsp` or `mpjpeg`.
    pub format: String,
    /// In FFmpeg's order.
    pub streams: Vec<Stream>,
    /// FFmpeg's number of the video stream of which pictures are made: the largest one.
    pub video: Option<u32>,
    /// That stream.
    pub measured: Measured,
    /// It answers each request with one JPEG.
    pub snapshot: bool,
    /// Why it ended before the measurement did, if it did so.
    pub ended: Option<String>,
}

/// What a session has brought so far.
#[derive(Debug, Default)]
struct Look {
    format: Option<String>,
    streams: Vec<Stream>,
    chosen: Option<u32>,
    time_base: Option<TimeBase>,
    line: Vec<u8>,
    pictures: Vec<Picture>,
    /// When the first and the newest came.
    pictures_at: Option<(Instant, Instant)>,
}

/// Why a session is over.
enum Over {
    Measured,
    Exited,
    /// No picture came in time.
    Silent,
    /// FFmpeg must be told something else about the source.
    Relearn,
    Failed(String),
}

impl Surveyor<'_> {
    /// Surveys one camera, at most `until` then.
    ///
    /// # Errors
    /// Why no picture came, and what to do, in the words of the log.
    pub fn survey(&self, camera: &Camera, until: Instant) -> Result<Survey, String> {
        let host = camera.source.host.as_deref();
        std::thread::sleep(self.starts.next(host, Instant::now()));
        let mut learnt = Learnt::default();
        loop {
            let known = learnt;
            match self.session(camera, &mut learnt, until) {
                // Each of the few things to learn is learnt once.
                Err(_) if learnt != known && Instant::now() < until => {}
                outcome => return outcome,
            }
        }
    }

    fn session(
        &self,
        camera: &Camera,
        learnt: &mut Learnt,
        until: Instant,
    ) -> Result<Survey, String> {
        let version = self.ffmpeg.version(self.stop)?;
        let cannot = |error: io::Error| format!("cannot start FFmpeg: {}", error_text(&error));
        let args = ffmpeg::survey_arguments(camera, version, learnt);
        let mut child = Child::spawn(self.ffmpeg.path(), &args, None).map_err(cannot)?;
        let started = Instant::now();
        let clock = match camera.source.kind {
            SourceKind::File | SourceKind::Lavfi => Clock::Stamps,
            _ if learnt.in_segments(camera) => Clock::Stamps,
            _ => Clock::Arrival,
        };
        let mut look = Look::default();
        let mut output = Output::new(&mut child, self.stop, until);
        let over = look.read(&mut output, started, clock, |format| {
            learnt.opened(camera, format)
        });
        let end = child.end(GRACE);
        match over {
            Over::Measured => Ok(look.survey(camera, clock, None)),
            Over::Failed(why) => Err(why),
            Over::Silent | Over::Relearn => {
                let waited = started.elapsed().as_secs();
                Err(format!("no first frame for {waited} s"))
            }
            Over::Exited => {
                let heard = look.heard();
                learnt.ended(camera.source.kind, &heard, &end.last_words);
                let explained = words::explain(&words::Session {
                    kind: camera.source.kind,
                    transport: camera.transport,
                    login: has_login(camera),
                    exit: &end.status,
                    lines: &end.last_words,
                    format: heard.format.as_deref(),
                    live_for: heard.live_for(),
                    lasted: started.elapsed(),
                    stale_timeout: camera.stale_timeout,
                });
                match look.pictures.is_empty() {
                    true => Err(explained.full),
                    false => Ok(look.survey(camera, clock, Some((&end.status, explained.full)))),
                }
            }
        }
    }
}

impl Look {
    /// Reads until enough is known. `opened` is told the format, and says whether FFmpeg must be
    /// started again for it.
    fn read(
        &mut self,
        output: &mut Output<'_>,
        started: Instant,
        clock: Clock,
        mut opened: impl FnMut(&str) -> bool,
    ) -> Over {
        let until = output.deadline;
        let mut bytes = [0; 4096];
        loop {
            let read = output.read(&mut bytes);
            if matches!(read, Ok(0)) {
                // It may have said why just before.
                output.child.hear();
            }
            if self.hear(output.child, &mut opened) {
                return Over::Relearn;
            }
            match read {
                Ok(0) => return Over::Exited,
                Ok(count) => {
                    let at = output.arrival().read.monotonic;
                    let since = at.saturating_duration_since(started);
                    let bytes = bytes.get(..count).unwrap_or_default();
                    if self.take(bytes, since, clock) {
                        let (first, _) = self.pictures_at.unwrap_or((at, at));
                        self.pictures_at = Some((first, at));
                    }
                }
                Err(_) if output.stop.requested() => return Over::Failed("stopping".to_owned()),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                Err(error) => {
                    let why = format!("cannot read from FFmpeg: {}", error_text(&error));
                    return Over::Failed(why);
                }
            }
            if let Some((first, _)) = self.pictures_at {
                output.deadline = until.min(first + MEASURED_FOR);
            }
            if Instant::now() >= output.deadline || self.has_enough(clock) {
                return match self.pictures.is_empty() {
                    true => Over::Silent,
                    false => Over::Measured,
                };
            }
        }
    }

    /// Takes what FFmpeg has said. Returns whether it must be started again.
    fn hear(&mut self, child: &mut Child, opened: &mut impl FnMut(&str) -> bool) -> bool {
        while let Some(remark) = child.take_remark() {
            match remark {
                Remark::Opened(format) => {
                    if opened(&format) {
                        return true;
                    }
                    self.format = Some(format);
                }
                Remark::Stream(line) => self.stream(&line),
                _ => {}
            }
        }
        false
    }

    fn stream(&mut self, line: &str) {
        if let Some((index, "#0:0 (copy)")) = line.split_once(" -> ") {
            self.chosen = index.parse().ok();
        }
        // FFmpeg lists its output too, whose only stream has the number of the first one.
        let known = |stream: &Stream| self.streams.iter().any(|it| it.index == stream.index);
        if self.streams.len() < MOST_STREAMS
            && let Some(stream) = Stream::parse(line).filter(|stream| !known(stream))
        {
            self.streams.push(stream);
        }
    }

    /// Takes bytes of the index, which came `at` this time. Returns whether a picture is complete.
    fn take(&mut self, bytes: &[u8], at: Duration, clock: Clock) -> bool {
        let before = self.pictures.len();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_LINE.saturating_sub(self.line.len());
            self.line.extend(piece.iter().take(room));
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                // A file comes many pictures at once.
                if !self.has_enough(clock) {
                    self.line(String::from_utf8_lossy(&line).trim_end(), at);
                }
            }
        }
        self.pictures.len() > before
    }

    fn line(&mut self, line: &str, at: Duration) {
        if let Some(time_base) = line.strip_prefix("#tb 0: ") {
            self.time_base = TimeBase::parse(time_base);
        }
        if let Some(announced) = Announced::parse(line) {
            let stamp = announced.dts.or(announced.pts);
            self.pictures.push(Picture {
                at,
                stamp: stamp.and_then(|stamp| Some(self.time_base?.micros(stamp))),
                bytes: announced.size,
                key: announced.key,
            });
        }
    }

    fn has_enough(&self, clock: Clock) -> bool {
        let stamp = |picture: Option<&Picture>| picture.and_then(|it| it.stamp);
        let span = match (stamp(self.pictures.first()), stamp(self.pictures.last())) {
            (Some(first), Some(last)) => last.saturating_sub(first),
            _ => 0,
        };
        let whole = i128::from(span) >= MEASURED_FOR.as_micros().cast_signed();
        self.pictures.len() >= MOST_PICTURES || clock == Clock::Stamps && whole
    }

    fn heard(&self) -> Heard {
        Heard {
            format: self.format.clone(),
            pictures: self.pictures_at,
            ..Heard::default()
        }
    }

    /// What is known now. `ended`: how FFmpeg ended before the measurement did, and in words.
    fn survey(self, camera: &Camera, clock: Clock, ended: Option<(&str, String)>) -> Survey {
        let format = self.format.unwrap_or_default();
        let jpegs = matches!(&*format, "image2" | "mjpeg") || format.ends_with("_pipe");
        let stamped = !jpegs && !matches!(&*format, "mpjpeg" | "h264" | "hevc");
        let well = ended
            .as_ref()
            .is_some_and(|(status, _)| *status == FILM_OVER);
        let one = self.pictures.len() == 1;
        let snapshot = camera.source.kind == SourceKind::Http && jpegs && one && well;
        let film_over = clock == Clock::Stamps && !one && well;
        let first_video = || {
            let is_video = |it: &&Stream| matches!(it.content, Content::Video { .. });
            self.streams.iter().find(is_video).map(|it| it.index)
        };
        Survey {
            video: self.chosen.or_else(first_video),
            measured: measure(&self.pictures, clock, stamped),
            snapshot,
            ended: ended
                .map(|(_, why)| why)
                .filter(|_| !snapshot && !film_over),
            streams: self.streams,
            format,
        }
    }
}
