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
mod tests {
    use super::*;
    use crate::clock::process_us;

    const SECOND: Duration = Duration::from_secs(1);
    /// What is kept is in microseconds.
    const ROUNDING: Duration = Duration::from_millis(1);

    /// Cameras with a `stale_timeout` of 5 s.
    fn overview(ids: &[&str], old: &[Arc<View>]) -> Arc<Overview> {
        let cameras: String = ids
            .iter()
            .map(|id| format!("  - {{id: {id}, url: /a.mp4}}\n"))
            .collect();
        let text = format!("cameras:\n{cameras}");
        Arc::new(Overview::for_test(&text, old))
    }

    fn stamp(monotonic: Instant) -> Stamp {
        Stamp {
            monotonic,
            unix_us: 0,
        }
    }

    fn publish(view: &View, at: Instant) {
        let at = process_us(at);
        view.metrics.reader.last_frame_us.set(at);
        view.metrics.publisher.last_published_us.set(at);
    }

    /// What is told at that moment, in short, and when it looks again.
    fn told(board: &mut Board, at: Instant) -> (Vec<String>, Instant) {
        let (due, again) = board.look(stamp(at));
        let words = due.iter().map(|(_, event)| {
            let body: serde_json::Value = serde_json::from_slice(&event.json).unwrap();
            match event.kind {
                "camera_status" => format!(
                    "{} {}: {}",
                    body["camera_id"].as_str().unwrap(),
                    body["state"].as_str().unwrap(),
                    body["message"].as_str().unwrap()
                ),
                _ => format!("{} of {}", body["active_cameras"], body["total_cameras"]),
            }
        });
        (words.collect(), again)
    }

    #[test]
    fn a_camera_is_active_while_fresh_frames_are_published() {
        let overview = overview(&["a"], &[]);
        let view = &overview.cameras[0];
        // Counts from its first call in the process.
        process_us(Instant::now());
        let start = Instant::now() + SECOND;
        let mut board = Board::new(Arc::clone(&overview), start);
        let (words, again) = told(&mut board, start);
        assert_eq!(words, ["a inactive: waiting for its first frame", "0 of 1"]);
        assert_eq!(again, start + COUNTS_EVERY, "the bell tells the rest");

        view.status.live();
        view.metrics.reader.last_frame_us.set(process_us(start));
        let (words, again) = told(&mut board, start);
        assert!(words.is_empty(), "captured is not published: {words:?}");
        assert_eq!(again, start + LOOK_AGAIN);

        publish(view, start);
        let (words, again) = told(&mut board, start);
        assert_eq!(words, ["a active: live", "1 of 1"]);
        assert!(again <= start + 5 * SECOND && again > start + 5 * SECOND - ROUNDING);
        assert!(told(&mut board, start + SECOND).0.is_empty(), "no news");

        let (words, _) = told(&mut board, start + 5 * SECOND);
        assert_eq!(words, ["a inactive: no frame for 5 s", "0 of 1"]);
        let late = start + 6 * SECOND;
        view.metrics.reader.last_frame_us.set(process_us(late));
        let condition = board.entries[0].condition(&overview, false, late).0;
        assert_eq!(
            condition.message,
            "live, but not published: the broker is not connected"
        );
    }

    #[test]
    fn a_camera_without_pictures_is_active_while_its_units_are_published() {
        let yaml = "passthrough: true\npictures: none\ncameras: [{id: a, url: /a}]";
        let overview = Arc::new(Overview::for_test(yaml, &[]));
        let view = &overview.cameras[0];
        process_us(Instant::now());
        let start = Instant::now() + SECOND;
        let mut board = Board::new(Arc::clone(&overview), start);
        let (words, _) = told(&mut board, start);
        assert_eq!(
            words,
            ["a inactive: waiting for its first access unit", "0 of 1"]
        );
        view.status.live();
        let units = &view.metrics.video;
        units.reader.last_unit_us.set(process_us(start));
        units.publisher.last_published_us.set(process_us(start));
        assert_eq!(told(&mut board, start).0, ["a active: live", "1 of 1"]);
        let (words, _) = told(&mut board, start + 5 * SECOND);
        assert_eq!(words, ["a inactive: no access unit for 5 s", "0 of 1"]);
    }

    #[test]
    fn a_frozen_picture_is_news_and_its_end_is() {
        let overview = overview(&["a"], &[]);
        let view = &overview.cameras[0];
        process_us(Instant::now());
        let start = Instant::now() + SECOND;
        let mut board = Board::new(Arc::clone(&overview), start);
        view.status.live();
        publish(view, start);
        told(&mut board, start);
        view.status.frozen(Some(start));
        let (due, _) = board.look(stamp(start + 4 * SECOND));
        let body: serde_json::Value = serde_json::from_slice(&due[0].1.json).unwrap();
        assert_eq!(body["state"], "active");
        assert_eq!(body["picture_frozen"], true);
        assert_eq!(body["message"], "live, but picture frozen for 4 s");
        view.status.frozen(None);
        let (due, _) = board.look(stamp(start + 4 * SECOND));
        let body: serde_json::Value = serde_json::from_slice(&due[0].1.json).unwrap();
        assert_eq!(body["message"], "live");
        assert_eq!(body.get("picture_frozen"), None);
    }

    #[test]
    fn a_camera_without_a_consumer_is_active_and_that_it_is_idle_is_news() {
        let yaml = "idle: {after: 5m}\ncameras: [{id: a, url: /a}]";
        let overview = Arc::new(Overview::for_test(yaml, &[]));
        let view = &overview.cameras[0];
        process_us(Instant::now());
        let start = Instant::now() + SECOND;
        let mut board = Board::new(Arc::clone(&overview), start);
        told(&mut board, start);
        view.status.live();
        let returned = |at| {
            view.metrics.reader.last_frame_us.set(process_us(at));
            let publisher = &view.metrics.publisher;
            publisher.last_returned_us.set(process_us(at));
        };
        returned(start);
        assert_eq!(told(&mut board, start).0, ["a active: live", "1 of 1"]);
        view.status.idle(true);
        let (words, _) = told(&mut board, start);
        assert_eq!(words, ["a active: idle: no queue is bound"]);
        // One picture every 10 s, and the next one is late.
        assert!(told(&mut board, start + 25 * SECOND).0.is_empty());
        let (words, _) = told(&mut board, start + 75 * SECOND);
        assert_eq!(words[0], "a inactive: no frame for 75 s");
        returned(start + 76 * SECOND);
        view.status.idle(false);
        let (words, _) = told(&mut board, start + 76 * SECOND);
        assert_eq!(words[0], "a active: live");
    }

    #[test]
    fn each_failure_is_news_and_that_they_are_forgotten_is_none() {
        let overview = overview(&["a"], &[]);
        let status = &overview.cameras[0].status;
        let now = Instant::now();
        let mut board = Board::new(Arc::clone(&overview), now);
        told(&mut board, now);
        for (open, expected) in [
            (false, "a inactive: next try in 2 s: refused"),
            (false, "a inactive: next try in 2 s: refused"),
            (true, "a offline: next try in 2 s after 3 failures: refused"),
        ] {
            status.failed("refused", "exit code 1: refused", now + 2 * SECOND, open);
            assert_eq!(told(&mut board, now).0, [expected]);
        }
        status.connecting();
        assert_eq!(
            told(&mut board, now).0,
            ["a inactive: trying again: refused"]
        );
        status.live();
        assert!(told(&mut board, now).0.is_empty());
        status.failed("refused", "exit code 1: refused", now + SECOND, false);
        assert_eq!(told(&mut board, now).0.len(), 1, "counted anew");
    }

    #[test]
    fn the_counts_come_every_30_s_and_all_comes_anew_over_a_new_channel() {
        let overview = overview(&["a", "b"], &[]);
        let start = Instant::now();
        let mut board = Board::new(overview, start);
        assert_eq!(told(&mut board, start).0.len(), 3);
        let later = start + COUNTS_EVERY;
        assert_eq!(told(&mut board, later).0, ["0 of 2"]);
        board.tell_all_anew();
        assert_eq!(told(&mut board, later).0.len(), 3);
    }

    #[test]
    fn what_the_broker_refuses_is_told_again_after_a_pause() {
        let overview = overview(&["a"], &[]);
        let now = Instant::now();
        let mut board = Board::new(overview, now);
        let (due, _) = board.look(stamp(now));
        for (what, _) in &due {
            board.answered(what, false, now);
        }
        let (words, again) = told(&mut board, now);
        assert!(words.is_empty(), "{words:?}");
        assert_eq!(again, now + REFUSED_PAUSE);
        assert_eq!(told(&mut board, again).0.len(), 2);
    }

    #[test]
    fn a_removed_camera_is_offline_until_that_is_confirmed_and_then_forgotten() {
        let before = overview(&["a", "b"], &[]);
        let now = Instant::now();
        let mut board = Board::new(Arc::clone(&before), now);
        let (first, _) = board.look(stamp(now));
        board.follow(overview(&["b", "c"], &before.cameras), now);
        let (due, _) = board.look(stamp(now));
        // The answers to what was told before come late.
        for (what, _) in &first {
            board.answered(what, true, now);
        }
        assert_eq!(board.entries.len(), 3);
        board.tell_all_anew();
        let (words, _) = told(&mut board, now);
        assert_eq!(words[0], "a offline: removed");
        for (what, _) in &due {
            board.answered(what, true, now);
        }
        let ids: Vec<_> = board.entries.iter().map(|it| &*it.view.camera.id).collect();
        assert_eq!(ids, ["b", "c"]);
    }

    #[test]
    fn when_it_stops_all_are_offline() {
        let overview = overview(&["a", "b"], &[]);
        let now = Instant::now();
        let mut board = Board::new(Arc::clone(&overview), now);
        overview.cameras[0].status.live();
        publish(&overview.cameras[0], now);
        told(&mut board, now);
        board.stop();
        let (words, _) = told(&mut board, now);
        assert_eq!(
            words,
            ["a offline: stopping", "b offline: stopping", "0 of 2"]
        );
    }
}
