//! `/status`: everything that the page shows, as JSON. It also decides what counts as a problem.

use super::history::{History, Point, STEP};
use crate::clock::span_text;
use crate::memory;
use crate::metrics::{Account, Dropped};
use crate::overview::{Broker, Overview, View, drops_matter};
use crate::redact;
use crate::status::Activity;
use serde::{Serialize, Serializer};
use std::time::{Duration, Instant};

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
    pub last_error: Option<String>,
    pub asked_fps: u32,
    pub captured_fps: f64,
    pub published_fps: f64,
    pub width: u64,
    pub height: u64,
    /// Mean of the last seconds.
    pub frame_bytes: f64,
    /// Of the newest frame.
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
    #[serde(serialize_with = "compact")]
    pub history: Vec<Point>,
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
                let state = CameraState::new(n, view, history, ffmpeg, now);
                let rates = history.rates(n);
                total.cameras += 1;
                total.live += usize::from(state.activity == "live");
                total.captured_fps += rates.captured;
                total.published_fps += rates.published;
                total.bytes_per_second += rates.bytes;
                total.account += &state.account;
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
        let (rates, lately) = (history.rates(n), history.lately(n, view, &account));
        let age = view.age(now);
        let reader = &view.metrics.reader;
        let (level, trouble) = match &status.activity {
            Activity::Live => live_level(view, age, lately.captured, &lately.dropped),
            Activity::Connecting if status.consecutive_failures == 0 => (Level::Starting, None),
            Activity::Connecting | Activity::Waiting { .. } => (Level::Down, None),
            Activity::Stopped => (Level::Starting, None),
        };
        let words = trouble.unwrap_or_else(|| redact::clean(&status.words(now)).into_owned());
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
            last_error: status
                .last_error
                .map(|error| redact::clean(&error).into_owned()),
            asked_fps: view.camera.fps,
            captured_fps: rates.captured,
            published_fps: rates.published,
            width: reader.width.get(),
            height: reader.height.get(),
            frame_bytes: if rates.published > 0.0 {
                rates.bytes / rates.published
            } else {
                0.0
            },
            age_seconds: age.map(|age| age.as_secs_f64()),
            p50_ms: lately.p50_ms,
            p99_ms: lately.p99_ms,
            dropped_last_minute: lately.dropped,
            breaker: match reader.breaker.get() {
                0 => "closed",
                1 => "half open",
                _ => "open",
            },
            ffmpeg_resident_bytes: ffmpeg,
            account,
            history: history.points(n).copied().collect(),
        }
    }
}

/// A camera that sends frames may still be in trouble.
fn live_level(
    view: &View,
    age: Option<Duration>,
    captured: u64,
    dropped: &Dropped,
) -> (Level, Option<String>) {
    let stale = view.camera.stale_timeout;
    if let Some(age) = age.filter(|age| *age > stale / 2) {
        let age_text = span_text(age.as_secs_f64().floor());
        // From its watchdog's bark on it is down, also while its FFmpeg is still being ended.
        return match age >= stale {
            true => (
                Level::Down,
                Some(format!("no frame for {age_text}: starting again")),
            ),
            false => (
                Level::Poor,
                Some(format!("live, but no frame for {age_text}")),
            ),
        };
    }
    if let Some(why) = &view.status.get().refused {
        let trouble = format!("live, but not published: {}", redact::clean(why));
        return (Level::Poor, Some(trouble));
    }
    if !view.link().connected() {
        let trouble = "live, but not published: the broker is not connected";
        return (Level::Poor, Some(trouble.to_owned()));
    }
    if view.link().blocked() {
        let trouble = "live, but not published: the broker has blocked publishing";
        return (Level::Poor, Some(trouble.to_owned()));
    }
    if drops_matter(captured, dropped) {
        let trouble = format!("live, but dropping: {} in a minute", dropped.in_words());
        return (Level::Poor, Some(trouble));
    }
    (Level::Ok, None)
}

fn verdict(
    cameras: &[CameraState],
    broker: &Broker,
    uplink: Option<String>,
    stopping: bool,
) -> (Level, String) {
    let all = cameras.len();
    let count = |level| {
        cameras
            .iter()
            .filter(|camera| camera.level == level)
            .count()
    };
    let (down, poor, starting) = (
        count(Level::Down),
        count(Level::Poor),
        count(Level::Starting),
    );
    let of = |n: usize, one: &str, more: &str| match (n, all) {
        (1, 1) => format!("the camera {one}"),
        (1, _) => format!("1 of {all} cameras {one}"),
        (n, _) if n == all => format!("all {all} cameras {more}"),
        (n, _) => format!("{n} of {all} cameras {more}"),
    };
    let mut parts = Vec::new();
    if !broker.is_connected() {
        parts.push("the broker is not connected".to_owned());
    } else if broker.blocked > 0 {
        parts.push("the broker has blocked publishing".to_owned());
    } else {
        parts.extend(uplink);
    }
    if down > 0 {
        parts.push(of(down, "is down", "are down"));
    }
    // Said already, when it is the broker that all suffer from.
    match (poor, down) {
        (1.., 0) if parts.is_empty() => parts.push(of(poor, "has a problem", "have a problem")),
        (1, 1..) => parts.push("1 has a problem".to_owned()),
        (2.., 1..) => parts.push(format!("{poor} have a problem")),
        _ => {}
    }
    let worst = cameras.iter().map(|camera| camera.level).max();
    let level = match parts.is_empty() {
        false if down > 0 || !broker.is_connected() => Level::Down,
        false => Level::Poor,
        true => worst.unwrap_or(Level::Ok),
    };
    if parts.is_empty() {
        parts.push(match (all, starting) {
            (0, _) => "no camera is configured".to_owned(),
            (_, 0) => of(all, "is live", "are live"),
            _ => of(starting, "is starting", "are starting"),
        });
    }
    let mut verdict = match stopping {
        true => "stopping".to_owned(),
        false => parts.join(", "),
    };
    if let Some(first) = verdict.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    (level, verdict)
}
