//! The events as JSON, as a consumer reads them. Secrets are removed here.

use crate::clock::Utc;
use crate::message::{EventMessage, FRAME_KEY, STATUS_KEY, SYSTEM_KEY};
use crate::publish::notice::Published;
use crate::redact;
use serde::Serialize;

/// The state of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CameraState {
    /// Fresh frames of it are published, or would be if a queue was bound (`idle`).
    Active,
    /// They are not: the camera starts, hangs or is tried again soon, or the broker does not take
    /// its frames.
    Inactive,
    /// No session runs and none starts soon: its circuit breaker is open, it was removed, or the
    /// program stops.
    Offline,
}

/// A camera's state and its reasons; may contain secrets.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) state: CameraState,
    pub(super) consecutive_failures: u32,
    pub(super) last_error: Option<String>,
    pub(super) picture_frozen: bool,
    /// It is active and has no consumer.
    pub(super) idle: bool,
    pub(super) message: String,
}

pub(super) fn camera_status(camera_id: &str, condition: &Condition, unix_us: i64) -> EventMessage {
    #[derive(Serialize)]
    struct Body<'a> {
        event_type: &'static str,
        camera_id: &'a str,
        timestamp: String,
        state: CameraState,
        consecutive_failures: u32,
        last_error: Option<&'a str>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        picture_frozen: bool,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        idle: bool,
        message: &'a str,
    }
    const KIND: &str = "camera_status";
    let last_error = condition.last_error.as_deref().map(redact::clean);
    let body = Body {
        event_type: KIND,
        camera_id,
        timestamp: time(unix_us),
        state: condition.state,
        consecutive_failures: condition.consecutive_failures,
        last_error: last_error.as_deref(),
        picture_frozen: condition.picture_frozen,
        idle: condition.idle,
        message: &redact::clean(&condition.message),
    };
    event(KIND, STATUS_KEY, unix_us, &body)
}

pub(super) fn system_status(total: usize, active: usize, unix_us: i64) -> EventMessage {
    #[derive(Serialize)]
    struct Body {
        event_type: &'static str,
        timestamp: String,
        total_cameras: usize,
        active_cameras: usize,
        inactive_cameras: usize,
    }
    const KIND: &str = "system_status";
    let body = Body {
        event_type: KIND,
        timestamp: time(unix_us),
        total_cameras: total,
        active_cameras: active,
        inactive_cameras: total.saturating_sub(active),
    };
    event(KIND, SYSTEM_KEY, unix_us, &body)
}

pub(super) fn frame(published: &Published) -> EventMessage {
    #[derive(Serialize)]
    struct Body<'a> {
        event_type: &'static str,
        camera_id: &'a str,
        timestamp: String,
        width: u16,
        height: u16,
        encoding: &'static str,
        size_bytes: u64,
        seq: u64,
        epoch: i64,
    }
    const KIND: &str = "frame";
    let body = Body {
        event_type: KIND,
        camera_id: &published.camera_id,
        timestamp: time(published.captured_unix_us),
        width: published.width,
        height: published.height,
        encoding: "jpeg",
        size_bytes: published.bytes,
        seq: published.seq,
        epoch: published.epoch,
    };
    event(KIND, FRAME_KEY, published.captured_unix_us, &body)
}

/// RFC 3339 with milliseconds.
fn time(unix_us: i64) -> String {
    format!("{:.3}", Utc(unix_us))
}

fn event(
    kind: &'static str,
    routing_key: &'static str,
    unix_us: i64,
    body: &impl Serialize,
) -> EventMessage {
    EventMessage {
        kind,
        routing_key,
        timestamp: u64::try_from(unix_us / 1_000_000).unwrap_or(0),
        // Strings and numbers cannot fail to serialise.
        json: serde_json::to_vec(body).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T23:59:59.123456Z
    const AT: i64 = 1_795_305_599_123_456;

    fn text(event: &EventMessage) -> &str {
        std::str::from_utf8(&event.json).unwrap()
    }

    #[test]
    fn a_camera_event_says_how_it_is_and_why() {
        let event = camera_status(
            "door",
            &Condition {
                state: CameraState::Offline,
                consecutive_failures: 5,
                last_error: Some("rtsp://admin:pa55@192.0.2.10/: 401".to_owned()),
                picture_frozen: false,
                idle: false,
                message: "next try in 5 s".to_owned(),
            },
            AT,
        );
        assert_eq!(
            text(&event),
            "{\"event_type\":\"camera_status\",\"camera_id\":\"door\",\
             \"timestamp\":\"2026-11-21T23:59:59.123Z\",\"state\":\"offline\",\
             \"consecutive_failures\":5,\"last_error\":\"rtsp://***@192.0.2.10/: 401\",\
             \"message\":\"next try in 5 s\"}"
        );
        assert_eq!(event.routing_key, "camera.metadata.event.status");
        assert_eq!(event.timestamp, 1_795_305_599);
    }

    #[test]
    fn the_event_of_an_idle_camera_says_so() {
        let condition = Condition {
            state: CameraState::Active,
            consecutive_failures: 0,
            last_error: None,
            picture_frozen: false,
            idle: true,
            message: "idle: no queue is bound".to_owned(),
        };
        let event = camera_status("door", &condition, AT);
        let expected = "\"state\":\"active\",\"consecutive_failures\":0,\"last_error\":null,\
                        \"idle\":true,\"message\":\"idle: no queue is bound\"}";
        assert!(text(&event).ends_with(expected), "{}", text(&event));
    }

    #[test]
    fn a_system_event_counts_the_cameras() {
        let event = system_status(6, 5, AT);
        assert_eq!(
            text(&event),
            "{\"event_type\":\"system_status\",\"timestamp\":\"2026-11-21T23:59:59.123Z\",\
             \"total_cameras\":6,\"active_cameras\":5,\"inactive_cameras\":1}"
        );
        assert_eq!(event.routing_key, "camera.metadata.event.system");
    }

    #[test]
    fn a_frame_event_has_the_frames_numbers_and_its_capture_time() {
        let event = frame(&Published {
            camera_id: "door".into(),
            epoch: 1_795_305_590_000,
            seq: 137,
            captured_unix_us: AT,
            width: 1920,
            height: 1080,
            bytes: 84_512,
        });
        assert_eq!(
            text(&event),
            "{\"event_type\":\"frame\",\"camera_id\":\"door\",\
             \"timestamp\":\"2026-11-21T23:59:59.123Z\",\"width\":1920,\"height\":1080,\
             \"encoding\":\"jpeg\",\"size_bytes\":84512,\"seq\":137,\"epoch\":1795305590000}"
        );
        assert_eq!(event.routing_key, "camera.metadata.event");
    }
}
