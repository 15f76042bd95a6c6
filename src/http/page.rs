//! The status page: one HTML file, filled in here.
//!
//! The same texts go into the page and, once a second, to its script, so that what is shown is worded
//! in one place and does not need the script.

use super::history::{POINTS, Point};
use super::state::{CameraState, Level, State};
use crate::memory;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

const TEMPLATE: &str = include_str!("page.html");
/// Around the part of the template that is repeated for each camera.
const TILE: [&str; 2] = ["<!-- tile -->\n", "<!-- /tile -->\n"];

/// Height of a plot in its own units; its width is one unit a point.
const PLOT_HEIGHT: f64 = 32.0;

/// In the place of a value or a plot that a camera has not given.
const NO_DATA: &str = "no data";

/// Texts by the name that the template has for them.
type Fields = BTreeMap<&'static str, String>;

/// What the page's script asks for.
#[derive(Debug, Serialize)]
pub(super) struct Update {
    /// Another one means that the program was started anew.
    pub boot: String,
    /// To be given back with the next request.
    pub points: u64,
    pub level: &'static str,
    pub head: Fields,
    /// In the order in which they are to be shown.
    pub tiles: Vec<Tile>,
}

#[derive(Debug, Serialize)]
pub(super) struct Tile {
    pub id: String,
    pub level: &'static str,
    pub live: bool,
    pub texts: Fields,
    /// Left out while no new point was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plots: Option<Fields>,
}

impl Update {
    /// `seen` is the count of points that the asker has seen the plots of.
    pub(super) fn new(state: &State, boot: &str, points: u64, seen: Option<u64>) -> Self {
        let plots = seen != Some(points);
        Self {
            boot: boot.to_owned(),
            points,
            level: state.level.name(),
            head: head(state),
            tiles: state
                .cameras
                .iter()
                .map(|camera| Tile {
                    id: camera.id.clone(),
                    level: camera.level.name(),
                    live: camera.activity == "live",
                    texts: texts(camera),
                    plots: plots.then(|| self::plots(camera)),
                })
                .collect(),
        }
    }
}

/// The whole page. `nonce` is what its style and script are let through by.
pub(super) fn html(state: &State, boot: &str, points: u64, nonce: &str) -> String {
    let update = Update::new(state, boot, points, None);
    let (before, rest) = TEMPLATE.split_once(TILE[0]).unwrap_or((TEMPLATE, ""));
    let (tile, after) = rest.split_once(TILE[1]).unwrap_or((rest, ""));
    let mut fields = update.head;
    let density = match update.tiles.len() {
        0..=4 => "few",
        5..=24 => "some",
        _ => "many",
    };
    for (name, text) in [
        ("nonce", nonce),
        ("boot", boot),
        ("level", update.level),
        ("density", density),
        ("pictures", if state.pictures { "yes" } else { "no" }),
    ] {
        fields.insert(name, text.to_owned());
    }
    fields.insert("points", points.to_string());
    let mut out = String::with_capacity(TEMPLATE.len() + update.tiles.len() * 4096);
    fill(&mut out, before, &fields);
    for camera in update.tiles {
        let mut fields = camera.texts;
        fields.extend(camera.plots.unwrap_or_default());
        fields.insert("id", camera.id);
        fields.insert("level", camera.level.to_owned());
        let source = if state.pictures && camera.live {
            "src"
        } else {
            "data-src"
        };
        fields.insert("source", source.to_owned());
        fill(&mut out, tile, &fields);
    }
    fill(&mut out, after, &fields);
    out
}

/// Copies `template`, each `{{name}}` replaced.
fn fill(out: &mut String, template: &str, fields: &Fields) {
    let mut rest = template;
    while let Some((before, tail)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((name, tail)) = tail.split_once("}}") else {
            break;
        };
        debug_assert!(fields.contains_key(name), "no text for {name}");
        escape(out, fields.get(name).map_or("", String::as_str));
        rest = tail;
    }
    out.push_str(rest);
}

/// For text and for attributes in quotes.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}

fn head(state: &State) -> Fields {
    let (total, memory, broker) = (&state.total, &state.memory, &state.broker);
    let broker_text = match (broker.connected, broker.blocked, &broker.why_down) {
        (true, false, _) => format!("connected to {}", broker.urls.join(", ")),
        (true, true, _) => "takes no messages: memory or disk alarm".to_owned(),
        (false, _, Some(why)) => why.clone(),
        (false, _, None) => "not connected".to_owned(),
    };
    let broker_level = match (broker.connected, broker.blocked) {
        (true, false) => Level::Ok,
        (true, true) => Level::Poor,
        (false, _) => Level::Down,
    };
    let used = match memory.limit_bytes {
        0 => String::new(),
        limit => format!(
            " ({:.0} %{})",
            memory.used_bytes as f64 * 100.0 / limit as f64,
            match memory.level {
                memory::Level::Normal => String::new(),
                level => format!(", {}", level.word()),
            }
        ),
    };
    let disabled = match state.disabled.as_slice() {
        [] => String::new(),
        ids => format!("Not run (enabled: false): {}", ids.join(", ")),
    };
    Fields::from([
        ("verdict", state.verdict.clone()),
        ("mark", mark(state.level).to_owned()),
        ("broker", broker_text),
        ("broker_mark", mark(broker_level).to_owned()),
        ("live", format!("{} of {}", total.live, total.cameras)),
        ("fps", format!("{:.1}/s", total.published_fps)),
        ("rate", format!("{}/s", bytes_text(total.bytes_per_second))),
        ("lost", count_text(total.account.dropped.total())),
        (
            "memory",
            format!(
                "{} of {}{used}",
                bytes_text(memory.used_bytes as f64),
                bytes_text(memory.limit_bytes as f64)
            ),
        ),
        ("uptime", time_text(state.uptime_seconds)),
        ("version", state.version.to_owned()),
        ("disabled", disabled),
    ])
}

/// A sign beside the colour.
fn mark(level: Level) -> &'static str {
    match level {
        Level::Ok => "✓",
        Level::Starting => "…",
        Level::Poor => "!",
        Level::Down => "✕",
    }
}

fn texts(camera: &CameraState) -> Fields {
    let account = &camera.account;
    let badge = match camera.level {
        Level::Ok => "Live",
        Level::Starting if camera.activity == "stopped" => "Stopped",
        Level::Starting => "Starting",
        Level::Poor => "Problem",
        Level::Down => "Down",
    };
    let size = match (camera.width, camera.height) {
        (0, _) | (_, 0) => None,
        (width, height) => Some(format!("{width}×{height}")),
    };
    let frame = (camera.frame_bytes > 0.0).then(|| bytes_text(camera.frame_bytes));
    let picture: Vec<_> = size.into_iter().chain(frame).collect();
    let picture = match picture.is_empty() {
        true => NO_DATA.to_owned(),
        false => picture.join(", "),
    };
    let latency = match (camera.p50_ms, camera.p99_ms) {
        (Some(p50), Some(p99)) => range_text(p50, p99),
        _ => NO_DATA.to_owned(),
    };
    let why = |words: String| match words.as_str() {
        "" => "none".to_owned(),
        _ => words,
    };
    Fields::from([
        ("badge", badge.to_owned()),
        ("mark", mark(camera.level).to_owned()),
        ("words", camera.words.clone()),
        ("fps", format!("{:.1}", camera.published_fps)),
        ("asked", camera.asked_fps.to_string()),
        ("picture", picture),
        (
            "age",
            camera.age_seconds.map_or("never".to_owned(), time_text),
        ),
        ("latency", latency),
        ("captured", count_text(account.captured)),
        ("published", count_text(account.published)),
        ("dropped", count_text(account.dropped.total())),
        ("drops", why(account.dropped.in_words())),
        ("restarted", count_text(account.restarts.total())),
        ("restarts", why(account.restarts.in_words())),
        ("breaker", camera.breaker.to_owned()),
        (
            "last_error",
            camera
                .last_error
                .clone()
                .unwrap_or_else(|| "none".to_owned()),
        ),
        ("for", time_text(camera.since_seconds)),
        ("ffmpeg", bytes_text(camera.ffmpeg_resident_bytes as f64)),
    ])
}

fn plots(camera: &CameraState) -> Fields {
    let history = &camera.history;
    let fps = || history.iter().map(|point| point.published);
    let latency = || history.iter().filter_map(|point| point.p99_ms);
    let asked = f64::from(camera.asked_fps);
    // A burst must not flatten all the rest.
    let most_fps = fps().fold(asked, f64::max).min(asked * 2.0);
    let most_ms = round_up(latency().fold(1.0, f64::max));
    // A scale without a curve says nothing.
    let has_fps = fps().any(|fps| fps > 0.0);
    let has_ms = latency().next().is_some();
    let or_none = |has: bool, text: String| match has {
        true => text,
        false => NO_DATA.to_owned(),
    };
    let fps_path = match has_fps {
        true => plot(history, most_fps, true, |point| Some(point.published)),
        false => String::new(),
    };
    let least_fps = fps().fold(f64::INFINITY, f64::min);
    let words = match (has_fps, has_ms) {
        (false, _) => format!("The last ten minutes: {NO_DATA}"),
        (true, false) => format!("The last ten minutes: lowest {least_fps:.1} frames/s"),
        (true, true) => format!(
            "The last ten minutes: lowest {least_fps:.1} frames/s, highest latency (p99) {}",
            ms_text(latency().fold(0.0, f64::max))
        ),
    };
    Fields::from([
        ("plot_fps", fps_path),
        (
            "plot_ms",
            plot(history, most_ms, false, |point| point.p99_ms),
        ),
        (
            "plot_fps_most",
            or_none(has_fps, format!("{most_fps:.0} fps")),
        ),
        ("plot_ms_most", or_none(has_ms, ms_text(most_ms))),
        ("plot_words", words),
    ])
}

/// An SVG path, a step a point and the newest at the right; `area` closes it down to the ground.
fn plot(points: &[Point], most: f64, area: bool, value: impl Fn(&Point) -> Option<f64>) -> String {
    let mut path = String::new();
    let first = POINTS.saturating_sub(points.len());
    // The height of the run of equal values that is being drawn.
    let mut drawing: Option<f64> = None;
    let close = |path: &mut String, x: usize| {
        let _ = write!(path, "H{x}");
        if area {
            let _ = write!(path, "V{PLOT_HEIGHT}Z");
        }
    };
    for (n, point) in points.iter().enumerate() {
        let x = first + n;
        // To half a unit, so that what looks equal is drawn in one run.
        let y = value(point)
            .map(|value| (PLOT_HEIGHT * (1.0 - (value / most).min(1.0)) * 2.0).round() / 2.0);
        match (drawing, y) {
            (Some(before), Some(y)) if before != y => {
                let _ = write!(path, "H{x}V{y}");
            }
            (Some(_), None) => close(&mut path, x),
            (None, Some(y)) if area => {
                let _ = write!(path, "M{x} {PLOT_HEIGHT}V{y}");
            }
            (None, Some(y)) => {
                let _ = write!(path, "M{x} {y}");
            }
            _ => {}
        }
        drawing = y;
    }
    if drawing.is_some() {
        close(&mut path, POINTS);
    }
    path
}

/// To 1, 2 or 5 times a power of ten, so that a scale does not move with every point.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let step = steps.into_iter().find(|step| step * power >= value);
    step.unwrap_or(10.0) * power
}

/// `0.3 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`
pub(super) fn time_text(seconds: f64) -> String {
    if seconds < 10.0 {
        let text = format!("{seconds:.1} s");
        return text.replace(".0 s", " s");
    }
    let seconds = seconds as u64;
    let two = |whole: u64, unit: &str, rest: u64, part: &str| match rest {
        0 => format!("{whole} {unit}"),
        rest => format!("{whole} {unit} {rest} {part}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

/// `98 KB`, `1.2 MB`: powers of 1000, as networks and disks are sold.
fn bytes_text(bytes: f64) -> String {
    for (unit, size) in [("GB", 1e9), ("MB", 1e6), ("KB", 1e3)] {
        // What would be rounded to 1000 KB is 1.0 MB.
        if bytes >= size * 0.9995 {
            let value = bytes / size;
            return match value < 9.95 {
                true => format!("{value:.1} {unit}"),
                false => format!("{value:.0} {unit}"),
            };
        }
    }
    format!("{bytes:.0} B")
}

/// `0.4 ms`, `12 ms`, `1.3 s`
fn ms_text(ms: f64) -> String {
    match ms {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

/// `0.4 / 12 ms`: a common unit is said once.
fn range_text(low: f64, high: f64) -> String {
    let (low, high) = (ms_text(low), ms_text(high));
    match low.strip_suffix(" ms") {
        Some(number) if high.ends_with(" ms") => format!("{number} / {high}"),
        _ => format!("{low} / {high}"),
    }
}

/// `1 234 567`, with narrow blanks.
fn count_text(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_units() {
        for (seconds, text) in [
            (0.04, "0 s"),
            (0.25, "0.2 s"),
            (12.9, "12 s"),
            (200.0, "3 min 20 s"),
            (7500.0, "2 h 5 min"),
            (90_000.0, "1 d 1 h"),
            (86_400.0, "1 d"),
        ] {
            assert_eq!(time_text(seconds), text);
        }
        for (bytes, text) in [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (98_123.0, "98 KB"),
            (999_800.0, "1.0 MB"),
            (8.06e9, "8.1 GB"),
        ] {
            assert_eq!(bytes_text(bytes), text);
        }
        assert_eq!(
            [ms_text(0.42), ms_text(12.3), ms_text(1300.0)],
            ["0.4 ms", "12 ms", "1.3 s"]
        );
        assert_eq!(range_text(0.42, 12.3), "0.4 / 12 ms");
        assert_eq!(range_text(42.0, 1200.0), "42 ms / 1.2 s");
        assert_eq!(count_text(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(
            [round_up(1.0), round_up(12.0), round_up(51.0)],
            [1.0, 20.0, 100.0]
        );
    }

    fn points(values: &[Option<f64>]) -> Vec<Point> {
        let point = |value: &Option<f64>| Point {
            captured: 0.0,
            published: 0.0,
            p99_ms: *value,
        };
        values.iter().map(point).collect()
    }

    #[test]
    fn a_plot_ends_at_the_right_and_leaves_gaps() {
        let points = points(&[Some(0.0), Some(0.0), None, Some(10.0), Some(5.0)]);
        assert_eq!(
            plot(&points, 10.0, false, |p| p.p99_ms),
            "M115 32H117M118 0H119V16H120"
        );
        assert_eq!(
            plot(&points, 10.0, true, |p| p.p99_ms),
            "M115 32V32H117V32ZM118 32V0H119V16H120V32Z"
        );
        assert_eq!(plot(&[], 10.0, true, |p| p.p99_ms), "");
    }

    #[test]
    fn what_a_camera_says_cannot_become_markup() {
        let fields = Fields::from([("words", "<img src=x onerror='x'> & \"y\"".to_owned())]);
        let mut out = String::new();
        fill(&mut out, "<p title=\"{{words}}\">", &fields);
        assert_eq!(
            out,
            "<p title=\"&lt;img src=x onerror=&#39;x&#39;&gt; &amp; &quot;y&quot;\">"
        );
    }
}
