//! The access units of a session (passthrough): reads them, numbers them, and hands them over.

use super::backlog::Backlog;
use super::lag::Lag;
use super::losses::Losses;
use super::still::{Motion, Sizes};
use super::tap::{Pipe, Tap};
use super::units::{Complete, Part, UnitError, Units};
use crate::clock::process_us;
use crate::config;
use crate::frame::{Codec, Unit};
use crate::handoff::gops::{Drops, Gop, GopSender, Placed};
use crate::metrics::CameraMetrics;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The largest distance of two keyframes that is not mentioned, µs. Most cameras have 1 to 4 s.
const LONG_GOP_US: i64 = 4_000_000;

/// A larger distance is a jump of the camera's clock, µs.
const MAX_GOP_US: i64 = 3_600_000_000;

/// What of the units outlives a session.
#[derive(Debug)]
pub struct Video {
    /// Where the units go. Closed when it is dropped.
    pub queue: GopSender<Unit>,
    /// The largest size of a unit, and of all that wait, bytes.
    pub max_bytes: usize,
    /// What is later than this is dropped.
    pub max_age: Duration,
    /// A long distance between keyframes has been mentioned.
    pub long_gop_said: bool,
}

impl Video {
    /// Of a camera with this `queue`.
    pub fn new(queue: GopSender<Unit>, settings: &config::Video) -> Self {
        Self {
            queue,
            max_bytes: settings.max_bytes,
            max_age: settings.max_age,
            long_gop_said: false,
        }
    }
}

/// The units of one session.
#[derive(Debug)]
pub(super) struct VideoSession {
    units: Units,
    flow: Flow,
}

/// What came.
#[derive(Debug, Default)]
pub(super) struct News {
    /// When the last unit came that is in time.
    pub(super) unit: Option<Instant>,
    /// How late the last unit was, if it was too late.
    pub(super) late: Option<Duration>,
    /// The distance between two keyframes, if it is to be mentioned.
    pub(super) long_gop: Option<Duration>,
    /// What the last second of units shows of the picture, once a second.
    pub(super) motion: Option<Motion>,
    /// The line of another unit is here.
    pub(super) more: bool,
}

impl VideoSession {
    /// For the session of this `epoch`. `live`: the source is a camera that goes on whether we read
    /// it or not.
    pub(super) fn new(video: &Video, metrics: &Arc<CameraMetrics>, epoch: i64, live: bool) -> Self {
        Self {
            units: Units::new(video.max_bytes),
            flow: Flow {
                metrics: Arc::clone(metrics),
                started: Instant::now(),
                epoch,
                seq: 0,
                gop: 0,
                gop_index: 0,
                key_at: None,
                lag: live.then(|| Lag::new(video.max_age)),
                losses: Losses::default(),
                sizes: Sizes::default(),
            },
        }
    }

    /// FFmpeg has opened the source.
    pub(super) fn opened(&mut self, now: Instant) {
        let after = now.saturating_duration_since(self.flow.started);
        if let Some(lag) = &mut self.flow.lag {
            lag.opened(after);
        }
    }

    /// The session's pictures have shown that FFmpeg waits for the camera. Units cannot show it as
    /// soon: FFmpeg decodes a picture while its unit is read.
    pub(super) fn note_settled(&mut self) {
        if let Some(lag) = &mut self.flow.lag {
            lag.note_settled();
        }
    }

    /// FFmpeg has reported missing packets.
    pub(super) fn missed_packets(&mut self) {
        self.flow.losses.reported();
    }

    /// Reads what is there of the next unit, without waiting, and hands it over if it is complete.
    ///
    /// # Errors
    /// When the session cannot go on.
    pub(super) fn pump(
        &mut self,
        tap: &mut Tap,
        video: &mut Video,
        backlog: &mut Backlog,
    ) -> Result<News, Ended> {
        let mut news = News::default();
        if self.units.room()?.is_empty() {
            self.read_index(tap)?;
        }
        let room = self.units.room()?;
        let length = room.len();
        if length == 0 {
            // Since 7.0 FFmpeg has a thread for each pipe, so bytes may come before their line.
            tap.wait_for(Pipe::Index);
            tap.ready = false;
            return Ok(news);
        }
        tap.wait_for(Pipe::Bytes);
        let count = tap.read_bytes(room)?;
        if count == 0 {
            tap.ready = false;
            return Ok(news);
        }
        if let Some(part) = self.units.filled(count, tap.arrival())? {
            self.flow.part(&part, tap, video, backlog, &mut news);
        }
        // The poll is cheaper than a read in vain: this was all, most likely.
        news.more = count == length && self.units.has_line();
        Ok(news)
    }

    fn read_index(&mut self, tap: &mut Tap) -> Result<(), Ended> {
        loop {
            let room = self.units.index_room();
            let length = room.len();
            let count = match length {
                0 => 0,
                _ => tap.read_index(room)?,
            };
            self.units.index_filled(count);
            if count < length || length == 0 {
                return Ok(());
            }
        }
    }
}

/// Why a session can bring no more units.
#[derive(Debug)]
pub(super) enum Ended {
    Units(UnitError),
    Io(io::Error),
}

impl From<UnitError> for Ended {
    fn from(error: UnitError) -> Self {
        Self::Units(error)
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Where in the stream a session is.
#[derive(Debug)]
struct Flow {
    metrics: Arc<CameraMetrics>,
    started: Instant,
    epoch: i64,
    seq: u64,
    gop: i64,
    gop_index: i32,
    /// When the last key unit was to be decoded, in the stream's time, µs.
    key_at: Option<i64>,
    /// As for pictures, see [`Judge`](super::judge::Judge).
    lag: Option<Lag>,
    losses: Losses,
    sizes: Sizes,
}

impl Flow {
    fn part(
        &mut self,
        part: &Part<'_>,
        tap: &Tap,
        video: &mut Video,
        backlog: &mut Backlog,
        news: &mut News,
    ) {
        if matches!(part, Part::Unit(complete) if !complete.has_picture()) {
            return;
        }
        let metrics = Arc::clone(&self.metrics);
        let counters = &metrics.video.reader;
        self.seq += 1;
        counters.captured.increment();
        match part {
            Part::Oversize { key, .. } => {
                self.next_gop(*key);
                counters.oversize.increment();
                video.queue.skip(self.gop());
            }
            Part::Unit(complete) => {
                counters.bytes.add(complete.bytes.len() as u64);
                self.next_gop(complete.key);
                self.note_gop(complete, video, news);
                news.motion = self.sizes.unit(complete);
                match self.losses.is_whole(complete.corrupt, || tap.is_empty()) {
                    true => self.unit(complete, tap, video, backlog, news),
                    false => {
                        counters.corrupt.increment();
                        video.queue.skip(self.gop());
                    }
                }
            }
        }
    }

    fn next_gop(&mut self, key: bool) {
        match key {
            true => {
                self.gop += 1;
                self.gop_index = 0;
            }
            false => self.gop_index = self.gop_index.saturating_add(1),
        }
    }

    fn gop(&self) -> Gop {
        Gop {
            epoch: self.epoch,
            number: self.gop,
        }
    }

    /// Measures the distance between two keyframes.
    fn note_gop(&mut self, complete: &Complete<'_>, video: &mut Video, news: &mut News) {
        let Some(at) = complete.dts_us.filter(|_| complete.key) else {
            return;
        };
        if let Some(before) = self.key_at.replace(at) {
            let length = at.saturating_sub(before).clamp(0, MAX_GOP_US);
            let counters = &self.metrics.video.reader;
            counters.gop_us.set(length.cast_unsigned());
            if length > LONG_GOP_US && !video.long_gop_said {
                video.long_gop_said = true;
                news.long_gop = Some(Duration::from_micros(length.cast_unsigned()));
            }
        }
    }

    fn unit(
        &mut self,
        complete: &Complete<'_>,
        tap: &Tap,
        video: &mut Video,
        backlog: &mut Backlog,
        news: &mut News,
    ) {
        let metrics = Arc::clone(&self.metrics);
        let counters = &metrics.video.reader;
        let arrival = &complete.first_byte;
        let now = arrival.read.monotonic;
        let in_pipe = now.saturating_duration_since(arrival.written_after);
        let at = now.saturating_duration_since(self.started);
        let lag = match (&mut self.lag, complete.dts_us) {
            (Some(lag), Some(dts_us)) => {
                let store = || backlog.store(|| tap.is_empty());
                lag.of(at, dts_us as f64 / 1e6, store)
            }
            _ => Duration::ZERO,
        };
        let late = in_pipe.max(lag);
        news.late = (late > video.max_age).then_some(late);
        if news.late.is_some() {
            counters.late.increment();
            video.queue.skip(self.gop());
            return;
        }
        news.unit = Some(now);
        counters.last_unit_us.set(process_us(now));
        counters
            .last_unit_unix_us
            .set(arrival.read.unix_us.cast_unsigned());
        counters.codec.set(match complete.codec {
            Codec::H264 => 1,
            Codec::H265 => 2,
        });
        counters.width.set(complete.width.into());
        counters.height.set(complete.height.into());
        let unit = Unit {
            epoch: self.epoch,
            seq: self.seq,
            gop: self.gop,
            gop_index: self.gop_index,
            key: complete.key,
            pts_us: complete.pts_us,
            captured: arrival.read,
            width: complete.width,
            height: complete.height,
            codec: complete.codec,
        };
        let placed = Placed {
            gop: self.gop(),
            key: complete.key,
            since: now,
            unit,
        };
        let Drops {
            overwritten,
            oversize,
            no_key,
            ..
        } = video.queue.put(placed, complete.bytes);
        counters.overwritten.add(overwritten);
        counters.oversize.add(oversize);
        counters.no_key.add(no_key);
    }
}
