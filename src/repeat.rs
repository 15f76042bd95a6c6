//! Limits repeated messages: the first one is written, and then one a minute with the number of
//! repetitions. Texts that differ only in numbers count as the same message.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Often enough to show that a problem lasts, and rare enough to leave the log readable.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Failures remembered at once: more than alternate in practice.
const REMEMBERED: usize = 8;

/// Remembers which failures were written lately.
#[derive(Debug)]
pub struct Repeat {
    said: VecDeque<Said>,
    remembered: usize,
    over: bool,
}

#[derive(Debug)]
struct Said {
    who: String,
    /// The text, with each number as `#`.
    failure: String,
    at: Instant,
    kept_back: u32,
}

impl Default for Repeat {
    fn default() -> Self {
        Self::remembering(REMEMBERED)
    }
}

impl Repeat {
    /// Remembers at most this many failures.
    pub fn remembering(remembered: usize) -> Self {
        Self {
            said: VecDeque::new(),
            remembered,
            over: false,
        }
    }

    /// Whether to write `failure` now. `None` if the same was written less than a minute ago; else
    /// the suffix: empty, or ` (12 more in the last minute)`.
    pub fn say(&mut self, failure: &str, now: Instant) -> Option<String> {
        self.say_of("", failure, now)
    }

    /// The same for one of several sources that may fail alike. Numbers in `who` distinguish them.
    pub fn say_of(&mut self, who: &str, failure: &str, now: Instant) -> Option<String> {
        let is_same =
            |said: &&mut Said| said.who == who && folded(failure).eq(said.failure.chars());
        if let Some(said) = self.said.iter_mut().find(is_same) {
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
        if self.said.len() >= self.remembered {
            self.said.pop_front();
        }
        self.said.push_back(Said {
            who: who.to_owned(),
            failure: folded(failure).collect(),
            at: now,
            kept_back: 0,
        });
        self.over = false;
        Some(String::new())
    }

    /// Whether to write that all is well: the first time, and after each failure that was written.
    /// If the failure was held back, its end is not written either.
    pub fn over(&mut self) -> bool {
        !std::mem::replace(&mut self.over, true)
    }
}

/// `text` with each number replaced by `#`.
fn folded(text: &str) -> impl Iterator<Item = char> {
    let mut within = false;
    text.chars().filter_map(move |c| {
        let is_first = !std::mem::replace(&mut within, c.is_ascii_digit());
        match within {
            true => is_first.then_some('#'),
            false => Some(c),
        }
    })
}

/// A state that may switch on and off quickly. Its beginning is written at once, unless it was
/// written less than a minute ago. Then it is written when the minute is over, if the state still
/// lasts.
#[derive(Debug, Default)]
pub struct Blinking {
    /// Why the state lasts, while it does.
    lasts: Option<String>,
    /// Whether the last message was that it lasts.
    told: bool,
    told_at: Option<Instant>,
    kept_back: u32,
}

impl Blinking {
    /// The state has begun. Returns the message to write, if any.
    pub fn begins(&mut self, why: String, now: Instant) -> Option<String> {
        self.lasts = Some(why);
        if !self.told && self.due().is_some_and(|due| now < due) {
            self.kept_back += 1;
            return None;
        }
        self.say(now)
    }

    /// When to call [`say`](Self::say): a state that was held back may still last then.
    pub fn due(&self) -> Option<Instant> {
        let due = self.told_at? + AGAIN_AFTER;
        (self.lasts.is_some() && !self.told).then_some(due)
    }

    /// Why the state lasts, with ` (12 more in the last minute)` if as many beginnings were held
    /// back.
    pub fn say(&mut self, now: Instant) -> Option<String> {
        let why = self.lasts.as_ref()?;
        let passed = now.saturating_duration_since(self.told_at.unwrap_or(now));
        // This beginning is written, so it is not counted as held back.
        let again = match std::mem::take(&mut self.kept_back).saturating_sub(1) {
            0 => String::new(),
            n => format!(" ({n} more in the last {})", in_minutes(passed)),
        };
        let text = format!("{why}{again}");
        (self.told, self.told_at) = (true, Some(now));
        Some(text)
    }

    /// The state has ended. Returns whether to write that.
    pub fn ends(&mut self) -> bool {
        self.lasts = None;
        std::mem::take(&mut self.told)
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
    fn texts_that_differ_only_in_numbers_are_one_text() {
        let now = Instant::now();
        let mut repeat = Repeat::default();
        let mut says = |who, text| repeat.say_of(who, text, now).is_some();
        assert!(says("cam1", "frame of 8388609 bytes, 3.5 s"));
        assert!(!says("cam1", "frame of 17 bytes, 12.25 s"));
        assert!(says("cam2", "frame of 17 bytes, 12.25 s"));
        assert!(says("cam1", "frame of x bytes, 12.25 s"));
    }

    #[test]
    fn no_more_are_remembered_than_wanted() {
        let now = Instant::now();
        let mut repeat = Repeat::remembering(2);
        for text in ["a", "b", "c"] {
            assert!(repeat.say(text, now).is_some());
        }
        assert!(repeat.say("c", now).is_none());
        assert!(repeat.say("a", now).is_some(), "the oldest is forgotten");
        assert_eq!(repeat.said.len(), 2);
    }

    #[test]
    fn a_state_that_blinks_is_said_once_a_minute_and_one_that_lasts_is_always_said() {
        let start = Instant::now();
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        let mut alarm = Blinking::default();
        let mut said = Vec::new();
        // Half a second on, half a second off, for 100 s.
        for second in 0..100 {
            let on = alarm.begins("memory".to_owned(), at(second * 10));
            said.extend(on.map(|text| (second * 10, text)));
            if alarm.ends() {
                said.push((second * 10 + 5, "over".to_owned()));
            }
        }
        let expect = [
            (0, "memory"),
            (5, "over"),
            (600, "memory (58 more in the last minute)"),
            (605, "over"),
        ];
        let expect = expect.map(|(at, text)| (at, text.to_owned()));
        assert_eq!(said, expect);

        // It begins once more within the minute, and stays.
        assert_eq!(alarm.begins("disk".to_owned(), at(1000)), None);
        assert_eq!(alarm.due(), Some(at(1200)));
        assert_eq!(
            alarm.say(at(1200)).as_deref(),
            Some("disk (39 more in the last minute)")
        );
        assert_eq!(alarm.due(), None);
        assert!(alarm.ends());
        assert_eq!((alarm.ends(), alarm.due()), (false, None));
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
