//! Reports to systemd, if it started the program (sd_notify(3)): readiness, status, watchdog.

use crate::overview::Overview;
use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// The variable in which systemd names its socket.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Reports the daemon to systemd; does nothing if systemd did not ask for it.
#[derive(Debug)]
pub struct Systemd {
    /// Half of `WatchdogSec`, as sd_watchdog_enabled(3) recommends.
    feed_every: Option<Duration>,
    fed: Option<Instant>,
    /// Whether systemd wants the status.
    listens: bool,
    status: String,
}

impl Systemd {
    /// From the environment.
    pub fn from_environment() -> Self {
        Self {
            feed_every: sd_notify::watchdog_enabled().map(|timeout| timeout / 2),
            fed: None,
            listens: std::env::var_os(SOCKET).is_some(),
            status: String::new(),
        }
    }

    /// The configuration is loaded and the threads run. The broker need not answer yet: units that
    /// are ordered after this one must not wait for it.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// The configuration is read again; [`ready`](Self::ready) ends this state.
    /// `Type=notify-reload` recognises the reload by the time.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// The program stops.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// Reports the status and feeds the watchdog; returns when this is due next.
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
    // Without systemd there is no socket, and a failure to write to it changes nothing.
    let _ = sd_notify::notify(states);
}
