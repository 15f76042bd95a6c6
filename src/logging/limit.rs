//! The limit of repeated messages, for every warning and error, from us and from libraries.
//!
//! The threads of this program themselves log a lasting failure once a minute, and log its end.
//! This limit is for what they do not know of: lines of crates, and the same line from several
//! threads.

use super::REPORT;
use super::queue::Entry;
use crate::repeat::Repeat;
use log::Level;
use std::time::Instant;

/// Lines remembered at once: as many cameras may fail in the same way as a large machine carries.
const REMEMBERED: usize = 256;

/// A crate's line is cut here. It may hold what a peer sent, and the first part is enough to find
/// it.
pub(super) const FOREIGN_BYTES: usize = 512;

/// Where lines come from that are never the same event twice: each problem of a refused
/// configuration, answers to a signal, panics, changes of the memory level. All are few by
/// themselves.
const UNLIMITED: [&str; 7] = [
    REPORT,
    "edge_video",
    "edge_video::daemon",
    "edge_video::daemon::relieve",
    "edge_video::daemon::reload",
    "edge_video::daemon::report",
    "edge_video::logging",
];

/// Which lines were written lately.
#[derive(Debug)]
pub(super) struct Limit(Repeat);

impl Limit {
    pub(super) fn new() -> Self {
        Self(Repeat::remembering(REMEMBERED))
    }

    /// Whether `entry`, whose message without secrets is `message`, is to be written now: `None`
    /// when the same was written less than a minute ago; else what to add to it.
    pub(super) fn say(&mut self, entry: &Entry, message: &str, now: Instant) -> Option<String> {
        if entry.level > Level::Warn || UNLIMITED.contains(&entry.target()) {
            return Some(String::new());
        }
        self.0.say_of(entry.origin(), message, now)
    }
}

/// Whether `target` is not of this program.
pub(super) fn is_foreign(target: &str) -> bool {
    !target.starts_with("edge_video")
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::kv::ToValue;
    use std::time::Duration;

    fn entry(level: Level, target: &str, camera: Option<&str>) -> Entry {
        let camera = camera.as_ref().map(ToValue::to_value);
        Entry::new(String::new(), level, target, camera, format_args!(""))
    }

    #[test]
    fn a_crate_that_floods_says_each_thing_once_a_minute() {
        let (mut limit, start) = (Limit::new(), Instant::now());
        let amiquip = entry(Level::Error, "amiquip::io_loop", None);
        // 1,953 lines in 6 s, two kinds of them, for two minutes.
        let said: Vec<_> = (0..39_060_u64)
            .filter_map(|n| {
                let now = start + Duration::from_micros(n * 3_072);
                let text = match n % 2 {
                    0 => format!("unexpected frame of {n} bytes"),
                    _ => format!("channel {n} is full"),
                };
                limit.say(&amiquip, &text, now)
            })
            .collect();
        let more = " (9765 more in the last minute)";
        assert_eq!(
            said,
            ["", "", more, more],
            "at the start and after a minute"
        );
    }

    #[test]
    fn cameras_are_told_apart_and_what_answers_a_person_is_always_said() {
        let (mut limit, now) = (Limit::new(), Instant::now());
        let mut says = |level, target, camera| {
            let entry = entry(level, target, camera);
            limit.say(&entry, "refused 7", now).is_some()
        };
        assert!(says(Level::Warn, "edge_video::capture", Some("cam1")));
        assert!(says(Level::Warn, "edge_video::capture", Some("cam2")));
        assert!(!says(Level::Warn, "edge_video::capture", Some("cam1")));
        for _ in 0..3 {
            assert!(says(Level::Error, "edge_video::daemon::reload", None));
            assert!(says(Level::Info, "edge_video::capture", Some("cam1")));
            assert!(says(Level::Debug, "mio", None));
        }
    }
}
