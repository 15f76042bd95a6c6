//! The last ten minutes of each camera, in a small ring, so that a page that is opened after an
//! incident shows it, also without JavaScript.
//!
//! About 10 KB a camera, whatever happens; sampled once a second, never per frame.

use crate::metrics::{Account, Distribution, Dropped};
use crate::overview::{Overview, View};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is to be sampled.
pub(super) const SAMPLE: Duration = Duration::from_secs(1);
/// Rates are means over this many samples. With fewer they would jump, with more they would lag.
const RATE_SAMPLES: usize = 5;
/// Samples per point.
const POINT_SAMPLES: u64 = 5;
/// Time between two points.
pub(super) const STEP: Duration = Duration::from_secs(5);
/// Ten minutes.
pub(super) const POINTS: usize = 120;
/// What "lately" means for quantiles and drops: a minute.
const LATELY_POINTS: usize = 12;

/// All cameras' last ten minutes.
#[derive(Debug)]
pub(super) struct History {
    cameras: Vec<Camera>,
    samples: u64,
    due: Instant,
}

#[derive(Debug, Default)]
struct Camera {
    rates: VecDeque<Sample>,
    lately: VecDeque<(Account, Distribution)>,
    points: VecDeque<Point>,
    point_from: Option<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    captured: u64,
    published: u64,
    bytes: u64,
}

/// Five seconds of a camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// Frames/s captured.
    pub captured: f64,
    /// Frames/s published.
    pub published: f64,
    /// 99 of 100 frames were confirmed so soon after their capture, ms; `None` if none was.
    pub p99_ms: Option<f64>,
}

/// What flows through a camera now, per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    pub captured: f64,
    pub published: f64,
    pub bytes: f64,
}

/// The last minute of a camera.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Lately {
    pub captured: u64,
    pub dropped: Dropped,
    /// From capture to confirm.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

fn quantile_ms(latency: &Distribution, q: f64) -> Option<f64> {
    latency.quantile(q).map(|us| us / 1000.0)
}

impl Sample {
    fn of(account: &Account, at: Instant) -> Self {
        Self {
            at,
            captured: account.captured,
            published: account.published,
            bytes: account.bytes,
        }
    }

    fn rates_since(&self, earlier: &Self) -> Rates {
        let seconds = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        if seconds <= 0.0 {
            return Rates::default();
        }
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        Rates {
            captured: rate(self.captured, earlier.captured),
            published: rate(self.published, earlier.published),
            bytes: rate(self.bytes, earlier.bytes),
        }
    }
}

impl Camera {
    fn sample(&mut self, account: Account, latency: Distribution, now: Instant, point: bool) {
        let sample = Sample::of(&account, now);
        if self.rates.len() > RATE_SAMPLES {
            self.rates.pop_front();
        }
        self.rates.push_back(sample);
        if !point {
            return;
        }
        if let Some(from) = self.point_from.replace(sample) {
            let rates = sample.rates_since(&from);
            let before = self.lately.back().map(|(_, latency)| latency);
            if self.points.len() == POINTS {
                self.points.pop_front();
            }
            self.points.push_back(Point {
                captured: rates.captured,
                published: rates.published,
                p99_ms: before.and_then(|before| quantile_ms(&latency.since(before), 0.99)),
            });
        }
        if self.lately.len() > LATELY_POINTS {
            self.lately.pop_front();
        }
        self.lately.push_back((account, latency));
    }
}

impl History {
    /// An empty history for this number of cameras.
    pub(super) fn new(cameras: usize) -> Self {
        Self {
            cameras: (0..cameras).map(|_| Camera::default()).collect(),
            samples: 0,
            due: Instant::now(),
        }
    }

    /// The cameras are now those of `new`; the ten minutes of those that were among those of `old`
    /// stay.
    pub(super) fn adopt(&mut self, old: &Overview, new: &Overview) {
        let mut cameras: Vec<_> = self.cameras.drain(..).map(Some).collect();
        let known = |view: &Arc<View>| {
            let n = old.camera(&view.camera.id)?;
            cameras.get_mut(n)?.take()
        };
        let kept = new.cameras.iter().map(known);
        self.cameras = kept.map(Option::unwrap_or_default).collect();
    }

    /// When it is to be sampled next.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Takes a sample if it is time.
    pub(super) fn sample(&mut self, overview: &Overview, now: Instant) {
        if now < self.due {
            return;
        }
        // Not `due + SAMPLE`: after a pause of the machine nothing is to be made up for.
        self.due = now + SAMPLE;
        let point = self.samples.is_multiple_of(POINT_SAMPLES);
        self.samples += 1;
        for (camera, view) in self.cameras.iter_mut().zip(&overview.cameras) {
            let latency = view.metrics.publisher.capture_to_confirm.read();
            camera.sample(view.metrics.snapshot(), latency, now, point);
        }
    }

    /// Counts the points that were ever made.
    pub(super) fn points_made(&self) -> u64 {
        self.samples.saturating_sub(1) / POINT_SAMPLES
    }

    /// The points of camera `n`, the oldest first.
    pub(super) fn points(&self, n: usize) -> impl DoubleEndedIterator<Item = &Point> + Clone {
        self.cameras
            .get(n)
            .into_iter()
            .flat_map(|camera| &camera.points)
    }

    /// What flows through camera `n` now.
    pub(super) fn rates(&self, n: usize) -> Rates {
        let Some(rates) = self.cameras.get(n).map(|camera| &camera.rates) else {
            return Rates::default();
        };
        match (rates.front(), rates.back()) {
            (Some(first), Some(last)) => last.rates_since(first),
            _ => Rates::default(),
        }
    }

    /// The last minute of camera `n`, up to now.
    pub(super) fn lately(&self, n: usize, view: &View, now: &Account) -> Lately {
        let Some((before, latency_before)) =
            self.cameras.get(n).and_then(|camera| camera.lately.front())
        else {
            return Lately::default();
        };
        let latency = view.metrics.publisher.capture_to_confirm.read();
        let latency = latency.since(latency_before);
        Lately {
            captured: now.captured.saturating_sub(before.captured),
            dropped: now.dropped.since(&before.dropped),
            p50_ms: quantile_ms(&latency, 0.5),
            p99_ms: quantile_ms(&latency, 0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Histogram, LATENCY_BOUNDS};

    #[test]
    fn points_are_made_of_what_came_in_between_and_the_ring_stays_small() {
        let mut camera = Camera::default();
        let latency = Histogram::new(&LATENCY_BOUNDS);
        let start = Instant::now();
        for second in 0..1000_u32 {
            let account = Account {
                captured: u64::from(second) * 15,
                published: u64::from(second) * 10,
                ..Account::default()
            };
            latency.observe(if second < 900 { 900 } else { 90_000 });
            let at = start + Duration::from_secs(second.into());
            camera.sample(account, latency.read(), at, second % 5 == 0);
        }
        assert_eq!(camera.points.len(), POINTS);
        assert_eq!(camera.rates.len(), RATE_SAMPLES + 1);
        assert_eq!(camera.lately.len(), LATELY_POINTS + 1);
        for point in &camera.points {
            assert!((point.captured - 15.0).abs() < 0.01 && (point.published - 10.0).abs() < 0.01);
        }
        assert!(camera.points[0].p99_ms.unwrap() <= 1.0);
        assert!(camera.points[POINTS - 1].p99_ms.unwrap() > 50.0);
    }
}
