//! FFmpegs that exceed the memory budget: what is reduced, in which order, and that it recovers.

use crate::support::consumer::Consumer;
use crate::support::daemon::Daemon;
use crate::support::http::{ON, value};
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, TempDir, fake_config, unix_us, wait_for, wait_until};

/// 100 MB. The daemon and two fake FFmpegs that do not leak use about a tenth of it. Default
/// levels.
fn settings(more: &str) -> String {
    format!("{ON}memory_controller: {{max_memory_mb: 100, check_interval: 100ms{more}}}\n")
}

#[test]
fn an_ffmpeg_that_leaks_is_started_anew_and_all_is_well_again() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "memory.leak");
    let dir = TempDir::new("leak");
    let starts = dir.path().join("starts");
    // Slow enough that each level lasts for a second and is seen.
    let leak = format!(
        "leak,tag=cam1,mb=200,rate=10,starts={},after=1,then=stream",
        starts.display()
    );
    let cameras = [("cam1", leak), ("cam2", "stream,tag=cam2".to_owned())];
    let config = fake_config(&rabbit.url(), "memory.leak", &settings(""), &cameras);
    let mut daemon = Daemon::start(&config);
    let http = daemon.http();

    daemon.wait_for_log("MB of it by edge-video, the rest by FFmpeg", SOON);
    daemon.wait_for_log("critical, each camera publishes every second frame", SOON);
    daemon.wait_for_log(
        "emergency, each camera publishes one frame per second",
        SOON,
    );
    daemon.wait_for_log(
        "cam1: memory is short, and its FFmpeg uses most of it: ",
        SOON,
    );
    daemon.wait_for_log(": normal again", SOON);
    wait_until(SOON, "level 0", || {
        value(http.get("/metrics").text(), "edge_video_memory_level") == 0.0
    });
    consumer.take();
    let frames = consumer.wait_for("cam2", 20, SOON);
    let numbers: Vec<_> = frames.iter().map(|frame| frame.seq()).collect();
    let follow = numbers.windows(2).filter(|pair| pair[1] == pair[0] + 1);
    assert!(follow.count() >= 10, "no thinning any more: {numbers:?}");

    let exit = daemon.terminate();
    exit.report().check_accounting();
    let (thin, well) = (exit.report().camera("cam1"), exit.report().camera("cam2"));
    assert_eq!(thin.restarts("memory"), 1);
    assert_eq!(thin.restarts_in_all(), 1);
    assert_eq!(well.restarts_in_all(), 0);
    assert!(well.dropped("throttled") > 0);
    for level in ["warning", "critical", "emergency"] {
        let lines = daemon.log_with("memory: ");
        let rises = lines.iter().filter(|line| {
            line.contains(match level {
                "warning" => "the rest by FFmpeg",
                "critical" => "every second frame",
                _ => "one frame per second",
            })
        });
        assert!(rises.count() <= 1, "{level} is said once: {lines:?}");
    }
}

#[test]
fn when_memory_is_critical_every_second_frame_is_published() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "memory.critical");
    let cameras = [
        ("cam1", "leak,tag=cam1,mb=70".to_owned()),
        ("cam2", "stream,tag=cam2".to_owned()),
    ];
    let more = settings(", warning_percent: 30, critical_percent: 50, emergency_percent: 99");
    let config = fake_config(&rabbit.url(), "memory.critical", &more, &cameras);
    let mut daemon = Daemon::start(&config);
    daemon.wait_for_log("critical, each camera publishes every second frame", SOON);
    let critical_since = unix_us();
    for id in ["cam1", "cam2"] {
        // Frames from before may arrive late.
        let numbers = wait_for(SOON, "21 frames", || {
            let mut frames = consumer.of(id);
            frames.retain(|it| it.captured_at_us() > critical_since);
            let numbers: Vec<_> = frames.iter().map(|frame| frame.seq()).collect();
            (numbers.len() >= 21).then_some(numbers)
        });
        // Newer frames may still replace one that waits.
        let second = numbers.windows(2).filter(|pair| pair[1] == pair[0] + 2);
        assert!(second.count() >= 15, "{id}: {numbers:?}");
        let mut every = numbers.windows(2).filter(|pair| pair[1] == pair[0] + 1);
        assert!(every.next().is_none(), "{id}: {numbers:?}");
    }
    let exit = daemon.terminate();
    exit.report().check_accounting();
    assert_eq!(exit.report().total.restarts_in_all(), 0);
    assert!(exit.report().camera("cam1").dropped("throttled") >= 20);
}

#[test]
fn in_an_emergency_each_camera_publishes_one_frame_a_second() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "memory.emergency");
    // It leaks again after its restart, and the next restart is a minute away.
    let cameras = [
        ("cam1", "leak,tag=cam1,mb=120".to_owned()),
        ("cam2", "stream,tag=cam2".to_owned()),
    ];
    let config = fake_config(&rabbit.url(), "memory.emergency", &settings(""), &cameras);
    let mut daemon = Daemon::start(&config);
    let http = daemon.http();
    daemon.wait_for_log(
        "cam1: memory is short, and its FFmpeg uses most of it: ",
        SOON,
    );
    wait_until(SOON, "the second emergency", || {
        daemon.log_with("emergency, each camera").len() == 2
    });
    let status = http.get("/status").json();
    assert_eq!(status["memory"]["level"], "emergency");
    assert!(http.get("/").text().contains(" %, emergency)"));
    let since = unix_us();
    // Not the first three: one may get too old while the broker is slow.
    wait_until(SOON, "three frames, a second apart", || {
        let mut frames = consumer.of("cam2");
        frames.retain(|it| it.captured_at_us() > since);
        let times: Vec<_> = frames.iter().map(|frame| frame.captured_at_us()).collect();
        let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.iter().all(|pause| *pause >= 1_000_000), "{times:?}");
        let mut pairs = pauses.windows(2);
        pairs.any(|pair| pair.iter().all(|pause| *pause < 2_000_000))
    });
    let exit = daemon.terminate();
    exit.report().check_accounting();
    assert_eq!(exit.report().camera("cam1").restarts("memory"), 1);
}

#[test]
fn a_controller_that_is_off_does_nothing() {
    let rabbit = Rabbit::shared();
    let cameras = [("cam1", "leak,tag=cam1,mb=120".to_owned())];
    let more = settings(", enabled: false");
    let config = fake_config(&rabbit.url(), "memory.off", &more, &cameras);
    let mut daemon = Daemon::start(&config);
    let http = daemon.http();
    let used = || value(http.get("/metrics").text(), "edge_video_memory_used_bytes");
    wait_until(SOON, "a budget that is used up", || used() > 115e6);
    let exit = daemon.terminate();
    assert_eq!(exit.report().total.restarts_in_all(), 0);
    assert_eq!(exit.report().total.dropped("throttled"), 0);
    assert!(daemon.log_with("memory: ").is_empty());
}
