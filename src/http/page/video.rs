//! A camera's own video (passthrough) in words, for its tile.

use super::numbers::count_text;
use crate::config::Pictures;
use crate::http::state::{CameraState, Total, VideoState};

/// What a tile shows first: of the camera's frames or, without pictures, of its access units.
pub(super) struct Shown {
    pub(super) label: &'static str,
    /// Published per second.
    pub(super) rate: f64,
    /// `of 15`, if so many are asked for.
    pub(super) asked: String,
    /// Of the age of what shows that it is alive.
    pub(super) age_label: &'static str,
    /// p50 and p99 in ms.
    pub(super) latency: (Option<f64>, Option<f64>),
    /// In the place of the picture.
    pub(super) blank: &'static str,
    /// Access units dropped, beside the frames.
    pub(super) units_dropped: u64,
}

impl Shown {
    pub(super) fn of(camera: &CameraState) -> Self {
        let video = camera.video.as_ref();
        let units_dropped = video.map_or(0, |video| video.account.dropped.total());
        let age_label = match camera.sign_of_life {
            "frame" => "Last frame",
            _ => "Last unit",
        };
        let of_frames = |label, asked| Self {
            label,
            age_label,
            rate: camera.published_fps,
            asked,
            latency: (camera.p50_ms, camera.p99_ms),
            blank: "no picture",
            units_dropped,
        };
        match camera.pictures {
            Pictures::All if camera.idle == Some(true) => of_frames("Frames/s", String::new()),
            Pictures::All => of_frames("Frames/s", format!("of {}", camera.asked_fps)),
            Pictures::Keyframes => of_frames("Keyframes/s", String::new()),
            Pictures::None => Self {
                label: "Units/s",
                age_label,
                rate: video.map_or(0.0, |video| video.published_per_second),
                asked: String::new(),
                latency: video.map_or((None, None), |video| (video.p50_ms, video.p99_ms)),
                blank: "no pictures: pictures: none",
                units_dropped,
            },
        }
    }
}

/// `video: H.264 1920×1080, 3.1 Mbit/s, 15.0 units/s, a keyframe every 2.0 s; 12 dropped (12
/// overwritten)`
pub(super) fn words(video: &VideoState) -> String {
    let codec = match video.codec {
        Some("h264") => "H.264",
        Some("h265") => "H.265",
        Some(_) => return "video: the source has no H.264 or H.265".to_owned(),
        None => return "video: no access unit so far".to_owned(),
    };
    let mut words = format!(
        "video: {codec} {}×{}, {}, {:.1} units/s",
        video.width,
        video.height,
        kbit_text(video.kbit_per_second),
        video.published_per_second,
    );
    if let Some(seconds) = video.gop_seconds {
        words += &format!(", a keyframe every {seconds:.1} s");
    }
    let dropped = &video.account.dropped;
    if dropped.total() > 0 {
        let count = count_text(dropped.total());
        words += &format!("; {count} dropped ({})", dropped.in_words());
    }
    words
}

/// `15.0/s`, and what video is passed through beside the frames.
pub(super) fn total_rate(total: &Total) -> String {
    let frames = format!("{:.1}/s", total.published_fps);
    match &total.video {
        None => frames,
        Some(video) => format!("{frames}, video {:.1} units/s", video.published_per_second),
    }
}

/// `383 kbit/s`, `3.1 Mbit/s`, as cameras show it in their settings.
fn kbit_text(kbit: f64) -> String {
    match kbit {
        kbit if kbit < 999.5 => format!("{kbit:.0} kbit/s"),
        kbit => format!("{:.1} Mbit/s", kbit / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_rate_is_short() {
        assert_eq!(
            [0.0, 383.4, 999.4, 999.6, 3_070.0].map(kbit_text),
            [
                "0 kbit/s",
                "383 kbit/s",
                "999 kbit/s",
                "1.0 Mbit/s",
                "3.1 Mbit/s"
            ]
        );
    }
}
