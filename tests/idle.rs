//! Cameras without a consumer: they become idle, cost little, and go on when one comes.

use crate::support::consumer::Consumer;
use crate::support::daemon::Daemon;
use crate::support::http::{ON, Stream, value, values};
use crate::support::jpeg;
use crate::support::rabbit::Rabbit;
use crate::support::sources::{Mount, Rtsp};
use crate::support::{SOON, wait_until};
use std::time::{Duration, Instant};

const IDLE: &str = "idle: nothing that it publishes has reached a queue for 1 s";

/// One camera, by the system's FFmpeg.
fn config(rabbit: &Rabbit, exchange: &str, every: &str, camera: &str) -> String {
    format!(
        "amqp: {{url: '{}', exchange: {exchange}}}\nidle: {{after: 1s, every: {every}}}\n{ON}\
         cameras:\n  - {{id: gate, {camera}}}\n",
        rabbit.url()
    )
}

const PATTERN: &str = "url: 'lavfi:testsrc2=size=320x240:rate=15'";

/// The arguments of the daemon's FFmpegs that run.
fn arguments(daemon: &Daemon) -> Vec<String> {
    let children = daemon.children().into_iter();
    let lines = children.filter_map(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains("-hide_banner")).collect()
}

fn is_idle(daemon: &Daemon) -> bool {
    value(daemon.http().get("/metrics").text(), "edge_video_idle") == 1.0
}

/// Frames that came within the last second.
fn came_lately(consumer: &Consumer, since: Instant) -> usize {
    let earliest = crate::support::unix_us() - 1_000_000;
    match since.elapsed() > Duration::from_secs(1) {
        true => consumer
            .all()
            .iter()
            .filter(|it| it.arrived_us > earliest)
            .count(),
        false => 0,
    }
}

fn wait_for_full_rate(consumer: &Consumer, limit: Duration) {
    let since = Instant::now();
    wait_until(limit, "ten frames in a second", || {
        came_lately(consumer, since) >= 10
    });
}

#[test]
fn a_camera_without_a_consumer_is_idle_until_one_comes_which_sees_real_pictures_only() {
    let rabbit = Rabbit::shared();
    let exchange = "idle-comes-and-goes";
    let mut daemon = Daemon::start(&config(rabbit, exchange, "3s", PATTERN));
    daemon.wait_for_log("no reports of new bindings: the plugin", SOON);
    for visit in 1..=2 {
        wait_until(SOON, "the camera to be idle", || {
            daemon.log_with(IDLE).len() == visit
        });
        let status = daemon.http().get("/status").json();
        assert_eq!(status["cameras"][0]["idle"], true);
        assert_eq!(status["cameras"][0]["activity"], "live");
        wait_until(SOON, "the idle session", || {
            let lines = arguments(&daemon);
            lines.len() == 1 && lines[0].contains("-skip_frame nokey")
        });
        let bound = Instant::now();
        let consumer = Consumer::start(rabbit.port(), exchange);
        let first = consumer.wait_for("gate", 1, SOON);
        // One picture in 3 s, and what a busy machine needs.
        assert!(
            bound.elapsed() < Duration::from_secs(10),
            "{:?}",
            bound.elapsed()
        );
        assert!(
            first[0].age() < Duration::from_secs(2),
            "an old picture: {first:?}"
        );
        daemon.wait_for_log(
            "not idle any more: a picture or access unit has reached",
            SOON,
        );
        wait_for_full_rate(&consumer, SOON);
        wait_until(SOON, "the metric", || !is_idle(&daemon));
        for delivery in consumer.stop() {
            assert_eq!((delivery.width(), delivery.height()), (320, 240));
            assert!(jpeg::decodes(delivery.jpeg()));
        }
    }
    wait_until(SOON, "the camera to be idle", || {
        daemon.log_with(IDLE).len() == 3
    });
    let text = daemon.http().get("/metrics").text().to_owned();
    assert_eq!(value(&text, "edge_video_circuit_breaker_state"), 0.0);
    let dropped = values(&text, "edge_video_frames_dropped_total");
    assert!(
        dropped["camera_id=\"gate\",reason=\"returned\""] >= 30.0,
        "{dropped:?}"
    );
    assert!(daemon.log_with("WARN").is_empty(), "{:?}", daemon.log());
    let exit = daemon.terminate();
    let report = exit.report();
    report.check_accounting();
    let account = report.camera("gate");
    assert_eq!(account.restarts_in_all(), account.restarts("idle"));
    assert_eq!(account.restarts("idle"), 5);
}

#[test]
fn who_looks_at_the_pictures_over_http_is_a_consumer() {
    let rabbit = Rabbit::shared();
    let daemon = Daemon::start(&config(rabbit, "idle-viewer", "30s", PATTERN));
    daemon.wait_for_log(IDLE, SOON);
    let mut stream = Stream::open(daemon.http(), "/cameras/gate/stream.mjpg");
    daemon.wait_for_log(
        "not idle any more: an HTTP client looks at its pictures",
        SOON,
    );
    // For 3 s at 15 frames/s, longer than idle.after.
    for _ in 0..45 {
        assert!(stream.next().is_some());
    }
    assert!(!is_idle(&daemon));
    drop(stream);
    wait_until(SOON, "the camera to be idle", || {
        daemon.log_with(IDLE).len() == 2
    });
    let answer = daemon.http().get("/cameras/gate/snapshot.jpg");
    assert_eq!(answer.status, 200, "{answer:?}");
    wait_until(SOON, "the snapshot to wake it", || {
        daemon.log_with("not idle any more").len() == 2
    });
}

#[test]
fn a_broker_that_reports_bindings_wakes_the_camera_at_once() {
    let rabbit = Rabbit::start_with_plugins("", "rabbitmq_event_exchange");
    let daemon = Daemon::start(&config(&rabbit, "idle-events", "30s", PATTERN));
    daemon.wait_for_log("it reports new bindings; idle cameras go on at once", SOON);
    daemon.wait_for_log(IDLE, SOON);
    // After the pictures with which an idle session begins, the next one is 30 s away.
    let answered = |daemon: &Daemon| {
        let text = daemon.http().get("/metrics").text().to_owned();
        values(&text, "edge_video_frames_dropped_total")["camera_id=\"gate\",reason=\"returned\""]
    };
    wait_until(SOON, "the idle session", || {
        arguments(&daemon)
            .iter()
            .any(|line| line.contains("-skip_frame nokey"))
    });
    let (mut before, mut since) = (answered(&daemon), Instant::now());
    wait_until(SOON, "no further picture", || {
        let now = answered(&daemon);
        if now > before {
            (before, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_secs(2)
    });

    let others = Consumer::start_with(rabbit.port(), "idle-events", "camera.yard", true);
    let elsewhere = Consumer::start(rabbit.port(), "idle-other-exchange");
    assert!(daemon.log_with("not idle any more").is_empty());
    let bound = Instant::now();
    let consumer = Consumer::start_with(rabbit.port(), "idle-events", "camera.*", true);
    daemon.wait_for_log("not idle any more: a queue was bound; full rate", SOON);
    let heard = bound.elapsed();
    assert!(heard < Duration::from_secs(5), "{heard:?}");
    wait_for_full_rate(&consumer, SOON);
    assert!(
        bound.elapsed() < Duration::from_secs(20),
        "{:?}",
        bound.elapsed()
    );
    drop((others, elsewhere));
}

#[test]
fn a_consumer_of_video_keeps_a_camera_awake_whose_pictures_nobody_takes() {
    let rabbit = Rabbit::shared();
    let source = Rtsp::start(&[Mount::new("gate", "ball")]);
    let camera = format!("url: '{}', passthrough: true", source.url("gate"));
    let video = "video: {exchange: idle-video-units}\n";
    let config = config(rabbit, "idle-video", "3s", &camera);
    let mut daemon = Daemon::start(&format!("{video}{config}"));
    daemon.wait_for_log(IDLE, SOON);
    // Each unit of the copy is a probe.
    let consumer = Consumer::start(rabbit.port(), "idle-video-units");
    daemon.wait_for_log(
        "not idle any more: a picture or access unit has reached",
        SOON,
    );
    consumer.wait_for("gate", 60, SOON);
    assert_eq!(daemon.log_with(IDLE).len(), 1, "{:?}", daemon.log());
    drop(consumer);
    wait_until(SOON, "the camera to be idle", || {
        daemon.log_with(IDLE).len() == 2
    });
    wait_until(SOON, "the idle session", || {
        arguments(&daemon)
            .iter()
            .any(|line| line.contains("-skip_frame nokey"))
    });
    let exit = daemon.terminate();
    exit.report().check_accounting();
    let video = exit.report().camera("gate").video.clone().unwrap();
    assert!(
        video.dropped["returned"] > 30 && video.published >= 60,
        "{video:?}"
    );
    // Each unit was a probe. One that a busy machine made too old breaks its group.
    assert!(
        video.dropped["no_key"] <= video.dropped["too_old"],
        "{video:?}"
    );
}
