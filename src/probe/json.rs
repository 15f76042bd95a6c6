//! The report as one JSON object.

use super::advice::{Advice, stamps};
use super::{Asked, Device};
use crate::capture::abilities::Abilities;
use crate::capture::installed::Ffmpeg;
use crate::capture::survey::{Content, Measured, Stream};
use serde_json::{Value, json};

pub(super) fn whole(
    ffmpeg: &Ffmpeg,
    abilities: &Result<Abilities, String>,
    cameras: Vec<Value>,
) -> String {
    let path = ffmpeg.path().display().to_string();
    let ffmpeg = match abilities {
        Ok(it) => json!({
            "path": path,
            "version": it.version,
            "decoders": it.decoders,
            "hardware": {"tried": it.tried, "answering": it.answering},
            "error": null,
        }),
        Err(why) => json!({"path": path, "error": why}),
    };
    format!("{:#}\n", json!({"ffmpeg": ffmpeg, "cameras": cameras}))
}

pub(super) fn discovered(devices: &[Device]) -> String {
    let device = |it: &Device| json!({"address": it.address.to_string(), "name": it.name});
    let devices: Vec<_> = devices.iter().map(device).collect();
    format!("{:#}\n", json!({"discovered": devices}))
}

pub(super) fn camera(asked: &Asked<'_>, advice: &Advice) -> Value {
    let survey = asked.outcome.as_ref().ok();
    let streams = survey.map(|it| it.streams.iter().map(stream).collect::<Vec<_>>());
    json!({
        "id": &*asked.camera.id,
        "address": asked.address(),
        "readable": advice.failure.is_none(),
        "error": advice.failure,
        "format": survey.map(|it| &it.format),
        "snapshot": survey.map(|it| it.snapshot),
        "streams": streams,
        "video_stream": survey.and_then(|it| it.video),
        "measured": survey.map(|it| measured(&it.measured)),
        "notes": advice.notes,
        "yaml": format!("cameras:\n{}", advice.lines.yaml),
        "variables": advice.lines.variables,
    })
}

fn stream(stream: &Stream) -> Value {
    match &stream.content {
        Content::Video {
            codec,
            profile,
            pixel_format,
            size,
            announced_fps,
        } => json!({
            "index": stream.index,
            "kind": "video",
            "codec": codec,
            "profile": profile,
            "pixel_format": pixel_format,
            "width": size.map(|it| it.0),
            "height": size.map(|it| it.1),
            "announced_fps": announced_fps,
        }),
        Content::Audio {
            codec,
            profile,
            sample_rate,
            channels,
        } => json!({
            "index": stream.index,
            "kind": "audio",
            "codec": codec,
            "profile": profile,
            "sample_rate": sample_rate,
            "channels": channels,
        }),
        Content::Other(kind, codec) => json!({
            "index": stream.index,
            "kind": kind.to_lowercase(),
            "codec": codec,
        }),
    }
}

fn measured(measured: &Measured) -> Value {
    json!({
        "seconds": measured.span.as_secs_f64(),
        "pictures": measured.pictures,
        "fps": measured.fps,
        "bits_per_second": measured.bytes_per_second.map(|bytes| bytes * 8.0),
        "longest_gap_seconds": measured.longest_gap.as_secs_f64(),
        "keyframes": measured.keyframes,
        "gop_pictures": measured.gop.map(|it| it.1),
        "gop_seconds": measured.gop_seconds(),
        "time_stamps": stamps(measured.stamps),
    })
}
