//! What the pictures of a source say of it: their rate, their keyframes, their time stamps. Pure.

use std::time::Duration;

/// What comes first was stored while FFmpeg found out what the source is, and comes faster than the
/// camera takes it.
const SETTLES: Duration = Duration::from_secs(1);

/// A time stamp that is ahead of the time by more than this has jumped. Networks and cameras are
/// late by less.
const JUMP_US: i64 = 1_000_000;

/// Time stamps that run faster or slower than the machine's clock by more than this part are wrong.
/// Over the 9 s of a measurement, a picture that comes 0.3 s late makes 3 %.
const SPEED_TOLERANCE: f64 = 0.1;

/// The shortest time over which the speed of time stamps shows.
const SPEED_SHOWS: Duration = Duration::from_secs(3);

/// One encoded picture, as it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Picture {
    /// Since FFmpeg's start.
    pub(super) at: Duration,
    /// When it is to be decoded or, if the source does not say, shown; in µs.
    pub(super) stamp: Option<i64>,
    pub(super) bytes: usize,
    pub(super) key: bool,
}

/// By which clock the rate of a source is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// Ours: it sends each picture when it has taken it.
    Arrival,
    /// Its own: it sends as fast as it is read, or many pictures at once.
    Stamps,
}

/// How many pictures came, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// All pictures that came.
    pub pictures: usize,
    /// The time in which the rate was measured.
    pub span: Duration,
    /// Pictures a second; `None` if too few came.
    pub fps: Option<f64>,
    /// In bytes; `None` if too few pictures came.
    pub bytes_per_second: Option<f64>,
    /// The longest time between two pictures.
    pub longest_gap: Duration,
    /// Keyframes among the pictures.
    pub keyframes: usize,
    /// Pictures from one keyframe to the next, at least and at most; `None` without two keyframes.
    pub gop: Option<(usize, usize)>,
    /// What the time stamps are worth.
    pub stamps: Stamps,
}

impl Measured {
    /// The longest time from one keyframe to the next.
    pub fn gop_seconds(&self) -> Option<f64> {
        Some(self.gop?.1 as f64 / self.fps?)
    }
}

/// What the time stamps of a source are worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stamps {
    /// They go with the time.
    Right,
    /// This kind of source has none; FFmpeg counts the pictures.
    None,
    /// So many pictures have none.
    Missing(usize),
    /// They fall back, stand still or jump ahead.
    Jumping {
        /// How often.
        times: usize,
        /// The largest step, in seconds; negative if it goes back.
        largest: f64,
    },
    /// They run this much faster than the time.
    Speed(f64),
}

/// Measures `pictures`, in the order in which they came. `stamped`: the source has time stamps.
pub(super) fn measure(pictures: &[Picture], clock: Clock, stamped: bool) -> Measured {
    let steady = steady(pictures, clock);
    let time = |picture: &Picture| match clock {
        Clock::Arrival => i64::try_from(picture.at.as_micros()).ok(),
        Clock::Stamps => picture.stamp,
    };
    let times: Vec<i64> = steady.iter().filter_map(time).collect();
    let span_us = match (times.first(), times.last()) {
        (Some(first), Some(last)) => last.saturating_sub(*first).max(0),
        _ => 0,
    };
    let seconds = span_us as f64 / 1e6;
    // The first picture ends the time before it.
    let per_second = |count: usize| (span_us > 0).then(|| count as f64 / seconds);
    let gaps = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    let bytes = steady.iter().skip(1).map(|it| it.bytes).sum();
    let keys: Vec<usize> = (0..pictures.len())
        .filter(|&at| pictures.get(at).is_some_and(|it| it.key))
        .collect();
    let distances = keys.windows(2).map(|pair| pair[1] - pair[0]);
    Measured {
        pictures: pictures.len(),
        span: micros(span_us),
        fps: per_second(times.len().saturating_sub(1)),
        bytes_per_second: per_second(bytes),
        longest_gap: micros(gaps.max().unwrap_or(0)),
        keyframes: keys.len(),
        gop: distances.clone().min().zip(distances.max()),
        stamps: match stamped {
            true => stamps(steady, clock),
            false => Stamps::None,
        },
    }
}

fn micros(us: i64) -> Duration {
    Duration::from_micros(us.max(0).cast_unsigned())
}

/// Without those that were stored, if enough come after them.
fn steady(pictures: &[Picture], clock: Clock) -> &[Picture] {
    let Some(first) = pictures.first().filter(|_| clock == Clock::Arrival) else {
        return pictures;
    };
    let stored = pictures.partition_point(|it| it.at < first.at + SETTLES);
    pictures
        .get(stored..)
        .filter(|later| later.len() >= 2)
        .unwrap_or(pictures)
}

fn stamps(pictures: &[Picture], clock: Clock) -> Stamps {
    let missing = pictures.iter().filter(|it| it.stamp.is_none()).count();
    if missing > 0 {
        return Stamps::Missing(missing);
    }
    let stamp = |picture: &Picture| picture.stamp.unwrap_or_default();
    let mut steps: Vec<i64> = pictures
        .windows(2)
        .map(|pair| stamp(&pair[1]).saturating_sub(stamp(&pair[0])))
        .collect();
    let passed = pictures.windows(2).map(|pair| match clock {
        Clock::Arrival => i64::try_from((pair[1].at - pair[0].at).as_micros()).unwrap_or(i64::MAX),
        Clock::Stamps => 0,
    });
    let passed: Vec<i64> = passed.collect();
    let (span, all) = (passed.iter().sum::<i64>(), steps.iter().sum::<i64>());
    let usual = {
        let mut sorted = steps.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(0)
    };
    let allowed = |passed: i64| passed.max(usual).saturating_add(JUMP_US);
    let mut pairs = passed.iter();
    steps.retain(|&step| {
        let passed = pairs.next().copied().unwrap_or_default();
        step <= 0 || step > allowed(passed)
    });
    if let Some(largest) = steps.iter().copied().max_by_key(|step| step.unsigned_abs()) {
        return Stamps::Jumping {
            times: steps.len(),
            largest: largest as f64 / 1e6,
        };
    }
    let speed = all as f64 / span as f64;
    match micros(span) >= SPEED_SHOWS && (speed - 1.0).abs() > SPEED_TOLERANCE {
        true => Stamps::Speed(speed),
        false => Stamps::Right,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` pictures, `fps` a second, with a keyframe each 10, after 30 that were stored.
    fn live(n: u32, fps: u32) -> Vec<Picture> {
        let picture = |number: u32| Picture {
            at: Duration::from_millis(500)
                + Duration::from_secs(number.saturating_sub(30).into()) / fps,
            stamp: Some(i64::from(number) * 1_000_000 / i64::from(fps)),
            bytes: 1000,
            key: number.is_multiple_of(10),
        };
        (0..n + 30).map(picture).collect()
    }

    fn stamped(pictures: &[Picture]) -> Stamps {
        measure(pictures, Clock::Arrival, true).stamps
    }

    #[test]
    fn a_camera_is_measured_without_what_was_stored_before() {
        let measured = measure(&live(150, 15), Clock::Arrival, true);
        let fps = measured.fps.unwrap();
        assert!((fps - 15.0).abs() < 1e-3, "{fps}");
        let rate = measured.bytes_per_second.unwrap();
        assert!((rate - 15_000.0).abs() < 1.0, "{rate}");
        assert_eq!((measured.pictures, measured.keyframes), (180, 18));
        assert_eq!(measured.gop, Some((10, 10)));
        assert!((measured.gop_seconds().unwrap() - 10.0 / 15.0).abs() < 1e-3);
        assert_eq!(measured.longest_gap.as_millis(), 66);
        assert_eq!(measured.span.as_millis(), 8933);
        assert_eq!(measured.stamps, Stamps::Right);
    }

    #[test]
    fn a_film_is_measured_by_its_own_time() {
        let mut film = live(60, 15);
        film.iter_mut().for_each(|it| it.at = Duration::ZERO);
        let measured = measure(&film, Clock::Stamps, true);
        assert!((measured.fps.unwrap() - 15.0).abs() < 1e-3);
        assert_eq!(measured.stamps, Stamps::Right);
        film[50].stamp = film[50].stamp.map(|stamp| stamp + 5_000_000);
        film.truncate(51);
        let expected = Stamps::Jumping {
            times: 1,
            largest: 5.066_667,
        };
        assert_eq!(measure(&film, Clock::Stamps, true).stamps, expected);
    }

    #[test]
    fn too_few_pictures_have_no_rate() {
        for pictures in [&[][..], &live(0, 15)[..1]] {
            let measured = measure(pictures, Clock::Arrival, true);
            assert_eq!((measured.fps, measured.bytes_per_second), (None, None));
            assert_eq!((measured.gop, measured.gop_seconds()), (None, None));
            assert_eq!(measured.longest_gap, Duration::ZERO);
        }
    }

    #[test]
    fn each_fault_of_time_stamps_is_found() {
        let good = live(150, 15);
        let with = |change: &dyn Fn(usize, &mut Picture)| {
            let mut pictures = good.clone();
            for (at, picture) in pictures.iter_mut().enumerate() {
                change(at, picture);
            }
            stamped(&pictures)
        };
        let missing = with(&|at, it| it.stamp = it.stamp.filter(|_| at != 100 && at != 3));
        assert_eq!(missing, Stamps::Missing(1));
        let shift = |it: &mut Picture, us: i64| it.stamp = it.stamp.map(|stamp| stamp + us);
        let step = 66_666;
        let ahead = with(&|at, it| shift(it, if at < 100 { 0 } else { 3_000_000 }));
        let jump = |times, us: i64| Stamps::Jumping {
            times,
            largest: us as f64 / 1e6,
        };
        assert_eq!(ahead, jump(1, 3_000_000 + step));
        let back = with(&|at, it| shift(it, if at < 100 { 0 } else { -3_000_000 }));
        assert_eq!(back, jump(1, step - 3_000_000));
        let still = with(&|_, it| it.stamp = Some(7));
        assert_eq!(still, jump(134, 0));
        let fast = with(&|_, it| it.stamp = it.stamp.map(|stamp| stamp * 2));
        assert!(matches!(fast, Stamps::Speed(speed) if (speed - 2.0).abs() < 1e-3));
        assert_eq!(measure(&good, Clock::Arrival, false).stamps, Stamps::None);
        // The network stood still, not the camera's clock.
        let late = with(&|at, it| {
            if at >= 100 {
                it.at = it.at.max(Duration::from_secs(7));
            }
        });
        assert_eq!(late, Stamps::Right);
    }
}
