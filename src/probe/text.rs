//! The report as text: a configuration, in which all that is no key is a comment.

use super::Asked;
use super::advice::{Advice, stamps};
use crate::capture::abilities::Abilities;
use crate::capture::installed::Ffmpeg;
use crate::capture::survey::{Content, Measured, Stream, Survey};
use std::fmt::Write;

/// What is said of FFmpeg, and the key under which the cameras follow.
pub(super) fn head(ffmpeg: &Ffmpeg, abilities: &Result<Abilities, String>) -> String {
    let said = match abilities {
        Err(why) => format!("# FFmpeg: FAILED: {why}\n"),
        Ok(abilities) => {
            let Abilities {
                version,
                decoders,
                tried,
                answering,
                ..
            } = abilities;
            let answering = match (answering.as_slice(), tried.as_slice()) {
                (_, []) => "none, this FFmpeg is built without".to_owned(),
                ([], tried) => format!("none of {}", tried.join(", ")),
                (some, tried) => format!("{} of {}", some.join(", "), tried.join(", ")),
            };
            format!(
                "# FFmpeg {version} at {}\n#   decoders: {}\n#   hardware that answers: {answering}\n",
                ffmpeg.path().display(),
                decoders.join(", ")
            )
        }
    };
    format!("{said}cameras:\n")
}

/// What is said of a camera, and its lines.
pub(super) fn camera(asked: &Asked<'_>, advice: &Advice) -> String {
    let mut said = vec![format!("{}: {}", asked.camera.id, asked.address())];
    let mut more = Vec::new();
    if let Ok(survey) = &asked.outcome {
        more.extend(survey.streams.iter().map(|it| stream(it, survey)));
        let measured = &survey.measured;
        more.push(rate(measured));
        if measured.pictures > 1 {
            more.push(format!("keyframes: {}", gop(measured)));
            more.push(format!("time stamps: {}", stamps(measured.stamps)));
        }
    }
    more.extend(advice.notes.iter().map(|note| format!("note: {note}")));
    more.extend(advice.failure.iter().map(|why| format!("FAILED: {why}")));
    more.extend(to_set(&advice.lines.variables));
    said.extend(more.into_iter().map(|line| format!("  {line}")));
    let mut out = String::new();
    for line in said {
        let _ = writeln!(out, "  # {}", plain(&line));
    }
    out + &advice.lines.yaml
}

/// One line, whatever is in it.
fn plain(line: &str) -> String {
    line.replace(char::is_control, " ")
}

fn stream(stream: &Stream, survey: &Survey) -> String {
    let named = |codec: &str, profile: &Option<String>| match profile {
        Some(profile) => format!("{codec} ({profile})"),
        None => codec.to_owned(),
    };
    let mut parts = Vec::new();
    let kind = match &stream.content {
        Content::Video {
            codec,
            profile,
            pixel_format,
            size,
            announced_fps,
        } => {
            parts.push(named(codec, profile));
            parts.extend(size.map(|(width, height)| format!("{width}x{height}")));
            parts.extend(pixel_format.clone());
            parts.extend(announced_fps.map(|fps| format!("announced as {fps} pictures/s")));
            "video".to_owned()
        }
        Content::Audio {
            codec,
            profile,
            sample_rate,
            channels,
        } => {
            parts.push(named(codec, profile));
            parts.extend(sample_rate.map(|rate| format!("{rate} Hz")));
            parts.extend(channels.clone());
            "audio".to_owned()
        }
        Content::Other(kind, codec) => {
            parts.push(codec.clone());
            kind.to_lowercase()
        }
    };
    let is_video = |it: &&Stream| matches!(it.content, Content::Video { .. });
    let several = survey.streams.iter().filter(is_video).count() > 1;
    let used = match several && survey.video == Some(stream.index) {
        true => " (pictures are made of this one)",
        false => "",
    };
    format!(
        "stream {}: {kind}: {}{used}",
        stream.index,
        parts.join(", ")
    )
}

fn rate(measured: &Measured) -> String {
    match (measured.fps, measured.bytes_per_second) {
        (Some(fps), Some(bytes)) => format!(
            "rate: {fps:.1} pictures/s, {:.0} kbit/s, over {:.1} s",
            bytes * 8.0 / 1000.0,
            measured.span.as_secs_f64()
        ),
        _ => format!(
            "rate: not known, since few pictures came: {}",
            measured.pictures
        ),
    }
}

fn gop(measured: &Measured) -> String {
    let seconds = measured.gop_seconds();
    let seconds = seconds.map_or_else(String::new, |it| format!(" ({it:.1} s)"));
    match measured.gop {
        Some((1, 1)) => "each picture".to_owned(),
        Some((least, most)) if least == most => format!("each {most} pictures{seconds}"),
        Some((least, most)) => format!("each {least} to {most} pictures{seconds}"),
        None => format!(
            "{} among {} pictures",
            measured.keyframes, measured.pictures
        ),
    }
}

/// What the user has to do before the lines can be used.
fn to_set(variables: &[String]) -> Option<String> {
    let password = variables.iter().any(|name| name.ends_with("_PASSWORD"));
    let instead = match password {
        true => "; password_file: FILE may stand in place of password",
        false => "",
    };
    (!variables.is_empty()).then(|| {
        format!(
            "set {} in the environment, or as credentials of the service{instead}",
            variables.join(", ")
        )
    })
}
