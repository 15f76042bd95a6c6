//! How to react to a broker that refuses a channel.

use crate::backoff::{Backoff, JITTER, random};
use crate::repeat::Repeat;
use std::time::{Duration, Instant};

/// Backoff from and to: only a person can change what is refused.
const RETRY_REFUSED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Each reason is logged once a minute. The pauses grow until a message is confirmed.
#[derive(Debug)]
pub struct Refusals {
    now: bool,
    said: Repeat,
    backoff: Backoff,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            now: false,
            said: Repeat::default(),
            backoff: Backoff::new(RETRY_REFUSED.0, RETRY_REFUSED.1, 2.0, JITTER),
        }
    }
}

impl Refusals {
    /// The broker closed the channel for this reason. Returns how long to pause, and what to append
    /// to the reason if it is to be logged now. Reasons that differ only in numbers (a size, a tag)
    /// count as one.
    pub fn refused(&mut self, why: &str) -> (Duration, Option<String>) {
        self.now = true;
        let again = self.said.say(&without_numbers(why), Instant::now());
        (self.backoff.next(random()), again)
    }

    /// Whether the last channel was refused, and nothing was confirmed since.
    pub fn now(&self) -> bool {
        self.now
    }

    /// A message was confirmed. Returns whether to log that.
    pub fn over(&mut self) -> bool {
        if !std::mem::take(&mut self.now) {
            return false;
        }
        self.backoff.reset();
        self.said.over()
    }
}

/// With `#` for each number.
fn without_numbers(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_ascii_digit() {
            true if plain.ends_with('#') => {}
            true => plain.push('#'),
            false => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_differ_in_numbers_are_said_once_and_others_each() {
        let mut refusals = Refusals::default();
        let mut said = |why| refusals.refused(why).1.is_some();
        assert!(said("delivery tag 17 is unknown"));
        assert!(!said("delivery tag 4 is unknown"));
        assert!(said("access refused"));
        assert!(!said("delivery tag 123 is unknown"));
    }
}
