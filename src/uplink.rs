//! What the cameras offer, how much of it the confirms show to be carried, and whether the uplink
//! is too slow. Pure: the main thread reads the counters and logs the result.

use std::time::{Duration, Instant};

/// Rates are means over this time: ten frames of a camera at 1 fps.
const EVERY: Duration = Duration::from_secs(10);
/// The same warning is repeated after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// The uplink is short if frames waited for their turn for this share of the time, ...
const WAITED_SHARE: f64 = 0.5;
/// ... and if what is offered exceeds what is carried by this share.
const MISSING_SHARE: f64 = 0.1;

/// Counted since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// Bytes of the frames captured.
    pub offered: u64,
    /// Bytes of the frames confirmed.
    pub carried: u64,
    /// How long frames of one connection have waited for their turn.
    pub waited: Duration,
}

/// The state of the uplink.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Uplink {
    /// Offered, in bytes per second.
    pub offered: f64,
    /// Carried, in bytes per second.
    pub carried: f64,
    /// The uplink is what keeps frames from being published.
    pub short: bool,
}

impl Uplink {
    /// What happens and what to do, if the uplink is too slow.
    pub fn words(&self) -> Option<String> {
        let Self {
            offered, carried, ..
        } = *self;
        let ratio = offered / carried;
        let part = match ratio.round() {
            whole if whole >= 2.0 => format!("about 1 in {whole:.0} frames of each camera is"),
            _ => format!(
                "about {:.0} % of the frames of each camera are",
                100.0 / ratio
            ),
        };
        self.short.then(|| {
            format!(
                "the uplink is too slow: it carries {}, the cameras send {}; {part} published; \
                 lower fps, quality or width",
                rate(carried),
                rate(offered),
            )
        })
    }
}

/// `1.2 MB/s`, `300 kB/s`
fn rate(bytes_per_second: f64) -> String {
    match bytes_per_second {
        many if many >= 1e6 => format!("{:.1} MB/s", many / 1e6),
        few => format!("{:.0} kB/s", few / 1e3),
    }
}

/// Measures, and remembers what was logged.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    since: Instant,
    before: Option<Totals>,
    now: Uplink,
    said: Option<Instant>,
    told_short: bool,
}

/// What is to be logged.
#[derive(Debug, PartialEq, Eq)]
pub enum Say {
    /// A warning.
    Short(String),
    /// An information: it is over.
    Enough(String),
}

impl Meter {
    /// Measures from `now` on.
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            before: None,
            now: Uplink::default(),
            said: None,
            told_short: false,
        }
    }

    /// When to measure next.
    pub fn due(&self) -> Instant {
        self.since + EVERY
    }

    /// The last measurement.
    pub fn uplink(&self) -> Uplink {
        self.now
    }

    /// Takes the counters at `now`. Returns what to log.
    pub fn measure(&mut self, totals: Totals, now: Instant) -> Option<Say> {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.since = now;
        let before = self.before.replace(totals)?;
        // Lower than before when cameras were removed.
        let per_second =
            |now: u64, before: u64| now.saturating_sub(before) as f64 / passed.max(1e-3);
        let (offered, carried) = (
            per_second(totals.offered, before.offered),
            per_second(totals.carried, before.carried),
        );
        let waited = totals.waited.saturating_sub(before.waited).as_secs_f64();
        let short = waited > passed * WAITED_SHARE
            && carried > 0.0
            && offered > carried * (1.0 + MISSING_SHARE);
        self.now = Uplink {
            offered,
            carried,
            short,
        };
        let recently = |said: Instant| now.saturating_duration_since(said) < AGAIN_AFTER;
        match self.now.words() {
            Some(words) if !self.said.is_some_and(recently) => {
                self.said = Some(now);
                self.told_short = true;
                Some(Say::Short(words))
            }
            None if std::mem::take(&mut self.told_short) => Some(Say::Enough(format!(
                "the uplink carries all frames again: {}",
                rate(offered)
            ))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_uplink_is_said_once_a_minute_and_its_end_once() {
        let start = Instant::now();
        let (mut meter, mut totals, mut at) = (Meter::new(start), Totals::default(), start);
        let mut next = |offered: u64, carried: u64, waited: u64| {
            totals.offered += offered * 1000 * EVERY.as_secs();
            totals.carried += carried * 1000 * EVERY.as_secs();
            totals.waited += Duration::from_secs(waited);
            at += EVERY;
            assert_eq!(meter.due(), at);
            meter.measure(totals, at)
        };
        assert_eq!(next(7_620, 1_210, 10), None, "nothing to compare with");
        let words = "the uplink is too slow: it carries 1.2 MB/s, the cameras send 7.6 MB/s; about \
                     1 in 6 frames of each camera is published; lower fps, quality or width";
        assert_eq!(next(7_620, 1_210, 10), Some(Say::Short(words.to_owned())));
        assert!((0..5).all(|_| next(7_620, 1_210, 10).is_none()));
        let words = "the uplink is too slow: it carries 300 kB/s, the cameras send 400 kB/s; about \
                     75 % of the frames of each camera are published; lower fps, quality or width";
        assert_eq!(next(400, 300, 10), Some(Say::Short(words.to_owned())));
        let over = "the uplink carries all frames again: 400 kB/s";
        assert_eq!(next(400, 400, 0), Some(Say::Enough(over.to_owned())));
        assert_eq!(next(7_000, 1_000, 4), None, "lost to something else");
        assert_eq!(next(7_000, 0, 10), None, "nothing is carried: it is down");
    }
}
