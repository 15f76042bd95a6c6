//! Passthrough: the camera's own H.264 and H.265, through the real FFmpeg and the real RabbitMQ.

mod cameras;
mod endings;
mod live;
mod soak;

use crate::support::consumer::{Consumer, Delivery};
use crate::support::daemon::{Daemon, Exit};
use crate::support::rabbit::{self, Rabbit};
use crate::support::tls::Tls;
use crate::support::units::{Run, decode_strictly, header, is_key, most_without_gap, runs};
use crate::support::{TempDir, free_port, wait_for, wait_until};
use amiquip::AmqpValue;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const ONLY_VIDEO: &str = "passthrough: true\npictures: none";

/// For what several cameras send on a loaded machine.
const START: Duration = Duration::from_secs(90);

/// A film with a keyframe every second, and B frames.
fn film(folder: &Path, codec: &str, seconds: u32) -> PathBuf {
    film_with_keys(folder, codec, seconds, 15)
}

/// The same with a keyframe every `interval` pictures.
fn film_with_keys(folder: &Path, codec: &str, seconds: u32, interval: u32) -> PathBuf {
    let path = folder.join(format!("{codec}.mp4"));
    let keys = format!("keyint={interval}:min-keyint={interval}");
    let parameters = match codec {
        "libx265" => [
            "-x265-params",
            &format!("{keys}:open-gop=0:log-level=error"),
        ],
        _ => ["-x264-params", &format!("{keys}:scenecut=0:bframes=2")],
    };
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i"])
        .arg(format!("testsrc2=size=320x240:rate=15:duration={seconds}"))
        .args(["-pix_fmt", "yuv420p", "-c:v", codec])
        .args(parameters)
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    path
}

/// What FFmpeg copies out of that film by itself.
fn copied(film: &Path, format: &str) -> Vec<u8> {
    let filters = match format {
        "h264" => "h264_mp4toannexb,dump_extra=freq=keyframe",
        _ => "hevc_mp4toannexb,dump_extra=freq=keyframe",
    };
    let copy = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(film)
        .args(["-c", "copy", "-bsf:v", filters, "-f", format, "pipe:1"])
        .output()
        .unwrap();
    assert!(copy.status.success());
    copy.stdout
}

/// A configuration of these cameras, with a line `passthrough` and `pictures` in `more` if they are
/// to be passed through. Exchanges are `video.NAME` and `pictures.NAME`.
fn config(name: &str, url: &str, more: &str, cameras: &[(&str, String)]) -> String {
    let ffmpeg = std::env::var("EDGE_VIDEO_FFMPEG").unwrap_or_else(|_| "ffmpeg".to_owned());
    let mut config = format!(
        "amqp: {{url: \"{url}\", exchange: pictures.{name}}}\nffmpeg: {{path: {ffmpeg}}}\n\
         {more}\ncameras:\n"
    );
    for (id, url) in cameras {
        config += &format!("  - {{id: {id}, url: \"{url}\"}}\n");
    }
    config
}

/// A daemon and those who listen to it.
struct Watched {
    daemon: Daemon,
    units: Consumer,
    pictures: Consumer,
}

impl Watched {
    /// At the broker that all tests share. `more` begins with what is to be published.
    fn start(name: &str, more: &str, cameras: &[(&str, String)]) -> Self {
        Self::start_at(Rabbit::shared(), name, more, cameras)
    }

    fn start_at(rabbit: &Rabbit, name: &str, more: &str, cameras: &[(&str, String)]) -> Self {
        let more = match more.contains("video:") {
            true => more.to_owned(),
            false => format!("{more}\nvideo: {{exchange: video.{name}}}"),
        };
        Self {
            units: Consumer::start(rabbit.port(), &format!("video.{name}")),
            pictures: Consumer::start(rabbit.port(), &format!("pictures.{name}")),
            daemon: Daemon::start(&config(name, &rabbit.url(), &more, cameras)),
        }
    }

    /// The end, at which every frame and unit is accounted for.
    #[track_caller]
    fn ends(&mut self) -> Exit {
        let exit = self.daemon.terminate();
        let report = exit.report();
        report.check_accounting();
        if let Some(account) = &report.total.video {
            let unanswered = account.dropped["unknown"];
            let arrives = || self.units.count() as u64;
            wait_until(START, "each published unit", || {
                arrives() >= account.published
            });
            assert!(arrives() <= account.published + unanswered, "{account:?}");
        } else {
            assert_eq!(self.units.count(), 0);
        }
        exit
    }

    /// Waits for so many units of a camera without a gap. A machine that is busy for longer than a
    /// quarter of a second has one.
    #[track_caller]
    fn wait_for_run(&self, camera_id: &str, n: usize) -> Run {
        let what = format!("{n} units of {camera_id} without a gap");
        wait_for(START, &what, || {
            let run = most_without_gap(&self.units.of(camera_id));
            (run.len() >= n).then_some(run)
        })
    }

    /// All units of a camera; each can be decoded.
    #[track_caller]
    fn decodes(&self, camera_id: &str) -> Vec<Run> {
        let runs = runs(&self.units.of(camera_id));
        decode_strictly(&runs);
        runs
    }
}

/// A film is played again and again, each time in a session of its own.
#[test]
fn a_film_arrives_unit_by_unit_byte_for_byte() {
    let folder = TempDir::new("video");
    let films = [("h264", "libx264"), ("h265", "libx265")]
        .map(|(name, codec)| (name, film_with_keys(folder.path(), codec, 20, 50)));
    let cameras = [0, 1].map(|n| (films[n].0, films[n].1.display().to_string()));
    let mut watched = Watched::start("film", ONLY_VIDEO, &cameras);
    for (name, film) in &films {
        let units = watched.wait_for_run(name, 300);
        let first = &units[0];
        assert_eq!((first.seq(), units.len()), (1, 300), "{name}: a whole film");
        assert_eq!(first.routing_key, format!("video.{name}"));
        let properties = &first.properties;
        let content_type = properties.content_type().as_deref();
        assert_eq!(content_type, Some(format!("video/{name}").as_str()));
        assert_eq!(properties.type_().as_deref(), Some("access_unit"));
        let id = format!("{name}/{}/v1", first.epoch());
        assert_eq!(properties.message_id().as_deref(), Some(id.as_str()));
        assert_eq!((first.width(), first.height()), (320, 240));
        let codec = AmqpValue::LongString((*name).to_owned());
        assert_eq!(header(first, "codec"), codec);
        for (n, unit) in units.iter().enumerate() {
            assert_eq!(is_key(unit), n % 50 == 0, "{name} {n}");
            let gop = AmqpValue::LongLongInt(n as i64 / 50 + 1);
            assert_eq!(header(unit, "gop"), gop);
            let index = AmqpValue::LongInt(n as i32 % 50);
            assert_eq!(header(unit, "gop_index"), index);
        }
        let format = if *name == "h264" { "h264" } else { "hevc" };
        let bytes: Vec<u8> = units.iter().flat_map(|unit| unit.jpeg()).copied().collect();
        assert!(bytes == copied(film, format), "{name}");
    }
    for (name, _) in &films {
        let epoch = watched.units.of(name)[0].epoch();
        watched.units.wait_until(START, "the film again", |units| {
            let mut of = units.iter().filter(|unit| unit.camera_id() == *name);
            of.next_back().is_some_and(|last| last.epoch() > epoch)
        });
    }
    let exit = watched.ends();
    assert_eq!(exit.report().total.restarts_in_all(), 0);
    for (name, _) in &films {
        watched.decodes(name);
    }
}

#[test]
fn who_listens_for_pictures_never_meets_video() {
    let folder = TempDir::new("video-beside");
    let film = film(folder.path(), "libx264", 4);
    let cameras = [("door", film.display().to_string())];
    let mut watched = Watched::start("beside", "passthrough: true", &cameras);
    watched.units.wait_for("door", 30, START);
    watched.pictures.wait_for("door", 30, START);
    watched.ends();
    let names = |message: &Delivery| {
        let mut names: Vec<_> = message.headers().keys().cloned().collect();
        names.sort();
        names
    };
    let pictures = watched.pictures.all();
    for picture in &pictures {
        let properties = &picture.properties;
        assert_eq!(properties.content_type().as_deref(), Some("image/jpeg"));
        assert_eq!(properties.type_().as_deref(), Some("frame"));
        assert_eq!(picture.routing_key, "camera.door");
        assert_eq!(picture.exchange, "pictures.beside");
        assert_eq!(
            names(picture),
            [
                "camera_id",
                "captured_at_us",
                "epoch",
                "height",
                "seq",
                "width"
            ]
        );
    }
    let epochs = |all: &[std::sync::Arc<Delivery>]| -> Vec<i64> {
        let mut epochs: Vec<_> = all.iter().map(|it| it.epoch()).collect();
        epochs.dedup();
        epochs
    };
    assert_eq!(
        epochs(&pictures).first(),
        epochs(&watched.units.all()).first(),
        "one session"
    );
}

#[test]
fn video_goes_over_tls() {
    let dir = TempDir::new("video-tls");
    let certificates = Tls::new(dir.path());
    let port = free_port();
    let rabbit = Rabbit::start_with(&certificates.rabbit_config(port));
    let film = film(dir.path(), "libx265", 4);
    let units = Consumer::start(rabbit.port(), "video.tls");
    let url = rabbit::url(port, "guest", "guest", "/").replacen("amqp:", "amqps:", 1);
    let cameras = [("door", film.display().to_string())];
    let more = "passthrough: true\npictures: none\nvideo: {exchange: video.tls}";
    let tls = format!(
        "amqp: {{tls: {{ca_file: {}}}, ",
        certificates.path("ca.pem")
    );
    let config = config("tls", &url, more, &cameras).replacen("amqp: {", &tls, 1);
    let mut daemon = Daemon::start(&config);
    units.wait_for("door", 60, START);
    daemon.terminate().report().check_accounting();
    let runs = runs(&units.of("door"));
    decode_strictly(&runs);
}
