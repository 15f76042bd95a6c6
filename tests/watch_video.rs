//! `edge-video watch --video`: what it shows and saves can be played.

use crate::support::consumer::Consumer;
use crate::support::daemon::Daemon;
use crate::support::program::{Call, Program};
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, TempDir, unix_us, wait_until};
use amiquip::{AmqpProperties, AmqpValue, Channel, Connection, FieldTable, Publish};
use rustix::process::Signal;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A film of this many seconds with 15 pictures/s, B frames and a keyframe each second. With an
/// open GOP, the pictures before a keyframe need it and the group before.
pub(crate) fn film(folder: &Path, codec: &str, open_gop: bool, seconds: u32) -> PathBuf {
    let path = folder.join(format!("{codec}.mp4"));
    let keys = "keyint=15:min-keyint=15:scenecut=0:bframes=2";
    let (option, parameters) = match codec {
        "libx265" => (
            "-x265-params",
            format!("{keys}:open-gop={}:log-level=error", u8::from(open_gop)),
        ),
        _ => ("-x264-params", keys.to_owned()),
    };
    let source = format!("testsrc2=size=320x240:rate=15:duration={seconds}");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &source])
        .args(["-pix_fmt", "yuv420p", "-c:v", codec, option, &parameters])
        .arg(&path)
        .status();
    assert!(made.unwrap().success());
    path
}

/// How many pictures FFmpeg decodes from the file. It must not complain.
pub(crate) fn pictures(file: &Path) -> usize {
    let decoded = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(file)
        .args(["-fps_mode", "passthrough", "-f", "framecrc", "pipe:1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&decoded.stderr);
    assert!(
        decoded.status.success() && said.is_empty(),
        "{file:?}: {said}"
    );
    let lines = String::from_utf8(decoded.stdout).unwrap();
    lines.lines().filter(|line| !line.starts_with('#')).count()
}

/// The only file of the watch that begins and ends like this.
pub(crate) fn saved(folder: &Path, id: &str, codec: &str) -> Option<PathBuf> {
    let (begin, end) = (format!("{id}-"), format!(".{codec}"));
    let files = std::fs::read_dir(folder).ok()?;
    let mut files = files.map(|file| file.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&begin) && name.ends_with(&end)
    });
    let file = files.next();
    assert!(files.next().is_none(), "{file:?} is not the only one");
    file
}

/// The columns of the newest line of this camera.
fn newest(watch: &Program, id: &str) -> Vec<String> {
    let stdout = watch.stdout();
    let lines = stdout
        .lines()
        .map(|line| line.split_whitespace().map(str::to_owned));
    let mut lines = lines.map(Iterator::collect::<Vec<_>>);
    lines
        .rfind(|words| words.first().is_some_and(|word| word == id))
        .unwrap_or_default()
}

#[test]
fn the_video_of_a_film_is_shown_with_its_numbers_and_saved_so_that_it_can_be_played() {
    let (rabbit, folder) = (Rabbit::shared(), TempDir::new("watch-video"));
    let cameras: String = [("a", "libx264"), ("b", "libx265")]
        .map(|(id, codec)| {
            let film = film(folder.path(), codec, false, 4);
            format!("  - {{id: {id}, url: \"{}\"}}\n", film.display())
        })
        .concat();
    let config = format!(
        "passthrough: true\npictures: none\nvideo: {{exchange: watch.video}}\n\
         amqp: {{url: \"{}\"}}\ncameras:\n{cameras}",
        rabbit.url()
    );
    let consumer = Consumer::start(rabbit.port(), "watch.video");
    let args = ["watch", "--video", "--save", "films"];
    let watch = Call::new(&args).config(&config).start();
    watch.wait_for_stdout("no video yet", SOON);
    let mut daemon = Daemon::start(&config);
    for (id, codec) in [("a", "h264"), ("b", "h265")] {
        wait_until(2 * SOON, "a line with all numbers", || {
            let line = newest(&watch, id);
            let is = |n: usize, low: f64, high: f64| {
                let number = line.get(n).and_then(|word| word.parse().ok());
                number.is_some_and(|it: f64| low <= it && it < high)
            };
            // Units/s, kbit/s, and the ages in ms.
            let numbers = is(3, 10.0, 20.0) && is(4, 50.0, 5000.0);
            numbers && line.get(5).is_some_and(|gop| gop == "1.0") && is(6, 0.0, 4000.0)
        });
        let line = newest(&watch, id);
        assert_eq!(line[1..3], [codec, "320x240"]);
        // A busy machine may lose a group, but never a part that another needs.
        assert_eq!(line.last().unwrap(), "0", "{line:?}");
        consumer.wait_for(id, 60, 2 * SOON);
    }
    daemon.terminate();
    let films = watch.dir().join("films");
    for (id, codec) in [("a", "h264"), ("b", "h265")] {
        let units = consumer.of(id);
        let bytes: Vec<u8> = units.iter().flat_map(|unit| unit.jpeg()).copied().collect();
        let file = saved(&films, id, codec).unwrap();
        wait_until(SOON, "the last unit in the file", || {
            std::fs::metadata(&file).unwrap().len() == bytes.len() as u64
        });
        assert!(std::fs::read(&file).unwrap() == bytes, "{file:?}");
        assert_eq!(pictures(&file), units.len(), "{file:?}");
    }
    let ended = watch.end(Signal::INT);
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
}

/// The access units of a film, for a test that is the publisher.
pub(crate) struct Units {
    /// Each with whether it is a key unit.
    units: Vec<(bool, Vec<u8>)>,
    /// Which are key units.
    pub(crate) keys: Vec<usize>,
}

impl Units {
    /// 60 units of H.265 with open groups, about 15 each.
    pub(crate) fn new(folder: &Path) -> Self {
        let film = film(folder, "libx265", true, 4);
        let filter = "hevc_mp4toannexb,dump_extra=freq=keyframe";
        let copy = ["-map", "0:v", "-c", "copy", "-bsf:v", filter, "-f"];
        let (index, bytes) = (folder.join("index"), folder.join("bytes"));
        let made = Command::new("ffmpeg")
            .args(["-v", "error", "-i"])
            .arg(film)
            .args(copy)
            .arg("framecrc")
            .arg(&index)
            .args(copy)
            .arg("data")
            .arg(&bytes)
            .status();
        assert!(made.unwrap().success());
        let index = std::fs::read_to_string(index).unwrap();
        let bytes = std::fs::read(bytes).unwrap();
        let mut rest = &bytes[..];
        let mut units = vec![];
        for line in index.lines().filter(|line| !line.starts_with('#')) {
            let size = line.split(',').nth(4).unwrap().trim().parse().unwrap();
            let (unit, behind) = rest.split_at(size);
            units.push((!line.contains("F="), unit.to_vec()));
            rest = behind;
        }
        let keys: Vec<_> = (0..units.len()).filter(|&n| units[n].0).collect();
        assert!(units.len() == 60 && keys.len() >= 4, "{keys:?}");
        Self { units, keys }
    }

    /// Publishes those whose number is not `lost`, as the daemon does.
    pub(crate) fn publish(
        &self,
        channel: &Channel,
        exchange: &str,
        camera: &str,
        lost: Range<usize>,
    ) {
        let text = |text: &str| AmqpValue::LongString(text.to_owned());
        for (n, (key, unit)) in self.units.iter().enumerate() {
            if lost.contains(&n) {
                continue;
            }
            let gop = self.keys.iter().filter(|&&key| key <= n).count() as i64;
            let headers = [
                ("camera_id", text(camera)),
                ("epoch", AmqpValue::LongLongInt(7)),
                ("seq", AmqpValue::LongLongInt(n as i64 + 1)),
                ("captured_at_us", AmqpValue::LongLongInt(unix_us())),
                ("key", AmqpValue::Boolean(*key)),
                ("gop", AmqpValue::LongLongInt(gop)),
                ("pts_us", AmqpValue::LongLongInt(n as i64 * 66_667)),
                ("codec", text("h265")),
            ];
            let headers = headers.map(|(name, value)| (name.to_owned(), value));
            let properties = AmqpProperties::default().with_headers(FieldTable::from(headers));
            let message = Publish::with_properties(unit, format!("video.{camera}"), properties);
            channel.basic_publish(exchange, message).unwrap();
        }
    }
}

#[test]
fn after_a_gap_the_file_of_a_camera_with_open_groups_shows_no_picture_that_lacks_another() {
    let (rabbit, folder) = (Rabbit::shared(), TempDir::new("watch-gap"));
    let units = Units::new(folder.path());
    let keys = &units.keys;
    drop(Consumer::start(rabbit.port(), "watch.gap"));
    let url = rabbit.url();
    let args = ["--save", "films", "--amqp", &url, "--exchange", "watch.gap"];
    let watch = Call::new(&[&["watch", "--video"], &args[..]].concat()).start();
    watch.wait_for_stdout("no video yet", SOON);

    let mut connection = Connection::insecure_open(&url).unwrap();
    let channel = connection.open_channel(None).unwrap();
    // The end of the second group is missing, as the publisher drops units.
    units.publish(&channel, "watch.gap", "kept", keys[2] - 4..keys[2]);
    // One unit is missing, which is against the promise.
    let one = keys[1] + 3;
    units.publish(&channel, "watch.gap", "broken", one..one + 1);
    let gaps_and_broken = |id: &str| {
        let line = newest(&watch, id);
        let columns = line.len().saturating_sub(2);
        line.get(columns..).unwrap_or_default().join(" ")
    };
    wait_until(SOON, "the gaps", || {
        gaps_and_broken("kept") == "1 0" && gaps_and_broken("broken") == "1 1"
    });
    let films = watch.dir().join("films");
    // Of each group but the first, up to two pictures before its keyframe go: they refer to what is
    // missing. As many may wait in the decoder at the end of the sequence.
    let kept = pictures(&saved(&films, "kept", "h265").unwrap());
    assert!((60 - 4 - 4..60 - 4).contains(&kept), "{kept}");
    let rest = keys[2] - keys[1] - 3;
    let broken = pictures(&saved(&films, "broken", "h265").unwrap());
    assert!((60 - rest - 4..60 - rest).contains(&broken), "{broken}");
    assert_eq!(watch.end(Signal::INT).code(), Some(0));
}

#[test]
fn messages_of_the_other_kind_are_not_shown_and_said_once() {
    let rabbit = Rabbit::shared();
    let folder = TempDir::new("watch-kind");
    let film = film(folder.path(), "libx264", false, 4);
    let film = film.display();
    let config = format!(
        "passthrough: true\npictures: keyframes\nvideo: {{exchange: watch.kind.video}}\n\
         amqp: {{url: \"{}\", exchange: watch.kind}}\ncameras:\n  - {{id: a, url: \"{film}\"}}\n",
        rabbit.url()
    );
    let (pictures, video) = ("watch.kind", "watch.kind.video");
    for exchange in [pictures, video] {
        drop(Consumer::start(rabbit.port(), exchange));
    }
    let url = rabbit.url();
    let watch = |more: &[&str], exchange: &str| {
        let args = ["--amqp", &url, "--exchange", exchange];
        Call::new(&[&["watch"], more, &args[..]].concat()).start()
    };
    let watches = [
        (
            watch(&[], video),
            "video arrives, which is not shown: use --video\n",
        ),
        (
            watch(&["--video"], pictures),
            "messages without video arrive, which are not shown: for pictures leave out --video\n",
        ),
    ];
    let mut daemon = Daemon::start(&config);
    daemon.wait_for_log("a: live", 2 * SOON);
    for (watch, says) in watches {
        watch.wait_for_stderr(says.trim_end(), 2 * SOON);
        let ended = watch.end(Signal::INT);
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), says));
        assert!(!ended.stdout.contains("320x240"), "{}", ended.stdout);
    }
    daemon.terminate();
}
