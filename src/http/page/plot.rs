//! Draws a camera's last ten minutes as SVG paths.

use super::numbers::ms_text;
use super::{Fields, NO_DATA};
use crate::config::Pictures;
use crate::http::history::{POINTS, Point};
use crate::http::state::CameraState;
use std::fmt::Write;

/// Height of a plot in its own units; its width is one unit a point.
const PLOT_HEIGHT: f64 = 32.0;

/// What the first plot has, per second.
pub(super) fn what(pictures: Pictures) -> &'static str {
    match pictures {
        Pictures::All | Pictures::Keyframes => "fps",
        Pictures::None => "units/s",
    }
}

/// Paths, scales and words of both plots.
pub(super) fn plots(camera: &CameraState) -> Fields {
    let history = &camera.history;
    let fps = || history.iter().map(|point| point.published);
    let latency = || history.iter().filter_map(|point| point.p99_ms);
    let what = what(camera.pictures);
    let (most_fps, in_words) = match camera.pictures {
        Pictures::All => {
            let asked = f64::from(camera.asked_fps);
            // A burst must not flatten all the rest.
            (fps().fold(asked, f64::max).min(asked * 2.0), "frames/s")
        }
        // The camera decides on the rate.
        Pictures::Keyframes => (fps().fold(1.0, f64::max), "keyframes/s"),
        Pictures::None => (fps().fold(1.0, f64::max), "units/s"),
    };
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
        (true, false) => format!("The last ten minutes: lowest {least_fps:.1} {in_words}"),
        (true, true) => format!(
            "The last ten minutes: lowest {least_fps:.1} {in_words}, highest latency (p99) {}",
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
            or_none(has_fps, format!("{most_fps:.0} {what}")),
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_scale_does_not_move_with_every_point() {
        assert_eq!(
            [round_up(1.0), round_up(12.0), round_up(51.0)],
            [1.0, 20.0, 100.0]
        );
    }
}
