//! Checks the section `video`, and what of a camera is published.

use super::keys::VIDEO_KEYS;
use super::names::{exchange, prefix};
use super::{MINUTE, TENTH};
use crate::config::reader::{Item, Reader, Section};
use crate::config::{Amqp, Camera, Metadata, Pictures, Video};

/// Smaller than 64 KiB has no room for an ordinary keyframe. 256 MiB is a minute, the longest
/// `max_age`, at 35 Mbit/s.
const MAX_BYTES: std::ops::RangeInclusive<usize> = (64 << 10)..=(256 << 20);

/// Below 100 ms a keyframe of a few hundred KB is too old before a usual uplink has carried it.
/// Above a minute nothing is live, and a consumer that wants the past has a stream queue.
const MAX_AGE: std::ops::RangeInclusive<std::time::Duration> = TENTH..=MINUTE;

/// The section, and where a problem of its exchange is.
pub(super) fn video(r: &mut Reader<'_>, root: &Section<'_>) -> (Video, usize) {
    let s = r.section(root, "video", VIDEO_KEYS);
    let d = Video::default();
    let item = s.get("exchange");
    let video = Video {
        exchange: exchange(r, item.as_ref()).unwrap_or(d.exchange),
        routing_key_prefix: prefix(r, s.get("routing_key_prefix").as_ref())
            .unwrap_or(d.routing_key_prefix),
        max_bytes: r.size(s.get("max_bytes").as_ref(), MAX_BYTES, d.max_bytes),
        max_age: r.duration(s.get("max_age").as_ref(), MAX_AGE, d.max_age),
    };
    (video, item.map_or(s.at, |item| item.at))
}

/// A consumer of pictures or events that binds a queue to all of their exchange would get video
/// too. Refused only if there is video: without it the exchange is not used.
pub(super) fn has_its_own_exchange(
    r: &mut Reader<'_>,
    (video, at): (&Video, usize),
    (amqp, cameras, metadata): (&Amqp, &[Camera], &Metadata),
) {
    if !cameras.iter().any(|it| it.enabled && it.passthrough) {
        return;
    }
    let taken = |camera: &Camera| camera.enabled && camera.exchange == video.exchange;
    let user = if amqp.exchange == video.exchange {
        "amqp.exchange".to_owned()
    } else if let Some(n) = cameras.iter().position(taken) {
        format!("cameras[{n}]")
    } else if metadata.enabled && metadata.exchange == video.exchange {
        "metadata.exchange".to_owned()
    } else {
        return;
    };
    r.problem(
        at,
        "video.exchange",
        format!(
            "\"{}\" is already used by {user}; choose a different exchange",
            video.exchange
        ),
    );
}

pub(super) fn pictures(r: &mut Reader<'_>, item: Option<&Item<'_>>, default: Pictures) -> Pictures {
    r.choice(
        item,
        &[
            ("all", Pictures::All),
            ("keyframes", Pictures::Keyframes),
            ("none", Pictures::None),
        ],
        default,
    )
}

/// Refuses a camera of which nothing is published.
pub(super) fn publishes_something(r: &mut Reader<'_>, s: &Section<'_>, camera: &Camera) {
    if camera.pictures == Pictures::None && !camera.passthrough {
        r.problem(
            s.get("pictures").map_or(s.at, |item| item.at),
            &format!("{}.pictures", s.key),
            "none without passthrough publishes nothing; set passthrough to true, or pictures to \
             all or keyframes",
        );
    }
}
