//! The quality of pictures follows an uplink that cannot carry them (`adaptive_quality`).
//! `src/quality/tests.rs` has the decisions.

use crate::support::consumer::Consumer;
use crate::support::daemon::Daemon;
use crate::support::http::{ON, values};
use crate::support::proxy::Proxy;
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, TempDir, fake_config, wait_until};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const ADAPTIVE: &str = "adaptive_quality: {enabled: true}\n";

/// The arguments of the daemon's only FFmpeg.
fn arguments(daemon: &Daemon) -> Option<String> {
    let [child] = daemon.children().try_into().ok()?;
    let bytes = std::fs::read(format!("/proc/{child}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}

#[test]
fn a_camera_that_loses_frames_to_the_uplink_gets_a_lower_quality_with_the_next_ffmpeg() {
    let rabbit = Rabbit::start();
    let proxy = Proxy::start(rabbit.port());
    proxy.uplink(300_000);
    let url = format!("amqp://guest:guest@127.0.0.1:{}/", proxy.port());
    let camera = [(
        "door",
        "stream,traps=0,fps=15,size=60000,tag=door".to_owned(),
    )];
    let more = format!("{ON}{ADAPTIVE}");
    let mut daemon = Daemon::start(&fake_config(&url, "quality", &more, &camera));
    daemon.wait_for_log("door: live", SOON);
    assert!(arguments(&daemon).unwrap().contains(" -q:v 5 "));
    let line = daemon.wait_for_log("lowering the quality", Duration::from_secs(120));
    assert!(line.contains("INFO  door: "), "{line}");
    assert!(
        line.ends_with(
            "% of the frames wait too long for the uplink; lowering the quality from 5 to 8"
        ),
        "{line}"
    );
    wait_until(SOON, "the next FFmpeg", || {
        arguments(&daemon).is_some_and(|it| it.contains(" -q:v 8 "))
    });
    wait_until(SOON, "it to be live", || {
        daemon.http().get("/status").json()["cameras"][0]["activity"] == "live"
    });
    let metrics = daemon.http().get("/metrics");
    let quality = values(metrics.text(), "edge_video_quality");
    assert_eq!(quality["camera_id=\"door\""], 8.0);
    let status = daemon.http().get("/status").json();
    let camera = &status["cameras"][0];
    assert_eq!(
        (&camera["quality"], &camera["asked_quality"]),
        (&8.into(), &5.into())
    );
    assert!(
        daemon
            .http()
            .get("/")
            .text()
            .contains("quality 8 instead of 5")
    );
    let exit = daemon.terminate();
    exit.report().check_accounting();
    assert_eq!(exit.report().total.restarts_in_all(), 0, "a step is none");
}

/// A minute of noisy moving pictures.
fn film(folder: &Path) -> String {
    let path = folder.join("film.mp4");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i"])
        .arg("testsrc2=size=1280x720:rate=15:duration=60,noise=alls=8:allf=t")
        .args([
            "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast",
        ])
        .args(["-g", "15", "-crf", "26"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    path.display().to_string()
}

/// Six cameras of 720p through 1 MB/s: what arrives of each in the half minute after `wait`, in
/// frames a second, and the oldest.
fn six_cameras(film: &str, settings: &str, wait: Duration) -> (Vec<f64>, Duration) {
    const LASTS: Duration = Duration::from_secs(30);
    let rabbit = Rabbit::start();
    let proxy = Proxy::start(rabbit.port());
    proxy.delay(Duration::from_millis(20));
    proxy.uplink(1_000_000);
    let consumer = Consumer::start_with(rabbit.port(), "quality", "#", false);
    let cameras: String = (1..=6)
        .map(|n| format!("  - {{id: cam{n}, url: {film}}}\n"))
        .collect();
    let mut daemon = Daemon::start(&format!(
        "amqp: {{url: \"amqp://guest:guest@127.0.0.1:{}/\", exchange: quality}}\n{ON}{settings}\
         cameras:\n{cameras}",
        proxy.port()
    ));
    std::thread::sleep(wait);
    consumer.take();
    let from = Instant::now();
    std::thread::sleep(LASTS);
    let (frames, took) = (consumer.take(), from.elapsed().as_secs_f64());
    for line in daemon.log_with("the quality from") {
        eprintln!("{line}");
    }
    let exit = daemon.terminate();
    exit.report().check_accounting();
    let rate = |n: u32| {
        let id = format!("cam{n}");
        frames.iter().filter(|it| it.camera_id() == id).count() as f64 / took
    };
    let oldest = frames.iter().map(|it| it.age()).max().unwrap();
    let rates: Vec<_> = (1..=6).map(rate).collect();
    let bytes = frames.iter().map(|it| it.len).sum::<usize>() / frames.len().max(1);
    eprintln!("{settings:?}: {rates:.2?} fps of {bytes} bytes, oldest {oldest:.2?}");
    (rates, oldest)
}

#[test]
#[ignore = "takes seven minutes and all of the machine"]
fn six_cameras_on_one_megabyte_a_second_get_more_pictures_and_equal_shares() {
    let dir = TempDir::new("quality");
    let film = film(dir.path());
    let (without, _) = six_cameras(&film, "", Duration::from_secs(30));
    let (with, oldest) = six_cameras(&film, ADAPTIVE, Duration::from_secs(5 * 60));
    let sum = |rates: &[f64]| rates.iter().sum::<f64>();
    let gain = sum(&with) / sum(&without);
    eprintln!("{gain:.2} times the frames");
    assert!(gain >= 1.6, "{gain}");
    let least = with.iter().copied().fold(f64::INFINITY, f64::min);
    let most = with.iter().copied().fold(0.0, f64::max);
    assert!(most <= least * 1.2, "{with:?}");
    assert!(oldest < Duration::from_secs(1), "{oldest:?}");
}
