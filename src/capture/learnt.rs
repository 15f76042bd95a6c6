//! Properties of a source that earlier sessions have shown, and that need other FFmpeg arguments.
//! Pure.

use super::session::Heard;
use crate::config::{Camera, SourceKind};
use crate::frame::Codec;
use std::time::Duration;

/// Properties of a source that its address does not show, known from earlier sessions.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Learnt {
    /// It comes in segments (HLS, DASH): several seconds at once, then nothing.
    segments: bool,
    jpegs: Jpegs,
    /// An RTSP camera that sent nothing for `stale_timeout` after the request: it may have to wake
    /// up.
    slow_start: bool,
    /// Its units come with their length in front, as in MP4 and FLV, and are to be changed.
    length_prefixed: Option<Codec>,
    /// It has neither H.264 nor H.265.
    no_video: bool,
    copying: Copying,
    /// It answers each request with one JPEG, and is polled.
    polled: bool,
    /// Sessions in a row that polled it and brought no picture.
    polled_in_vain: u8,
}

/// After so many sessions in vain, only FFmpeg can read the address, for instance through a proxy.
const POLLED_IN_VAIN: u8 = 3;

/// Whether its pictures are JPEGs that FFmpeg copies instead of encoding pictures again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Copying {
    #[default]
    Untried,
    Copied,
    Refuted,
}

/// FFmpeg's names of formats that are nothing but JPEGs, or may be. A stream of JPEGs that has time
/// stamps is decoded, since `Lag` needs them. So is what is read as `mjpeg`: it is multipart with
/// faults, and FFmpeg leaves the lines between the pictures at their ends.
const JPEG_FORMATS: [&str; 3] = ["mpjpeg", "jpeg_pipe", "video4linux2,v4l2"];

/// Whether the source is read as JPEGs without multipart headers, or with faulty ones.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Jpegs {
    #[default]
    Untried,
    Tried,
    Refuted,
}

impl Learnt {
    /// FFmpeg has opened the source and reports this format. Returns whether FFmpeg must be
    /// restarted with other arguments.
    pub fn opened(&mut self, camera: &Camera, format: &str) -> bool {
        let segments = format.split(',').any(|name| matches!(name, "hls" | "dash"));
        let news = segments && !self.in_segments(camera);
        self.segments |= news;
        news
    }

    /// Its units come with their length in front.
    pub fn has_length_prefixed(&mut self, codec: Codec) {
        self.length_prefixed = Some(codec);
    }

    /// It has no video that can be passed through.
    pub fn has_no_video(&mut self) {
        self.no_video = true;
    }

    /// FFmpeg decodes with this decoder. Returns whether the source can be passed through now and
    /// could not before: it has been set to another codec.
    pub fn decodes_with(&mut self, decoder: &str) -> bool {
        let video = ["h264", "hevc"]
            .iter()
            .any(|codec| decoder.starts_with(codec));
        video && std::mem::take(&mut self.no_video)
    }

    /// FFmpeg decodes a stream of this format with this decoder. Returns whether FFmpeg must be
    /// restarted to copy its JPEGs instead.
    pub fn decodes(&mut self, camera: &Camera, format: Option<&str>, decoder: &str) -> bool {
        let jpegs = decoder == "mjpeg (native)"
            && format.is_some_and(|format| JPEG_FORMATS.contains(&format));
        let news = jpegs && camera.may_be_copied() && self.copying == Copying::Untried;
        if news {
            self.copying = Copying::Copied;
        }
        news
    }

    /// Its JPEGs are to be decoded and encoded again.
    pub fn has_unusual_jpegs(&mut self) {
        self.copying = Copying::Refuted;
        self.polled = false;
    }

    /// It has answered with one JPEG. Returns whether it is polled from now on.
    pub fn sends_one_jpeg(&mut self, camera: &Camera) -> bool {
        // What the user tells FFmpeg of the source is not known to what polls.
        let news = camera.may_be_copied()
            && camera.source.kind == SourceKind::Http
            && camera.input_args.is_empty()
            && self.copying != Copying::Refuted
            && self.polled_in_vain < POLLED_IN_VAIN
            && !self.polled;
        self.polled |= news;
        news
    }

    /// Whether it is polled, without FFmpeg.
    pub fn is_polled(&self) -> bool {
        self.polled
    }

    /// Whether FFmpeg copies its JPEGs.
    pub fn is_copied(&self) -> bool {
        self.copying == Copying::Copied
    }

    /// The codec whose units come with their length in front, if they do.
    pub fn length_prefixed(&self) -> Option<Codec> {
        self.length_prefixed
    }

    /// Whether it is known to have neither H.264 nor H.265.
    pub fn is_without_video(&self) -> bool {
        self.no_video
    }

    /// A session has ended. If it opened the source and brought no picture, the camera may send
    /// something else now, so the next session decodes. A source that could not be opened tells
    /// nothing. What is polled is asked by FFmpeg again in any case.
    pub fn session_ended(&mut self, heard: &Heard) {
        if self.polled {
            self.polled = heard.pictures.is_some();
            self.polled_in_vain = match self.polled {
                true => 0,
                false => self.polled_in_vain.saturating_add(1),
            };
        }
        let opened = heard.format.is_some() || heard.corrupt;
        if opened && heard.pictures.is_none() && self.is_copied() {
            self.copying = match heard.corrupt {
                true => Copying::Refuted,
                false => Copying::Untried,
            };
        }
    }

    /// FFmpeg has exited after these lines.
    pub fn ended(&mut self, kind: SourceKind, heard: &Heard, words: &[(Duration, String)]) {
        let said = |phrase: &str| words.iter().any(|(_, line)| line.contains(phrase));
        // The camera has another codec now.
        if said("is not supported by the bitstream filter") {
            self.length_prefixed = None;
        }
        let pictures = heard.pictures.is_some();
        self.slow_start = kind == SourceKind::Rtsp && !pictures && said("timed out");
        // FFmpeg's lines about a missing boundary and a wrong length in multipart, and about a
        // camera that sends several pictures where one is expected.
        let faulty = match heard.format.as_deref() {
            None => said("Invalid data found"),
            Some("image2") => !pictures && said("Cannot determine format of input"),
            Some(_) => said("Expected boundary '--' not found"),
        };
        self.jpegs = match self.jpegs {
            Jpegs::Untried if kind == SourceKind::Http && faulty => Jpegs::Tried,
            Jpegs::Tried if !pictures => Jpegs::Refuted,
            as_it_is => as_it_is,
        };
    }

    /// Whether the source is known to come in segments.
    pub fn in_segments(&self, camera: &Camera) -> bool {
        let path = camera.source.address.expose().split(['?', '#']).next();
        let ending = path.unwrap_or_default().rsplit('.').next();
        let is = |name: &str| ending.is_some_and(|ending| ending.eq_ignore_ascii_case(name));
        camera.source.kind == SourceKind::Http && (self.segments || is("m3u8") || is("mpd"))
    }

    /// Whether it is read as JPEGs without multipart headers.
    pub fn is_bare_jpegs(&self) -> bool {
        self.jpegs == Jpegs::Tried
    }

    /// Whether it may need longer for the first picture than between two.
    pub fn is_slow_to_start(&self) -> bool {
        self.slow_start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::time::Instant;

    const MJPEG: &str = "mjpeg (native)";

    fn camera(settings: &str) -> Camera {
        let yaml = format!("cameras: [{{id: a, {settings}}}]");
        let mut config = Config::parse(&yaml, "", &|_| None).unwrap().config;
        config.cameras.remove(0)
    }

    fn site() -> Camera {
        camera("url: 'http://h/video'")
    }

    /// A session of JPEGs that are copied.
    fn copying() -> Learnt {
        let mut learnt = Learnt::default();
        assert!(learnt.decodes(&site(), Some("mpjpeg"), MJPEG));
        assert!(learnt.is_copied());
        learnt
    }

    #[test]
    fn jpegs_are_copied_once_they_are_known_if_nothing_else_is_asked_of_them() {
        let mut learnt = copying();
        assert!(
            !learnt.decodes(&site(), Some("mpjpeg"), MJPEG),
            "it is known"
        );
        let device = camera("url: /dev/video0");
        assert!(Learnt::default().decodes(&device, Some("video4linux2,v4l2"), MJPEG));
        let never = |camera: &Camera, format, decoder| {
            assert!(!Learnt::default().decodes(camera, format, decoder));
        };
        never(&site(), Some("mpjpeg"), "h264 (native)");
        never(&site(), Some("matroska,webm"), MJPEG);
        never(&site(), Some("mjpeg"), MJPEG);
        never(&site(), None, MJPEG);
        never(&camera("url: 'rtsp://h/1'"), Some("rtsp"), MJPEG);
        for asks in [
            "quality: 5",
            "width: 640",
            "height: 360",
            "output_args: [-vf, hflip]",
        ] {
            let camera = camera(&format!("url: 'http://h/video', {asks}"));
            never(&camera, Some("mpjpeg"), MJPEG);
        }
    }

    #[test]
    fn a_camera_of_which_nothing_can_be_copied_is_decoded_again() {
        let ended = |opened: bool, pictures: bool, corrupt: bool| {
            let now = Instant::now();
            let mut learnt = copying();
            learnt.session_ended(&Heard {
                format: opened.then(|| "mpjpeg".into()),
                pictures: pictures.then_some((now, now)),
                corrupt,
                ..Heard::default()
            });
            let again = learnt.decodes(&site(), Some("mpjpeg"), MJPEG);
            (learnt.is_copied(), again)
        };
        assert_eq!(ended(true, true, true), (true, false));
        // It has another codec: the next session tells.
        assert_eq!(ended(true, false, false), (true, true));
        assert_eq!(ended(true, false, true), (false, false));
        // It was off.
        assert_eq!(ended(false, false, false), (true, false));
        let mut learnt = copying();
        learnt.has_unusual_jpegs();
        assert!(!learnt.is_polled() && !learnt.sends_one_jpeg(&site()));
        assert!(!learnt.is_copied() && !learnt.decodes(&site(), Some("mpjpeg"), MJPEG));
    }

    #[test]
    fn a_camera_that_sends_one_jpeg_is_polled_until_it_sends_none() {
        let mut learnt = Learnt::default();
        assert!(learnt.sends_one_jpeg(&site()) && learnt.is_polled());
        assert!(!learnt.sends_one_jpeg(&site()), "it is known");
        let now = Instant::now();
        learnt.session_ended(&Heard {
            pictures: Some((now, now)),
            ..Heard::default()
        });
        assert!(learnt.is_polled());
        learnt.session_ended(&Heard::default());
        assert!(!learnt.is_polled() && learnt.sends_one_jpeg(&site()));
        for _ in 1..POLLED_IN_VAIN {
            learnt.session_ended(&Heard::default());
            assert!(!learnt.is_polled());
            let again = learnt.sends_one_jpeg(&site());
            assert_eq!(again, learnt.polled_in_vain < POLLED_IN_VAIN);
        }
        assert!(!learnt.is_polled(), "only FFmpeg can read it");
        for asks in ["quality: 5", "width: 640", "input_args: [-http_proxy, x]"] {
            let camera = camera(&format!("url: 'http://h/1.jpg', {asks}"));
            assert!(!Learnt::default().sends_one_jpeg(&camera), "{asks}");
        }
        let file = camera("url: /a.jpg");
        assert!(!Learnt::default().sends_one_jpeg(&file));
    }
}
