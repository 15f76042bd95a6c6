//! How many cameras a board carries: what FFmpeg costs on real H.264, and what the daemon adds.

use super::case::Stand;
use super::consumer::Consumer;
use super::process::{self, Process, holds_within, usage_of};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const SIZES: [(&str, &str); 3] = [
    ("640x360", "640x360"),
    ("720p", "1280x720"),
    ("1080p", "1920x1080"),
];
const FPS: [u32; 2] = [5, 15];
/// Runs of each; the result is the median.
const ROUNDS: usize = 3;
const SPAN: Duration = Duration::from_secs(2);
/// How long until the first picture.
const START_LIMIT: Duration = Duration::from_secs(30);

/// One run. CPU is the share of one core.
#[derive(Clone, Copy)]
struct Figures {
    ffmpeg: f64,
    ffmpeg_mb: f64,
    daemon: f64,
    daemon_mb: f64,
    picture_kb: f64,
    per_s: f64,
}

/// Measures all sizes and rates in turns, and returns the table.
pub fn table(stand: &Stand, rounds: Option<usize>) -> String {
    let cases: Vec<_> = SIZES
        .iter()
        .flat_map(|size| FPS.map(|fps| (*size, fps)))
        .collect();
    let mut runs: Vec<Vec<Figures>> = vec![vec![]; cases.len()];
    for round in 0..rounds.unwrap_or(ROUNDS) {
        for (((name, size), fps), runs) in cases.iter().zip(&mut runs) {
            let figures = run(stand, size, *fps);
            eprintln!(
                "{round}  (h264) {name} {fps} fps: FFmpeg {:.1} %, the daemon {:.2} %, {:.1}/s",
                figures.ffmpeg * 100.0,
                figures.daemon * 100.0,
                figures.per_s
            );
            runs.push(figures);
        }
    }
    let mut text = String::from(HEAD);
    for (((name, _), fps), runs) in cases.iter().zip(&runs) {
        let of = |pick: fn(&Figures) -> f64| {
            let mut values: Vec<_> = runs.iter().map(pick).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let (ffmpeg, daemon) = (of(|f| f.ffmpeg), of(|f| f.daemon));
        let _ = writeln!(
            text,
            "| {name} | {fps} | {:.0} | {:.1} % | {:.0} | {:.2} % | {:.1} | {:.0} |",
            of(|f| f.picture_kb),
            ffmpeg * 100.0,
            of(|f| f.ffmpeg_mb),
            daemon * 100.0,
            of(|f| f.daemon_mb),
            (1.0 / (ffmpeg + daemon)).floor()
        );
    }
    text
}

fn run(stand: &Stand, size: &str, fps: u32) -> Figures {
    let clip = stand.folder.join(format!("{size}-{fps}.mp4"));
    if !clip.exists() {
        make_clip(&clip, size, fps);
    }
    let consumer = Consumer::start(stand.broker.port, "h264");
    let config = format!(
        "fps: {fps}\namqp:\n  url: amqp://127.0.0.1:{}/\n  exchange: h264\nhttp:\n  enabled: false\n\
         log:\n  level: warn\ncameras:\n  - {{id: camera, url: {}}}\n",
        stand.broker.port,
        clip.display()
    );
    let path = stand.folder.join("h264.yaml");
    fs::write(&path, config).unwrap();
    let args = ["run", "--config", &path.display().to_string()].map(str::to_owned);
    let daemon = Process::start(&stand.edge_video, &args, stand.cpus);
    let up = holds_within(START_LIMIT, || consumer.total().0 > u64::from(2 * fps));
    assert!(up, "{size}, {fps} fps: {}", daemon.terminate());
    let child = child_of(daemon.id());
    let now = || {
        (
            Instant::now(),
            daemon.usage(),
            usage_of(child),
            consumer.total(),
        )
    };
    let (start, daemon_before, ffmpeg_before, came_before) = now();
    std::thread::sleep(SPAN);
    let (end, daemon_after, ffmpeg_after, came_after) = now();
    let seconds = (end - start).as_secs_f64();
    let share = |before: process::Usage, after: process::Usage| {
        after.cpu.saturating_sub(before.cpu).as_secs_f64() / seconds
    };
    let came = (came_after.0 - came_before.0) as f64;
    let bytes = (came_after.1 - came_before.1) as f64;
    Figures {
        ffmpeg: share(ffmpeg_before, ffmpeg_after),
        ffmpeg_mb: ffmpeg_after.rss_kb as f64 / 1024.0,
        daemon: share(daemon_before, daemon_after),
        daemon_mb: daemon_after.rss_kb as f64 / 1024.0,
        picture_kb: bytes / came / 1000.0,
        per_s: came / seconds,
    }
}

/// The FFmpeg, which is the daemon's only child.
fn child_of(pid: u32) -> u32 {
    fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .flatten()
        .find_map(|thread| {
            let children = fs::read_to_string(thread.path().join("children")).ok()?;
            children.split_whitespace().next()?.parse().ok()
        })
        .expect("the daemon has a child")
}

/// Ten seconds of a moving test picture with a camera's noise, as a camera would send it.
fn make_clip(path: &Path, size: &str, fps: u32) {
    let source = format!("testsrc2=size={size}:rate={fps},noise=alls=6:allf=t");
    let status = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-y"])
        .args(["-f", "lavfi", "-i", &source, "-t", "10"])
        .args(["-c:v", "libx264", "-preset", "veryfast", "-bf", "0"])
        .args(["-g", &(2 * fps).to_string(), "-pix_fmt", "yuv420p"])
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success(), "FFmpeg makes no clip");
}

const HEAD: &str = "# How many cameras does my board carry

`make bench` writes this page. One camera at a time: H.264 from a looped file at its own speed, made
into JPEGs by FFmpeg and published to a broker on the same machine. CPU is the share of one core of
this machine, RSS is in MB; medians of three runs. FFmpeg's RSS includes libraries that all FFmpegs
share. The last column is the number of cameras that would use one such core completely. The pictures
are a moving test pattern with noise.

| picture | fps | KB each | FFmpeg CPU | FFmpeg RSS | the daemon adds | daemon RSS | cameras per core |
|---|---|---|---|---|---|---|---|
";
