//! What counts as a problem, and how it is said.

use super::{CameraState, Level};
use crate::clock::span_text;
use crate::metrics::{Account, VideoAccount};
use crate::overview::{Broker, View, drops_matter};
use crate::redact;
use std::time::{Duration, Instant};

/// What a camera has dropped in the last minute, if that is a problem.
pub(super) fn dropping(frames: &Account, units: Option<&VideoAccount>) -> Option<String> {
    let of_frames = drops_matter(frames.captured, frames.dropped.total());
    let of_frames = of_frames.then(|| format!("live, but dropping: {}", frames.dropped.in_words()));
    let of_units = units.filter(|it| drops_matter(it.captured, it.dropped.total()));
    let of_units = of_units.map(|it| it.dropped.in_words());
    let dropping = match (of_frames, of_units) {
        (None, None) => return None,
        (Some(frames), None) => frames,
        (None, Some(units)) => format!("live, but dropping video: {units}"),
        (Some(frames), Some(units)) => format!("{frames}, and of the video {units}"),
    };
    Some(format!("{dropping} in a minute"))
}

/// A camera that sends frames or units may still be in trouble. `dropping`: what it drops, if that
/// is a problem.
pub(super) fn live_level(
    view: &View,
    age: Option<Duration>,
    dropping: Option<String>,
    now: Instant,
) -> (Level, Option<String>) {
    let stale = view.stale_timeout();
    if let Some(age) = age.filter(|age| *age > stale / 2) {
        let (what, age_text) = (view.sign_of_life(), span_text(age.as_secs_f64().floor()));
        // From its watchdog's bark on it is down, also while its FFmpeg is still being ended.
        return match age >= stale {
            true => (
                Level::Down,
                Some(format!("no {what} for {age_text}: starting again")),
            ),
            false => (
                Level::Poor,
                Some(format!("live, but no {what} for {age_text}")),
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
    match view.frozen_words(now).or(dropping) {
        Some(trouble) => (Level::Poor, Some(trouble)),
        None => (Level::Ok, None),
    }
}

/// How bad it is in all, and the answer to "are my cameras all right?".
pub(super) fn verdict(
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
