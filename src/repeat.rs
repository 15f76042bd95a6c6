//! Says a thing once, and while it stays true not more than once a minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A person who reads the log at night wants to see that it is still so, not forty times.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Failures remembered at once: more than take turns in practice.
const REMEMBERED: usize = 8;

/// Remembers which failures were said lately.
#[derive(Debug, Default)]
pub struct Repeat {
    said: VecDeque<Said>,
    over: bool,
}

#[derive(Debug)]
struct Said {
    failure: String,
    at: Instant,
    kept_back: u32,
}

impl Repeat {
    /// Whether `failure` is to be said now: `None` when the same was said less than a minute ago;
    /// else what to add to it, empty or ` (12 more in the last minute)`.
    pub fn say(&mut self, failure: &str, now: Instant) -> Option<String> {
        if let Some(said) = self.said.iter_mut().find(|said| said.failure == failure) {
            let passed = now.saturating_duration_since(said.at);
            if passed < AGAIN_AFTER {
                said.kept_back += 1;
                return None;
            }
            self.over = false;
            said.at = now;
            return Some(match std::mem::take(&mut said.kept_back) {
                0 => String::new(),
                n => format!(" ({n} more in the last {})", in_minutes(passed)),
            });
        }
        if self.said.len() == REMEMBERED {
            self.said.pop_front();
        }
        self.said.push_back(Said {
            failure: failure.to_owned(),
            at: now,
            kept_back: 0,
        });
        self.over = false;
        Some(String::new())
    }

    /// Whether to say that all is well: the first time, and after each failure that was said. Where
    /// the failure was kept back its end is no news either.
    pub fn over(&mut self) -> bool {
        !std::mem::replace(&mut self.over, true)
    }
}

fn in_minutes(passed: Duration) -> String {
    match (passed.as_secs() + 30) / 60 {
        0 | 1 => "minute".to_owned(),
        minutes => format!("{minutes} minutes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_and_news_at_once() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut repeat = Repeat::default();
        assert_eq!(repeat.say("down", at(0)).as_deref(), Some(""));
        assert_eq!(repeat.say("down", at(20)), None);
        assert_eq!(repeat.say("down", at(59)), None);
        assert_eq!(
            repeat.say("down", at(60)).as_deref(),
            Some(" (2 more in the last minute)")
        );
        assert_eq!(repeat.say("down", at(61)), None);
        assert_eq!(repeat.say("refused", at(62)).as_deref(), Some(""));
        assert_eq!(
            repeat.say("down", at(63)),
            None,
            "two that take turns are said once each"
        );
        assert_eq!(repeat.say("refused", at(200)).as_deref(), Some(""));
        assert_eq!(
            repeat.say("down", at(240)).as_deref(),
            Some(" (2 more in the last 3 minutes)")
        );
    }

    #[test]
    fn the_end_of_a_failure_is_said_when_the_failure_was() {
        let now = Instant::now();
        let mut repeat = Repeat::default();
        assert!(repeat.over(), "the first time");
        assert!(!repeat.over());
        assert!(repeat.say("down", now).is_some());
        assert!(repeat.over());
        assert!(repeat.say("down", now).is_none());
        assert!(
            !repeat.over(),
            "a camera that comes and goes each second fills no log"
        );
    }
}
