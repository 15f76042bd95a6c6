//! How many cameras a board carries: what FFmpeg costs on real H.264, and what the daemon adds.

use super::case::{Stand, ages_ms, delivered_share};
use super::consumer::Consumer;
use super::process::{Process, Usage, children_of, free_port, holds_within, pss_kb_of, usage_of};
use super::{rtsp, stamp};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Name, pixels, and kbit/s that cameras send of this size.
const SIZES: [(&str, &str, u32); 3] = [
    ("640x360", "640x360", 500),
    ("720p", "1280x720", 1500),
    ("1080p", "1920x1080", 3000),
];
/// The rate at which most cameras record.
const FPS: u32 = 15;
/// Runs of each; the result is the median.
const ROUNDS: usize = 3;
/// Several groups of pictures.
const SPAN: Duration = Duration::from_secs(4);
/// Seconds of pictures before the measurement: until the daemon knows that FFmpeg has nothing in
/// store, it looks for that in /proc.
const SETTLED: u32 = 10;
/// How long until then.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Cameras at once, and what they send.
const MANY: [usize; 3] = [20, 50, 100];
const SPAN_OF_MANY: Duration = Duration::from_secs(10);

/// What is published of a camera.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Publish {
    Jpeg,
    VideoAndJpeg,
    VideoAndKeyframes,
    Video,
}

impl Publish {
    fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::VideoAndJpeg => "video and JPEG",
            Self::VideoAndKeyframes => "video and keyframes",
            Self::Video => "video",
        }
    }

    fn keys(self) -> &'static str {
        match self {
            Self::Jpeg => "",
            Self::VideoAndJpeg => "passthrough: true\n",
            Self::VideoAndKeyframes => "passthrough: true\npictures: keyframes\n",
            Self::Video => "passthrough: true\npictures: none\n",
        }
    }
}

/// A line of the table.
#[derive(Debug, Clone, Copy)]
struct Row {
    name: &'static str,
    size: &'static str,
    kbits: u32,
    fps: u32,
    publish: Publish,
}

fn rows() -> Vec<Row> {
    let row = |(name, size, kbits), fps, publish| Row {
        name,
        size,
        kbits,
        fps,
        publish,
    };
    SIZES
        .into_iter()
        .flat_map(|size| {
            [
                row(size, 5, Publish::Jpeg),
                row(size, FPS, Publish::Jpeg),
                row(size, FPS, Publish::VideoAndJpeg),
                row(size, FPS, Publish::VideoAndKeyframes),
                row(size, FPS, Publish::Video),
            ]
        })
        .collect()
}

/// One run. CPU is the share of one core.
#[derive(Debug, Clone, Copy)]
struct Figures {
    kb_per_s: f64,
    ffmpeg: f64,
    ffmpeg_mb: f64,
    ffmpeg_pss_mb: f64,
    daemon: f64,
    daemon_mb: f64,
    daemon_pss_mb: f64,
    cameras: f64,
}

/// Measures all rows in turns, and returns the table.
pub fn table(stand: &Stand, rounds: Option<usize>) -> String {
    let rows = rows();
    let mut runs: Vec<Vec<Figures>> = vec![vec![]; rows.len()];
    for round in 0..rounds.unwrap_or(ROUNDS) {
        for (row, runs) in rows.iter().zip(&mut runs) {
            let figures = run(stand, row);
            eprintln!(
                "{round}  (h264) {:7} {:2} fps {:19} {:5.0} KB/s  FFmpeg {:.2} %, the daemon {:.2} %",
                row.name,
                row.fps,
                row.publish.name(),
                figures.kb_per_s,
                figures.ffmpeg * 100.0,
                figures.daemon * 100.0,
            );
            runs.push(figures);
        }
    }
    let mut text = String::from(TABLE);
    for (row, runs) in rows.iter().zip(&runs) {
        let of = |pick: fn(&Figures) -> f64| {
            let mut values: Vec<_> = runs.iter().map(pick).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let (ffmpeg, daemon) = (of(|f| f.ffmpeg), of(|f| f.daemon));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.0} | {:.1} % | {:.0} / {:.0} | {:.2} % | {:.1} / {:.1} | {:.0} |",
            row.name,
            row.fps,
            row.publish.name(),
            of(|f| f.kb_per_s),
            ffmpeg * 100.0,
            of(|f| f.ffmpeg_mb),
            of(|f| f.ffmpeg_pss_mb),
            daemon * 100.0,
            of(|f| f.daemon_mb),
            of(|f| f.daemon_pss_mb),
            (1.0 / (ffmpeg + daemon)).floor()
        );
    }
    text
}

fn run(stand: &Stand, row: &Row) -> Figures {
    let running = Running::start(stand, row, 1);
    let units = row.publish != Publish::Jpeg;
    let first = move |running: &Running| {
        let watched = if units {
            &running.units
        } else {
            &running.pictures
        };
        watched.total().0 > u64::from(SETTLED * row.fps)
    };
    running.wait_until(first);
    let start = running.now();
    std::thread::sleep(SPAN);
    running.since(&start)
}

/// Many cameras at once, video only. With `cameras` only so many.
pub fn many(stand: &Stand, cameras: Option<usize>) -> String {
    let (name, size, kbits) = SIZES[2];
    let row = Row {
        name,
        size,
        kbits,
        fps: FPS,
        publish: Publish::Video,
    };
    let mut text = String::from(TABLE_OF_MANY);
    for cameras in cameras.map_or(MANY.to_vec(), |cameras| vec![cameras]) {
        let running = Running::start(stand, &row, cameras);
        running.wait_until(|running| running.units.cameras() == cameras);
        // What piled up during the start.
        std::thread::sleep(Duration::from_secs(2));
        running.units.take();
        let (start, began) = (running.now(), stamp::now_us());
        std::thread::sleep(SPAN_OF_MANY);
        let (figures, ended) = (running.since(&start), stamp::now_us());
        let arrivals = running.units.take();
        let arrivals: Vec<_> = arrivals
            .iter()
            .filter(|arrival| arrival.at >= began && arrival.at < ended)
            .collect();
        let [p50, p99, _] = ages_ms(&arrivals);
        let _ = writeln!(
            text,
            "| {cameras} | {:.0} | {:.2} % | {:.1} % | {:.1} % | {:.0} % | {:.1} | {:.0} | {p50:.1} / {p99:.1} | {:.0} % |",
            arrivals.len() as f64 / SPAN_OF_MANY.as_secs_f64(),
            delivered_share(&arrivals) * 100.0,
            figures.ffmpeg * 100.0,
            figures.daemon * 100.0,
            (figures.ffmpeg + figures.daemon) * 100.0,
            figures.daemon_mb,
            figures.ffmpeg_pss_mb,
            figures.cameras * 100.0,
        );
        eprintln!("{}", text.lines().last().unwrap_or_default());
    }
    text
}

/// Played cameras, a daemon that reads them, and consumers of both exchanges.
struct Running {
    cameras: Process,
    daemon: Process,
    pictures: Consumer,
    units: Consumer,
}

/// At one moment.
struct Moment {
    at: Instant,
    cameras: Usage,
    daemon: Usage,
    ffmpegs: Vec<(u32, Usage)>,
    bytes: u64,
}

impl Running {
    fn start(stand: &Stand, row: &Row, cameras: usize) -> Self {
        static RUNS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let run = RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let Row {
            size, kbits, fps, ..
        } = *row;
        let clip = stand.folder.join(format!("{size}-{fps}-{kbits}.h264"));
        if !clip.exists() {
            make_clip(&clip, row);
        }
        let port = free_port();
        let clip = clip.display().to_string();
        let args = rtsp::arguments(port, &clip, fps, cameras, stand.load_cpus);
        let played = Process::start(&stand.ourselves, &args, stand.load_cpus);
        let amqp = stand.broker.port;
        let exchanges = [format!("jpeg-{run}"), format!("video-{run}")];
        let [pictures, units] = exchanges
            .each_ref()
            .map(|exchange| Consumer::start(amqp, exchange));
        let [jpeg, video] = exchanges;
        let mut config = format!(
            "fps: {fps}\n{}video: {{exchange: {video}}}\namqp:\n  url: amqp://127.0.0.1:{amqp}/\n  \
             exchange: {jpeg}\nhttp:\n  enabled: false\nlog:\n  level: warn\ncameras:\n",
            row.publish.keys()
        );
        for n in 0..cameras {
            let _ = writeln!(
                config,
                "  - {{id: camera{n}, url: \"rtsp://127.0.0.1:{port}/\"}}"
            );
        }
        let path = stand.folder.join("h264.yaml");
        std::fs::write(&path, config).unwrap();
        let args = ["run", "--config", &path.display().to_string()].map(str::to_owned);
        Self {
            cameras: played,
            daemon: Process::start(&stand.edge_video, &args, stand.cpus),
            pictures,
            units,
        }
    }

    fn wait_until(&self, cond: impl Fn(&Self) -> bool) {
        let up = holds_within(START_LIMIT, || cond(self));
        assert!(up, "nothing comes; see what the daemon says to h264.yaml");
    }

    fn now(&self) -> Moment {
        let ffmpegs = children_of(self.daemon.id());
        Moment {
            at: Instant::now(),
            cameras: self.cameras.usage(),
            daemon: self.daemon.usage(),
            ffmpegs: ffmpegs.iter().map(|&id| (id, usage_of(id))).collect(),
            bytes: self.pictures.total().1 + self.units.total().1,
        }
    }

    fn since(&self, start: &Moment) -> Figures {
        let end = self.now();
        let seconds = (end.at - start.at).as_secs_f64();
        let share = |before: Usage, after: Usage| {
            after.cpu.saturating_sub(before.cpu).as_secs_f64() / seconds
        };
        let ffmpegs = || start.ffmpegs.iter().zip(&end.ffmpegs);
        assert!(
            ffmpegs().all(|(before, after)| before.0 == after.0),
            "an FFmpeg was started again"
        );
        let mb = |kb: u64| kb as f64 / 1024.0;
        Figures {
            kb_per_s: (end.bytes - start.bytes) as f64 / seconds / 1e3,
            ffmpeg: ffmpegs().map(|(a, b)| share(a.1, b.1)).sum(),
            ffmpeg_mb: end.ffmpegs.iter().map(|(_, usage)| mb(usage.rss_kb)).sum(),
            ffmpeg_pss_mb: end.ffmpegs.iter().map(|(id, _)| mb(pss_kb_of(*id))).sum(),
            daemon: share(start.daemon, end.daemon),
            daemon_mb: mb(end.daemon.rss_kb),
            daemon_pss_mb: mb(pss_kb_of(self.daemon.id())),
            cameras: share(start.cameras, end.cameras),
        }
    }
}

/// Ten seconds of a moving test picture with a camera's noise, as a camera would send it.
fn make_clip(path: &Path, row: &Row) {
    let Row {
        size, kbits, fps, ..
    } = *row;
    let source = format!("testsrc2=size={size}:rate={fps},noise=alls=6:allf=t");
    let rate = format!("{kbits}k");
    let status = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-y"])
        .args(["-f", "lavfi", "-i", &source, "-t", "10"])
        .args(["-c:v", "libx264", "-preset", "veryfast", "-bf", "0"])
        .args(["-b:v", &rate, "-maxrate", &rate, "-bufsize", &rate])
        .args(["-g", &(2 * fps).to_string(), "-pix_fmt", "yuv420p"])
        .args(["-x264-params", "aud=1:scenecut=0"])
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success(), "FFmpeg makes no clip");
}

pub const HEAD: &str = "# How many cameras does my board carry

`make bench` writes this page. Played cameras send H.264 by RTSP over TCP: a moving test pattern
with noise, at the bit rate of a camera of that size, with a keyframe every 2 s. Broker, cameras and
consumer run on the same machine and are not counted. CPU is the share of one core of this machine.
RSS includes libraries that all FFmpegs share; in PSS each has its part of them.
";

const TABLE: &str = "
One camera at a time; medians of three runs. *JPEG*: FFmpeg decodes the stream and makes each
picture a JPEG. *video*: the camera's own access units (`passthrough`, with `pictures: none`).
*video and keyframes*: also a JPEG of each keyframe (`pictures: keyframes`). The last column is the
number of cameras that would use one such core completely.

| picture | fps | published | KB/s | FFmpeg CPU | FFmpeg RSS / PSS MB | the daemon adds | daemon RSS / PSS MB | cameras per core |
|---|---|---|---|---|---|---|---|---|
";

const TABLE_OF_MANY: &str = "
Many cameras of 1080p, 15 fps and 3 Mbit/s each into one daemon, video only, once for 10 s.
*delivered* is the share of the units that the cameras sent. *latency* is from the camera to a
consumer; FFmpeg's RTSP reader gives a unit when the next one begins, 67 ms later. *cameras* is what
playing them takes, on the same machine.

| cameras | units/s | delivered | FFmpegs CPU | daemon CPU | both | daemon RSS MB | FFmpegs PSS MB | latency p50 / p99 ms | cameras CPU |
|---|---|---|---|---|---|---|---|---|---|
";
