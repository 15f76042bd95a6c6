//! Which decoder a session uses, and when a camera moves to the next one. Pure.
//!
//! A hardware decoder is tried, not detected: whether it takes this camera's codec, profile and
//! size shows in its session only, and without the hardware FFmpeg ends after 0.1 s. For
//! `decode: auto` the decoders form a ladder that ends in software.
//!
//! FFmpeg itself continues in software, often without a word, when the hardware refuses a stream.
//! So the decoded pictures are left in the hardware's memory, and the filter `hwdownload` takes
//! them from there. It takes no others, so FFmpeg ends instead.

use crate::config::{Camera, Decode, Hardware, Pictures};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// The decoders of `decode: auto`, in the order in which they are tried. First those of which each
/// exists on one kind of machine only. VA-API before Quick Sync, which needs more of the system.
/// `drm` before `v4l2m2m`, of which the codec must be known.
const ORDER: [Hardware; 6] = [
    Hardware::Rkmpp,
    Hardware::Cuda,
    Hardware::Vaapi,
    Hardware::Qsv,
    Hardware::Drm,
    Hardware::V4l2m2m,
];

/// After so many sessions on end that opened the stream and ended without a picture, for reasons
/// that are not known to be the decoder's, the decoder has failed all the same: hardware has more
/// ways to fail than are listed here, and a camera rarely breaks off so often at that moment.
const IN_VAIN: u32 = 3;

/// Words of FFmpeg, 5.1 or 7.1, before it ends because of the decoder, and what they mean if that
/// is not plain from the line itself.
const REFUSALS: [(&str, Option<&str>); 10] = [
    ("Cannot load lib", None),
    ("No VA display found", None),
    ("No device available for decoder", None),
    ("setup failed for decoder", None),
    ("Unrecognized hwaccel", None),
    ("Unknown decoder", None),
    ("Could not find a valid device", None),
    ("Error while opening decoder", None),
    // Before the next one, which follows it.
    ("hwaccel initialisation returned error", None),
    (
        "Impossible to convert between the formats supported by the filter",
        Some("it does not take this stream, and FFmpeg decodes it in software instead"),
    ),
];

/// How FFmpeg ends when a driver or its library crashes: SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV.
/// FFmpeg 5.1 does with Quick Sync at a render node that is not Intel's.
const CRASHES: [&str; 5] = ["signal 4", "signal 6", "signal 7", "signal 8", "signal 11"];

/// How a session decodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoding {
    /// In software.
    Software,
    /// In hardware, with the name of FFmpeg's decoder if it must be named.
    Hardware(Hardware, Option<String>),
    /// Not at all. The session shows the codec, of which the next one names the decoder.
    Asking,
}

impl Decoding {
    /// FFmpeg's arguments for the input.
    pub fn input(&self) -> Vec<&str> {
        let Self::Hardware(hardware, name) = self else {
            return vec![];
        };
        let mut args = match hardware {
            // Many cameras call their stream Baseline, which VA-API does not know, and send
            // Constrained Baseline.
            Hardware::Vaapi => vec!["-hwaccel_flags", "allow_profile_mismatch"],
            _ => vec![],
        };
        if let Some((method, format)) = interface(*hardware) {
            args.extend(["-hwaccel", method, "-hwaccel_output_format", format]);
        }
        if let Some(name) = name {
            args.extend(["-c:v", name]);
        }
        args
    }

    /// The filters that bring its pictures into the system's memory, if they are not there.
    pub fn download(&self) -> Option<&'static str> {
        let Self::Hardware(hardware, _) = self else {
            return None;
        };
        interface(*hardware)?;
        Some(match hardware {
            // A Raspberry Pi's pictures come in columns, which FFmpeg there changes to this only.
            Hardware::Drm => "hwdownload,format=yuv420p",
            _ => "hwdownload,format=nv12",
        })
    }
}

/// The names of `-hwaccel` and `-hwaccel_output_format`. V4L2 memory-to-memory is a decoder only,
/// whose pictures are in the system's memory.
fn interface(hardware: Hardware) -> Option<(&'static str, &'static str)> {
    match hardware {
        Hardware::Vaapi => Some(("vaapi", "vaapi")),
        Hardware::Qsv => Some(("qsv", "qsv")),
        Hardware::Cuda => Some(("cuda", "cuda")),
        Hardware::Drm => Some(("drm", "drm_prime")),
        Hardware::Rkmpp => Some(("rkmpp", "drm_prime")),
        Hardware::V4l2m2m => None,
    }
}

/// The last part of the name of FFmpeg's decoder, `h264_qsv`, if it must be named: FFmpeg 5.1 takes
/// its own for `-hwaccel qsv` otherwise.
fn suffix(hardware: Hardware) -> Option<&'static str> {
    match hardware {
        Hardware::Qsv => Some("_qsv"),
        Hardware::V4l2m2m => Some("_v4l2m2m"),
        _ => None,
    }
}

/// What the installed FFmpeg and this machine have, as far as it shows without a try.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Available {
    /// What `ffmpeg -hwaccels` lists.
    pub methods: Vec<String>,
    /// The video decoders that `ffmpeg -decoders` lists.
    pub decoders: Vec<String>,
    /// Devices, by their names below `/dev`.
    pub devices: Vec<String>,
}

impl Available {
    /// What FFmpeg answers to `-hwaccels` and `-decoders`.
    pub fn parse(methods: &str, decoders: &str) -> Self {
        let methods = methods.lines().filter(|line| !line.ends_with(':'));
        // ` V....D h264_qsv             H264 video (...)`
        let decoders = decoders.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let flags = words.next()?;
            words.next().filter(|_| flags.starts_with('V'))
        });
        let text = |word: &str| word.trim().to_owned();
        Self {
            methods: methods.map(text).filter(|it| !it.is_empty()).collect(),
            decoders: decoders.map(text).collect(),
            devices: vec![],
        }
    }

    /// Whether `hardware` may work, for any codec.
    fn may_have(&self, hardware: Hardware) -> bool {
        let device = |beginning: &str| {
            let mut devices = self.devices.iter();
            devices.any(|device| device.starts_with(beginning))
        };
        let there = match hardware {
            Hardware::Vaapi | Hardware::Qsv => device("dri/renderD"),
            Hardware::Cuda => device("nvidia"),
            // Boards number their codecs from video10 on, after the cameras.
            Hardware::Drm | Hardware::V4l2m2m => ('0'..='9').any(|n| device(&format!("video1{n}"))),
            Hardware::Rkmpp => device("mpp_service") || device("rga"),
        };
        let known = match interface(hardware) {
            Some((method, _)) => self.methods.iter().any(|it| it == method),
            None => true,
        };
        let decoder = suffix(hardware).is_none_or(|suffix| {
            let mut decoders = self.decoders.iter();
            decoders.any(|it| it.ends_with(suffix))
        });
        there && known && decoder
    }
}

/// What a camera decodes with, and what is left to try. Kept until the camera is started anew, so
/// that a decoder that has failed is not tried with each session.
#[derive(Debug)]
pub struct Ladder {
    left: Left,
    /// The hardware decoder in use.
    now: Option<Hardware>,
    /// FFmpeg's name of the camera's codec, once a session has shown it.
    codec: Option<String>,
    /// Sessions in a row that opened the stream and brought no picture.
    in_vain: u32,
    /// The decoder in use has brought a picture of this camera.
    proven: bool,
}

/// The decoders that take the place of the one in use when it fails, and software after them.
#[derive(Debug)]
enum Left {
    /// Nothing takes its place.
    Nothing,
    /// `auto`, before it is known what there is.
    Unknown,
    Decoders(std::vec::IntoIter<Hardware>),
}

impl Ladder {
    /// The one of a camera that is about to be started.
    pub fn new(camera: &Camera) -> Self {
        let (left, now) = match camera.decode {
            Decode::Software => (Left::Nothing, None),
            _ if camera.pictures == Pictures::None => (Left::Nothing, None),
            // In software, keyframes take less than a hardware decoder that decodes everything.
            Decode::Auto if camera.pictures != Pictures::All => (Left::Nothing, None),
            Decode::Auto => (Left::Unknown, None),
            Decode::Only(hardware) => (Left::Nothing, Some(hardware)),
        };
        Self {
            left,
            now,
            codec: None,
            in_vain: 0,
            proven: false,
        }
    }

    /// Whether [`start`](Self::start) is to be called first.
    pub fn is_unknown(&self) -> bool {
        matches!(self.left, Left::Unknown)
    }

    /// For `auto`: begins with the first decoder that may work.
    pub fn start(&mut self, available: &Available) {
        let decoders = ORDER.into_iter().filter(|it| available.may_have(*it));
        let mut decoders = decoders.collect::<Vec<_>>().into_iter();
        self.now = decoders.next();
        self.left = Left::Decoders(decoders);
    }

    /// How the next session decodes.
    pub fn decoding(&self) -> Decoding {
        let Some(hardware) = self.now else {
            return Decoding::Software;
        };
        match (suffix(hardware), &self.codec) {
            (None, _) => Decoding::Hardware(hardware, None),
            (Some(suffix), Some(codec)) => {
                Decoding::Hardware(hardware, Some(format!("{codec}{suffix}")))
            }
            (Some(_), None) => Decoding::Asking,
        }
    }

    /// The decoder's name for the user.
    pub fn name(&self) -> &'static str {
        self.now.map_or("software", Hardware::name)
    }

    /// A session has shown the codec.
    pub fn heard_codec(&mut self, codec: &str) {
        self.codec = Some(codec.to_owned());
    }

    /// A session has brought a picture.
    pub fn had_picture(&mut self) {
        self.proven = true;
    }

    /// Whether the decoder in use has brought a picture of this camera: that none comes now is not
    /// its fault.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// A session has opened the stream and ended without a picture. Returns whether this has
    /// happened so often that the decoder has failed.
    pub fn had_no_picture(&mut self) -> bool {
        // The camera may have been set to another codec, which FFmpeg does not tell then.
        if let Decoding::Hardware(_, Some(_)) = self.decoding() {
            self.codec = None;
        }
        self.in_vain = self.in_vain.saturating_add(1);
        self.in_vain >= IN_VAIN && !self.proven
    }

    /// The decoder in use has failed. Whether it is replaced.
    pub fn failed(&mut self) -> bool {
        self.in_vain = 0;
        self.proven = false;
        match (&mut self.left, self.now) {
            (Left::Decoders(left), Some(_)) => {
                self.now = left.next();
                true
            }
            _ => false,
        }
    }
}

/// What the decoder's failure was, if FFmpeg crashed or its newest lines before its end tell of
/// one. `exit` is how it ended, and `lines` has each line with its age.
pub fn refusal(exit: &str, lines: &[(Duration, String)]) -> Option<String> {
    let said = super::words::recent(lines);
    let told = REFUSALS.iter().find_map(|(phrase, meaning)| {
        let line = super::words::line_with(&said, &[phrase])?;
        Some(meaning.map_or_else(|| line.to_owned(), str::to_owned))
    });
    let crashed = CRASHES.contains(&exit);
    told.or_else(|| crashed.then(|| format!("FFmpeg crashed ({exit})")))
}
