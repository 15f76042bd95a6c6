//! Faults of FFmpeg and cameras: each is detected, reported and repaired, and affects no other
//! camera.

use crate::support::consumer::Consumer;
use crate::support::daemon::{Daemon, Setup};
use crate::support::guarded::pid_of;
use crate::support::http::ON;
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, TempDir, fake_config, fake_ffmpeg_path, patient, wait_until};
use rustix::process::{Signal, kill_process};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// Restarts without the backoff of the circuit breaker.
const NO_BREAKER: &str = "circuit_breaker: {enabled: false, initial_backoff: 100ms}";

#[test]
fn ffmpeg_killed_200_times_leaves_no_zombie_and_the_same_threads_and_descriptors() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start_with(rabbit.port(), "camera.killed", "#", false);
    let ids = ["cam1", "cam2", "cam3", "cam4"];
    let cameras: Vec<_> = ids
        .iter()
        .map(|id| (*id, format!("stream,tag={id},fps=30")))
        .collect();
    let mut daemon = Daemon::start(&fake_config(
        &rabbit.url(),
        "camera.killed",
        NO_BREAKER,
        &cameras,
    ));
    for id in ids {
        consumer.wait_for(id, 10, SOON);
    }
    let (threads, fds) = (daemon.threads(), daemon.fds());
    for _ in 0..50 {
        let killed = daemon.children();
        assert_eq!(killed.len(), ids.len());
        for child in &killed {
            kill_process(pid_of(*child), Signal::KILL).unwrap();
        }
        // The last frames of the killed FFmpegs may still arrive.
        wait_until(SOON, "as many others", || {
            let children = daemon.children();
            children.len() == ids.len() && children.iter().all(|child| !killed.contains(child))
        });
        consumer.take();
        for id in ids {
            consumer.wait_for(id, 3, SOON);
        }
    }
    wait_until(SOON, "nothing left over", || {
        daemon.zombies().is_empty()
            && daemon.children().len() == ids.len()
            && (daemon.threads(), daemon.fds()) == (threads, fds)
    });
    let exit = daemon.terminate();
    exit.report().check_accounting();
    assert!(exit.report().total.restarts("exited") >= 200);
    assert!(
        daemon.log_with("FFmpeg ended (signal 9)").len() <= 2 * ids.len(),
        "said once a minute"
    );
}

#[test]
fn a_hung_ffmpeg_is_restarted_after_its_stale_timeout() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "camera.hung");
    let cameras = [
        ("hung", "hang,n=5,tag=hung".to_owned()),
        ("well", "stream,tag=well".to_owned()),
    ];
    let config = fake_config(&rabbit.url(), "camera.hung", NO_BREAKER, &cameras).replacen(
        "{id: hung,",
        "{id: hung, stale_timeout: 1s,",
        1,
    );
    let mut daemon = Daemon::start(&config);
    let line = daemon.wait_for_log("hung: no frame for 1 s; starting again in", SOON);
    assert!(line.contains(" WARN "), "{line}");
    // Time from the last frame before a silence to the first one after it. One good round suffices:
    // other programs on the machine must not decide the result.
    let what = "a silence as long as the timeout, and the other camera's frames in it";
    consumer.wait_until(SOON, what, |arrived| {
        let of = |id| arrived.iter().filter(move |frame| frame.camera_id() == id);
        let hung: Vec<_> = of("hung").collect();
        hung.windows(2).any(|pair| {
            let silence = pair[0].captured_at_us()..pair[1].captured_at_us();
            let well = of("well").filter(|frame| silence.contains(&frame.captured_at_us()));
            let well: Vec<_> = well.map(|frame| frame.seq()).collect();
            pair[1].epoch() > pair[0].epoch()
                && (1_000_000..2_000_000).contains(&(silence.end - silence.start))
                && well.len() >= 10
                && well.windows(2).all(|pair| pair[1] == pair[0] + 1)
        })
    });
    let exit = daemon.terminate();
    exit.report().check_accounting();
    assert!(exit.report().camera("hung").restarts("stalled") >= 1);
    let well = exit.report().camera("well");
    assert_eq!(well.restarts_in_all(), 0, "{well:?}");
}

#[test]
fn a_camera_that_never_sends_is_restarted_after_its_first_frame_timeout() {
    let rabbit = Rabbit::shared();
    let cameras = [
        ("mute", "silent".to_owned()),
        ("drip", "trickle".to_owned()),
    ];
    let config = fake_config(&rabbit.url(), "camera.mute", NO_BREAKER, &cameras)
        .replace("{id:", "{first_frame_timeout: 1s, id:");
    let mut daemon = Daemon::start(&config);
    daemon.wait_for_log("mute: no first frame for 1 s; starting again in", SOON);
    daemon.wait_for_log("drip: no first frame for 1 s; starting again in", SOON);
    let exit = daemon.terminate();
    exit.report().check_accounting();
    for id in ["mute", "drip"] {
        assert!(exit.report().camera(id).restarts("no_first_frame") >= 1);
    }
}

#[test]
fn a_camera_whose_every_picture_is_too_large_says_so() {
    let rabbit = Rabbit::shared();
    let cameras = [("large", "huge,k=1,traps=0,fps=5,huge=200000".to_owned())];
    let more = format!("{NO_BREAKER}\nmax_frame_bytes: 64KiB");
    let config = fake_config(&rabbit.url(), "camera.large", &more, &cameras)
        .replace("{id:", "{first_frame_timeout: 1s, id:");
    let mut daemon = Daemon::start(&config);
    let line = daemon.wait_for_log(
        "large: no first frame for 1 s; frames larger than max_frame_bytes (65536): ",
        SOON,
    );
    let says = "; raise it, or raise quality for smaller frames; starting again";
    assert!(line.contains(says), "{line}");
    daemon.terminate().report().check_accounting();
}

#[test]
fn garbage_is_noticed_and_said() {
    let rabbit = Rabbit::shared();
    let cameras = [("noise", "garbage".to_owned())];
    let more = format!("{NO_BREAKER}\nmax_frame_bytes: 64KiB");
    let mut daemon = Daemon::start(&fake_config(&rabbit.url(), "camera.noise", &more, &cameras));
    daemon.wait_for_log(
        "noise: FFmpeg sends data that is not a stream of JPEG pictures",
        SOON,
    );
    let exit = daemon.terminate();
    exit.report().check_accounting();
    let account = exit.report().camera("noise");
    assert_eq!(account.published, 0);
    assert!(account.restarts("corrupt") >= 1, "{account:?}");
}

#[test]
fn a_flood_on_stderr_and_a_grandchild_on_the_pipe_hold_nothing_up() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start_with(rabbit.port(), "camera.flood", "#", false);
    let cameras = [
        ("flood", "stderr_flood,tag=flood".to_owned()),
        (
            "grandchild",
            "grandchild,n=3,tag=grandchild,hold=600".to_owned(),
        ),
    ];
    let config = fake_config(&rabbit.url(), "camera.flood", NO_BREAKER, &cameras).replacen(
        "{id: grandchild,",
        "{id: grandchild, stale_timeout: 1s,",
        1,
    );
    let mut daemon = Setup::new(&config).env("RUST_LOG", "debug").start();
    // The second session came, so the pipe that the grandchild holds open was closed on our side.
    consumer.wait_for("grandchild", 7, SOON);
    // Three seconds of frames within four seconds: a busy machine may lose some, but a reader that
    // the flood blocks is never this fast.
    consumer.wait_until(SOON, "the rate of the flooding camera", |arrived| {
        let flood = arrived.iter().filter(|frame| frame.camera_id() == "flood");
        let flood: Vec<_> = flood.collect();
        let mut runs = flood.windows(45);
        runs.any(|run| {
            let (first, last) = (&run[0], &run[44]);
            let missing = last.seq() - first.seq() - 44;
            missing <= 4 && last.captured_at_us() - first.captured_at_us() < 4_000_000
        })
    });
    let lines = daemon.log_with("flood: FFmpeg: ").len();
    assert!(lines <= 40, "{lines} lines of the flood in the log");
    daemon.terminate().report().check_accounting();
}

#[test]
fn an_ffmpeg_that_only_complains_is_restarted_after_its_stale_timeout() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start_with(rabbit.port(), "camera.mute", "#", false);
    // It writes messages as fast as they are read, sends its second frame after ten seconds, and
    // ends only when it is killed.
    let play = "stderr_flood,rate=0,fps=0.1,ignore_term=1,tag=mute";
    let cameras = [("mute", play.to_owned())];
    let config = fake_config(&rabbit.url(), "camera.mute", NO_BREAKER, &cameras).replacen(
        "{id: mute,",
        "{id: mute, stale_timeout: 1s,",
        1,
    );
    let mut daemon = Daemon::start(&config);
    let line = daemon.wait_for_log("mute: no frame for 1 s", SOON);
    assert!(
        line.contains("; FFmpeg said: [mjpeg] overread 8 "),
        "{line}"
    );
    // One second each for the timeout and for SIGTERM. A reader that waits until stderr is silent
    // takes two to three times as long.
    let frames = consumer.wait_for("mute", 8, 5 * SOON);
    let took = frames[7].captured_at_us() - frames[0].captured_at_us();
    assert!(took < 7 * 3_000_000, "{took} us for seven restarts");
    daemon.terminate().report().check_accounting();
}

#[test]
fn a_failing_camera_is_left_alone_and_costs_no_measurable_cpu() {
    let rabbit = Rabbit::shared();
    let ids = ["cam1", "cam2", "cam3", "cam4", "cam5", "cam6"];
    let cameras: Vec<_> = ids
        .iter()
        .map(|id| (*id, "exit,n=0,code=7".to_owned()))
        .collect();
    let more = "circuit_breaker: {max_failures: 2, initial_backoff: 10m, max_backoff: 10m}";
    let config = fake_config(&rabbit.url(), "camera.open", more, &cameras);
    let mut daemon = Setup::new(&config).watch_stop().start();
    wait_until(SOON, "every breaker to open", || {
        daemon.log_with("failed too often, next try in").len() == ids.len()
    });
    assert!(
        daemon.children().is_empty(),
        "nothing is started while they are open"
    );
    // It is idle, so it must use at most 10 ms of CPU in three seconds: 0.3 %. Its shortest
    // interval is 5 s, so a thread wakes up once at most.
    let all = "";
    let (used, slept) = (daemon.cpu_of(all), daemon.sleeps_of(all));
    std::thread::sleep(Duration::from_secs(3));
    let (used, slept) = (daemon.cpu_of(all) - used, daemon.sleeps_of(all) - slept);
    eprintln!("{used:?} of CPU and {slept} sleeps in 3 s");
    assert!(used < Duration::from_millis(10), "{used:?}");
    assert!(slept <= daemon.threads() as u64, "{slept} sleeps");
    let exit = daemon.terminate();
    assert_eq!(daemon.overdue(), Vec::<String>::new());
    assert!(exit.took < Duration::from_secs(3), "{:?}", exit.took);
    exit.report().check_accounting();
}

#[test]
fn an_ffmpeg_that_is_missing_or_useless_is_named_with_what_to_do() {
    let rabbit = Rabbit::shared();
    let cameras = [("cam1", "stream".to_owned())];
    let config = fake_config(&rabbit.url(), "camera.missing", "", &cameras);
    let fake = crate::support::fake_ffmpeg_path().display().to_string();
    for (path, says) in [
        (
            "/nowhere/ffmpeg",
            "cam1: cannot run /nowhere/ffmpeg: No such file or directory: install it (apt install ffmpeg) or set ffmpeg.path; starting again in",
        ),
        (
            "/bin/echo",
            "cam1: /bin/echo does not look like FFmpeg: set ffmpeg.path; starting again in",
        ),
    ] {
        let mut daemon = Daemon::start(&config.replacen(&fake, path, 1));
        daemon.wait_for_log(says, SOON);
        let exit = daemon.terminate();
        assert_eq!(
            exit.code(),
            Some(0),
            "it goes on trying: FFmpeg may be in the middle of an upgrade"
        );
    }
}

#[test]
fn a_pause_of_the_whole_machine_costs_no_ffmpeg() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "camera.paused");
    let cameras = [("cam1", "stream,tag=cam1".to_owned())];
    let config = patient(&fake_config(&rabbit.url(), "camera.paused", ON, &cameras)).replacen(
        "{id: cam1,",
        "{id: cam1, stale_timeout: 3s,",
        1,
    );
    let mut daemon = Daemon::start(&config);
    consumer.wait_for("cam1", 10, SOON);
    let ffmpeg = pid_of(daemon.children()[0]);
    kill_process(ffmpeg, Signal::STOP).unwrap();
    // No byte of it is left in the pipe.
    daemon.wait_until_all_is_answered();
    daemon.signal(Signal::STOP);
    let slept = daemon.sleeps_of("read-cam1");
    let paused = Instant::now();
    wait_until(SOON, "a pause", || {
        paused.elapsed() > Duration::from_secs(1)
    });
    // FFmpeg wakes up last. A wait that was stopped continues with its remaining time, so it ends
    // later by the length of the pause. The next wait is the extra time for FFmpeg.
    daemon.signal(Signal::CONT);
    wait_until(SOON, "the wait that ends late", || {
        daemon.sleeps_of("read-cam1") > slept + 1
    });
    kill_process(ffmpeg, Signal::CONT).unwrap();
    consumer.take();
    consumer.wait_for("cam1", 10, SOON);
    let exit = daemon.terminate();
    exit.report().check_accounting();
    assert_eq!(exit.report().total.restarts_in_all(), 0);
}

#[test]
fn what_ffmpeg_leaves_behind_is_reaped_where_the_daemon_is_the_first_process() {
    let dir = TempDir::new("first-process");
    let script = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    };
    // As in a container, where orphans become the daemon's children.
    let program = script(
        "first",
        format!(
            "exec unshare --map-root-user --pid --fork --kill-child --mount-proc '{}' \"$@\"",
            env!("CARGO_BIN_EXE_edge-video")
        ),
    );
    let starts = dir.path().join("starts");
    let ffmpeg = script(
        "ffmpeg",
        format!(
            "echo >>'{}'\nsleep 1000 >/dev/null 2>&1 &\nexec '{}' \"$@\"",
            starts.display(),
            fake_ffmpeg_path().display()
        ),
    );
    let rabbit = Rabbit::shared();
    let cameras = [("cam1", "exit,code=1".to_owned())];
    let config = fake_config(&rabbit.url(), "camera.orphans", NO_BREAKER, &cameras).replace(
        &fake_ffmpeg_path().display().to_string(),
        &ffmpeg.display().to_string(),
    );
    let daemon = Setup::new(&config).program(program).start();
    wait_until(SOON, "12 sessions", || {
        std::fs::read_to_string(&starts).is_ok_and(|starts| starts.lines().count() >= 12)
    });
    wait_until(SOON, "no zombie", || daemon.zombies().is_empty());
}
