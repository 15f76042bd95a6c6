//! Writes metrics in the Prometheus text format, and adds the prefix `edge_video_` to their names.

use super::Camera;
use crate::metrics::{BUCKETS, Distribution};
use std::fmt::{Display, Write};

/// Of a label value: backslash, quote, line feed.
pub(super) fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// The text as far as it is written.
pub(super) struct Text(String);

/// Writing to a `String` cannot fail.
impl Text {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// A metric with one value, whose name gets no prefix.
    pub(super) fn alone(&mut self, (name, kind, help): (&str, &str, &str), value: impl Display) {
        let _ = write!(
            self.0,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        );
    }

    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(
            self.0,
            "# HELP edge_video_{name} {help}\n# TYPE edge_video_{name} {kind}\n"
        );
    }

    pub(super) fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = match labels {
            "" => writeln!(self.0, "edge_video_{name} {value}"),
            _ => writeln!(self.0, "edge_video_{name}{{{labels}}} {value}"),
        };
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.line(name, "", value);
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "counter", help);
        self.line(name, "", value);
    }

    fn family<A, V: Display>(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        cameras: &[Camera<'_, A>],
        value: impl Fn(&Camera<'_, A>) -> V,
    ) {
        self.head(name, kind, help);
        for camera in cameras {
            self.line(name, &camera.label, value(camera));
        }
    }

    pub(super) fn gauges<A, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        cameras: &[Camera<'_, A>],
        value: impl Fn(&Camera<'_, A>) -> V,
    ) {
        self.family((name, "gauge", help), cameras, value);
    }

    pub(super) fn counters<A>(
        &mut self,
        name: &str,
        help: &str,
        cameras: &[Camera<'_, A>],
        value: impl Fn(&Camera<'_, A>) -> u64,
    ) {
        self.family((name, "counter", help), cameras, value);
    }

    pub(super) fn reasons<A>(
        &mut self,
        name: &str,
        help: &str,
        cameras: &[Camera<'_, A>],
        values: impl Fn(&Camera<'_, A>) -> Vec<(&'static str, u64)>,
    ) {
        self.head(name, "counter", help);
        for camera in cameras {
            for (reason, value) in values(camera) {
                let label = &camera.label;
                let _ = writeln!(
                    self.0,
                    "edge_video_{name}{{{label},reason=\"{reason}\"}} {value}"
                );
            }
        }
    }

    pub(super) fn histograms<A>(
        &mut self,
        name: &str,
        help: &str,
        cameras: &[Camera<'_, A>],
        unit: f64,
        read: impl Fn(&Camera<'_, A>) -> Distribution,
    ) {
        self.head(name, "histogram", help);
        let mut bounds: Option<[String; BUCKETS]> = None;
        for camera in cameras {
            let now = read(camera);
            let bounds = bounds.get_or_insert_with(|| {
                std::array::from_fn(|n| match now.bounds.get(n) {
                    Some(bound) => round(*bound as f64 * unit).to_string(),
                    None => "+Inf".to_owned(),
                })
            });
            let (label, mut total) = (&camera.label, 0);
            for (count, bound) in now.counts.iter().zip(bounds.iter()) {
                total += count;
                let _ = writeln!(
                    self.0,
                    "edge_video_{name}_bucket{{{label},le=\"{bound}\"}} {total}"
                );
            }
            let sum = round(now.sum as f64 * unit);
            let _ = write!(
                self.0,
                "edge_video_{name}_sum{{{label}}} {sum}\nedge_video_{name}_count{{{label}}} {total}\n"
            );
        }
    }
}

/// To whole microseconds, which takes off what a binary fraction adds.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
