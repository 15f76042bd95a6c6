//! `/status`: everything that the page shows, as JSON.

mod problems;
mod video;

use super::history::{History, Point, STEP};
use crate::config::Pictures;
use crate::memory;
use crate::metrics::{Account, Dropped, VideoAccount};
use crate::overview::{Overview, View};
use crate::redact;
use crate::status::Activity;
use problems::{dropping, live_level, verdict};
use serde::{Serialize, Serializer};
use std::time::Instant;
pub(super) use video::{VideoState, VideoTotal};

/// How bad it is. Sorted: what is worse is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    /// On its way, nothing has failed yet.
    Starting,
    /// Works, but not well.
    Poor,
    Down,
}

impl Level {
    /// As the page names it, in CSS classes too.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Starting => "starting",
            Self::Poor => "poor",
            Self::Down => "down",
        }
    }
}

/// Everything, at one moment.
#[derive(Debug, Serialize)]
pub(super) struct PageState {
    pub version: &'static str,
    pub uptime_seconds: f64,
    pub level: Level,
    /// The answer to "are my cameras all right?"
    pub verdict: String,
    pub broker: BrokerState,
    pub uplink: UplinkState,
    pub memory: MemoryState,
    /// Whether the client may see pictures.
    pub pictures: bool,
    pub total: Total,
    /// Seconds from one point of the cameras' `history` to the next.
    pub history_step_seconds: u64,
    /// Problems first, then in the configuration's order.
    pub cameras: Vec<CameraState>,
    pub disabled: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct BrokerState {
    pub connected: bool,
    pub blocked: bool,
    pub connections: usize,
    pub reconnects: u64,
    /// `host:port`
    pub urls: Vec<String>,
    pub why_down: Option<String>,
}

/// Means of the last 10 s.
#[derive(Debug, Serialize)]
pub(super) struct UplinkState {
    /// What the broker confirmed.
    pub bytes_per_second: f64,
    /// What the cameras sent.
    pub offered_bytes_per_second: f64,
    /// It is too slow.
    pub short: bool,
    /// The same for people, with what to do.
    pub words: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct MemoryState {
    pub level: memory::Level,
    pub used_bytes: u64,
    pub daemon_bytes: u64,
    pub limit_bytes: u64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Total {
    pub cameras: usize,
    pub live: usize,
    pub captured_fps: f64,
    pub published_fps: f64,
    pub bytes_per_second: f64,
    #[serde(flatten)]
    pub account: Account,
    /// Of the cameras with passthrough, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoTotal>,
}

#[derive(Debug, Serialize)]
pub(super) struct CameraState {
    pub id: String,
    pub level: Level,
    /// `connecting`, `live`, `waiting`, `stopped`
    pub activity: &'static str,
    /// The same for people, with the reason.
    pub words: String,
    pub since_seconds: f64,
    pub consecutive_failures: u32,
    /// Whether it has no consumer, if `idle.after` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<bool>,
    pub last_error: Option<String>,
    /// Its picture has not changed for this time, and counts as frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picture_frozen_seconds: Option<f64>,
    /// FFmpeg's quantiser now, if it follows the uplink, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<u32>,
    /// ... and as configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_quality: Option<u32>,
    /// 0 without pictures.
    pub asked_fps: u32,
    pub captured_fps: f64,
    pub published_fps: f64,
    pub width: u64,
    pub height: u64,
    /// What decodes its pictures: `software`, `vaapi`, ...; `None` before the first.
    pub decoder: Option<&'static str>,
    /// Mean of the last seconds.
    pub frame_bytes: f64,
    /// Of the newest frame or access unit.
    pub age_seconds: Option<f64>,
    /// From capture to confirm, last minute.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub dropped_last_minute: Dropped,
    /// `closed`, `half open`, `open`
    pub breaker: &'static str,
    pub ffmpeg_resident_bytes: u64,
    #[serde(flatten)]
    pub account: Account,
    /// With passthrough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoState>,
    #[serde(serialize_with = "compact")]
    pub history: Vec<Point>,
    /// Which pictures are published.
    #[serde(skip)]
    pub pictures: Pictures,
    /// What shows that the camera is alive: `frame` or `access unit`.
    #[serde(skip)]
    pub sign_of_life: &'static str,
}

/// A point as `[captured fps, published fps, p99 ms]`.
fn compact<S: Serializer>(points: &[Point], serializer: S) -> Result<S::Ok, S::Error> {
    let tenth = |value: f64| (value * 10.0).round() / 10.0;
    serializer.collect_seq(points.iter().map(|point| {
        (
            tenth(point.captured),
            tenth(point.published),
            point.p99_ms.map(tenth),
        )
    }))
}

impl PageState {
    pub(super) fn new(overview: &Overview, history: &History, pictures: bool) -> Self {
        let now = Instant::now();
        let memory = overview.memory();
        let mut total = Total::default();
        let mut cameras: Vec<_> = overview
            .cameras
            .iter()
            .enumerate()
            .map(|(n, view)| {
                let ffmpeg = memory.ffmpeg.get(n).copied().unwrap_or(0);
                let mut state = CameraState::new(n, view, history, ffmpeg, now);
                if overview.adapts_quality() && state.pictures != Pictures::None {
                    state.quality = Some(view.quality.now());
                    state.asked_quality = Some(view.quality.configured());
                }
                let rates = history.rates(n);
                total.cameras += 1;
                total.live += usize::from(state.activity == "live");
                total.captured_fps += rates.captured;
                total.published_fps += rates.published;
                total.bytes_per_second += rates.bytes;
                total.account += &state.account;
                if let Some(video) = &state.video {
                    let sum = total.video.get_or_insert_default();
                    sum.add(video, &history.unit_rates(n));
                }
                state
            })
            .collect();
        // Stable: the configuration's order within a level.
        cameras.sort_by_key(|camera| std::cmp::Reverse(camera.level));
        let broker = overview.broker();
        let uplink = overview.uplink();
        let (level, verdict) = verdict(&cameras, &broker, uplink.words(), overview.is_stopping());
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: (now - overview.started).as_secs_f64(),
            level,
            verdict,
            memory: MemoryState {
                level: overview.pressure.level(),
                used_bytes: memory.used(),
                daemon_bytes: memory.daemon,
                limit_bytes: memory.limit,
            },
            uplink: UplinkState {
                bytes_per_second: uplink.carried.round(),
                offered_bytes_per_second: uplink.offered.round(),
                short: uplink.short,
                words: uplink.words(),
            },
            broker: BrokerState {
                connected: broker.is_connected(),
                blocked: broker.blocked > 0,
                connections: broker.connections,
                reconnects: broker.reconnects,
                urls: overview.brokers.clone(),
                why_down: broker.why_down.map(|why| redact::clean(&why).into_owned()),
            },
            pictures,
            total,
            history_step_seconds: STEP.as_secs(),
            cameras,
            disabled: overview.disabled.iter().map(ToString::to_string).collect(),
        }
    }
}

impl CameraState {
    fn new(n: usize, view: &View, history: &History, ffmpeg: u64, now: Instant) -> Self {
        let (status, account) = (view.status.get(), view.metrics.snapshot());
        let (rates, lately) = (history.rates(n), history.lately(n, view));
        let lately_frames = lately.as_ref().map(|it| account.since(&it.before));
        let lately_frames = lately_frames.unwrap_or_default();
        let video = VideoState::new(n, view, history);
        let age = view.age(now);
        let reader = &view.metrics.reader;
        let (level, trouble) = match &status.activity {
            Activity::Live => {
                let video = video.as_ref().map(|video| &video.lately);
                let dropping = match view.may_be_idle() {
                    false => dropping(&lately_frames, video),
                    // What reaches no queue is no problem then.
                    true => {
                        let video = video.map(VideoAccount::without_returned);
                        dropping(&lately_frames.without_returned(), video.as_ref())
                    }
                };
                live_level(view, age, dropping, now)
            }
            Activity::Connecting if status.consecutive_failures == 0 => (Level::Starting, None),
            Activity::Connecting | Activity::Waiting { .. } => (Level::Down, None),
            Activity::Stopped => (Level::Starting, None),
        };
        let words = trouble.unwrap_or_else(|| redact::clean(&view.words(now)).into_owned());
        Self {
            id: view.camera.id.to_string(),
            level,
            activity: match status.activity {
                Activity::Connecting => "connecting",
                Activity::Live => "live",
                Activity::Waiting { .. } => "waiting",
                Activity::Stopped => "stopped",
            },
            words,
            since_seconds: now.saturating_duration_since(status.since).as_secs_f64(),
            consecutive_failures: status.consecutive_failures,
            idle: view.may_be_idle().then_some(status.idle),
            last_error: status
                .last_error
                .map(|error| redact::clean(&error).into_owned()),
            picture_frozen_seconds: view.frozen_for(now).map(|time| time.as_secs_f64()),
            quality: None,
            asked_quality: None,
            asked_fps: match view.camera.pictures {
                Pictures::All | Pictures::Keyframes => view.camera.fps,
                Pictures::None => 0,
            },
            captured_fps: rates.captured,
            published_fps: rates.published,
            width: reader.width.get(),
            height: reader.height.get(),
            decoder: status.decoder,
            frame_bytes: if rates.published > 0.0 {
                rates.bytes / rates.published
            } else {
                0.0
            },
            age_seconds: age.map(|age| age.as_secs_f64()),
            p50_ms: lately.as_ref().and_then(|it| it.p50_ms),
            p99_ms: lately.as_ref().and_then(|it| it.p99_ms),
            dropped_last_minute: lately_frames.dropped,
            breaker: match reader.breaker.get() {
                0 => "closed",
                1 => "half open",
                _ => "open",
            },
            ffmpeg_resident_bytes: ffmpeg,
            account,
            video,
            history: history.points(n).copied().collect(),
            pictures: view.camera.pictures,
            sign_of_life: view.sign_of_life(),
        }
    }
}

#[cfg(test)]
mod tests;
