//! What has been published about each camera, what is to be published next, and when to look again.
//! Pure; time comes from the caller.

use super::body::{self, CameraState, Condition};
use crate::clock::Stamp;
use crate::message::EventMessage;
use crate::overview::{Overview, View};
use crate::status::Activity;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Counts are published at least this often, so that late subscribers learn the current state. A
/// consumer that hears nothing for longer should assume that the daemon, or the route to it, is
/// down.
const COUNTS_EVERY: Duration = Duration::from_secs(30);

/// How often to look at a live camera whose frames are not published yet, or not any more: nothing
/// signals that change. A tenth of a second is not noticed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Pause before a refused state is sent again. Only a full queue refuses one.
pub(super) const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// A change that is worth an event: another state, another failure, or a frozen picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct News {
    state: CameraState,
    consecutive_failures: u32,
    picture_frozen: bool,
    idle: bool,
    removed: bool,
}

impl News {
    fn is_news_after(self, told: Option<Self>) -> bool {
        // Fewer failures alone are no news: the camera is about to become active, which is.
        told.is_none_or(|told| {
            (self.state, self.picture_frozen, self.idle, self.removed)
                != (told.state, told.picture_frozen, told.idle, told.removed)
                || self.consecutive_failures > told.consecutive_failures
        })
    }
}

/// All cameras, and the active ones among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    total: usize,
    active: usize,
}

/// What an unconfirmed event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// This change of this camera.
    Camera(Arc<str>, News),
    /// The counts.
    Counts,
}

#[derive(Debug)]
struct Entry {
    view: Arc<View>,
    /// The camera was removed from the configuration. The entry is deleted when the broker has
    /// confirmed the event about this.
    removed: bool,
    told: Option<News>,
    not_before: Instant,
}

/// All cameras, and what was published of them over the current channel.
#[derive(Debug)]
pub(super) struct Board {
    overview: Arc<Overview>,
    entries: Vec<Entry>,
    counts: Option<Counts>,
    counts_due: Instant,
    stopping: bool,
}

impl Board {
    pub(super) fn new(overview: Arc<Overview>, now: Instant) -> Self {
        let mut board = Self {
            overview: Arc::clone(&overview),
            entries: vec![],
            counts: None,
            counts_due: now,
            stopping: false,
        };
        board.follow(overview, now);
        board
    }

    /// Replaces the cameras.
    pub(super) fn follow(&mut self, overview: Arc<Overview>, now: Instant) {
        for entry in &mut self.entries {
            let id = &entry.view.camera.id;
            match overview.cameras.iter().find(|view| view.camera.id == *id) {
                Some(view) => (entry.view, entry.removed) = (Arc::clone(view), false),
                None => entry.removed = true,
            }
        }
        for view in &overview.cameras {
            let id = &view.camera.id;
            if !self.entries.iter().any(|it| it.view.camera.id == *id) {
                self.entries.push(Entry {
                    view: Arc::clone(view),
                    removed: false,
                    told: None,
                    not_before: now,
                });
            }
        }
        self.overview = overview;
    }

    /// For a new channel: a consumer may have missed all before it.
    pub(super) fn tell_all_anew(&mut self) {
        for entry in &mut self.entries {
            entry.told = None;
        }
        self.counts = None;
    }

    /// From now on every camera is offline.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// What to publish now, and when to look again if nothing changes before.
    pub(super) fn look(&mut self, now: Stamp) -> (Vec<(Told, EventMessage)>, Instant) {
        let (mut due, mut active) = (vec![], 0);
        let moment = now.monotonic;
        let mut again = moment + COUNTS_EVERY;
        for entry in &mut self.entries {
            let (condition, next) = entry.condition(&self.overview, self.stopping, moment);
            active += usize::from(condition.state == CameraState::Active);
            if let Some(next) = next {
                again = again.min(next);
            }
            let news = News {
                state: condition.state,
                consecutive_failures: condition.consecutive_failures,
                picture_frozen: condition.picture_frozen,
                idle: condition.idle,
                removed: entry.removed,
            };
            if !news.is_news_after(entry.told) {
                entry.told = Some(news);
                continue;
            }
            if moment < entry.not_before {
                again = again.min(entry.not_before);
                continue;
            }
            entry.told = Some(news);
            let id = &entry.view.camera.id;
            let event = body::camera_status(id, &condition, now.unix_us);
            due.push((Told::Camera(Arc::clone(id), news), event));
        }
        let counts = Counts {
            total: self.overview.cameras.len(),
            active,
        };
        if self.counts != Some(counts) || self.counts_due <= moment {
            self.counts = Some(counts);
            self.counts_due = moment + COUNTS_EVERY;
            let event = body::system_status(counts.total, counts.active, now.unix_us);
            due.push((Told::Counts, event));
        }
        (due, again.min(self.counts_due))
    }

    /// The broker confirmed or refused an event.
    pub(super) fn answered(&mut self, told: &Told, acked: bool, now: Instant) {
        match (told, acked) {
            (Told::Camera(id, news), true) => self
                .entries
                .retain(|entry| !(entry.removed && news.removed && entry.view.camera.id == *id)),
            (Told::Camera(id, _), false) => {
                let mut entries = self.entries.iter_mut();
                if let Some(entry) = entries.find(|entry| entry.view.camera.id == *id) {
                    entry.told = None;
                    entry.not_before = now + REFUSED_PAUSE;
                }
            }
            (Told::Counts, true) => {}
            (Told::Counts, false) => self.counts_due = now + REFUSED_PAUSE,
        }
    }
}

impl Entry {
    /// The state of the camera, and when it may change without a signal from the reader.
    fn condition(
        &self,
        overview: &Overview,
        stopping: bool,
        now: Instant,
    ) -> (Condition, Option<Instant>) {
        let status = self.view.status.get();
        let (stale, age) = (self.view.stale_timeout(), self.view.published_age(now));
        let (state, message, next) = if self.removed {
            (CameraState::Offline, "removed".to_owned(), None)
        } else if stopping || (status.activity == Activity::Stopped && overview.is_stopping()) {
            (CameraState::Offline, "stopping".to_owned(), None)
        } else {
            match (&status.activity, age.filter(|age| *age < stale)) {
                (Activity::Live, Some(age)) => (
                    CameraState::Active,
                    self.view.words(now),
                    Some(now + (stale - age)),
                ),
                (Activity::Live, None) => (
                    CameraState::Inactive,
                    self.trouble(now),
                    Some(now + LOOK_AGAIN),
                ),
                (Activity::Connecting | Activity::Waiting { open: false, .. }, _) => {
                    (CameraState::Inactive, self.view.words(now), None)
                }
                (Activity::Waiting { open: true, .. } | Activity::Stopped, _) => {
                    (CameraState::Offline, self.view.words(now), None)
                }
            }
        };
        let condition = Condition {
            state,
            consecutive_failures: status.consecutive_failures,
            last_error: status.last_error,
            picture_frozen: status.frozen_since.is_some(),
            idle: status.idle && state == CameraState::Active,
            message,
        };
        (condition, next)
    }

    /// Why no fresh frame of a live camera is published.
    fn trouble(&self, now: Instant) -> String {
        let (view, stale) = (&self.view, self.view.stale_timeout());
        if view.age(now).is_none_or(|age| age >= stale) {
            return format!("no {} for {} s", view.sign_of_life(), stale.as_secs_f64());
        }
        if let Some(why) = view.status.get().refused {
            return format!("live, but not published: {why}");
        }
        match (view.link().connected(), view.link().blocked()) {
            (false, _) => "live, but not published: the broker is not connected",
            (true, true) => "live, but not published: the broker has blocked publishing",
            (true, false) => "live, but not published yet",
        }
        .to_owned()
    }
}

#[cfg(test)]
mod tests;
