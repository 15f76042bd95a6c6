//! Lowers the quality of pictures in steps while the uplink cannot carry them, and raises it again
//! when it can (`adaptive_quality`). Pure: the main thread reads the counters and logs the steps.
//!
//! FFmpeg cannot change the quality while it runs, so a step costs a new session. So steps are
//! rare: each needs a reason that lasts, and a step up that failed is not tried again for long.
//! Between steps, the newest frame replaces the one that waits, as ever.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The quantisers of the steps, as multiples of the configured one. Each makes pictures a third to
/// a quarter smaller.
const STEPS: [f64; 3] = [1.0, 1.6, 2.5];

/// A step down needs a larger share of the frames to be lost, ...
const LOSING: f64 = 0.2;
/// ... for this time: longer than a hiccup of the network.
const LOSING_FOR: Duration = Duration::from_secs(30);
/// From one step of a camera to its next, and from any step to one up: time for the new session to
/// show what the step has changed.
const APART: Duration = Duration::from_secs(60);
/// A step up needs this time with a smaller share of lost frames, of all cameras.
const CALM: Duration = Duration::from_secs(5 * 60);
const CALM_LOSS: f64 = 0.01;
/// What the cameras send after a step up may be this share of what the uplink carries at most.
const FULL: f64 = 0.8;
/// What an uplink carries that is not full does not show. So what it carried when it was full is
/// the limit for so long, unless it is seen to carry more by this factor meanwhile.
const LIMITED: Duration = Duration::from_secs(60 * 60);
const FASTER: f64 = 1.1;
/// If frames are lost this soon after a step up, the step was wrong.
const PROBATION: Duration = Duration::from_secs(5 * 60);

/// The quality of one camera's pictures. The main thread sets it, and the camera's reader starts
/// FFmpeg again with it.
#[derive(Debug)]
pub struct Quality {
    configured: u32,
    now: AtomicU32,
}

impl Quality {
    /// As configured.
    pub fn new(configured: u32) -> Self {
        Self {
            configured,
            now: AtomicU32::new(configured),
        }
    }

    /// FFmpeg's quantiser, as configured.
    pub fn configured(&self) -> u32 {
        self.configured
    }

    /// FFmpeg's quantiser now.
    pub fn now(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    /// Sets it.
    pub fn set(&self, quality: u32) {
        self.now.store(quality, Ordering::Relaxed);
    }
}

/// What is known of a camera.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Its id.
    pub id: Arc<str>,
    /// FFmpeg's quantiser, as configured and now.
    pub quality: (u32, u32),
    /// Its frames come, and the broker takes frames: what is lost is lost to a slow uplink.
    pub live: bool,
    /// Frames captured since the start, ...
    pub captured: u64,
    /// ... and those of them that waited too long for the uplink.
    pub lost: u64,
    /// Bytes of its frames since the start, ...
    pub bytes: u64,
    /// ... and of its video.
    pub video_bytes: u64,
    /// Tells its connection from others.
    pub connection: usize,
    /// Bytes a second that its connection carries, as the confirms show.
    pub carries: Option<f64>,
}

/// A change of one camera's quality.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The camera, by its place among the readings.
    pub camera: usize,
    /// FFmpeg's quantiser before.
    pub from: u32,
    /// And from now on.
    pub to: u32,
    /// The reason.
    pub why: Why,
}

/// Why a quality changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    /// This share of the camera's frames was lost.
    Lost(f64),
    /// No frames were lost for this time.
    Calm(Duration),
}

impl Step {
    /// For the log.
    pub fn words(&self) -> String {
        let Self { from, to, why, .. } = self;
        match why {
            Why::Lost(share) => format!(
                "{:.0} % of the frames wait too long for the uplink; lowering the quality from \
                 {from} to {to}",
                share * 100.0
            ),
            Why::Calm(time) => format!(
                "the uplink has carried all frames for {} min; raising the quality from {from} to \
                 {to}",
                time.as_secs() / 60
            ),
        }
    }
}

/// Decides about the quality of all cameras.
#[derive(Debug, Clone)]
pub struct Adaptive {
    /// No quantiser is set that is larger, unless it is configured.
    max: u32,
    /// The last look.
    since: Instant,
    cameras: HashMap<Arc<str>, Seen>,
    /// Since when no camera has lost frames.
    calm_since: Instant,
    last_step: Option<Instant>,
    /// The last step up and its camera, while it is on probation.
    last_up: Option<(Instant, Arc<str>)>,
    limit: Option<Limit>,
}

/// What the uplink carried when frames were lost.
#[derive(Debug, Clone, Copy)]
struct Limit {
    /// Bytes a second, if the confirms have shown that.
    carried: Option<f64>,
    /// They were lost after a step up: only after this time may the next one follow.
    step_up_failed: bool,
    until: Instant,
}

/// What was seen of a camera.
#[derive(Debug, Clone, Default)]
struct Seen {
    captured: u64,
    lost: u64,
    bytes: u64,
    video_bytes: u64,
    /// Since when it has been losing frames.
    losing_since: Option<Instant>,
    /// Its last step.
    stepped: Option<Instant>,
}

/// What a camera has done since the last look.
struct Lately {
    /// Of its frames, those that were lost.
    share: f64,
    /// Of its frames, a second.
    bytes: f64,
    video_bytes: f64,
}

impl Adaptive {
    /// Looks from `now` on. No quantiser above `max` is set.
    pub fn new(max: u32, now: Instant) -> Self {
        Self {
            max,
            since: now,
            cameras: HashMap::new(),
            calm_since: now,
            last_step: None,
            last_up: None,
            limit: None,
        }
    }

    /// Looks at all cameras. Returns the next step, if there is one: at most one at each look.
    pub fn look(&mut self, readings: &[Reading], now: Instant) -> Option<Step> {
        self.cameras
            .retain(|id, _| readings.iter().any(|it| it.id == *id));
        let lately = self.take_in(readings, now);
        self.since = now;
        if self
            .last_up
            .as_ref()
            .is_some_and(|(at, _)| now - *at > PROBATION)
        {
            self.last_up = None;
        }
        let step = self
            .down(readings, &lately, now)
            .or_else(|| self.up(readings, &lately, now))?;
        let reading = readings.get(step.camera)?;
        let seen = self.cameras.get_mut(&reading.id)?;
        seen.stepped = Some(now);
        seen.losing_since = None;
        self.last_step = Some(now);
        Some(step)
    }

    fn take_in(&mut self, readings: &[Reading], now: Instant) -> Vec<Lately> {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        let (mut lossy, mut alive) = (false, false);
        let lately = readings.iter().map(|it| {
            let known = self.cameras.contains_key(&it.id);
            let seen = self.cameras.entry(Arc::clone(&it.id)).or_default();
            let new = |now: u64, before: &mut u64| {
                let new = now.saturating_sub(std::mem::replace(before, now));
                if known { new as f64 } else { 0.0 }
            };
            let captured = new(it.captured, &mut seen.captured);
            let share = new(it.lost, &mut seen.lost) / captured.max(1.0);
            let share = if it.live { share } else { 0.0 };
            alive |= it.live && captured > 0.0;
            lossy |= share > CALM_LOSS;
            match share > LOSING {
                true => drop(seen.losing_since.get_or_insert(self.since)),
                false => seen.losing_since = None,
            }
            Lately {
                share,
                bytes: new(it.bytes, &mut seen.bytes) / passed.max(1e-3),
                video_bytes: new(it.video_bytes, &mut seen.video_bytes) / passed.max(1e-3),
            }
        });
        let lately = lately.collect();
        if lossy || !alive {
            self.calm_since = now;
        }
        lately
    }

    /// The step down that is due: of the camera whose step up was wrong, or else of one with the
    /// best quality; of several such, of the one that loses most.
    fn down(&mut self, readings: &[Reading], lately: &[Lately], now: Instant) -> Option<Step> {
        let due = readings.iter().zip(lately).enumerate();
        let due = due.filter_map(|(camera, (reading, lately))| {
            let seen = self.cameras.get(&reading.id)?;
            let losing = seen.losing_since.is_some_and(|at| now - at >= LOSING_FOR);
            let rested = seen.stepped.is_none_or(|at| now - at >= APART);
            let to = self.steps(reading).find(|it| *it > reading.quality.1)?;
            let wrong = self
                .last_up
                .as_ref()
                .is_some_and(|(_, id)| *id == reading.id);
            let step = Step {
                camera,
                from: reading.quality.1,
                to,
                why: Why::Lost(lately.share),
            };
            let coarse = f64::from(reading.quality.1) / f64::from(reading.quality.0);
            (losing && rested).then_some((wrong, coarse, lately.share, step))
        });
        let (.., step) = due.max_by(|a, b| {
            let by_quality = b.1.total_cmp(&a.1);
            a.0.cmp(&b.0).then(by_quality).then(a.2.total_cmp(&b.2))
        })?;
        let carried = readings.get(step.camera).and_then(|it| it.carries);
        let step_up_failed = self.last_up.take().is_some();
        let failed_before = self
            .limit
            .is_some_and(|it| it.step_up_failed && now < it.until);
        if step_up_failed || carried.is_some() && !failed_before {
            self.limit = Some(Limit {
                carried,
                step_up_failed,
                until: now + LIMITED,
            });
        }
        Some(step)
    }

    /// The step up that is due: of the camera with the worst quality; of several such, of the one
    /// that has had it for the longest time.
    fn up(&mut self, readings: &[Reading], lately: &[Lately], now: Instant) -> Option<Step> {
        let calm = now.saturating_duration_since(self.calm_since);
        let rested = self.last_step.is_none_or(|at| now - at >= APART);
        if calm < CALM || !rested {
            return None;
        }
        let due = readings.iter().zip(lately).enumerate();
        let due = due.filter_map(|(camera, (reading, own))| {
            let (configured, from) = reading.quality;
            let to = self.steps(reading).filter(|it| *it < from).last()?;
            let load = readings.iter().zip(lately);
            let load = load.filter(|(it, _)| it.connection == reading.connection);
            let load: f64 = load.map(|(_, it)| it.bytes + it.video_bytes).sum();
            // At most: pictures grow less than the quantiser falls.
            let more = own.bytes * (f64::from(from) / f64::from(to) - 1.0);
            let fits = |carries: Option<f64>| carries.is_some_and(|it| load + more <= it * FULL);
            let free = self.limit.is_none_or(|it| {
                let more_is_carried = it.carried.is_some_and(|carried| load > carried * FASTER);
                let seen = more_is_carried || fits(it.carried) || fits(reading.carries);
                now >= it.until || seen && !it.step_up_failed
            });
            let stepped = self.cameras.get(&reading.id)?.stepped?;
            let step = Step {
                camera,
                from,
                to,
                why: Why::Calm(calm),
            };
            let coarse = f64::from(from) / f64::from(configured);
            (reading.live && free).then_some((coarse, now - stepped, step))
        });
        let (.., step) = due.max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))?;
        let id = readings.get(step.camera).map(|it| Arc::clone(&it.id))?;
        self.last_up = Some((now, id));
        Some(step)
    }

    /// The quantisers that a camera may have, from the configured one on.
    fn steps(&self, reading: &Reading) -> impl Iterator<Item = u32> + use<> {
        let (configured, max) = (reading.quality.0, self.max);
        let most = max.max(configured);
        STEPS
            .into_iter()
            .map(move |factor| ((f64::from(configured) * factor).round() as u32).min(most))
    }
}

#[cfg(test)]
mod tests;
