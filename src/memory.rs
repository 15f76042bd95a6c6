//! The memory budget of the program and its FFmpegs: what is reduced, and at which level, before
//! the kernel kills a process.
//!
//! The main thread measures ([`Budget`]), the cameras reduce their use ([`Relief`]). Time and sizes
//! come from the caller.

pub mod usage;

use crate::config::MemoryController;
use crate::handoff::gops::GopStorage;
use crate::handoff::pool::Pool;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A level is left when use has fallen so far below the point where it begins: per cent of the
/// budget. FFmpeg's own ups and downs are smaller, so levels do not flutter.
const HYSTERESIS_PERCENT: f64 = 5.0;

/// From one FFmpeg's restart to the next: the first must have shown what it frees, and a budget
/// that is simply too small must not end all pictures.
const RESTART_SPACING: Duration = Duration::from_secs(60);

/// From frame to frame of a camera in an emergency.
const EMERGENCY_INTERVAL: Duration = Duration::from_secs(1);

/// How short memory is. Each level does what those below it do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// All is well.
    #[default]
    Normal,
    /// Idle buffers go back to the system.
    Warning,
    /// All cameras publish every second frame.
    Critical,
    /// They publish one frame a second, and the largest FFmpeg is started again.
    Emergency,
}

impl Level {
    const ALL: [Self; 4] = [Self::Normal, Self::Warning, Self::Critical, Self::Emergency];

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Emergency => "emergency",
        }
    }
}

/// The level, for all to see. Written by the main thread.
#[derive(Debug, Default)]
pub struct Pressure(AtomicU8);

impl Pressure {
    /// The level now.
    pub fn level(&self) -> Level {
        let level = self.0.load(Ordering::Relaxed);
        Level::ALL
            .get(usize::from(level))
            .copied()
            .unwrap_or_default()
    }

    /// Sets it.
    pub fn set(&self, level: Level) {
        self.0.store(level as u8, Ordering::Relaxed);
    }
}

/// Compares what is used with what may be.
#[derive(Debug)]
pub struct Budget {
    settings: MemoryController,
    level: Level,
    next: Instant,
    last_restart: Option<Instant>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// From now on.
    pub level: Level,
    /// Until now.
    pub before: Level,
    /// Idle buffers are to go back to the system.
    pub release: bool,
    /// The largest FFmpeg is to be started again.
    pub restart: bool,
}

impl Budget {
    /// Looked at for the first time after one interval.
    pub fn new(settings: &MemoryController, now: Instant) -> Self {
        Self {
            next: now + settings.check_interval,
            settings: settings.clone(),
            level: Level::Normal,
            last_restart: None,
        }
    }

    /// When it is to be looked at.
    pub fn due(&self) -> Instant {
        self.next
    }

    /// Looks at `used` of `limit` bytes.
    pub fn check(&mut self, used: u64, limit: u64, now: Instant) -> Verdict {
        self.next = now + self.settings.check_interval;
        let percent = used as f64 * 100.0 / limit.max(1) as f64;
        let before = self.level;
        let holds = |level: &&Level| {
            let begin = self.begin(**level);
            percent >= begin || (**level <= before && percent >= begin - HYSTERESIS_PERCENT)
        };
        self.level = *Level::ALL
            .iter()
            .rev()
            .find(holds)
            .unwrap_or(&Level::Normal);
        let rested = self
            .last_restart
            .is_none_or(|last| now.saturating_duration_since(last) >= RESTART_SPACING);
        let restart = self.level == Level::Emergency && rested;
        if restart {
            self.last_restart = Some(now);
        }
        let entered = self.level > before;
        Verdict {
            level: self.level,
            before,
            release: entered
                || (self.level > Level::Normal && percent >= self.settings.gc_trigger_percent),
            restart,
        }
    }

    fn begin(&self, level: Level) -> f64 {
        match level {
            Level::Normal => f64::NEG_INFINITY,
            Level::Warning => self.settings.warning_percent,
            Level::Critical => self.settings.critical_percent,
            Level::Emergency => self.settings.emergency_percent,
        }
    }
}

/// What one camera can give.
#[derive(Debug)]
pub struct Relief {
    pressure: Arc<Pressure>,
    pool: Pool,
    /// Where its units wait, if its stream is passed through.
    units: Option<GopStorage>,
    /// What its FFmpeg had when it was asked to be started again, bytes; 0 = it was not.
    restart_bytes: AtomicU64,
}

impl Relief {
    /// Under this pressure, of the camera with these buffers.
    pub fn new(pressure: Arc<Pressure>, pool: Pool, units: Option<GopStorage>) -> Self {
        Self {
            pressure,
            pool,
            units,
            restart_bytes: AtomicU64::new(0),
        }
    }

    /// Gives the idle buffers back to the system. They grow again to what the next frames need.
    pub fn release_buffers(&self) {
        self.pool.release_idle();
        if let Some(units) = &self.units {
            units.release();
        }
    }

    /// Asks for its FFmpeg, which uses `bytes` bytes, to be started again. Its reader looks after
    /// each frame; if none come, the watchdog ends that FFmpeg anyway.
    pub fn restart(&self, bytes: u64) {
        self.restart_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The bytes of the FFmpeg that is to be started again; forgets it.
    pub fn take_restart(&self) -> Option<u64> {
        // Most of the time there is no request, and then no write to a shared cache line.
        match self.restart_bytes.load(Ordering::Relaxed) {
            0 => None,
            _ => Some(self.restart_bytes.swap(0, Ordering::Relaxed)).filter(|bytes| *bytes > 0),
        }
    }

    /// How frames are thinned out now.
    pub fn level(&self) -> Level {
        self.pressure.level()
    }
}

/// Lets through as many of a camera's frames as the level allows.
#[derive(Debug, Default)]
pub struct Thinning {
    last_kept: Option<Instant>,
    keep_next: bool,
}

impl Thinning {
    /// Whether the frame that was captured at `captured` is to be published.
    pub fn keeps(&mut self, level: Level, captured: Instant) -> bool {
        let keep = match level {
            Level::Normal | Level::Warning => true,
            Level::Critical => self.keep_next,
            Level::Emergency => self
                .last_kept
                .is_none_or(|last| captured.saturating_duration_since(last) >= EMERGENCY_INTERVAL),
        };
        self.keep_next = !keep;
        if keep {
            self.last_kept = Some(captured);
        }
        keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn budget(now: Instant) -> Budget {
        Budget::new(&MemoryController::default(), now)
    }

    #[test]
    fn levels_rise_at_once_and_fall_with_hysteresis() {
        let now = Instant::now();
        let mut budget = budget(now);
        let mut level = |used| budget.check(used * MB, 100 * MB, now).level;
        for (used, expected) in [
            (59, Level::Normal),
            (60, Level::Warning),
            (59, Level::Warning),
            (55, Level::Warning),
            (54, Level::Normal),
            (55, Level::Normal),
            (90, Level::Emergency),
            (81, Level::Emergency),
            (79, Level::Critical),
            (84, Level::Critical),
            (70, Level::Critical),
            (69, Level::Warning),
            (0, Level::Normal),
            (75, Level::Critical),
            (54, Level::Normal),
        ] {
            assert_eq!(level(used), expected, "{used} %");
        }
    }

    #[test]
    fn buffers_are_released_when_a_level_rises_and_at_each_look_from_the_trigger_on() {
        let now = Instant::now();
        let mut budget = budget(now);
        let mut release = |used| budget.check(used * MB, 100 * MB, now).release;
        assert!(!release(59));
        assert!(release(60), "the level rises");
        assert!(!release(65));
        assert!(release(70), "the trigger");
        assert!(release(71));
        assert!(release(76));
        assert!(!release(57));
        assert!(!release(30));
    }

    #[test]
    fn one_ffmpeg_a_minute_is_started_again_in_an_emergency() {
        let start = Instant::now();
        let mut budget = budget(start);
        let mut restarts = vec![];
        for second in (0..=180).step_by(15) {
            let now = start + Duration::from_secs(second);
            if budget.check(90 * MB, 100 * MB, now).restart {
                restarts.push(second);
            }
        }
        assert_eq!(restarts, [0, 60, 120, 180]);
        let later = start + Duration::from_secs(190);
        assert!(!budget.check(50 * MB, 100 * MB, later).restart);
        let at_once_again = start + Duration::from_secs(200);
        assert!(!budget.check(90 * MB, 100 * MB, at_once_again).restart);
    }

    #[test]
    fn it_looks_once_in_an_interval() {
        let now = Instant::now();
        let mut budget = budget(now);
        assert_eq!(budget.due(), now + Duration::from_secs(15));
        let later = now + Duration::from_secs(20);
        budget.check(0, 1, later);
        assert_eq!(budget.due(), later + Duration::from_secs(15));
    }

    #[test]
    fn frames_are_thinned_out_by_level() {
        let start = Instant::now();
        let kept = |level| {
            let mut thinning = Thinning::default();
            let frames = (0..45).map(|n| start + Duration::from_millis(n * 1000 / 15));
            frames.filter(|at| thinning.keeps(level, *at)).count()
        };
        assert_eq!(kept(Level::Normal), 45);
        assert_eq!(kept(Level::Warning), 45);
        assert_eq!(kept(Level::Critical), 22);
        assert_eq!(kept(Level::Emergency), 3, "in three seconds");
    }

    #[test]
    fn a_restart_is_asked_for_once() {
        let relief = Relief::new(Arc::default(), Pool::new(), None);
        assert_eq!(relief.take_restart(), None);
        relief.restart(7);
        assert_eq!(relief.take_restart(), Some(7));
        assert_eq!(relief.take_restart(), None);
    }
}
