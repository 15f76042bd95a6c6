//! What each camera is doing, for people and machines that ask: written when that changes, never per
//! frame.

use parking_lot::Mutex;
use std::time::Instant;

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
}

/// The current [`Status`] of one camera. Written by its reader thread.
#[derive(Debug)]
pub struct CameraStatus(Mutex<Status>);

impl Default for CameraStatus {
    fn default() -> Self {
        Self(Mutex::new(Status {
            activity: Activity::Connecting,
            since: Instant::now(),
            consecutive_failures: 0,
            last_error: None,
        }))
    }
}

impl CameraStatus {
    /// The status now.
    pub fn get(&self) -> Status {
        self.0.lock().clone()
    }

    /// FFmpeg is being started.
    pub fn connecting(&self) {
        self.set(Activity::Connecting, |_| {});
    }

    /// The first frame of a session came.
    pub fn live(&self) {
        self.set(Activity::Live, |status| status.consecutive_failures = 0);
    }

    /// A session failed, for the reason given; the next is tried at `until`.
    pub fn failed(&self, why: &str, until: Instant, open: bool) {
        self.set(Activity::Waiting { until, open }, |status| {
            status.consecutive_failures = status.consecutive_failures.saturating_add(1);
            status.last_error = Some(why.to_owned());
        });
    }

    /// The reader has ended.
    pub fn stopped(&self) {
        self.set(Activity::Stopped, |_| {});
    }

    fn set(&self, activity: Activity, change: impl FnOnce(&mut Status)) {
        let mut status = self.0.lock();
        status.activity = activity;
        status.since = Instant::now();
        change(&mut status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_until_a_frame_comes_and_the_last_error_stays() {
        let status = CameraStatus::default();
        let soon = Instant::now();
        status.failed("refused", soon, false);
        status.connecting();
        status.failed("no frame", soon, true);
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
}
