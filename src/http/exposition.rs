//! `/metrics`: every metric with its name and help, in the Prometheus text format. Names are
//! written here without their prefix `edge_video_`, which `text.rs` adds.
//!
//! The format is written by hand. prometheus-client 0.25 writes OpenMetrics text only. Read as
//! Prometheus' own text format, it loses the type and help of counters.

mod text;
mod video;

use crate::logging;
use crate::memory::usage::Usage;
use crate::metrics::{Account, CameraMetrics};
use crate::overview::{Overview, View};
use crate::system;
use std::sync::Arc;
use std::time::Instant;
use text::{Text, escape};

/// `Content-Type` of the text.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Microseconds, as seconds.
const MICRO: f64 = 1e-6;

/// All metrics now.
pub(super) fn text(overview: &Overview) -> String {
    let views = || overview.cameras.iter();
    let cameras = Camera::all(views(), CameraMetrics::snapshot);
    let with_video = Camera::all(
        views().filter(|view| view.camera.passthrough),
        CameraMetrics::video_snapshot,
    );
    let memory = overview.memory();
    // A camera takes some 7 KB, its video 5 KB.
    let mut out = Text::with_capacity(4096 + cameras.len() * 8192 + with_video.len() * 6144);
    frames(&mut out, &cameras);
    let now = Instant::now();
    pictures(&mut out, &cameras, now);
    if overview.adapts_quality() {
        out.gauges(
            "quality",
            "FFmpeg's quantiser for the camera's pictures now: 2 (best) to 31.",
            &cameras,
            |c| c.view.quality.now(),
        );
    }
    let watched = views().filter(|view| view.camera.frozen.after.is_some());
    let watched = Camera::all(watched, |_| ());
    if !watched.is_empty() {
        out.gauges(
            "picture_frozen",
            "Whether pictures come that have not changed for frozen.after (1) or not (0).",
            &watched,
            |c| u8::from(c.view.frozen_for(now).is_some()),
        );
    }
    idle(&mut out, &cameras);
    ffmpegs(&mut out, &cameras, &memory.ffmpeg);
    distributions(&mut out, &cameras);
    video::units(&mut out, &with_video);
    broker(&mut out, overview);
    program(&mut out, overview, &memory);
    process(&mut out);
    out.into_string()
}

/// Where each camera's frames have gone.
fn frames(out: &mut Text, cameras: &[Camera<'_>]) {
    out.counters(
        "frames_captured_total",
        "Frames that FFmpeg sent, good or not.",
        cameras,
        |c| c.account.captured,
    );
    out.counters(
        "frames_published_total",
        "Frames that the broker acked and did not return.",
        cameras,
        |c| c.account.published,
    );
    out.reasons(
        "frames_dropped_total",
        "Frames that were captured and not published.",
        cameras,
        |c| c.account.dropped.by_reason().to_vec(),
    );
    out.gauges(
        "frames_in_flight",
        "Frames with the broker that it has not confirmed yet.",
        cameras,
        |c| c.account.in_flight,
    );
    out.counters(
        "frame_bytes_total",
        "Bytes of the published frames.",
        cameras,
        |c| c.account.bytes,
    );
}

/// What each camera's pictures are like.
fn pictures(out: &mut Text, cameras: &[Camera<'_>], now: Instant) {
    out.gauges(
        "last_frame_timestamp_seconds",
        "Unix time of the last whole frame; 0 before the first.",
        cameras,
        |c| {
            let (reader, video) = (&c.view.metrics.reader, &c.view.metrics.video.reader);
            // As for `camera_up`, a unit is as good as a frame.
            let newest = reader.last_frame_unix_us.get();
            newest.max(video.last_unit_unix_us.get()) as f64 * MICRO
        },
    );
    out.gauges(
        "camera_up",
        "Whether frames arrive (1) or not (0).",
        cameras,
        |c| u8::from(c.view.is_up(now)),
    );
    out.gauges(
        "camera_width_pixels",
        "Width of the last frame; 0 before the first.",
        cameras,
        |c| c.view.metrics.reader.width.get(),
    );
    out.gauges(
        "camera_height_pixels",
        "Height of the last frame; 0 before the first.",
        cameras,
        |c| c.view.metrics.reader.height.get(),
    );
    out.head(
        "decoder_info",
        "gauge",
        "Always 1; what decodes the camera's pictures, or decoded the last ones.",
    );
    for camera in cameras {
        if let Some(decoder) = camera.view.status.get().decoder {
            let labels = format!("{},decoder=\"{decoder}\"", camera.label);
            out.line("decoder_info", &labels, 1);
        }
    }
}

/// Which cameras have no consumer. Without `idle.after` there is nothing to tell.
fn idle(out: &mut Text, cameras: &[Camera<'_>]) {
    if cameras.iter().any(|camera| camera.view.may_be_idle()) {
        out.gauges(
            "idle",
            "Whether the camera has no consumer, so that few pictures are published (1), or not.",
            cameras,
            |c| u8::from(c.view.is_idle()),
        );
    }
}

/// How each camera's FFmpeg fares. `ffmpeg`: bytes of each in RAM.
fn ffmpegs(out: &mut Text, cameras: &[Camera<'_>], ffmpeg: &[u64]) {
    out.reasons(
        "ffmpeg_restarts_total",
        "FFmpeg sessions that ended and were started again.",
        cameras,
        |c| c.account.restarts.by_reason().to_vec(),
    );
    out.head(
        "ffmpeg_resident_memory_bytes",
        "gauge",
        "Memory in RAM of the camera's FFmpeg; 0 while none runs.",
    );
    for (camera, bytes) in cameras.iter().zip(ffmpeg) {
        out.line("ffmpeg_resident_memory_bytes", &camera.label, bytes);
    }
    out.gauges(
        "circuit_breaker_state",
        "0 closed, 1 half open (on trial), 2 open (waiting for the next try).",
        cameras,
        |c| c.view.metrics.reader.breaker.get(),
    );
    out.counters(
        "slow_publishes_total",
        "Published frames that took longer than amqp.slow_publish from capture to confirm.",
        cameras,
        |c| c.account.slow,
    );
}

fn distributions(out: &mut Text, cameras: &[Camera<'_>]) {
    out.histograms(
        "capture_to_publish_seconds",
        "From the capture of a frame until it is handed to the broker's client.",
        cameras,
        MICRO,
        |c| c.view.metrics.publisher.capture_to_publish.read(),
    );
    out.histograms(
        "publish_to_confirm_seconds",
        "From the hand-over of a frame until the broker acked it.",
        cameras,
        MICRO,
        |c| c.view.metrics.publisher.publish_to_confirm.read(),
    );
    out.histograms(
        "frame_size_bytes",
        "Sizes of the whole frames captured.",
        cameras,
        1.0,
        |c| c.view.metrics.reader.frame_size.read(),
    );
}

/// How the broker is, and the way to it.
fn broker(out: &mut Text, overview: &Overview) {
    let broker = overview.broker();
    out.gauge(
        "broker_connected",
        "Whether every connection to the broker is up (1) or not (0).",
        u8::from(broker.is_connected()),
    );
    out.gauge(
        "broker_blocked",
        "Whether the broker has blocked publishing (1): a memory or disk alarm.",
        u8::from(broker.blocked > 0),
    );
    out.counter(
        "broker_reconnects_total",
        "Reconnects to the broker.",
        broker.reconnects,
    );
    let uplink = overview.uplink();
    out.gauge(
        "uplink_bytes_per_second",
        "Bytes of frames that the broker confirmed, mean of the last 10 s.",
        uplink.carried.round(),
    );
    out.gauge(
        "offered_bytes_per_second",
        "Bytes of frames that the cameras sent, mean of the last 10 s.",
        uplink.offered.round(),
    );
    out.gauge(
        "uplink_short",
        "Whether the uplink is too slow for what the cameras send (1) or not (0).",
        u8::from(uplink.short),
    );
}

/// How the program is.
fn program(out: &mut Text, overview: &Overview, memory: &Usage) {
    out.gauge(
        "memory_level",
        "0 normal, 1 warning, 2 critical, 3 emergency.",
        overview.pressure.level() as u8,
    );
    out.gauge(
        "memory_used_bytes",
        "Memory in RAM of the daemon and its FFmpeg processes.",
        memory.used(),
    );
    out.gauge(
        "memory_limit_bytes",
        "What the daemon and its FFmpeg processes may use together.",
        memory.limit,
    );
    out.counter(
        "log_records_dropped_total",
        "Log records dropped because stderr did not take them.",
        logging::dropped(),
    );
    out.counter(
        "worker_panics_total",
        "Panics of worker threads. After a panic the thread starts its work again.",
        *overview.metrics.worker_panics.lock(),
    );
    out.counter(
        "events_published_total",
        "Events about cameras that the broker acked.",
        overview.metrics.events.published.get(),
    );
    out.counter(
        "events_lost_total",
        "Frame events that found no room, were refused, or got no answer.",
        overview.metrics.events.lost_in_all(),
    );
    out.head("build_info", "gauge", "Always 1; the version is a label.");
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    out.line("build_info", &version, 1);
}

/// The usual metrics of a process, which have no prefix of ours.
fn process(out: &mut Text) {
    let process = system::process();
    for (name, kind, help, value) in [
        (
            "cpu_seconds_total",
            "counter",
            "User and system CPU time.",
            process.cpu_seconds,
        ),
        (
            "resident_memory_bytes",
            "gauge",
            "Memory in RAM of the daemon alone.",
            process.resident_bytes as f64,
        ),
        (
            "open_fds",
            "gauge",
            "Open file descriptors.",
            process.open_fds as f64,
        ),
        ("threads", "gauge", "Threads.", process.threads as f64),
        (
            "start_time_seconds",
            "gauge",
            "Start of the process, Unix time.",
            process.start_time_seconds,
        ),
    ] {
        out.alone((&format!("process_{name}"), kind, help), value);
    }
}

/// One camera, its account and its label, read once for all metrics.
struct Camera<'a, A = Account> {
    view: &'a View,
    account: A,
    /// `camera_id="..."`
    label: String,
}

impl<'a, A> Camera<'a, A> {
    fn all(
        views: impl Iterator<Item = &'a Arc<View>>,
        account: impl Fn(&CameraMetrics) -> A,
    ) -> Vec<Self> {
        views
            .map(|view| Self {
                view,
                account: account(&view.metrics),
                label: format!("camera_id=\"{}\"", escape(&view.camera.id)),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of all metrics, in their order.
    fn names(config: &str) -> Vec<String> {
        let text = text(&Overview::for_test(config, &[]));
        let heads = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let names = heads.filter_map(|head| head.split(' ').next());
        names.map(str::to_owned).collect()
    }

    #[test]
    fn whether_a_picture_is_frozen_is_told_of_cameras_for_which_it_is_looked_at() {
        let config = "cameras: [{id: a, url: /a}, {id: b, url: /b, frozen: {after: 40s}}]";
        let overview = Overview::for_test(config, &[]);
        let lines = || -> Vec<String> {
            let text = text(&overview);
            let lines = text
                .lines()
                .filter(|it| it.starts_with("edge_video_picture_frozen"));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(lines(), ["edge_video_picture_frozen{camera_id=\"b\"} 0"]);
        overview.cameras[1].status.frozen(Some(Instant::now()));
        assert_eq!(lines(), ["edge_video_picture_frozen{camera_id=\"b\"} 1"]);
        assert!(
            !names("cameras: [{id: a, url: /a}]").contains(&"edge_video_picture_frozen".into())
        );
    }

    #[test]
    fn without_idle_there_is_no_metric_of_it() {
        let cameras = "cameras: [{id: a, url: /a}]";
        let plain = names(cameras);
        let mut with = names(&format!("idle: {{after: 5m}}\n{cameras}"));
        with.retain(|name| name != "edge_video_idle");
        assert!(with.len() == plain.len() && !plain.contains(&"edge_video_idle".to_owned()));
        let overview = Overview::for_test(&format!("idle: {{after: 5m}}\n{cameras}"), &[]);
        let line = |value| format!("edge_video_idle{{camera_id=\"a\"}} {value}\n");
        assert!(text(&overview).contains(&line(0)));
        overview.cameras[0].status.idle(true);
        assert!(text(&overview).contains(&line(1)));
    }

    #[test]
    fn without_passthrough_there_are_no_metrics_of_video() {
        let plain = names("cameras: [{id: a, url: /a}, {id: b, url: /b}]");
        assert!(plain.iter().all(|name| !name.contains("_video_video_")));
        let mut with = names("cameras: [{id: a, url: /a}, {id: b, url: /b, passthrough: true}]");
        let before = with.len();
        with.retain(|name| !name.starts_with("edge_video_video_"));
        assert_eq!(before - with.len(), 7);
        assert_eq!(with, plain);
    }
}
