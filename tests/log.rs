//! The log when no process reads it, and when a thread panics. `command_line` tests its format.

use crate::support::consumer::Consumer;
use crate::support::daemon::Report;
use crate::support::guarded::{self, Guarded};
use crate::support::http::{Http, value, values};
use crate::support::program::{Call, Listener};
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, fake_config, free_port, wait_until};
use edge_video::config::{self, LogFormat};
use edge_video::logging;
use rustix::process::Signal;
use std::io::Read;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How many records are missing, according to the log.
fn told(log: &str) -> u64 {
    log.lines()
        .filter_map(|line| {
            let (before, _) = line.split_once(" log records dropped: stderr was not read")?;
            before.rsplit(' ').next()?.parse::<u64>().ok()
        })
        .sum()
}

#[test]
fn every_record_is_written_or_counted_when_nobody_reads_stderr_for_a_while() {
    const EXCHANGE: &str = "log.blocked";
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start_with(rabbit.port(), EXCHANGE, "#", false);
    let port = free_port();
    let http = format!("http: {{listen: '127.0.0.1:{port}'}}");
    let cameras = [("cam", "stream,tag=cam,fps=300,size=2000".to_owned())];
    let config = fake_config(&rabbit.url(), EXCHANGE, &http, &cameras);
    let mut program = Call::new(&["run"])
        .config(&config)
        // Two records per frame and the report, nothing else, so their number is known.
        .env(
            "RUST_LOG",
            "off,edge_video::publish=trace,edge_video::report=info",
        )
        .stderr(Listener::Sleeps)
        .start();
    let http = Http::new((Ipv4Addr::LOCALHOST, port).into());
    wait_until(SOON, "the first frame, and so the HTTP server", || {
        consumer.count() > 0
    });
    let metrics = || http.get("/metrics").text().to_owned();
    let dropped = |metrics: &str| value(metrics, "edge_video_log_records_dropped_total");
    wait_until(SOON, "dropped records", || dropped(&metrics()) >= 500.0);

    // The log is not read, and frames continue.
    let published = |metrics: &str| {
        let cameras = values(metrics, "edge_video_frames_published_total");
        cameras.values().sum::<f64>()
    };
    let before = metrics();
    wait_until(SOON, "300 frames more", || {
        published(&metrics()) >= published(&before) + 300.0
    });
    assert!(dropped(&metrics()) >= dropped(&before) + 500.0);

    program.wake_stderr();
    program.wait_for_stderr("log records dropped", SOON);
    wait_until(SOON, "the log and the metric to say the same", || {
        dropped(&metrics()) == told(&program.stderr()) as f64
    });
    let ended = program.end(Signal::TERM);
    assert_eq!(ended.code(), Some(0));

    let report = ended.stderr.lines().rev().find_map(Report::from_log);
    let total = report.unwrap().total;
    assert_eq!(total.restarts_in_all(), 0);
    // Frames whose confirms came too late may have arrived.
    let arrived = total.published..=total.published + total.dropped("unknown");
    consumer.wait_until(SOON, "all that was published", |all| {
        arrived.contains(&(all.len() as u64))
    });
    let answered = total.published + total.dropped("nacked") + total.dropped("returned");
    let sent = answered + total.dropped("unknown");
    let lines = ended.stderr.lines().count() as u64;
    let about_the_log = ended.stderr.matches("log records dropped").count() as u64;
    assert_eq!(
        lines - about_the_log + told(&ended.stderr),
        sent + answered + 1,
        "written + dropped = logged; {about_the_log} times some were dropped"
    );
}

#[test]
fn a_stderr_that_nobody_reads_stops_nothing() {
    for (name, listener) in [("sleeps", Listener::Sleeps), ("gone", Listener::Gone)] {
        let exchange = format!("log.stderr-{name}");
        let consumer = Consumer::start_with(Rabbit::shared().port(), &exchange, "#", false);
        let cameras: Vec<_> = ["cam1", "cam2", "cam3"]
            .map(|id| (id, format!("stream,tag={id},fps=60,size=2000")))
            .to_vec();
        let config = fake_config(&Rabbit::shared().url(), &exchange, "fps: 60", &cameras);
        let mut program = Call::new(&["run"])
            .config(&config)
            .env("RUST_LOG", "trace")
            .stderr(listener)
            .start();
        // At least two lines per frame: the pipe's 64 KiB and the queue's 1024 records are full
        // before that.
        consumer.wait_until(Duration::from_secs(60), "1,500 frames", |arrived| {
            arrived.len() >= 1_500
        });
        assert!(program.is_running());
        let ended = program.end(Signal::TERM);
        assert_eq!(ended.code(), Some(0));
        assert!(ended.took < Duration::from_secs(3), "{:?}", ended.took);
    }
}

/// For [`run_panics`].
const BLOCKED: &str = "EDGE_VIDEO_TEST_BLOCKED";
/// The message with which [`panics`] panics.
const CODE: i32 = 42;

#[test]
#[ignore = "ends the process; the tests below run it in one of its own"]
fn panics() {
    logging::start(&config::Log {
        level: log::LevelFilter::Info,
        format: LogFormat::Text,
        summary: None,
    })
    .unwrap();
    if std::env::var_os(BLOCKED).is_some() {
        // Fills the pipe, and the queue.
        let line = "x".repeat(1000);
        for _ in 0..2000 {
            log::info!("{line}");
        }
        assert!(logging::dropped() > 0);
    }
    let start = Instant::now();
    let thread = std::thread::Builder::new().name("read-door".into());
    let thread = thread.spawn(|| panic!("no way\nERROR rtsp://u:secret@h/"));
    assert!(thread.unwrap().join().is_err());
    assert!(start.elapsed() < SOON);
    // Without a flush, so that only the panic can have written it.
    std::process::exit(CODE);
}

fn run_panics(blocked: bool) -> (Guarded, impl Read) {
    let mut command = guarded::command(std::env::current_exe().unwrap(), None);
    command
        .args(["--exact", "log::panics", "--ignored", "--nocapture"])
        .env_remove("RUST_LOG")
        .env_remove("JOURNAL_STREAM")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if blocked {
        command.env(BLOCKED, "1");
    }
    let mut process = Guarded::spawn(&mut command);
    let stderr = process.child().stderr.take().unwrap();
    (process, stderr)
}

#[test]
fn a_panic_is_logged_with_its_thread_before_anything_else_can_happen() {
    let (mut process, mut stderr) = run_panics(false);
    assert_eq!(process.wait(SOON).code(), Some(CODE));
    let mut log = String::new();
    stderr.read_to_string(&mut log).unwrap();
    let line = log.lines().next().unwrap();
    let (_, line) = line.split_once(' ').unwrap();
    assert!(
        line.starts_with("ERROR thread read-door panicked at tests/log.rs:"),
        "{log}"
    );
    assert!(line.ends_with(": no way | ERROR rtsp://***@h/"), "{log}");
    assert_eq!(log.lines().count(), 1, "{log}");
}

#[test]
fn a_panic_waits_for_a_stderr_that_nobody_reads_but_not_for_ever() {
    let (mut process, _unread) = run_panics(true);
    assert_eq!(process.wait(SOON).code(), Some(CODE));
}
