//! The last ten minutes of each camera, in a small ring, so that a page that is opened after an
//! incident shows it, also without JavaScript.
//!
//! About 10 KB a camera, and 4 KB more for its own video, whatever happens; sampled once a second,
//! never per frame.

use crate::config::Pictures;
use crate::metrics::{Account, Distribution, VideoAccount};
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
    frames: Recent<Account>,
    /// If its video is passed through.
    units: Option<Recent<VideoAccount>>,
    points: VecDeque<Point>,
}

/// The last seconds and the last minute of a camera's frames, or of its units.
#[derive(Debug)]
struct Recent<A> {
    rates: VecDeque<Sample>,
    /// One for each point.
    lately: VecDeque<Mark<A>>,
}

impl<A> Default for Recent<A> {
    fn default() -> Self {
        Self {
            rates: VecDeque::new(),
            lately: VecDeque::new(),
        }
    }
}

/// All that is known at one moment.
#[derive(Debug)]
struct Mark<A> {
    sample: Sample,
    account: A,
    latency: Distribution,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    captured: u64,
    published: u64,
    /// Bytes of what was captured.
    captured_bytes: u64,
    /// Bytes of what was published.
    bytes: u64,
}

/// Five seconds of a camera: of its frames or, if it has none, of its units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// Captured per second.
    pub captured: f64,
    /// Published per second.
    pub published: f64,
    /// 99 of 100 were confirmed so soon after their capture, ms; `None` if none was.
    pub p99_ms: Option<f64>,
}

/// What flows through a camera now, per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    pub captured: f64,
    pub published: f64,
    /// Of what was captured.
    pub captured_bytes: f64,
    /// Of what was published.
    pub bytes: f64,
}

/// The last minute of a camera: what came since the account `before`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lately<A> {
    pub before: A,
    /// From capture to confirm.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

fn quantile_ms(latency: &Distribution, q: f64) -> Option<f64> {
    latency.quantile(q).map(|us| us / 1000.0)
}

impl Sample {
    fn rates_since(&self, earlier: &Self) -> Rates {
        let seconds = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        if seconds <= 0.0 {
            return Rates::default();
        }
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        Rates {
            captured: rate(self.captured, earlier.captured),
            published: rate(self.published, earlier.published),
            captured_bytes: rate(self.captured_bytes, earlier.captured_bytes),
            bytes: rate(self.bytes, earlier.bytes),
        }
    }
}

impl Mark<Account> {
    fn of_frames(view: &View, at: Instant) -> Self {
        let (metrics, account) = (&view.metrics, view.metrics.snapshot());
        Self {
            sample: Sample {
                at,
                captured: account.captured,
                published: account.published,
                captured_bytes: metrics.reader.frame_size.read().sum,
                bytes: account.bytes,
            },
            account,
            latency: metrics.publisher.capture_to_confirm.read(),
        }
    }
}

impl Mark<VideoAccount> {
    fn of_units(view: &View, at: Instant) -> Option<Self> {
        let (video, account) = (&view.metrics.video, view.video()?);
        Some(Self {
            sample: Sample {
                at,
                captured: account.captured,
                published: account.published,
                captured_bytes: video.reader.bytes.get(),
                bytes: account.bytes,
            },
            account,
            latency: video.publisher.capture_to_confirm.read(),
        })
    }
}

impl<A: Clone + Default> Recent<A> {
    /// Takes a sample in. `point`: makes a point of what came since the last one.
    fn sample(&mut self, mark: Mark<A>, point: bool) -> Option<Point> {
        if self.rates.len() > RATE_SAMPLES {
            self.rates.pop_front();
        }
        self.rates.push_back(mark.sample);
        if !point {
            return None;
        }
        let point = self.lately.back().map(|before| {
            let rates = mark.sample.rates_since(&before.sample);
            Point {
                captured: rates.captured,
                published: rates.published,
                p99_ms: quantile_ms(&mark.latency.since(&before.latency), 0.99),
            }
        });
        if self.lately.len() > LATELY_POINTS {
            self.lately.pop_front();
        }
        self.lately.push_back(mark);
        point
    }

    fn rates(&self) -> Rates {
        match (self.rates.front(), self.rates.back()) {
            (Some(first), Some(last)) => last.rates_since(first),
            _ => Rates::default(),
        }
    }

    /// The last minute, if one has begun; `latency` is that of now.
    fn lately(&self, latency: &Distribution) -> Option<Lately<A>> {
        let before = self.lately.front()?;
        let latency = latency.since(&before.latency);
        Some(Lately {
            before: before.account.clone(),
            p50_ms: quantile_ms(&latency, 0.5),
            p99_ms: quantile_ms(&latency, 0.99),
        })
    }
}

impl Camera {
    fn sample(
        &mut self,
        frames: Mark<Account>,
        units: Option<Mark<VideoAccount>>,
        pictures: Pictures,
        point: bool,
    ) {
        let of_frames = self.frames.sample(frames, point);
        let of_units = match units {
            Some(units) => self.units.get_or_insert_default().sample(units, point),
            None => {
                self.units = None;
                None
            }
        };
        let point = match pictures {
            Pictures::All | Pictures::Keyframes => of_frames,
            Pictures::None => of_units,
        };
        if self.points.len() == POINTS && point.is_some() {
            self.points.pop_front();
        }
        self.points.extend(point);
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
            camera.sample(
                Mark::of_frames(view, now),
                Mark::of_units(view, now),
                view.camera.pictures,
                point,
            );
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

    /// The frames that flow through camera `n` now.
    pub(super) fn rates(&self, n: usize) -> Rates {
        let camera = self.cameras.get(n);
        camera.map_or_else(Rates::default, |camera| camera.frames.rates())
    }

    /// The units that flow through camera `n` now.
    pub(super) fn unit_rates(&self, n: usize) -> Rates {
        let units = self.cameras.get(n).and_then(|camera| camera.units.as_ref());
        units.map_or_else(Rates::default, Recent::rates)
    }

    /// The last minute of camera `n`'s frames, up to now.
    pub(super) fn lately(&self, n: usize, view: &View) -> Option<Lately<Account>> {
        let latency = view.metrics.publisher.capture_to_confirm.read();
        self.cameras.get(n)?.frames.lately(&latency)
    }

    /// The last minute of camera `n`'s units, up to now.
    pub(super) fn units_lately(&self, n: usize, view: &View) -> Option<Lately<VideoAccount>> {
        let latency = view.metrics.video.publisher.capture_to_confirm.read();
        self.cameras.get(n)?.units.as_ref()?.lately(&latency)
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
            let sample = Sample {
                at: start + Duration::from_secs(second.into()),
                captured: u64::from(second) * 15,
                published: u64::from(second) * 10,
                captured_bytes: 0,
                bytes: 0,
            };
            latency.observe(if second < 900 { 900 } else { 90_000 });
            let frames = Mark {
                sample,
                account: Account::default(),
                latency: latency.read(),
            };
            camera.sample(frames, None, Pictures::All, second % 5 == 0);
        }
        assert_eq!(camera.points.len(), POINTS);
        assert_eq!(camera.frames.rates.len(), RATE_SAMPLES + 1);
        assert_eq!(camera.frames.lately.len(), LATELY_POINTS + 1);
        for point in &camera.points {
            assert!((point.captured - 15.0).abs() < 0.01 && (point.published - 10.0).abs() < 0.01);
        }
        assert!(camera.points[0].p99_ms.unwrap() <= 1.0);
        assert!(camera.points[POINTS - 1].p99_ms.unwrap() > 50.0);
    }
}
