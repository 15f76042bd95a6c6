//! Passthrough, as seen from outside: metrics, status, page, log and final report.

use crate::support::chromium::Chromium;
use crate::support::daemon::Daemon;
use crate::support::http::{Http, ON, values};
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, TempDir, wait_for, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A film of a minute with a keyframe every second.
fn film(folder: &Path) -> PathBuf {
    let path = folder.join("film.mp4");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i"])
        .arg("testsrc2=size=320x240:rate=15:duration=60")
        .args(["-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset"])
        .args(["ultrafast", "-x264-params", "keyint=15:scenecut=0"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    path
}

/// A camera without passthrough, one with its keyframes as pictures, and one without pictures.
fn config(film: &Path, exchange: &str) -> String {
    let url = film.display();
    format!(
        "{ON}log: {{summary: 1s}}\nvideo: {{exchange: {exchange}.video}}\n\
         amqp: {{url: \"{}\", exchange: {exchange}}}\ncameras:\n\
         \x20 - {{id: plain, url: \"{url}\"}}\n\
         \x20 - {{id: keys, url: \"{url}\", passthrough: true, pictures: keyframes}}\n\
         \x20 - {{id: bare, url: \"{url}\", passthrough: true, pictures: none}}\n",
        Rabbit::shared().url()
    )
}

/// The state of camera `id` in `/status`.
fn camera(http: Http, id: &str) -> Value {
    let mut status = http.get("/status").json();
    let cameras = status["cameras"].as_array_mut().unwrap();
    let found = cameras.iter_mut().find(|camera| camera["id"] == id);
    found.unwrap().take()
}

/// Every unit is accounted for.
#[track_caller]
fn check_accounting(video: &Value) {
    let count = |key: &str| video[key].as_u64().unwrap();
    let dropped = video["dropped"].as_object().unwrap().values();
    let dropped: u64 = dropped.map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(
        count("captured"),
        count("published") + dropped + count("in_flight") + count("waiting"),
        "{video}"
    );
}

#[test]
fn metrics_status_page_summary_and_report_tell_of_the_video_of_the_cameras_that_have_it() {
    let folder = TempDir::new("video-view");
    let film = film(folder.path());
    let mut daemon = Daemon::start(&config(&film, "video.view"));
    for id in ["plain", "keys", "bare"] {
        daemon.wait_for_log(&format!("{id}: live"), SOON);
    }
    let http = daemon.http();
    // A camera without pictures lives by its units.
    let bare = wait_for(2 * SOON, "the bit rate and the keyframes of bare", || {
        let bare = camera(http, "bare");
        let video = &bare["video"];
        let known = video["kbit_per_second"].as_f64()? > 0.0 && video["gop_seconds"].is_f64();
        (known && bare["level"] == "ok").then_some(bare)
    });
    assert_eq!(
        (&bare["words"], &bare["asked_fps"], &bare["captured"]),
        (&"live".into(), &0.into(), &0.into())
    );
    let video = &bare["video"];
    for (key, value) in [
        ("codec", Value::from("h264")),
        ("width", 320.into()),
        ("height", 240.into()),
        ("pictures", "none".into()),
        ("gop_seconds", 1.0.into()),
    ] {
        assert_eq!(video[key], value, "{key}");
    }
    wait_until(SOON, "15 units/s, and how long they take", || {
        let video = &camera(http, "bare")["video"];
        let rate = video["published_per_second"].as_f64().unwrap();
        (13.0..17.0).contains(&rate) && video["p99_ms"].is_f64()
    });
    assert_eq!(camera(http, "keys")["video"]["pictures"], "keyframes");
    let plain = camera(http, "plain");
    assert!(plain.get("video").is_none(), "{plain}");
    for _ in 0..20 {
        let state = http.get("/status").json();
        check_accounting(&state["total"]["video"]);
        for camera in state["cameras"].as_array().unwrap() {
            if let Some(video) = camera.get("video") {
                check_accounting(video);
            }
        }
    }
    check_metrics(http);
    check_page(http);

    let line = daemon.wait_for_log("; video: ", SOON);
    assert!(line.contains(" units captured, "), "{line}");
    let exit = daemon.terminate();
    exit.report().check_accounting();
    assert!(exit.report().camera("plain").video.is_none());
    for id in ["keys", "bare"] {
        let video = exit.report().camera(id).video.as_ref().unwrap();
        let line = format!(
            "{id}: {} units captured = {} published + {} dropped",
            video.captured,
            video.published,
            video.dropped_in_all()
        );
        assert_eq!(daemon.log_with(&line).len(), 1, "{line}");
    }
    assert_eq!(daemon.log_with("all cameras: ").len(), 2);
}

fn check_metrics(http: Http) {
    let text = http.get("/metrics").text().to_owned();
    let ids = |name: &str| -> Vec<String> { values(&text, name).into_keys().collect() };
    for name in [
        "video_units_captured_total",
        "video_units_published_total",
        "video_units_in_flight",
        "video_bytes_total",
        "video_capture_to_publish_seconds_count",
        "video_publish_to_confirm_seconds_count",
    ] {
        let ids = ids(&format!("edge_video_{name}"));
        assert_eq!(ids.len(), 2, "{name}: {ids:?}");
        assert!(
            ids[0].contains("bare") && ids[1].contains("keys"),
            "{ids:?}"
        );
    }
    assert_eq!(ids("edge_video_frames_captured_total").len(), 3);
    let now = std::time::SystemTime::now();
    let now = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    for (id, at) in values(&text, "edge_video_last_frame_timestamp_seconds") {
        assert!((now - at).abs() < 30.0, "{id}: {at}");
    }
}

/// What a browser shows, with pictures and without.
fn check_page(http: Http) {
    let picture = http.get("/cameras/keys/snapshot.jpg");
    assert_eq!(picture.field("content-type"), "image/jpeg");
    let none = http.get("/cameras/bare/snapshot.jpg");
    assert_eq!(
        (none.status, none.text()),
        (404, "the camera has no pictures: pictures: none\n")
    );
    let browser = Chromium::start();
    browser.open(&format!("http://{}/", http.address));
    let text = |id: &str, what: &str| browser.text(&format!("[data-id={id}] {what}"));
    for (id, label) in [
        ("plain", "Frames/s"),
        ("keys", "Keyframes/s"),
        ("bare", "Units/s"),
    ] {
        assert_eq!(text(id, "[data-text=rate_label]"), label);
    }
    assert_eq!(text("plain", ".video"), "");
    assert!(browser.holds(
        "getComputedStyle(document.querySelector('[data-id=plain] .video')).display === 'none'"
    ));
    for id in ["keys", "bare"] {
        let video = text(id, ".video");
        assert!(
            video.starts_with("video: H.264 320×240, ")
                && video.contains("bit/s, ")
                && video.contains(" units/s, a keyframe every 1.0 s"),
            "{video}"
        );
    }
    wait_until(SOON, "the keyframe picture", || {
        browser.holds("document.querySelector('[data-id=keys] img').naturalWidth === 320")
    });
    assert_eq!(text("bare", ".blank"), "no pictures: pictures: none");
    assert!(browser.holds("!document.querySelector('[data-id=bare] img').hasAttribute('src')"));
    assert_eq!(browser.complaints(), [] as [&str; 0]);
}
