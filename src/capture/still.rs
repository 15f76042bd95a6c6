//! Whether a camera's picture is frozen: pictures come, and do not change. Pure.
//!
//! What tells that a picture stands still is FFmpeg's filter `freezedetect`, which compares decoded
//! pictures (see `ffmpeg::compared`), or, where nothing is decoded, the sizes of the access units
//! ([`Sizes`]). [`Still`] makes of it when the picture is frozen, when that is over, and when a new
//! session is worth a try.

use super::units::Complete;
use crate::backoff::{Backoff, JITTER};
use crate::config::Frozen;
use std::time::{Duration, Instant};

/// A picture that has not changed for this time stands still. The filter has the same.
pub const STANDS: Duration = Duration::from_secs(1);

/// A session that has brought this many pictures, and for this long, has a picture that moves,
/// unless it was told to stand still by then.
const SEEN: (u32, Duration) = (3, Duration::from_secs(3));

/// Between two restarts of a camera whose picture is frozen. A camera that hangs needs up to a
/// minute to start again. A scene in which nothing moves must not cost it a session more often than
/// this, and less and less often.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);
const PAUSE_MULTIPLIER: f64 = 2.0;

/// What a picture does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// It has not changed for [`STANDS`].
    Stands,
    /// It has changed.
    Moves,
}

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The picture has not changed since then.
    Frozen(Instant),
    /// It changes again, after this time.
    Moves(Duration),
}

/// One camera's picture. It outlives sessions: that a picture is frozen is over when pictures show
/// it, not when FFmpeg is restarted for it.
#[derive(Debug)]
pub struct Still {
    after: Duration,
    /// The pauses between two restarts, if FFmpeg is to be restarted.
    pauses: Option<Backoff>,
    no_restart_before: Option<Instant>,
    /// The session ends because the picture is frozen.
    restarts: bool,
    /// Since when the picture of this session has not changed.
    stands_since: Option<Instant>,
    /// Since when it is frozen.
    frozen_since: Option<Instant>,
    /// The first picture of this session, and their number.
    seen: Option<(Instant, u32)>,
}

impl Still {
    /// For a camera with these settings; `None` if they are off.
    pub fn new(settings: Frozen) -> Option<Self> {
        let after = settings.after?;
        let first = FIRST_PAUSE.max(after);
        let pauses = || Backoff::new(first, LONGEST_PAUSE.max(first), PAUSE_MULTIPLIER, JITTER);
        Some(Self {
            after,
            pauses: settings.restart.then(pauses),
            no_restart_before: None,
            restarts: false,
            stands_since: None,
            frozen_since: None,
            seen: None,
        })
    }

    /// A session has ended. Returns whether the picture counts as frozen all the same, because the
    /// session ended for that.
    pub fn session_ended(&mut self) -> bool {
        self.forget_pictures();
        if !std::mem::take(&mut self.restarts) {
            self.frozen_since = None;
        }
        self.frozen_since.is_some()
    }

    /// The filter was made anew, and knows nothing of the pictures so far.
    pub fn forget_pictures(&mut self) {
        self.seen = None;
        self.stands_since = None;
    }

    /// FFmpeg, or the units, have told this.
    pub fn hear(&mut self, motion: Motion, now: Instant) {
        match motion {
            Motion::Stands => {
                let since = now.checked_sub(STANDS).unwrap_or(now);
                self.stands_since.get_or_insert(since);
            }
            Motion::Moves => {
                self.stands_since = None;
                // Whatever the session has shown before.
                self.seen = Some((now.checked_sub(SEEN.1).unwrap_or(now), SEEN.0));
            }
        }
    }

    /// A picture or a unit came.
    pub fn picture(&mut self, now: Instant) -> Option<News> {
        let (first, count) = self.seen.get_or_insert((now, 0));
        *count = count.saturating_add(1);
        let seen = *count >= SEEN.0 && now.saturating_duration_since(*first) >= SEEN.1;
        match self.stands_since {
            Some(since) if now.saturating_duration_since(since) >= self.after => {
                if self.frozen_since.is_some() {
                    return None;
                }
                self.frozen_since = Some(since);
                Some(News::Frozen(since))
            }
            None if seen => {
                let since = self.frozen_since.take()?;
                if let Some(pauses) = &mut self.pauses {
                    pauses.reset();
                }
                Some(News::Moves(now.saturating_duration_since(since)))
            }
            _ => None,
        }
    }

    /// If FFmpeg is to be restarted now, as the picture of this session is frozen: since when it
    /// is. `random` is from 0 to 1 and spreads the next pause.
    pub fn restart(&mut self, now: Instant, random: impl FnOnce() -> f64) -> Option<Instant> {
        let (pauses, since) = (self.pauses.as_mut()?, self.stands_since?);
        let rested = self.no_restart_before.is_none_or(|at| at <= now);
        if !rested || now.saturating_duration_since(since) < self.after {
            return None;
        }
        self.no_restart_before = Some(now + pauses.next(random()));
        self.restarts = true;
        self.frozen_since
    }
}

/// What the sizes of access units tell of a picture that is not decoded.
///
/// A unit in which nothing changes has a bit or less for each block of the picture. Where the
/// camera writes a clock into its picture, some units a second are larger. A camera with a constant
/// bit rate fills its units even then, so its picture never stands still here.
#[derive(Debug, Default)]
pub struct Sizes {
    since: Option<Instant>,
    small: u32,
    all: u32,
}

/// Pixels for each of which a unit that changes nothing has a byte at most: eight macroblocks.
/// Measured with x264: 44 to 60 bytes at 640x360 (112 are small), 66 to 440 at 720p (450).
const PIXELS_PER_BYTE: u64 = 2048;

/// This size is small in any case: headers alone.
const SMALL: u64 = 100;

impl Sizes {
    /// A unit has come. Returns what the last second shows, once a second.
    pub(super) fn unit(&mut self, unit: &Complete<'_>) -> Option<Motion> {
        if unit.key {
            return None;
        }
        let pixels = u64::from(unit.width) * u64::from(unit.height);
        self.size(unit.bytes.len(), pixels, unit.first_byte.read.monotonic)
    }

    /// A unit of `bytes` that is no key unit, of a picture with so many `pixels`.
    fn size(&mut self, bytes: usize, pixels: u64, now: Instant) -> Option<Motion> {
        let since = *self.since.get_or_insert(now);
        let is_small = bytes as u64 <= SMALL.max(pixels / PIXELS_PER_BYTE);
        self.small += u32::from(is_small);
        self.all += 1;
        if now.saturating_duration_since(since) < STANDS {
            return None;
        }
        let (small, all) = (self.small, self.all);
        *self = Self {
            since: Some(now),
            ..Self::default()
        };
        Some(match small * 4 >= all * 3 {
            true => Motion::Stands,
            false => Motion::Moves,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn still(after: u64, restart: bool) -> Still {
        let after = Some(Duration::from_secs(after));
        Still::new(Frozen { after, restart }).unwrap()
    }

    /// Ten pictures a second from `start` on; `motion` is told before the picture at that tenth.
    fn play(
        still: &mut Still,
        start: Instant,
        tenths: std::ops::Range<u32>,
        motion: &[(u32, Motion)],
    ) -> Vec<(u32, News)> {
        let mut news = vec![];
        for tenth in tenths {
            let now = start + SECOND / 10 * tenth;
            for (_, motion) in motion.iter().filter(|(at, _)| *at == tenth) {
                still.hear(*motion, now);
            }
            news.extend(still.picture(now).map(|it| (tenth, it)));
        }
        news
    }

    #[test]
    fn it_is_off_unless_asked_for() {
        assert!(Still::new(Frozen::default()).is_none());
    }

    #[test]
    fn a_picture_is_frozen_when_it_has_not_changed_for_so_long_and_told_once_each_time() {
        let (mut still, start) = (still(40, false), Instant::now());
        let motion = [
            (500, Motion::Stands),
            (700, Motion::Moves),
            (1000, Motion::Stands),
            (1600, Motion::Moves),
        ];
        let news = play(&mut still, start, 0..2000, &motion);
        let since = start + 99 * SECOND;
        assert_eq!(
            news,
            [
                (1390, News::Frozen(since)),
                (1600, News::Moves(61 * SECOND)),
            ]
        );
        assert_eq!(still.restart(start + 200 * SECOND, || 0.5), None, "off");
    }

    #[test]
    fn frozen_lasts_over_the_restart_for_it_until_pictures_show_that_it_is_over() {
        let (mut still, start) = (still(10, true), Instant::now());
        let stands = [(10, Motion::Stands)];
        let news = play(&mut still, start, 0..101, &stands);
        assert_eq!(news, [(100, News::Frozen(start))]);
        let frozen = Some(start);
        assert_eq!(still.restart(start + 10 * SECOND, || 0.5), frozen);
        // The next session is frozen too: not told again.
        let second = start + 20 * SECOND;
        assert!(still.session_ended());
        assert_eq!(play(&mut still, second, 0..300, &stands), []);
        assert_eq!(still.restart(second + 30 * SECOND, || 0.5), None, "rests");
        assert_eq!(still.restart(start + 70 * SECOND, || 0.5), frozen);
        // The one after it moves.
        let third = start + 80 * SECOND;
        assert!(still.session_ended());
        let news = play(&mut still, third, 0..300, &[]);
        assert_eq!(news, [(30, News::Moves(83 * SECOND))]);
    }

    #[test]
    fn a_filter_that_is_made_anew_looks_again_and_nothing_is_told_twice() {
        let (mut still, start) = (still(10, false), Instant::now());
        let stands = [(10, Motion::Stands)];
        let news = play(&mut still, start, 0..200, &stands);
        assert_eq!(news, [(100, News::Frozen(start))]);
        still.forget_pictures();
        assert_eq!(play(&mut still, start + 20 * SECOND, 0..200, &stands), []);
        still.forget_pictures();
        let news = play(&mut still, start + 40 * SECOND, 0..200, &[]);
        assert_eq!(news, [(30, News::Moves(43 * SECOND))]);
    }

    #[test]
    fn a_session_that_ends_for_another_reason_says_nothing_of_the_next_ones_picture() {
        let (mut still, start) = (still(10, true), Instant::now());
        play(&mut still, start, 0..101, &[(10, Motion::Stands)]);
        assert!(!still.session_ended());
        let next = start + 60 * SECOND;
        assert_eq!(play(&mut still, next, 0..300, &[]), []);
    }

    /// When restarts come in `hours` of a scene in which nothing moves; sessions take 2 s to begin.
    fn restarts(after: u64, hours: u64, moves_every: Option<u64>) -> Vec<u64> {
        let (mut still, start) = (still(after, true), Instant::now());
        let (mut restarts, mut begun) = (vec![], 0);
        for second in 0..hours * 3600 {
            let now = start + Duration::from_secs(second);
            if second < begun {
                continue;
            }
            if moves_every.is_some_and(|every| second % every == 0) {
                still.hear(Motion::Moves, now);
            } else if second > begun {
                still.hear(Motion::Stands, now);
            }
            still.picture(now);
            if still.restart(now, || 0.5).is_some() {
                restarts.push(second);
                begun = second + 2;
                still.session_ended();
            }
        }
        restarts
    }

    #[test]
    fn a_scene_that_stays_as_it_is_costs_fewer_and_fewer_sessions() {
        let pauses = |restarts: &[u64]| -> Vec<u64> {
            restarts.windows(2).map(|pair| pair[1] - pair[0]).collect()
        };
        let at_once = restarts(2, 5, None);
        assert_eq!(at_once[0], 2);
        assert_eq!(
            pauses(&at_once),
            [60, 120, 240, 480, 960, 1920, 3000, 3000, 3000, 3000],
            "at most 1.2 times that, which is an hour"
        );
        // Whatever moves now and then does not bring sessions faster than the first pause.
        let busy = pauses(&restarts(2, 5, Some(7)));
        assert!(busy.iter().all(|pause| *pause >= 60), "{busy:?}");
        let patient = pauses(&restarts(600, 5, None));
        assert_eq!(patient[..3], [602, 1200, 2400]);
    }

    /// What a minute of units shows: each second of `units` of these sizes in bytes.
    fn seconds(units: &[usize], pixels: u64) -> Vec<Motion> {
        let (mut judge, start) = (Sizes::default(), Instant::now());
        let mut motion = vec![];
        for n in 0..60 * units.len() {
            let now = start + SECOND * u32::try_from(n).unwrap() / units.len() as u32;
            motion.extend(judge.size(units[n % units.len()], pixels, now));
        }
        motion.dedup();
        motion
    }

    #[test]
    fn small_units_are_a_picture_that_stands_still_also_under_a_clock() {
        const SUBSTREAM: u64 = 640 * 360;
        let clock = [173, 68, 84, 89, 82, 60, 58, 53, 72, 64, 62, 64, 51, 51, 51];
        assert_eq!(seconds(&clock, SUBSTREAM), [Motion::Stands]);
        let moving = [
            1466, 1858, 2086, 2426, 2135, 2754, 2540, 2974, 2908, 2685, 2441, 1645, 1715, 1680,
        ];
        assert_eq!(seconds(&moving, SUBSTREAM), [Motion::Moves]);
        assert_eq!(seconds(&moving, 3840 * 2160), [Motion::Stands], "for 4K");
        let half = [50, 900, 50, 900, 50, 900];
        assert_eq!(seconds(&half, SUBSTREAM), [Motion::Moves]);
    }
}
