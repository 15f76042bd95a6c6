//! Says a thing once, and while it stays true not more than once a minute.

use std::time::{Duration, Instant};

/// A person who reads the log at night wants to see that it is still so, not forty times.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Remembers what was said last.
#[derive(Debug, Default)]
pub struct Repeat {
    said: Option<(String, Instant)>,
    kept_back: u32,
}

impl Repeat {
    /// What to say of `text` now: `None` when the same was said less than a minute ago; else the
    /// text, with the number of times it was kept back.
    pub fn say(&mut self, text: &str, now: Instant) -> Option<String> {
        if let Some((said, at)) = &self.said
            && said == text
            && now.saturating_duration_since(*at) < AGAIN_AFTER
        {
            self.kept_back += 1;
            return None;
        }
        let same = self.said.as_ref().is_some_and(|(said, _)| said == text);
        let more = match std::mem::take(&mut self.kept_back) {
            0 => String::new(),
            _ if !same => String::new(),
            n => format!(" ({n} times more since)"),
        };
        self.said = Some((text.to_owned(), now));
        Some(format!("{text}{more}"))
    }

    /// It is no longer so: the next time is news again.
    pub fn forget(&mut self) {
        *self = Self::default();
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
        assert_eq!(repeat.say("down", at(0)).as_deref(), Some("down"));
        assert_eq!(repeat.say("down", at(20)), None);
        assert_eq!(repeat.say("down", at(59)), None);
        assert_eq!(
            repeat.say("down", at(60)).as_deref(),
            Some("down (2 times more since)")
        );
        assert_eq!(repeat.say("refused", at(61)).as_deref(), Some("refused"));
        repeat.forget();
        assert_eq!(repeat.say("refused", at(62)).as_deref(), Some("refused"));
    }
}
