//! The state of each camera, for people and programs. Written when it changes, never per frame.

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// What a camera is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activity {
    /// Its FFmpeg has been started and has sent no frame yet.
    Connecting,
    /// Frames come.
    Live,
    /// A session has failed; the next one is tried at `until`.
    Waiting {
        /// When the next session is tried.
        until: Instant,
        /// Whether the circuit breaker is open.
        open: bool,
    },
    /// The program is stopping.
    Stopped,
}

/// A camera's state with what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub activity: Activity,
    /// Since when.
    pub since: Instant,
    /// Failed sessions since the last frame.
    pub consecutive_failures: u32,
    /// Why the last session failed, without secrets; kept while the camera is live again.
    pub last_error: Option<String>,
    /// The same in a few words.
    pub last_cause: Option<String>,
    /// Why the broker takes none of its frames, while it refuses them.
    pub refused: Option<String>,
    /// What decodes its pictures, or decoded the last ones; `None` before the first.
    pub decoder: Option<&'static str>,
    /// Since when its picture has not changed, while it counts as frozen.
    pub frozen_since: Option<Instant>,
    /// It has no consumer, so hardly anything is captured.
    pub idle: bool,
}

impl Status {
    /// What it is doing, for people: `live`, `next try in 12 s: connection refused`.
    pub fn words(&self, now: Instant) -> String {
        let why = self.last_cause.as_deref().unwrap_or("it failed");
        match self.activity {
            Activity::Live if self.idle => "idle: no queue is bound".to_owned(),
            Activity::Live => "live".to_owned(),
            Activity::Stopped => "stopped".to_owned(),
            Activity::Connecting if self.consecutive_failures == 0 => {
                "waiting for its first frame".to_owned()
            }
            Activity::Connecting => format!("trying again: {why}"),
            Activity::Waiting { until, open } => {
                let left = until.saturating_duration_since(now);
                // Rounded up: a wait of 0 s would look wrong.
                let left = left.as_secs() + u64::from(left.subsec_nanos() > 0);
                match open {
                    false => format!("next try in {left} s: {why}"),
                    true => format!(
                        "next try in {left} s after {} failures: {why}",
                        self.consecutive_failures
                    ),
                }
            }
        }
    }
}

/// A sign of life that one thread gives and another looks at.
#[derive(Debug)]
pub struct Beat(Mutex<Instant>);

impl Default for Beat {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Beat {
    /// Lives now.
    pub fn beat(&self) {
        *self.0.lock() = Instant::now();
    }

    /// For how long nothing was heard of it.
    pub fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.0.lock())
    }
}

/// The current [`Status`] of one camera. Written by its reader thread, and by its publisher what
/// the broker refuses.
#[derive(Debug)]
pub struct CameraStatus {
    now: Mutex<Status>,
    changed: Option<Sender<()>>,
}

impl Default for CameraStatus {
    fn default() -> Self {
        Self::new(None)
    }
}

impl CameraStatus {
    /// A camera's that is about to start. Each change is told through `changed`, which has room for
    /// one: a receiver that has not looked yet needs no second call.
    pub fn new(changed: Option<Sender<()>>) -> Self {
        Self {
            now: Mutex::new(Status {
                activity: Activity::Connecting,
                since: Instant::now(),
                consecutive_failures: 0,
                last_error: None,
                last_cause: None,
                refused: None,
                decoder: None,
                frozen_since: None,
                idle: false,
            }),
            changed,
        }
    }

    /// The status now.
    pub fn get(&self) -> Status {
        self.now.lock().clone()
    }

    /// FFmpeg is being started.
    pub fn connecting(&self) {
        self.set(Activity::Connecting, |_| {});
    }

    /// The first frame of a session came.
    pub fn live(&self) {
        self.set(Activity::Live, |status| status.consecutive_failures = 0);
    }

    /// Pictures come from this decoder.
    pub fn decodes_with(&self, decoder: &'static str) {
        self.now.lock().decoder = Some(decoder);
    }

    /// A session failed, for the cause given in a few words and in all that is known; the next is
    /// tried at `until`.
    pub fn failed(&self, cause: &str, error: &str, until: Instant, open: bool) {
        self.set(Activity::Waiting { until, open }, |status| {
            status.consecutive_failures = status.consecutive_failures.saturating_add(1);
            status.last_error = Some(error.to_owned());
            status.last_cause = Some(cause.to_owned());
        });
    }

    /// The broker refuses the camera's frames, for this reason; `None`: it takes them.
    pub fn refused(&self, why: Option<&str>) {
        let mut status = self.now.lock();
        status.refused = why.map(str::to_owned);
        if let Some(why) = why {
            status.last_error = Some(why.to_owned());
        }
        drop(status);
        self.ring();
    }

    /// The picture is frozen since then; `None`: it changes, or no session shows one.
    pub fn frozen(&self, since: Option<Instant>) {
        let before = std::mem::replace(&mut self.now.lock().frozen_since, since);
        if before != since {
            self.ring();
        }
    }

    /// The camera became idle, or is idle no longer.
    pub fn idle(&self, idle: bool) {
        if std::mem::replace(&mut self.now.lock().idle, idle) != idle {
            self.ring();
        }
    }

    /// Whether the camera is idle.
    pub fn is_idle(&self) -> bool {
        self.now.lock().idle
    }

    /// The reader has ended.
    pub fn stopped(&self) {
        self.set(Activity::Stopped, |_| {});
    }

    fn set(&self, activity: Activity, change: impl FnOnce(&mut Status)) {
        let mut status = self.now.lock();
        status.activity = activity;
        status.since = Instant::now();
        change(&mut status);
        drop(status);
        self.ring();
    }

    fn ring(&self) {
        if let Some(changed) = &self.changed {
            let _ = changed.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_until_a_frame_comes_and_the_last_error_stays() {
        let status = CameraStatus::default();
        let soon = Instant::now();
        status.failed("refused", "exit code 1: refused", soon, false);
        status.connecting();
        status.failed("no frame", "no frame", soon, true);
        assert_eq!(status.get().consecutive_failures, 2);
        assert_eq!(
            status.get().activity,
            Activity::Waiting {
                until: soon,
                open: true
            }
        );
        status.connecting();
        status.live();
        let now = status.get();
        assert_eq!(
            (now.activity, now.consecutive_failures),
            (Activity::Live, 0)
        );
        assert_eq!(now.last_error.as_deref(), Some("no frame"));
    }

    #[test]
    fn what_the_broker_refuses_is_the_last_error_and_does_not_change_what_the_camera_does() {
        let status = CameraStatus::default();
        status.live();
        status.refused(Some("no right to write"));
        let now = status.get();
        assert_eq!(now.activity, Activity::Live);
        assert_eq!(now.refused.as_deref(), Some("no right to write"));
        assert_eq!(now.last_error, now.refused);
        status.refused(None);
        assert_eq!(status.get().refused, None);
        assert_eq!(
            status.get().last_error.as_deref(),
            Some("no right to write")
        );
    }

    #[test]
    fn the_state_in_words_says_what_and_why() {
        let status = CameraStatus::default();
        let now = Instant::now();
        assert_eq!(status.get().words(now), "waiting for its first frame");
        status.failed(
            "refused",
            "exit code 1: refused",
            now + Duration::from_millis(11_500),
            false,
        );
        assert_eq!(status.get().words(now), "next try in 12 s: refused");
        status.connecting();
        assert_eq!(status.get().words(now), "trying again: refused");
        status.failed(
            "refused",
            "exit code 1: refused",
            now + Duration::from_secs(300),
            true,
        );
        assert_eq!(
            status.get().words(now),
            "next try in 300 s after 2 failures: refused"
        );
        status.live();
        assert_eq!(status.get().words(now), "live");
        status.idle(true);
        assert_eq!(status.get().words(now), "idle: no queue is bound");
        status.failed("refused", "refused", now, false);
        assert_eq!(status.get().words(now), "next try in 0 s: refused");
    }
}
