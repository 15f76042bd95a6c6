//! Says a thing once, and while it stays true not more than once a minute.

use std::time::{Duration, Instant};

/// A person who reads the log at night wants to see that it is still so, not forty times.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Remembers which failure was said last.
#[derive(Debug, Default)]
pub struct Repeat {
    said: Option<(String, Instant)>,
    kept_back: u32,
    over: bool,
}

impl Repeat {
    /// Whether `failure` is to be said now: `None` when the same was said less than a minute ago;
    /// else what to add to it, empty or ` (12 times more since)`.
    pub fn say(&mut self, failure: &str, now: Instant) -> Option<String> {
        let same = self.said.as_ref().filter(|(said, _)| said == failure);
        if same.is_some_and(|(_, at)| now.saturating_duration_since(*at) < AGAIN_AFTER) {
            self.kept_back += 1;
            return None;
        }
        let more = match (same.is_some(), std::mem::take(&mut self.kept_back)) {
            (true, n) if n > 0 => format!(" ({n} times more since)"),
            _ => String::new(),
        };
        self.said = Some((failure.to_owned(), now));
        self.over = false;
        Some(more)
    }

    /// Whether to say that all is well: the first time, and after each failure that was said. Where
    /// the failure was kept back its end is no news either.
    pub fn over(&mut self) -> bool {
        !std::mem::replace(&mut self.over, true)
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
            Some(" (2 times more since)")
        );
        assert_eq!(repeat.say("down", at(61)), None);
        assert_eq!(repeat.say("refused", at(62)).as_deref(), Some(""));
        assert_eq!(repeat.say("refused", at(200)).as_deref(), Some(""));
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
