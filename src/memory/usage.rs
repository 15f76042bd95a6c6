//! How much memory the program and its FFmpegs have in RAM, and how much they may have.

use crate::config::MemoryController;
use crate::system::{self, Resident};
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Memory is read from `/proc` at most this often, however many ask: a file for each FFmpeg.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Memory in RAM, bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// This process.
    pub daemon: u64,
    /// Each camera's FFmpeg, in the order in which they were asked for; 0 where none runs.
    pub ffmpeg: Vec<u64>,
    /// How much is subtracted from the sum: pages that FFmpegs share (their libraries) are counted
    /// for each of them, but are in RAM once.
    common: u64,
    /// How much all of it together may use.
    pub limit: u64,
}

impl Usage {
    fn new(daemon: u64, ffmpegs: &[Resident], limit: u64) -> Self {
        let shared = || ffmpegs.iter().map(|ffmpeg| ffmpeg.shared);
        Self {
            daemon,
            common: shared().sum::<u64>() - shared().max().unwrap_or(0),
            ffmpeg: ffmpegs.iter().map(|ffmpeg| ffmpeg.total).collect(),
            limit,
        }
    }

    /// This process and its children.
    pub fn used(&self) -> u64 {
        (self.daemon + self.ffmpeg.iter().sum::<u64>()).saturating_sub(self.common)
    }

    /// The camera whose FFmpeg has most, and how much.
    pub fn largest(&self) -> Option<(usize, u64)> {
        let ffmpegs = self.ffmpeg.iter().copied().enumerate();
        ffmpegs.filter(|it| it.1 > 0).max_by_key(|it| it.1)
    }
}

/// Reads [`Usage`] from `/proc`.
#[derive(Debug)]
pub struct Meter {
    limit: u64,
    last: Mutex<Option<(Instant, Usage)>>,
}

impl Meter {
    /// With the limit of `settings`, else the system's.
    pub fn new(settings: &MemoryController) -> Self {
        Self {
            limit: match settings.max_memory_mb {
                0 => system::memory_limit(),
                mb => mb * 1_000_000,
            },
            last: Mutex::new(None),
        }
    }

    /// With the FFmpegs of these process ids, 0 where none runs; not older than a second.
    pub fn recent(&self, ffmpegs: impl Iterator<Item = u64>) -> Usage {
        let mut last = self.last.lock();
        match &*last {
            Some((at, usage)) if at.elapsed() < MAX_AGE => usage.clone(),
            _ => {
                let usage = self.read(ffmpegs);
                *last = Some((Instant::now(), usage.clone()));
                usage
            }
        }
    }

    /// With the FFmpegs of these process ids, 0 where none runs; as it is now.
    pub fn read(&self, ffmpegs: impl Iterator<Item = u64>) -> Usage {
        let resident = |pid: u64| match u32::try_from(pid) {
            Ok(pid @ 1..) => system::resident(pid).unwrap_or_default(),
            _ => Resident::default(),
        };
        let ffmpegs: Vec<_> = ffmpegs.map(resident).collect();
        let daemon = system::resident(std::process::id()).unwrap_or_default();
        Usage::new(daemon.total, &ffmpegs, self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_ffmpegs_share_are_counted_once() {
        let ffmpeg = |total, shared| Resident { total, shared };
        let ffmpegs = [ffmpeg(60, 40), ffmpeg(0, 0), ffmpeg(70, 41)];
        let usage = Usage::new(10, &ffmpegs, 1000);
        assert_eq!(usage.used(), 10 + 20 + 29 + 41);
        assert_eq!(usage.largest(), Some((2, 70)));
        assert_eq!(Usage::new(10, &[ffmpeg(0, 0)], 1000).largest(), None);
    }

    #[test]
    fn a_limit_that_the_user_gave_wins() {
        let settings = MemoryController {
            max_memory_mb: 500,
            ..MemoryController::default()
        };
        let usage = Meter::new(&settings).recent([0, 0].into_iter());
        assert_eq!(usage.limit, 500_000_000);
        assert_eq!(usage.ffmpeg, [0, 0]);
        assert!(usage.daemon > 0);
    }
}
