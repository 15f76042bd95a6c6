//! A reader follows whether its camera is idle: with another FFmpeg session, which decodes only
//! keyframes, or with the full one.

use super::Reader;
use crate::clock::span_text;
use crate::config::{Camera, Pictures};
use crate::idle::{Followed, Idleness};
use std::sync::Arc;

/// What a reader needs for it.
#[derive(Debug)]
pub struct Idling {
    pub(super) followed: Followed,
    /// What is captured of the camera while it has a consumer, and while it is idle.
    awake: Arc<Camera>,
    asleep: Arc<Camera>,
}

impl Idling {
    /// Of `camera`, which is not idle at first.
    pub fn new(camera: &Arc<Camera>, idleness: Arc<Idleness>) -> Self {
        Self {
            followed: Followed::new(idleness),
            awake: Arc::clone(camera),
            asleep: Arc::new(camera.while_idle()),
        }
    }
}

impl Reader {
    /// Whether the session ends because another one is needed now. A camera without pictures is
    /// captured in one way only.
    pub(super) fn idle_has_changed(&mut self) -> bool {
        let changed = self
            .idle
            .as_ref()
            .is_some_and(|it| it.followed.has_changed());
        if changed && self.camera.pictures == Pictures::None {
            self.follow_idleness();
            return false;
        }
        changed
    }

    /// A session has brought its first frame or unit, or has failed.
    pub(super) fn note_idle(&self) {
        if let Some(idling) = &self.idle {
            self.status.idle(idling.followed.was_idle());
        }
    }

    /// Takes what the next session is to capture, and says what has changed.
    pub(super) fn follow_idleness(&mut self) {
        let Some(idling) = &mut self.idle else { return };
        let changed = idling.followed.has_changed();
        let idle = idling.followed.look();
        self.camera = Arc::clone(match idle {
            true => &idling.asleep,
            false => &idling.awake,
        });
        if !changed {
            return;
        }
        let camera = &self.camera;
        // Until a session brings more, its newest picture may be as old as that of an idle camera.
        if idle || camera.pictures == Pictures::None {
            self.status.idle(idle);
        }
        match (idle, camera.pictures) {
            (false, _) => {
                let sign = idling.followed.sign().words();
                log::info!(camera_id = camera.id; "not idle any more: {sign}; full rate");
            }
            (true, pictures) => {
                let after = span_text(camera.idle.after.unwrap_or_default().as_secs_f64());
                let what = match pictures {
                    Pictures::None => "its video shows when a queue is bound".to_owned(),
                    Pictures::All | Pictures::Keyframes => format!(
                        "decoding only keyframes, one picture about every {} until a queue is \
                         bound",
                        span_text(camera.idle.every.as_secs_f64())
                    ),
                };
                log::info!(camera_id = camera.id;
                    "idle: nothing that it publishes has reached a queue for {after}; {what}");
            }
        }
    }
}
