//! The installed FFmpeg: which version it is, and whether it can write what we need.

use super::child::{self, Child};
use super::decode::Available;
use super::words;
use crate::os_error::error_text;
use crate::shutdown::Stop;
use parking_lot::Mutex;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long `ffmpeg -version` may take: well above a cold start from an SD card.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);
/// How much of its answer is read. FFmpeg's longest has 8 kB; another program may write without
/// end.
const PROBE_BYTES: u64 = 1 << 20;

/// The installed FFmpeg, asked once.
#[derive(Debug)]
pub struct Ffmpeg {
    path: PathBuf,
    known: Mutex<Option<Answer>>,
    /// What it has for hardware decoders, without the devices.
    available: Mutex<Option<Available>>,
}

/// The version, or when and why the question failed.
type Answer = Result<Version, (Instant, String)>;

/// How long a failure is reused as the answer for all cameras: two hundred of them must not each
/// wait for an FFmpeg that does not answer. Shorter than the circuit breaker's backoff, so that a
/// repaired FFmpeg is found soon.
const FAILURE_HOLDS: Duration = Duration::from_secs(2);

/// FFmpeg's release; a build without one (from git) counts as newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 5 of 5.1
    pub major: u32,
    /// 1 of 5.1
    pub minor: u32,
}

impl Version {
    const NEWEST: Self = Self {
        major: u32::MAX,
        minor: 0,
    };

    /// From the first line that `ffmpeg -version` prints.
    fn parse(line: &str) -> Option<Self> {
        let version = line
            .strip_prefix("ffmpeg version ")?
            .trim_start_matches('n');
        let mut numbers = version.split(|c: char| !c.is_ascii_digit());
        let Some(major) = numbers.next().and_then(|n| n.parse().ok()) else {
            return Some(Self::NEWEST);
        };
        let minor = numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        Some(Self { major, minor })
    }
}

impl Ffmpeg {
    /// The program at `path`, a path or a name that is looked up in PATH.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            known: Mutex::new(None),
            available: Mutex::new(None),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which release it is. Runs FFmpeg the first time, and again as long as that fails.
    ///
    /// # Errors
    /// A sentence for the log if it does not run, is not FFmpeg or cannot write `mpjpeg`.
    pub fn version(&self, stop: &Stop) -> Result<Version, String> {
        // Locked while FFmpeg runs, so that 200 cameras that start together run it once.
        let mut known = self.known.lock();
        match &*known {
            Some(Ok(version)) => return Ok(*version),
            Some(Err((at, why))) if at.elapsed() < FAILURE_HOLDS => return Err(why.clone()),
            _ if stop.requested() => return Err("stopping".to_owned()),
            _ => {}
        }
        let answer = self.find_out(stop);
        if answer.is_err() && stop.requested() {
            // Not FFmpeg's fault, so it must not become the answer for other cameras.
            return answer;
        }
        *known = Some(answer.clone().map_err(|why| (Instant::now(), why)));
        answer
    }

    /// What it and this machine have for hardware decoders. Runs FFmpeg twice the first time.
    ///
    /// # Errors
    /// A sentence for the log if it does not run.
    pub fn available(&self, stop: &Stop) -> Result<Available, String> {
        let mut known = self.available.lock();
        let ffmpeg = match &*known {
            Some(ffmpeg) => ffmpeg,
            None => {
                let (methods, _) = self.ask(stop, &["-hide_banner", "-hwaccels"])?;
                let (decoders, _) = self.ask(stop, &["-hide_banner", "-decoders"])?;
                known.insert(Available::parse(&methods, &decoders))
            }
        };
        // Asked for each time: a driver may be loaded later.
        let devices = ["", "dri/"].into_iter().flat_map(devices).collect();
        Ok(Available {
            devices,
            ..ffmpeg.clone()
        })
    }

    fn find_out(&self, stop: &Stop) -> Result<Version, String> {
        let name = self.path.display();
        let (text, complaint) = self.ask(stop, &["-version"])?;
        let first_line = text.lines().next().unwrap_or_default();
        let Some(version) = Version::parse(first_line) else {
            return Err(match complaint.as_str() {
                "" => format!("{name} does not look like FFmpeg: set ffmpeg.path"),
                complaint => complaint.to_owned(),
            });
        };
        let (muxers, _) = self.ask(stop, &["-hide_banner", "-muxers"])?;
        if !muxers.split_whitespace().any(|word| word == "mpjpeg") {
            return Err(format!(
                "{name} cannot write mpjpeg: install a complete FFmpeg (apt install ffmpeg)"
            ));
        }
        let release = first_line.split(" Copyright").next().unwrap_or_default();
        log::info!("{release} at {name}");
        Ok(version)
    }

    /// Its answer to a question, and what it complained of.
    pub(super) fn ask(&self, stop: &Stop, args: &[&str]) -> Result<(String, String), String> {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut child = Child::spawn(&self.path, &args, None).map_err(|error| {
            format!(
                "cannot start {}: {}",
                self.path.display(),
                error_text(&error)
            )
        })?;
        let mut text = Vec::new();
        let output = child::Output::new(&mut child, stop, Instant::now() + PROBE_TIMEOUT);
        let read = output.take(PROBE_BYTES).read_to_end(&mut text);
        let end = child.end(Duration::ZERO);
        if read.is_err() {
            return Err(format!(
                "{} does not answer {}",
                self.path.display(),
                args.join(" ")
            ));
        }
        let complaint = words::quote(&end.last_words);
        Ok((String::from_utf8_lossy(&text).into_owned(), complaint))
    }
}

/// The names below `/dev/` that are in its folder `folder`.
fn devices(folder: &'static str) -> Vec<String> {
    let entries = std::fs::read_dir(Path::new("/dev").join(folder));
    let entries = entries.into_iter().flatten().flatten();
    let name = |name: std::ffi::OsString| Some(format!("{folder}{}", name.to_str()?));
    entries.filter_map(|it| name(it.file_name())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_debian_git_and_old_builds() {
        let parse = |text| Version::parse(text).map(|v| (v.major, v.minor));
        assert_eq!(
            parse("ffmpeg version 5.1.9-0+deb12u1 Copyright"),
            Some((5, 1))
        );
        assert_eq!(parse("ffmpeg version n7.0 Copyright"), Some((7, 0)));
        assert_eq!(parse("ffmpeg version 4.3.8-0+deb11u1"), Some((4, 3)));
        assert_eq!(parse("ffmpeg version N-117-gabc"), Some((u32::MAX, 0)));
        assert_eq!(parse("avconv version 9"), None);
    }
}
