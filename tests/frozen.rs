//! Frozen pictures (`frozen.after`) are found under a running clock, and moving ones are not taken
//! for frozen: real FFmpeg, real encoders.

use crate::support::consumer::Consumer;
use crate::support::daemon::Daemon;
use crate::support::http::{ON, values};
use crate::support::rabbit::Rabbit;
use crate::support::{TempDir, wait_for, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// For an FFmpeg to start on a loaded machine.
const START: Duration = Duration::from_secs(90);

/// What is drawn into each picture: the time, in whole seconds.
const CLOCK: &str = "drawtext=text='2026-11-27 15\\:04\\:%{eif\\:t\\:d\\:2}':x=10:y=10:fontsize=20:\
                     fontcolor=white:box=1:boxcolor=black";

/// A film of a noisy moving picture that freezes after `moving` s for `frozen` s, under a running
/// clock. An encoder with a limited rate makes something else of each keyframe.
fn film(folder: &Path, name: &str, (moving, frozen): (u32, u32), encoder: &[&str]) -> PathBuf {
    let path = folder.join(name);
    let graph = format!(
        "testsrc2=size=640x360:rate=15:duration={moving},noise=alls=6:allf=t,\
         tpad=stop_mode=clone:stop_duration={frozen},{CLOCK}"
    );
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &graph])
        .args([
            "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast",
        ])
        .args(["-tune", "zerolatency", "-g", "30"])
        .args(encoder)
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    path
}

fn ffmpeg() -> String {
    std::env::var("EDGE_VIDEO_FFMPEG").unwrap_or_else(|_| "ffmpeg".to_owned())
}

/// A daemon with these cameras, and its events.
fn start(name: &str, settings: &str, cameras: &str) -> (Daemon, Consumer) {
    let rabbit = Rabbit::shared();
    let told = Consumer::start(rabbit.port(), &format!("{name}.events"));
    let daemon = Daemon::start(&format!(
        "amqp: {{url: \"{}\", exchange: {name}}}\nvideo: {{exchange: {name}.video}}\n\
         metadata: {{enabled: true, exchange: {name}.events}}\nffmpeg: {{path: \"{}\"}}\n\
         frozen: {{{settings}}}\n{ON}cameras:\n{cameras}",
        rabbit.url(),
        ffmpeg()
    ));
    (daemon, told)
}

/// The states that were told of that camera: state, whether frozen, message.
fn states(told: &Consumer, id: &str) -> Vec<(String, bool, String)> {
    let events = told.all();
    let events = events
        .iter()
        .filter_map(|event| serde_json::from_slice::<Value>(event.jpeg()).ok());
    let of_camera = events.filter(|event| event["camera_id"] == id);
    of_camera
        .map(|event| {
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            let frozen = event["picture_frozen"] == true;
            (text("state"), frozen, text("message"))
        })
        .collect()
}

fn frozen_metric(daemon: &Daemon, id: &str) -> f64 {
    let metrics = daemon.http().get("/metrics");
    let values = values(metrics.text(), "edge_video_picture_frozen");
    let of_camera = values.iter().find(|(labels, _)| labels.contains(id));
    *of_camera.unwrap().1
}

#[test]
fn a_frozen_picture_is_found_under_a_running_clock_and_a_moving_one_is_not_taken_for_it() {
    let dir = TempDir::new("frozen");
    let limited = ["-b:v", "400k", "-maxrate", "400k", "-bufsize", "400k"];
    let decoded = film(dir.path(), "decoded.mp4", (5, 20), &limited);
    let copied = film(dir.path(), "copied.mp4", (5, 20), &["-crf", "26"]);
    let cameras = format!(
        "  - {{id: decoded, url: {}}}\n\
         \x20 - {{id: copied, url: {}, passthrough: true, pictures: none}}\n\
         \x20 - {{id: moving, url: \"lavfi:testsrc2=size=640x360:rate=15,noise=alls=12:allf=t\"}}\n",
        decoded.display(),
        copied.display()
    );
    let (daemon, told) = start("frozen.found", "after: 6s", &cameras);
    daemon.wait_for_log("decoded: live: 640x360", START);
    let begun = Instant::now();
    for id in ["decoded", "copied"] {
        let line = daemon.wait_for_log(
            &format!("{id}: the picture has not changed for "),
            Duration::from_secs(60),
        );
        assert!(
            line.contains(
                "the camera hangs, or its scene is static; if it is static, raise frozen.after"
            ),
            "{line}"
        );
        eprintln!("{:.1?} after the first picture: {line}", begun.elapsed());
        assert!(
            line.contains(" for 6 s: ") || line.contains(" for 7 s: "),
            "{line}"
        );
        assert!(frozen_metric(&daemon, id) == 1.0);
    }
    let found = states(&told, "decoded");
    let found = found.iter().find(|(_, frozen, _)| *frozen).unwrap();
    assert_eq!(found.0, "active");
    assert!(
        found.2.starts_with("live, but picture frozen for "),
        "{found:?}"
    );
    let status = daemon.http().get("/status").json();
    let camera = |id: &str| {
        let cameras = status["cameras"].as_array().unwrap();
        cameras
            .iter()
            .find(|camera| camera["id"] == id)
            .unwrap()
            .clone()
    };
    assert_eq!(camera("decoded")["level"], "poor");
    assert!(camera("decoded")["picture_frozen_seconds"].as_f64() > Some(5.9));
    let page = daemon.http().get("/");
    assert!(page.text().contains("live, but picture frozen for "));
    assert_eq!(camera("moving").get("picture_frozen_seconds"), None);

    // The film begins again.
    let line = daemon.wait_for_log("decoded: the picture changes again, after ", START);
    assert!(line.contains("INFO"), "{line}");
    wait_until(START, "the metric", || {
        frozen_metric(&daemon, "decoded") == 0.0
    });
    let over = || {
        states(&told, "decoded")
            .pop()
            .is_some_and(|it| !it.1 && it.2 == "live")
    };
    wait_until(START, "the event", over);
    // The other one is played by a new FFmpeg, of whose pictures nothing is known yet.
    wait_until(START, "the copy", || {
        frozen_metric(&daemon, "copied") == 0.0
    });
    assert_eq!(daemon.log_with("moving: the picture").len(), 0);
}

#[test]
fn a_camera_whose_picture_is_frozen_is_restarted_and_not_again_and_again() {
    let still = "lavfi:testsrc2=size=320x240:rate=15,trim=end_frame=1,loop=-1:1,setpts=N/15/TB";
    let cameras = format!("  - {{id: door, url: \"{still}\", first_frame_timeout: 2m}}\n");
    let (mut daemon, told) = start("frozen.restart", "after: 3s, restart: true", &cameras);
    let line = daemon.wait_for_log("starting again", START);
    assert!(
        line.contains("WARN") && line.contains("the picture has not changed for 3 s"),
        "{line}"
    );
    let first = daemon.children();
    wait_for(START, "another FFmpeg", || {
        let now = daemon.children();
        (now.len() == 1 && now != first).then_some(())
    });
    wait_until(START, "it to be live", || {
        daemon.http().get("/status").json()["cameras"][0]["activity"] == "live"
    });
    assert_eq!(frozen_metric(&daemon, "door"), 1.0, "over the restart");
    // A second restart would come 3 s after the new session's first picture.
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(frozen_metric(&daemon, "door"), 1.0);
    assert_eq!(daemon.log_with("raise frozen.after").len(), 1, "told once");
    let states = states(&told, "door");
    assert!(states.last().unwrap().1, "{states:?}");
    let exit = daemon.terminate();
    let total = &exit.report().total;
    assert_eq!((total.restarts("stalled"), total.restarts_in_all()), (1, 1));
}

/// 30 minutes of film as fast as FFmpeg can, by the time of the film: the daemon's own filter runs
/// by the machine's clock, so a minute of it would take a minute.
#[test]
#[ignore = "takes minutes of CPU"]
fn thirty_minutes_of_moving_noisy_pictures_never_stand_still() {
    let graph = "testsrc2=size=640x360:rate=15:duration=1800,noise=alls=12:allf=t";
    let compared = "scale=80:44:flags=area,format=gray,freezedetect=n=0.005:d=1";
    for filters in [
        compared.to_owned(),
        format!("hue=s=0,eq=contrast=0.3,{compared}"),
    ] {
        let said = Command::new(ffmpeg())
            .args(["-hide_banner", "-nostats", "-f", "lavfi", "-i", graph])
            .args(["-vf", &filters, "-f", "null", "-"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&said.stderr);
        assert!(said.contains("frame=27000"), "{said}");
        assert!(!said.contains("freeze_start"), "{filters}: {said}");
    }
}
