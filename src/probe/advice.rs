//! What follows from a survey: whether the camera can be used, what its owner should know, and
//! which lines of configuration fit. Pure.

use crate::capture::survey::{Content, Stamps, Survey};
use crate::config::{Camera, Lines};
use std::time::Duration;

/// The distance of two keyframes from which on it is mentioned, in seconds. Most cameras have 1 to
/// 4.
const LONG_GOP: f64 = 4.0;

/// `stale_timeout` is at least this many times the longest time between two pictures.
const PATIENT: u32 = 3;

/// `stale_timeout` of a camera that sent less than two pictures in 10 s.
const VERY_PATIENT: Duration = Duration::from_secs(30);

/// What follows from a survey.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// Why the camera cannot be read, and what to do.
    pub(super) failure: Option<String>,
    /// One sentence each.
    pub(super) notes: Vec<String>,
    pub(super) lines: Lines,
}

pub(super) fn advice(
    camera: &Camera,
    outcome: &Result<Survey, String>,
    can_decode: &dyn Fn(&str) -> bool,
) -> Advice {
    let mut fitting = camera.clone();
    let mut notes = Vec::new();
    let failure = match outcome {
        Err(why) => Some(why.clone()),
        Ok(survey) => {
            let patience = stale_timeout(survey).filter(|it| *it > camera.stale_timeout);
            if let Some(patience) = patience {
                fitting.stale_timeout = patience;
                notes.push(format!(
                    "pictures come rarely: a camera counts as hung after stale_timeout, so it is {} s",
                    patience.as_secs()
                ));
            }
            notes.extend(keyframes(survey));
            if survey.snapshot {
                notes.push("one JPEG for each request (a snapshot URL), not a stream".to_owned());
            }
            notes.extend(survey.ended.clone());
            codec(survey).filter(|codec| !can_decode(codec)).map(|codec| {
                format!(
                    "FFmpeg here cannot decode the camera's video: it has no decoder for {codec}; \
                     set the camera to H.264, H.265 or MJPEG"
                )
            })
        }
    };
    Advice {
        failure,
        notes,
        lines: fitting.to_paste(),
    }
}

/// The codec of the stream of which pictures are made.
fn codec(survey: &Survey) -> Option<&str> {
    let stream = survey
        .streams
        .iter()
        .find(|stream| Some(stream.index) == survey.video);
    match &stream?.content {
        Content::Video { codec, .. } => Some(codec),
        Content::Audio { .. } | Content::Other(..) => None,
    }
}

/// How long to wait for the next picture, by those that came.
fn stale_timeout(survey: &Survey) -> Option<Duration> {
    let measured = &survey.measured;
    // What has ended says nothing of the time until the next picture.
    if survey.snapshot || survey.ended.is_some() {
        return None;
    }
    match measured.fps {
        None => Some(VERY_PATIENT),
        Some(_) => {
            let least = measured.longest_gap * PATIENT;
            Some(Duration::from_secs(least.as_secs_f64().ceil() as u64))
        }
    }
}

fn keyframes(survey: &Survey) -> Option<String> {
    const REMEDY: &str = "set its I-frame interval to 1 or 2 s, and switch off \"smart codec\"";
    let measured = &survey.measured;
    let seconds = measured.span.as_secs_f64();
    match measured.gop_seconds() {
        Some(gop) if gop > LONG_GOP => Some(format!(
            "keyframes are {gop:.1} s apart, and the first picture waits for one: {REMEDY}"
        )),
        None if measured.fps.is_some() && seconds > LONG_GOP => Some(format!(
            "no two keyframes within {seconds:.0} s, and the first picture waits for one: {REMEDY}"
        )),
        _ => None,
    }
}

/// What the time stamps are worth, in words.
pub(super) fn stamps(stamps: Stamps) -> String {
    let fault = match stamps {
        Stamps::Right => return "right".to_owned(),
        Stamps::None => "none in this format".to_owned(),
        Stamps::Missing(count) => format!("missing on {count} pictures"),
        Stamps::Jumping {
            times,
            largest: 0.0,
        } => format!("stand still {times} times"),
        Stamps::Jumping { times, largest } => {
            format!("jump {times} times, by {largest:+.1} s at most")
        }
        Stamps::Speed(speed) => format!("run {speed:.2} times as fast as the time"),
    };
    format!("{fault}; pictures get the time of their arrival")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::survey::{Measured, Stream};

    fn survey() -> Survey {
        let video = Content::Video {
            codec: "h264".into(),
            profile: None,
            pixel_format: None,
            size: Some((640, 360)),
            announced_fps: None,
        };
        Survey {
            format: "rtsp".into(),
            streams: vec![Stream {
                index: 0,
                content: video,
            }],
            video: Some(0),
            measured: Measured {
                pictures: 150,
                span: Duration::from_secs(9),
                fps: Some(15.0),
                bytes_per_second: Some(1000.0),
                longest_gap: Duration::from_millis(70),
                keyframes: 10,
                gop: Some((15, 15)),
                stamps: Stamps::Right,
            },
            snapshot: false,
            ended: None,
        }
    }

    fn of(survey: Survey) -> Advice {
        let camera = Camera::of_url("d", "rtsp://h/1").unwrap();
        advice(&camera, &Ok(survey), &|codec| codec == "h264")
    }

    const PLAIN: &str = "  - id: d\n    url: rtsp://h/1\n";

    #[test]
    fn a_good_camera_needs_no_words() {
        let Advice {
            failure,
            notes,
            lines,
        } = of(survey());
        assert_eq!((failure, notes), (None, vec![]));
        assert_eq!(lines.yaml, PLAIN);
    }

    #[test]
    fn a_camera_with_rare_pictures_is_waited_for() {
        let mut rare = survey();
        rare.measured.longest_gap = Duration::from_millis(2100);
        let advice = of(rare.clone());
        assert_eq!(advice.lines.yaml, format!("{PLAIN}    stale_timeout: 7s\n"));
        assert_eq!(
            advice.notes,
            ["pictures come rarely: a camera counts as hung after stale_timeout, so it is 7 s"]
        );
        rare.measured.fps = None;
        let yaml = of(rare.clone()).lines.yaml;
        assert_eq!(yaml, format!("{PLAIN}    stale_timeout: 30s\n"));
        rare.snapshot = true;
        let advice = of(rare);
        assert_eq!(advice.lines.yaml, PLAIN);
        assert_eq!(
            advice.notes,
            ["one JPEG for each request (a snapshot URL), not a stream"]
        );
    }

    #[test]
    fn rare_keyframes_are_mentioned() {
        let mut long = survey();
        long.measured.gop = Some((15, 75));
        let remedy = "the first picture waits for one: set its I-frame interval to 1 or 2 s, and \
                      switch off \"smart codec\"";
        let expected = format!("keyframes are 5.0 s apart, and {remedy}");
        assert_eq!(of(long.clone()).notes, [expected]);
        long.measured.gop = None;
        let expected = format!("no two keyframes within 9 s, and {remedy}");
        assert_eq!(of(long).notes, [expected]);
    }

    #[test]
    fn what_ffmpeg_cannot_decode_cannot_be_read() {
        let mut strange = survey();
        if let Content::Video { codec, .. } = &mut strange.streams[0].content {
            *codec = "svq3".into();
        }
        assert_eq!(
            of(strange).failure.as_deref(),
            Some(
                "FFmpeg here cannot decode the camera's video: it has no decoder for svq3; set the \
                 camera to H.264, H.265 or MJPEG"
            )
        );
    }

    #[test]
    fn faults_of_time_stamps_are_said_with_what_comes_of_them() {
        let then = "; pictures get the time of their arrival";
        let jump = |times, largest| Stamps::Jumping { times, largest };
        for (fault, words) in [
            (Stamps::None, "none in this format"),
            (Stamps::Missing(7), "missing on 7 pictures"),
            (jump(3, -2.94), "jump 3 times, by -2.9 s at most"),
            (jump(3, 5.0), "jump 3 times, by +5.0 s at most"),
            (jump(134, 0.0), "stand still 134 times"),
            (Stamps::Speed(1.667), "run 1.67 times as fast as the time"),
        ] {
            assert_eq!(stamps(fault), format!("{words}{then}"));
        }
        assert_eq!(stamps(Stamps::Right), "right");
    }
}
