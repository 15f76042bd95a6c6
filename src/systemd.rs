//! What systemd is told, if it started us (sd_notify(3)): ready, what the state is, still alive.

use crate::overview::Overview;
use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// The variable in which systemd names the socket that it listens to.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Tells systemd of the daemon; says nothing where systemd did not ask for it.
#[derive(Debug)]
pub struct Systemd {
    /// Half of `WatchdogSec`, as sd_watchdog_enabled(3) has it.
    feed_every: Option<Duration>,
    fed: Option<Instant>,
    /// Whether the status is wanted.
    listens: bool,
    status: String,
}

impl Systemd {
    /// As the environment has it.
    pub fn from_environment() -> Self {
        Self {
            feed_every: sd_notify::watchdog_enabled().map(|timeout| timeout / 2),
            fed: None,
            listens: std::env::var_os(SOCKET).is_some(),
            status: String::new(),
        }
    }

    /// The configuration is loaded and the threads run. The broker need not answer: it may be what is
    /// to be waited for.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// The configuration is read again; [`ready`](Self::ready) ends it. The time is what
    /// `Type=notify-reload` tells this reload from an earlier one by.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// The end has begun.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// A sign of life and what the state is; returns when the next sign is due.
    pub fn alive(&mut self, overview: &Overview, now: Instant) -> Option<Instant> {
        if self.listens {
            let status = status(overview);
            if status != self.status {
                tell(&[NotifyState::Status(&status)]);
                self.status = status;
            }
        }
        let every = self.feed_every?;
        let due = |fed: Option<Instant>| fed.map_or(now, |fed| fed + every);
        if due(self.fed) <= now && overview.hung(now).is_none() {
            tell(&[NotifyState::Watchdog]);
            self.fed = Some(now);
        }
        Some(due(self.fed).max(now + every / 4))
    }
}

/// `5 of 6 cameras live, broker connected`
fn status(overview: &Overview) -> String {
    format!(
        "{} of {} cameras live, broker {}",
        overview.live(),
        overview.cameras.len(),
        overview.broker().word()
    )
}

fn tell(states: &[NotifyState<'_>]) {
    // Without systemd there is no socket, and nothing to do about one that does not take it.
    let _ = sd_notify::notify(states);
}
