//! A camera's own video (passthrough) in `/status`.

use crate::config::Pictures;
use crate::http::history::{History, Rates};
use crate::metrics::{OTHER_CODEC, UnitsDropped, VideoAccount};
use crate::overview::View;
use serde::Serialize;

/// The video of one camera.
#[derive(Debug, Serialize)]
pub(in crate::http) struct VideoState {
    /// `h264` or `h265`; `other` if it cannot be passed through; `None` before the first unit.
    pub codec: Option<&'static str>,
    pub width: u64,
    pub height: u64,
    /// Which pictures are published beside it: `all`, `keyframes`, `none`.
    pub pictures: &'static str,
    pub captured_per_second: f64,
    pub published_per_second: f64,
    /// What the camera sends, mean of the last seconds.
    pub kbit_per_second: f64,
    /// The distance of its last two keyframes; `None` before the second one.
    pub gop_seconds: Option<f64>,
    /// From capture to confirm, last minute.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub dropped_last_minute: UnitsDropped,
    #[serde(flatten)]
    pub account: VideoAccount,
    /// The last minute.
    #[serde(skip)]
    pub lately: VideoAccount,
}

/// The video of all cameras.
#[derive(Debug, Default, Serialize)]
pub(in crate::http) struct VideoTotal {
    pub captured_per_second: f64,
    pub published_per_second: f64,
    /// What the cameras send.
    pub kbit_per_second: f64,
    /// What is published.
    pub bytes_per_second: f64,
    #[serde(flatten)]
    pub account: VideoAccount,
}

impl VideoState {
    /// That of camera `n`, if it is passed through.
    pub(super) fn new(n: usize, view: &View, history: &History) -> Option<Self> {
        let account = view.video()?;
        let (reader, rates) = (&view.metrics.video.reader, history.unit_rates(n));
        let minute = history.units_lately(n, view);
        let lately = minute.as_ref().map(|it| account.since(&it.before));
        let lately = lately.unwrap_or_default();
        Some(Self {
            codec: match reader.codec.get() {
                1 => Some("h264"),
                2 => Some("h265"),
                OTHER_CODEC => Some("other"),
                _ => None,
            },
            width: reader.width.get(),
            height: reader.height.get(),
            pictures: match view.camera.pictures {
                Pictures::All => "all",
                Pictures::Keyframes => "keyframes",
                Pictures::None => "none",
            },
            captured_per_second: rates.captured,
            published_per_second: rates.published,
            kbit_per_second: kbit(rates.captured_bytes),
            gop_seconds: match reader.gop_us.get() {
                0 => None,
                us => Some(us as f64 / 1e6),
            },
            p50_ms: minute.as_ref().and_then(|it| it.p50_ms),
            p99_ms: minute.as_ref().and_then(|it| it.p99_ms),
            dropped_last_minute: lately.dropped.clone(),
            account,
            lately,
        })
    }
}

impl VideoTotal {
    /// Adds one camera's, with what flows through it now.
    pub(super) fn add(&mut self, video: &VideoState, rates: &Rates) {
        self.captured_per_second += rates.captured;
        self.published_per_second += rates.published;
        self.kbit_per_second += kbit(rates.captured_bytes);
        self.bytes_per_second += rates.bytes;
        self.account += &video.account;
    }
}

fn kbit(bytes: f64) -> f64 {
    bytes * 8.0 / 1000.0
}
