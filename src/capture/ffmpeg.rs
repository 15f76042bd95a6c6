//! What FFmpeg is told, for each kind of source and each version of FFmpeg. Pure, but for asking
//! the installed FFmpeg once what it is.

use super::child::{self, Child};
use super::words;
use crate::config::{Camera, SourceKind, Transport};
use crate::shutdown::Stop;
use parking_lot::Mutex;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long `ffmpeg -version` may take: a cold start from an SD card, with room to spare.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);
/// So much of its answer is read: FFmpeg's longest has 8 kB, and another program may never end.
const PROBE_BYTES: u64 = 1 << 20;

/// The installed FFmpeg, asked once.
#[derive(Debug)]
pub struct Ffmpeg {
    path: PathBuf,
    known: Mutex<Option<Answer>>,
}

/// What asking it gave, or when and why that failed.
type Answer = Result<Version, (Instant, String)>;

/// A failure holds for all cameras for so long: two hundred of them must not each wait for an FFmpeg
/// that does not answer. Shorter than the breaker's rests, so that a mended FFmpeg is soon found.
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
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which release it is. Asks it the first time, and again for as long as that fails.
    ///
    /// # Errors
    /// A sentence for the log when it does not run, is not FFmpeg or cannot write `mpjpeg`.
    pub fn version(&self, stop: &Stop) -> Result<Version, String> {
        // Held while asking, so that 200 cameras that start together ask once.
        let mut known = self.known.lock();
        match &*known {
            Some(Ok(version)) => return Ok(*version),
            Some(Err((at, why))) if at.elapsed() < FAILURE_HOLDS => return Err(why.clone()),
            _ if stop.requested() => return Err("stopping".to_owned()),
            _ => {}
        }
        let answer = self.find_out(stop);
        if answer.is_err() && stop.requested() {
            // Says nothing of FFmpeg, and the others would take it for the cause of theirs.
            return answer;
        }
        *known = Some(answer.clone().map_err(|why| (Instant::now(), why)));
        answer
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

    fn ask(&self, stop: &Stop, args: &[&str]) -> Result<(String, String), String> {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut child = Child::spawn(&self.path, &args, None)
            .map_err(|error| format!("cannot start {}: {error}", self.path.display()))?;
        let mut text = Vec::new();
        let output = child::Output {
            child: &mut child,
            stop,
            deadline: Instant::now() + PROBE_TIMEOUT,
        };
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

/// FFmpeg's arguments for one camera: one picture stream, cut to at most `fps`, as `mpjpeg` parts
/// on stdout.
pub fn arguments(camera: &Camera, version: Version) -> Vec<String> {
    let mut args = Args::default();
    // `error`: at `warning` FFmpeg remarks on every pixel format and time stamp.
    args.push(&["-hide_banner", "-nostdin", "-nostats", "-loglevel", "error"]);
    input(&mut args, camera, version);
    output(&mut args, camera, version);
    args.0
}

fn input(args: &mut Args, camera: &Camera, version: Version) {
    let timeout_us = camera.stale_timeout.as_micros().to_string();
    // One decoding thread: frame threads add a frame of delay each, and a core each is not there.
    args.push(&["-threads", "1"]);
    match camera.source.kind {
        SourceKind::Rtsp => {
            live(args);
            match camera.transport {
                Transport::Tcp => args.push(&["-rtsp_transport", "tcp"]),
                Transport::Udp => args.push(&["-rtsp_transport", "udp"]),
                Transport::Auto => {}
            }
            // Audio is not even set up at the camera.
            args.push(&["-allowed_media_types", "video"]);
            // Before 5.0 `-timeout` meant: listen for the camera to connect.
            let timeout = if version >= V5_0 {
                "-timeout"
            } else {
                "-stimeout"
            };
            args.push(&[timeout, &timeout_us]);
        }
        SourceKind::Rtmp | SourceKind::Http => {
            live(args);
            args.push(&["-rw_timeout", &timeout_us]);
            if camera.source.kind == SourceKind::Http && !has_time_stamps(camera) {
                args.push(&["-use_wallclock_as_timestamps", "1"]);
            }
        }
        SourceKind::V4l2 => {
            live(args);
            args.push(&["-f", "v4l2"]);
        }
        SourceKind::File => args.push(&["-re", "-stream_loop", "-1"]),
        SourceKind::Lavfi => args.push(&["-re", "-f", "lavfi"]),
    }
    args.extend(&camera.input_args);
    args.push(&["-i", camera.source.address.expose()]);
}

/// Whether what an HTTP address serves has time stamps of its own. Motion JPEG has none: FFmpeg then
/// counts its pictures at 25 a second, whatever their rate, and a limit by such a clock drops good
/// frames. Segments and films have them, and come in bursts that the time of arrival says nothing of.
fn has_time_stamps(camera: &Camera) -> bool {
    let address = camera.source.address.expose();
    let path = address.split(['?', '#']).next().unwrap_or_default();
    let ending = path.rsplit('.').next().unwrap_or_default();
    let film = [
        "m3u8", "mpd", "mp4", "m4v", "mkv", "mov", "ts", "flv", "webm",
    ];
    film.iter().any(|film| ending.eq_ignore_ascii_case(film))
}

const V5_0: Version = Version { major: 5, minor: 0 };
const V5_1: Version = Version { major: 5, minor: 1 };

/// Cuts the burst of old frames at the start of a live source (31 to 7 in our measurement).
fn live(args: &mut Args) {
    args.push(&["-fflags", "nobuffer", "-flags", "low_delay"]);
}

fn output(args: &mut Args, camera: &Camera, version: Version) {
    args.push(&["-map", "0:v:0", "-an", "-sn", "-dn"]);
    args.push(&["-vf", &filters(camera)]);
    // Every frame that the filters let through, none twice: the default for mpjpeg repeats the last
    // frame while the source is slow, an old picture shown as new.
    let rate_mode = if version >= V5_1 {
        "-fps_mode"
    } else {
        "-vsync"
    };
    args.push(&[rate_mode, "passthrough", "-enc_time_base", "1:90000"]);
    // 4:2:0 at full range is what every JPEG decoder takes.
    args.push(&["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"]);
    args.push(&["-q:v", &camera.quality.to_string(), "-threads", "1"]);
    args.extend(&camera.output_args);
    args.push(&["-f", "mpjpeg", "-flush_packets", "1", "pipe:1"]);
}

/// Scale, and at most `fps` frames a second.
///
/// Not FFmpeg's `fps` filter, which fills gaps with repeated frames. `select` keeps a due time in
/// register 0: a frame passes when it is at most half an interval early, so that a camera whose time
/// stamps jitter loses nothing, and the due time then advances by one interval, so that a faster
/// camera is cut to exactly `fps`. Time stamps that jump back (a camera's clock was set) start anew.
/// The frames that pass get even time stamps: equal ones would end FFmpeg.
fn filters(camera: &Camera) -> String {
    let fps = camera.fps;
    let reset = format!("lt(t,ld(0)-2-1/{fps})");
    let due = format!("if({reset},t,max(ld(0),t-0.5/{fps}))+1/{fps}");
    let pass = format!("if(isnan(t),1,if(gte(t,ld(0)-0.5/{fps})+{reset},1+0*st(0,{due}),0))");
    let mut filters = format!("select='{pass}',settb=1/90000,setpts=N*90000/{fps}");
    // -2: what keeps the aspect, even, as 4:2:0 wants it.
    let side = |pixels: Option<u32>| pixels.map_or("-2".to_owned(), |n| n.to_string());
    if camera.width.is_some() || camera.height.is_some() {
        filters += &format!(",scale={}:{}", side(camera.width), side(camera.height));
    }
    filters
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn push(&mut self, args: &[&str]) {
        self.0.extend(args.iter().map(|&arg| arg.to_owned()));
    }

    fn extend(&mut self, args: &[String]) {
        self.0.extend_from_slice(args);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, Source};

    fn camera(kind: SourceKind, address: &str) -> Camera {
        Camera {
            id: "cam".into(),
            source: Source {
                kind,
                address: Secret::new(address),
                host: None,
            },
            exchange: "cameras".into(),
            routing_key: "camera.cam".into(),
            fps: 15,
            quality: 5,
            width: None,
            height: None,
            transport: Transport::Tcp,
            stale_timeout: Duration::from_secs(5),
            first_frame_timeout: Duration::from_secs(20),
            input_args: vec![],
            output_args: vec![],
            enabled: true,
        }
    }

    fn line(camera: &Camera, version: Version) -> String {
        arguments(camera, version).join(" ")
    }

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

    #[test]
    fn rtsp_gets_transport_timeout_and_video_only() {
        let mut camera = camera(SourceKind::Rtsp, "rtsp://h/1");
        let line_5_1 = line(&camera, V5_1);
        assert!(
            line_5_1.contains("-rtsp_transport tcp -allowed_media_types video -timeout 5000000")
        );
        assert!(line_5_1.contains("-i rtsp://h/1 -map 0:v:0 -an -sn -dn "));
        assert!(line_5_1.contains("-fps_mode passthrough"));
        camera.transport = Transport::Auto;
        let line_4_3 = line(&camera, Version { major: 4, minor: 3 });
        assert!(!line_4_3.contains("-rtsp_transport"));
        assert!(line_4_3.contains("-stimeout 5000000") && line_4_3.contains("-vsync passthrough"));
    }

    #[test]
    fn motion_jpeg_over_http_goes_by_the_time_of_arrival() {
        let by_arrival = |address| {
            line(&camera(SourceKind::Http, address), V5_1).contains("-use_wallclock_as_timestamps")
        };
        assert!(by_arrival("http://h/video.mjpg?size=large.mp4"));
        assert!(by_arrival("http://h:8080/"));
        assert!(!by_arrival("http://h/live/index.M3U8?token=x"));
        assert!(!line(&camera(SourceKind::Rtmp, "rtmp://h/x"), V5_1).contains("wallclock"));
    }

    #[test]
    fn files_and_test_pictures_play_at_their_own_speed() {
        assert!(
            line(&camera(SourceKind::File, "/x.mp4"), V5_1)
                .contains("-re -stream_loop -1 -i /x.mp4")
        );
        assert!(
            line(&camera(SourceKind::Lavfi, "testsrc2"), V5_1).contains("-re -f lavfi -i testsrc2")
        );
    }

    #[test]
    fn scaling_keeps_the_aspect_when_one_side_is_given() {
        let mut camera = camera(SourceKind::V4l2, "/dev/video0");
        assert!(!line(&camera, V5_1).contains("scale="));
        camera.width = Some(640);
        assert!(line(&camera, V5_1).contains(",scale=640:-2 "));
        camera.height = Some(360);
        assert!(line(&camera, V5_1).contains(",scale=640:360 "));
    }

    #[test]
    fn the_users_arguments_come_where_they_can_win() {
        let mut camera = camera(SourceKind::Rtsp, "rtsp://h/1");
        camera.input_args = vec!["-hwaccel".into(), "vaapi".into()];
        camera.output_args = vec!["-q:v".into(), "9".into()];
        let line = line(&camera, V5_1);
        assert!(line.contains("-hwaccel vaapi -i rtsp://h/1"));
        assert!(line.contains("-threads 1 -q:v 9 -f mpjpeg"));
    }
}
