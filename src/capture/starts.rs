//! Spreads the starts of FFmpeg over time. Pure, apart from its lock.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Apart from each other, connects to one host: a recorder with 32 channels must not be asked for
/// all in one instant, and yet all be asked within a few seconds.
const HOST_SPACING: Duration = Duration::from_millis(100);

/// Apart from each other, starts of FFmpeg: each is some 75 ms of a processor's time, nearly all
/// for its libraries (`ffmpeg -version` on an AMD EPYC takes as much), and no two begin that in one
/// instant. Not longer, so that 200 cameras are started within 2 s.
const START_SPACING: Duration = Duration::from_millis(10);

/// Spaces the starts of FFmpeg, and the connects to each camera host. Shared by all cameras.
#[derive(Debug, Default)]
pub struct Starts(Mutex<Free>);

/// From when on the next start is allowed.
#[derive(Debug, Default)]
struct Free {
    /// Of any FFmpeg.
    any: Option<Instant>,
    by_host: HashMap<String, Instant>,
}

impl Starts {
    /// How long a camera at `host` has to wait before its FFmpeg is started. That moment is then
    /// taken.
    pub fn next(&self, host: Option<&str>, now: Instant) -> Duration {
        let mut free = self.0.lock();
        let mut start = free.any.map_or(now, |any| any.max(now));
        free.any = Some(start + START_SPACING);
        if let Some(host) = host {
            let next = free.by_host.entry(host.to_owned()).or_insert(start);
            start = start.max(*next);
            *next = start + HOST_SPACING;
        }
        start - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_spread_and_more_so_towards_one_host() {
        let (starts, now) = (Starts::default(), Instant::now());
        let next = |host| starts.next(host, now).as_millis();
        assert_eq!([next(None), next(None), next(Some("a"))], [0, 10, 20]);
        assert_eq!([next(Some("a")), next(Some("a"))], [120, 220]);
        assert_eq!([next(Some("b")), next(None)], [50, 60]);
        let later = now + Duration::from_secs(1);
        assert_eq!(starts.next(Some("a"), later), Duration::ZERO);
    }
}
