//! `edge-video probe`: asks cameras what they send, and says which lines of configuration fit. The
//! daemon may run at the same time.
//!
//! A signal has its default effect: it ends the process, and the kernel then kills each FFmpeg.

mod advice;
mod discover;
mod json;
mod text;

pub use discover::{Device, PATIENCE as DISCOVER_PATIENCE, discover};

use crate::capture::abilities::Abilities;
use crate::capture::installed::Ffmpeg;
use crate::capture::starts::Starts;
use crate::capture::survey::{Survey, Surveyor};
use crate::config::{Camera, Config, SourceKind};
use crate::redact;
use crate::shutdown::Stop;
use crossbeam_channel::unbounded;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The time for one camera; FFmpeg then has a second more to log off from it. A camera that answers
/// within 10 s is measured for the other 10 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// Cameras that are asked at once. Nothing is decoded, so this many FFmpegs use 0.3 GB.
const AT_ONCE: usize = 8;

/// Whether this is the address of a camera, and not the id of a configured one.
pub fn is_url(text: &str) -> bool {
    let starts = ["lavfi:", "file:"];
    text.contains('/') || starts.iter().any(|it| text.starts_with(it)) || Path::new(text).exists()
}

/// The cameras to ask: those of `wanted`, ids or addresses; without any, all of `config`.
///
/// # Errors
/// What is wrong with one of them, for the user.
pub fn select(config: Option<&Config>, wanted: &[String]) -> Result<Vec<Camera>, String> {
    let configured = config.map_or(&[][..], |config| &config.cameras);
    if wanted.is_empty() {
        let enabled = configured.iter().filter(|camera| camera.enabled);
        return Ok(enabled.cloned().collect());
    }
    let mut cameras: Vec<Camera> = Vec::new();
    let mut number = 0;
    for text in wanted {
        if let Some(camera) = configured.iter().find(|camera| *camera.id == **text) {
            cameras.push(camera.clone());
        } else if is_url(text) {
            let id = loop {
                number += 1;
                let id = format!("camera{number}");
                if !configured.iter().any(|camera| *camera.id == *id) {
                    break id;
                }
            };
            cameras.push(Camera::of_url(&id, text)?);
        } else {
            return Err(format!(
                "there is no camera \"{text}\" in the configuration; name one of its cameras, or an \
                 address such as rtsp://192.0.2.10/stream1"
            ));
        }
    }
    Ok(cameras)
}

/// The cameras that answered, a line each, or as one JSON object.
pub fn discovered(devices: &[Device], json: bool) -> String {
    if json {
        return json::discovered(devices);
    }
    let name = |it: &Device| it.name.clone().unwrap_or_else(|| "(no name)".to_owned());
    let line = |it: &Device| format!("{} {}\n", it.address, name(it));
    devices.iter().map(line).collect()
}

/// What is known of one camera.
struct Asked<'a> {
    camera: &'a Camera,
    outcome: Result<Survey, String>,
}

impl Asked<'_> {
    /// The camera's address as anybody may see it, in the form of `url`.
    fn address(&self) -> String {
        let source = &self.camera.source;
        let shown = redact::address(source.address.expose());
        match source.kind {
            SourceKind::Lavfi => format!("lavfi:{shown}"),
            _ => shown.into_owned(),
        }
    }
}

/// Asks all cameras, and gives the report to `say`, in pieces as they are ready; as `json`, whole.
/// Returns how many cameras cannot be read.
///
/// # Errors
/// If threads or descriptors are not available.
pub fn run(
    cameras: &[Camera],
    ffmpeg: PathBuf,
    json: bool,
    say: &mut dyn FnMut(&str),
) -> io::Result<usize> {
    let ffmpeg = Ffmpeg::new(ffmpeg);
    let stop = Stop::new()?;
    let abilities = Abilities::of(&ffmpeg, &stop);
    if !json {
        say(&text::head(&ffmpeg, &abilities));
    }
    let can_decode = |codec: &str| match &abilities {
        Ok(abilities) => abilities.can_decode(codec),
        Err(_) => true,
    };
    let (mut objects, mut failed) = (Vec::new(), 0);
    let mut report = |asked: &Asked<'_>| {
        let advice = advice::advice(asked.camera, &asked.outcome, &can_decode);
        failed += usize::from(advice.failure.is_some());
        match json {
            true => objects.push(json::camera(asked, &advice)),
            false => say(&text::camera(asked, &advice)),
        }
    };
    let starts = Starts::default();
    let surveyor = Surveyor {
        ffmpeg: &ffmpeg,
        starts: &starts,
        stop: &stop,
    };
    ask(cameras, &surveyor, &mut report)?;
    if json {
        say(&json::whole(&ffmpeg, &abilities, objects));
    }
    Ok(failed)
}

/// Asks the cameras, several at once, and reports each in their order.
fn ask<'a>(
    cameras: &'a [Camera],
    surveyor: &Surveyor<'_>,
    report: &mut dyn FnMut(&Asked<'a>),
) -> io::Result<()> {
    let (tell, told) = unbounded();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(camera) = cameras.get(n) else { return };
            let outcome = surveyor.survey(camera, Instant::now() + PATIENCE);
            let _ = tell.send((n, Asked { camera, outcome }));
        }
    };
    std::thread::scope(|scope| {
        let mut started = Ok(());
        let mut helpers = 0;
        for _ in 0..cameras.len().min(AT_ONCE) {
            match std::thread::Builder::new().spawn_scoped(scope, work) {
                Ok(_) => helpers += 1,
                Err(error) => started = Err(error),
            }
        }
        if helpers == 0 {
            return started;
        }
        let mut waiting = BTreeMap::new();
        for shown in 0..cameras.len() {
            let asked = loop {
                if let Some(asked) = waiting.remove(&shown) {
                    break asked;
                }
                match told.recv_timeout(2 * PATIENCE) {
                    Ok((n, asked)) => drop(waiting.insert(n, asked)),
                    Err(_) => return Err(io::Error::other("a thread has panicked or is stuck")),
                }
            };
            report(&asked);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = "cameras:\n- {id: door, url: lavfi:a}\n- {id: camera1, url: lavfi:b}\n\
                    - {id: off, url: lavfi:c, enabled: false}\n";
        Config::parse(text, "c.yaml", &|_| None).unwrap().config
    }

    fn ids(wanted: &[&str]) -> Result<Vec<String>, String> {
        let wanted: Vec<_> = wanted.iter().map(|&text| text.to_owned()).collect();
        let cameras = select(Some(&config()), &wanted)?;
        Ok(cameras.iter().map(|camera| camera.id.to_string()).collect())
    }

    #[test]
    fn cameras_are_named_by_id_or_address_and_all_enabled_ones_by_nothing() {
        let ids = |wanted| ids(wanted).unwrap().join(" ");
        assert_eq!(ids(&[]), "door camera1");
        assert_eq!(ids(&["off", "door"]), "off door");
        let mixed = ids(&["rtsp://h/1", "camera1", "lavfi:testsrc2"]);
        assert_eq!(mixed, "camera2 camera1 camera3");
    }

    #[test]
    fn what_is_neither_is_refused() {
        assert_eq!(
            ids(&["dor"]).unwrap_err(),
            "there is no camera \"dor\" in the configuration; name one of its cameras, or an address \
             such as rtsp://192.0.2.10/stream1"
        );
        assert!(ids(&["gopher://h/"]).is_err());
    }
}
