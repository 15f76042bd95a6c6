//! The metrics of the cameras' own video (passthrough).

use super::text::Text;
use super::{Camera, MICRO};
use crate::metrics::VideoAccount;

/// Where the access units of each camera with passthrough have gone. Without such a camera there
/// is nothing to tell.
pub(super) fn units(out: &mut Text, cameras: &[Camera<'_, VideoAccount>]) {
    if cameras.is_empty() {
        return;
    }
    out.counters(
        "video_units_captured_total",
        "Access units that FFmpeg sent.",
        cameras,
        |c| c.account.captured,
    );
    out.counters(
        "video_units_published_total",
        "Access units that the broker acked and did not return.",
        cameras,
        |c| c.account.published,
    );
    out.reasons(
        "video_units_dropped_total",
        "Access units that were captured and not published.",
        cameras,
        |c| c.account.dropped.by_reason().to_vec(),
    );
    out.gauges(
        "video_units_in_flight",
        "Access units with the broker that it has not confirmed yet.",
        cameras,
        |c| c.account.in_flight,
    );
    out.counters(
        "video_bytes_total",
        "Bytes of the published access units.",
        cameras,
        |c| c.account.bytes,
    );
    out.histograms(
        "video_capture_to_publish_seconds",
        "From the capture of an access unit until it is handed to the broker's client.",
        cameras,
        MICRO,
        |c| c.view.metrics.video.publisher.capture_to_publish.read(),
    );
    out.histograms(
        "video_publish_to_confirm_seconds",
        "From the hand-over of an access unit until the broker acked it.",
        cameras,
        MICRO,
        |c| c.view.metrics.video.publisher.publish_to_confirm.read(),
    );
}
