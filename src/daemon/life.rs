//! The state of the daemon, and all its transitions. Pure: the caller brings the events and the
//! time.
//!
//! ```text
//!   Starting ────► Running ────────► Restarting ──► all threads have ended: Starting
//!      │              │ ▲                 │         (also from Abandoning: the old configuration)
//!      ▼              │ └─ reload of      │
//!   Abandoning        │    cameras only   │
//!      │              ▼                   │
//!      └────────► Stopping ◄──────────────┘   SIGINT, SIGTERM
//!                     │
//!                     ▼ all threads have ended, or a second signal
//!                 the process ends
//! ```

use super::Outcome;
use std::time::{Duration, Instant};

/// Signals that follow the first one so soon belong to the same request: timeout(1) sends its
/// signal twice, and nobody types that fast.
const ONE_REQUEST: Duration = Duration::from_millis(200);

/// What the daemon is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Threads are being started. Events wait in their queue until all of them run.
    Starting,
    /// Threads work.
    Running,
    /// Threads are being stopped, to be started with another configuration. `reload`: SIGHUP came
    /// meanwhile, so what was read may be old.
    Restarting { reload: bool },
    /// Not every thread could be started. The others are being stopped.
    Abandoning { reload: bool },
    /// Threads are being stopped, and then the process ends.
    Stopping {
        outcome: Outcome,
        /// When the first signal came; `None` when none has.
        asked_at: Option<Instant>,
    },
}

/// What can change the daemon's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// All threads have been started.
    Started,
    /// A thread could not be started.
    StartFailed,
    /// SIGINT or SIGTERM.
    Terminate,
    /// SIGHUP.
    Hangup,
    /// A configuration was accepted that changes more than cameras.
    Restart,
    /// A thread panicked too often.
    Panicked,
}

/// What the main thread has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing else than before.
    Continue,
    /// Read the configuration again.
    Reload,
    /// Stop all threads. If that is under way, tell systemd that the process will end.
    Stop,
    /// End the process without waiting for the threads.
    Exit(Outcome),
}

/// What follows when all threads have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The process ends.
    End(Outcome),
    /// All threads are started again. `reload`: the configuration is to be read once more.
    Start { reload: bool },
}

impl Then {
    /// How the process ends that has nothing to start.
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self::End(outcome) => outcome,
            Self::Start { .. } => Outcome::Stuck,
        }
    }
}

impl Life {
    /// `cause` has happened at `now`.
    pub(super) fn on(&mut self, cause: Cause, now: Instant) -> Action {
        let stopped = Self::Stopping {
            outcome: Outcome::Stopped,
            asked_at: Some(now),
        };
        let (next, action) = match (*self, cause) {
            (Self::Starting, Cause::Started) => (Self::Running, Action::Continue),
            (Self::Starting, Cause::StartFailed) => {
                (Self::Abandoning { reload: false }, Action::Stop)
            }
            (Self::Running, Cause::Hangup) => (Self::Running, Action::Reload),
            (Self::Running, Cause::Restart) => (Self::Restarting { reload: false }, Action::Stop),
            (Self::Running, Cause::Panicked) => {
                let outcome = Outcome::Panicked;
                let asked_at = None;
                (Self::Stopping { outcome, asked_at }, Action::Stop)
            }
            (Self::Restarting { .. }, Cause::Hangup) => {
                (Self::Restarting { reload: true }, Action::Continue)
            }
            (Self::Abandoning { .. }, Cause::Hangup) => {
                (Self::Abandoning { reload: true }, Action::Continue)
            }
            (Self::Stopping { outcome, asked_at }, Cause::Terminate) => {
                let is_same = |at| now.saturating_duration_since(at) < ONE_REQUEST;
                let action = match asked_at.is_some_and(is_same) {
                    true => Action::Continue,
                    false => Action::Exit(outcome),
                };
                (*self, action)
            }
            (_, Cause::Terminate) => (stopped, Action::Stop),
            // A thread that gave up while all are being stopped has ended, as it was to.
            (as_it_is, _) => (as_it_is, Action::Continue),
        };
        *self = next;
        action
    }

    /// All threads have ended: what follows.
    pub(super) fn threads_ended(self) -> Then {
        match self {
            Self::Stopping { outcome, .. } => Then::End(outcome),
            Self::Restarting { reload } | Self::Abandoning { reload } => Then::Start { reload },
            Self::Starting | Self::Running => Then::Start { reload: false },
        }
    }

    /// Some threads do not end: the process ends without them. One that was to start again has
    /// failed.
    pub(super) fn threads_stuck(self) -> Outcome {
        match self {
            Self::Stopping { outcome, .. } => outcome,
            _ => Outcome::Stuck,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A life, and the clock that only the test moves.
    struct Played {
        life: Life,
        now: Instant,
    }

    impl Played {
        fn starting() -> Self {
            Self {
                life: Life::Starting,
                now: Instant::now(),
            }
        }

        fn running() -> Self {
            let mut played = Self::starting();
            assert_eq!(played.on(Cause::Started), Action::Continue);
            assert_eq!(played.life, Life::Running);
            played
        }

        fn restarting() -> Self {
            let mut played = Self::running();
            assert_eq!(played.on(Cause::Restart), Action::Stop);
            played
        }

        fn on(&mut self, cause: Cause) -> Action {
            self.life.on(cause, self.now)
        }

        fn wait(&mut self, time: Duration) {
            self.now += time;
        }
    }

    #[test]
    fn a_signal_stops_and_the_process_ends_with_0_when_all_threads_have_ended() {
        let mut played = Played::running();
        assert_eq!(played.on(Cause::Terminate), Action::Stop);
        let then = played.life.threads_ended();
        assert_eq!(then, Then::End(Outcome::Stopped));
        assert_eq!(Outcome::Stopped.exit_code(), 0);
    }

    #[test]
    fn a_second_signal_ends_the_process_at_once_unless_it_belongs_to_the_first() {
        let mut played = Played::running();
        played.on(Cause::Terminate);
        played.wait(ONE_REQUEST - Duration::from_nanos(1));
        assert_eq!(played.on(Cause::Terminate), Action::Continue);
        played.wait(Duration::from_nanos(1));
        assert_eq!(played.on(Cause::Terminate), Action::Exit(Outcome::Stopped));
    }

    #[test]
    fn sighup_is_for_a_running_daemon_and_never_ends_or_delays_one_that_stops() {
        let mut played = Played::running();
        assert_eq!(played.on(Cause::Hangup), Action::Reload);
        // Refused, or of cameras only: nothing is said of it, and the next one is heard.
        assert_eq!(played.on(Cause::Hangup), Action::Reload);
        played.on(Cause::Terminate);
        let before = played.life;
        assert_eq!(played.on(Cause::Hangup), Action::Continue);
        assert_eq!(played.life, before);
    }

    #[test]
    fn after_a_restart_all_threads_start_again_and_what_was_missed_is_read() {
        let mut played = Played::restarting();
        assert_eq!(played.life.threads_ended(), Then::Start { reload: false });
        assert_eq!(played.on(Cause::Hangup), Action::Continue);
        assert_eq!(played.life.threads_ended(), Then::Start { reload: true });
    }

    #[test]
    fn a_signal_during_a_restart_ends_the_process_and_the_next_one_does_at_once() {
        let mut played = Played::restarting();
        played.on(Cause::Hangup);
        assert_eq!(played.on(Cause::Terminate), Action::Stop);
        assert_eq!(played.life.threads_ended(), Then::End(Outcome::Stopped));
        assert_eq!(played.life.threads_stuck(), Outcome::Stopped);
        assert_eq!(played.on(Cause::Terminate), Action::Continue);
        played.wait(ONE_REQUEST);
        assert_eq!(played.on(Cause::Terminate), Action::Exit(Outcome::Stopped));
    }

    #[test]
    fn a_restart_whose_threads_do_not_end_is_a_failure_that_systemd_mends() {
        let played = Played::restarting();
        assert_eq!(played.life.threads_stuck(), Outcome::Stuck);
        assert_eq!(Outcome::Stuck.exit_code(), 70);
    }

    #[test]
    fn a_thread_that_panics_too_often_ends_the_process_with_70() {
        let mut played = Played::running();
        assert_eq!(played.on(Cause::Panicked), Action::Stop);
        assert_eq!(played.life.threads_ended(), Then::End(Outcome::Panicked));
        assert_eq!(Outcome::Panicked.exit_code(), 70);
        // Nobody has asked for anything yet, so this signal is no repetition.
        assert_eq!(played.on(Cause::Terminate), Action::Exit(Outcome::Panicked));
    }

    #[test]
    fn a_thread_that_gives_up_while_all_are_stopped_changes_nothing() {
        let mut played = Played::restarting();
        assert_eq!(played.on(Cause::Panicked), Action::Continue);
        assert_eq!(played.life.threads_ended(), Then::Start { reload: false });
        played.on(Cause::Terminate);
        assert_eq!(played.on(Cause::Panicked), Action::Continue);
        assert_eq!(played.life.threads_ended(), Then::End(Outcome::Stopped));
    }

    #[test]
    fn a_failed_start_stops_what_runs_and_hears_signals_meanwhile() {
        let mut played = Played::starting();
        assert_eq!(played.on(Cause::StartFailed), Action::Stop);
        assert_eq!(played.life.threads_ended(), Then::Start { reload: false });
        assert_eq!(played.life.threads_stuck(), Outcome::Stuck);
        assert_eq!(played.on(Cause::Hangup), Action::Continue);
        assert_eq!(played.life.threads_ended(), Then::Start { reload: true });
        assert_eq!(played.on(Cause::Terminate), Action::Stop);
        assert_eq!(played.life.threads_ended(), Then::End(Outcome::Stopped));
    }
}
