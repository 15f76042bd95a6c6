//! The status page: one HTML file, filled in here.
//!
//! The same texts go into the page and, once a second, to its script, so that what is shown is
//! worded in one place and does not need the script.

mod numbers;
mod plot;
mod video;

use super::state::{CameraState, Level, PageState};
use crate::clock::span_text;
use crate::config::Pictures;
use crate::memory;
use numbers::{bytes_text, count_text, range_text};
use serde::Serialize;
use std::collections::BTreeMap;

const TEMPLATE: &str = include_str!("page.html");
/// Around the part of the template that is repeated for each camera.
const TILE: [&str; 2] = ["<!-- tile -->\n", "<!-- /tile -->\n"];

/// In the place of a value or a plot that a camera has not given.
const NO_DATA: &str = "no data";

/// Texts by the name that the template has for them.
type Fields = BTreeMap<&'static str, String>;

/// What the page's script asks for.
#[derive(Debug, Serialize)]
pub(super) struct Update {
    /// A different one means that the program was restarted.
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
    /// It has fresh pictures to show.
    pub live: bool,
    pub texts: Fields,
    /// Left out while no new point was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plots: Option<Fields>,
}

impl Update {
    /// `seen` is the count of points that the asker has seen the plots of.
    pub(super) fn new(state: &PageState, boot: &str, points: u64, seen: Option<u64>) -> Self {
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
                    live: camera.activity == "live" && camera.pictures != Pictures::None,
                    texts: texts(camera, state.pictures),
                    plots: plots.then(|| plot::plots(camera)),
                })
                .collect(),
        }
    }
}

/// The whole page. `nonce` is what its style and script are let through by.
pub(super) fn html(state: &PageState, boot: &str, points: u64, nonce: &str) -> String {
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

fn head(state: &PageState) -> Fields {
    let (total, memory, broker) = (&state.total, &state.memory, &state.broker);
    let (mut bytes, mut lost) = (total.bytes_per_second, total.account.dropped.total());
    if let Some(video) = &total.video {
        bytes += video.bytes_per_second;
        lost += video.account.dropped.total();
    }
    let broker_text = match (broker.connected, broker.blocked, &broker.why_down) {
        (true, false, _) => format!("connected to {}", broker.urls.join(", ")),
        (true, true, _) => "has blocked publishing: memory or disk alarm".to_owned(),
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
        ("fps", video::total_rate(total)),
        ("rate", format!("{}/s", bytes_text(bytes))),
        ("lost", count_text(lost)),
        (
            "memory",
            format!(
                "{} of {}{used}",
                bytes_text(memory.used_bytes as f64),
                bytes_text(memory.limit_bytes as f64)
            ),
        ),
        ("uptime", span_text(state.uptime_seconds)),
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

/// What its pictures are like.
fn picture(camera: &CameraState) -> String {
    let size = match (camera.width, camera.height) {
        (0, _) | (_, 0) => None,
        (width, height) => Some(format!("{width}×{height}")),
    };
    let frame = (camera.frame_bytes > 0.0).then(|| bytes_text(camera.frame_bytes));
    let quality = camera.quality.zip(camera.asked_quality);
    let quality = quality.map(|(now, asked)| match now == asked {
        true => format!("quality {now}"),
        false => format!("quality {now} instead of {asked}"),
    });
    let picture: Vec<_> = size.into_iter().chain(frame).chain(quality).collect();
    match (picture.is_empty(), camera.pictures) {
        (_, Pictures::None) => "none".to_owned(),
        (true, _) => NO_DATA.to_owned(),
        (false, _) => picture.join(", "),
    }
}

/// `may_see`: the client may see pictures.
fn texts(camera: &CameraState, may_see: bool) -> Fields {
    let account = &camera.account;
    let badge = match camera.level {
        Level::Ok => "Live",
        Level::Starting if camera.activity == "stopped" => "Stopped",
        Level::Starting => "Starting",
        Level::Poor => "Problem",
        Level::Down => "Down",
    };
    let shown = video::Shown::of(camera);
    let latency = match shown.latency {
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
        ("rate_label", shown.label.to_owned()),
        ("fps", format!("{:.1}", shown.rate)),
        ("asked", shown.asked),
        (
            "blank",
            match may_see || camera.pictures == Pictures::None {
                true => shown.blank.to_owned(),
                false => "pictures are not shown here".to_owned(),
            },
        ),
        (
            "video",
            camera.video.as_ref().map_or_else(String::new, video::words),
        ),
        ("plot_what", plot::what(camera.pictures).to_owned()),
        ("age_label", shown.age_label.to_owned()),
        ("picture", picture(camera)),
        (
            "age",
            camera.age_seconds.map_or("never".to_owned(), span_text),
        ),
        ("latency", latency),
        ("captured", count_text(account.captured)),
        ("published", count_text(account.published)),
        (
            "dropped",
            count_text(account.dropped.total() + shown.units_dropped),
        ),
        ("drops", why(account.dropped.in_words())),
        ("restarted", count_text(account.restarts.total())),
        ("restarts", why(account.restarts.in_words())),
        (
            "decoder",
            camera.decoder.unwrap_or("none so far").to_owned(),
        ),
        ("breaker", camera.breaker.to_owned()),
        (
            "last_error",
            camera
                .last_error
                .clone()
                .unwrap_or_else(|| "none".to_owned()),
        ),
        ("for", span_text(camera.since_seconds)),
        ("ffmpeg", bytes_text(camera.ffmpeg_resident_bytes as f64)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

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
