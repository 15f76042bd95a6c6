//! What is to be told of each camera, and what has been: the states, and when to look at them again. Pure;
//! time comes from the caller.

use super::body::{self, Condition, State};
use crate::clock::Stamp;
use crate::message::Event;
use crate::overview::{Overview, View};
use crate::status::Activity;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The counts are sent at least this often, like the summary in the log: a topic exchange keeps nothing for
/// a consumer that comes later, and one that hears nothing for longer knows that the program is gone.
const COUNTS_EVERY: Duration = Duration::from_secs(30);

/// How often a camera is looked at that is on its way: live, but not published yet, or not any more.
/// Nothing tells of that by itself, and nobody sees a tenth of a second.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A state that the broker refused is sent again after this. Only a queue that takes no more does that.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// What a new event is sent for: the same again is no news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct News {
    state: State,
    consecutive_failures: u32,
    removed: bool,
}

/// Cameras in all, and active ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    total: usize,
    active: usize,
}

/// Which event the broker has to confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// This about this camera.
    Camera(Arc<str>, News),
    /// The counts.
    Counts,
}

#[derive(Debug)]
struct Entry {
    view: Arc<View>,
    /// No longer in the configuration; forgotten when that is told.
    removed: bool,
    told: Option<News>,
    not_before: Instant,
}

/// All cameras, and what was told of them over the present channel.
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

    /// From now on these are the cameras.
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

    /// A new channel: whoever listens may have missed what was told before.
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

    /// What is to be told now, and when to look again if nothing changes before.
    pub(super) fn look(&mut self, now: Stamp) -> (Vec<(Told, Event)>, Instant) {
        let (mut due, mut active) = (vec![], 0);
        let moment = now.monotonic;
        let mut again = moment + COUNTS_EVERY;
        for entry in &mut self.entries {
            let (condition, next) = entry.condition(&self.overview, self.stopping, moment);
            active += usize::from(condition.state == State::Active);
            if let Some(next) = next {
                again = again.min(next);
            }
            let news = News {
                state: condition.state,
                consecutive_failures: condition.consecutive_failures,
                removed: entry.removed,
            };
            if entry.told == Some(news) {
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

    /// The broker confirmed it, or refused it.
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
    /// How the camera is, and when that may change without its reader's saying so.
    fn condition(
        &self,
        overview: &Overview,
        stopping: bool,
        now: Instant,
    ) -> (Condition, Option<Instant>) {
        let status = self.view.status.get();
        let (stale, age) = (self.view.camera.stale_timeout, self.view.published_age(now));
        let (state, message, next) = if self.removed {
            (State::Offline, "removed".to_owned(), None)
        } else if stopping || (status.activity == Activity::Stopped && overview.is_stopping()) {
            (State::Offline, "stopping".to_owned(), None)
        } else {
            match (&status.activity, age.filter(|age| *age < stale)) {
                (Activity::Live, Some(age)) => {
                    (State::Active, status.words(now), Some(now + (stale - age)))
                }
                (Activity::Live, None) => {
                    (State::Inactive, self.trouble(now), Some(now + LOOK_AGAIN))
                }
                (Activity::Connecting | Activity::Waiting { open: false, .. }, _) => {
                    (State::Inactive, status.words(now), None)
                }
                (Activity::Waiting { open: true, .. } | Activity::Stopped, _) => {
                    (State::Offline, status.words(now), None)
                }
            }
        };
        let condition = Condition {
            state,
            consecutive_failures: status.consecutive_failures,
            last_error: status.last_error,
            message,
        };
        (condition, next)
    }

    /// Why nothing fresh of a live camera is published.
    fn trouble(&self, now: Instant) -> String {
        let (view, stale) = (&self.view, self.view.camera.stale_timeout);
        if view.age(now).is_none_or(|age| age >= stale) {
            return format!("no frame for {} s", stale.as_secs_f64());
        }
        match (view.link.connected(), view.link.blocked()) {
            (false, _) => "live, but not published: the broker is away",
            (true, true) => "live, but not published: the broker takes no messages",
            (true, false) => "live, but not published yet",
        }
        .to_owned()
    }
}
