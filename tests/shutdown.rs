//! The end of the program: in time, with complete accounting, and with nothing left behind.

use crate::support::consumer::Consumer;
use crate::support::daemon::{Daemon, Setup};
use crate::support::rabbit::Rabbit;
use crate::support::{Lateness, SOON, fake_config, wait_until};
use rustix::process::Signal;
use std::time::{Duration, Instant};

fn six(play: &str) -> Vec<(&'static str, String)> {
    ["cam1", "cam2", "cam3", "cam4", "cam5", "cam6"]
        .into_iter()
        .map(|id| (id, format!("{play},tag={id}")))
        .collect()
}

#[test]
fn with_six_cameras_and_a_healthy_broker_it_stops_at_once() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "shutdown.healthy");
    let config = fake_config(&rabbit.url(), "shutdown.healthy", "", &six("stream"));
    let mut daemon = Setup::new(&config).watch_stop().start();
    for (id, _) in six("") {
        consumer.wait_for(id, 10, SOON);
    }
    let machine = Lateness::start();
    let exit = daemon.terminate();
    let late = machine.so_far();
    assert_eq!(exit.code(), Some(0));
    exit.report().check_accounting();
    assert!(daemon.offspring().is_empty());
    assert_eq!(exit.report().total.dropped("unknown"), 0);
    assert_eq!(daemon.overdue(), Vec::<String>::new());
    eprintln!("{:?}, machine late by {late:?}", exit.took);
    assert!(
        exit.took < Duration::from_millis(300) + late,
        "{:?}",
        exit.took
    );
}

#[test]
fn with_a_frozen_broker_and_deaf_ffmpegs_it_stops_within_three_seconds() {
    let rabbit = Rabbit::start();
    let consumer = Consumer::start(rabbit.port(), "shutdown.frozen");
    let config = fake_config(&rabbit.url(), "shutdown.frozen", "", &six("ignore_term"));
    // A number switches off the limit in time, which would send fewer frames to a silent broker.
    let config = config.replacen("  exchange:", "  max_in_flight: 2\n  exchange:", 1);
    let mut daemon = Setup::new(&config)
        .env(
            "RUST_LOG",
            "info,edge_video::publish=trace,edge_video::daemon=debug",
        )
        .start();
    for (id, _) in six("") {
        consumer.wait_for(id, 10, SOON);
    }
    rabbit.freeze();
    let count = |what| daemon.log_with(what).len();
    wait_until(SOON, "two frames a camera that are never confirmed", || {
        count("goes to the broker") >= count("is acked") + 12
    });
    let exit = daemon.terminate();
    rabbit.thaw();
    assert_eq!(exit.code(), Some(0));
    exit.report().check_accounting();
    assert!(
        exit.report().total.dropped("unknown") > 0,
        "{:?}",
        exit.report().total
    );
    assert!(daemon.offspring().is_empty());
    // The readers end in time although their FFmpegs are deaf, and cutting the connection ends all
    // that wait for the broker.
    let overdue = daemon.overdue();
    let [publishers] = overdue.as_slice() else {
        panic!("{overdue:?}");
    };
    assert!(
        publishers.contains("still running after 800ms: pub-cam"),
        "{publishers}"
    );
    eprintln!("{:?}", exit.took);
    // 1.8 s of it are the program's own: a second for the deaf FFmpegs, and the publishers' limit.
    assert!(exit.took < Duration::from_secs(3), "{:?}", exit.took);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let rabbit = Rabbit::shared();
    let config = fake_config(&rabbit.url(), "shutdown.second", "", &six("ignore_term"));
    let mut daemon = Daemon::start(&config);
    daemon.wait_for_log("cam6: live", SOON);
    let machine = Lateness::start();
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("stopping", SOON);
    let asked = Instant::now();
    // Signals that come at once are one request.
    wait_until(SOON, "the end", || {
        daemon.signal(Signal::TERM);
        !daemon.is_running()
    });
    let (took, late) = (asked.elapsed(), machine.so_far());
    let exit = daemon.wait_exit(SOON);
    assert_eq!(exit.code(), Some(0));
    wait_until(SOON, "the end of every FFmpeg", || {
        daemon.offspring().is_empty()
    });
    assert_eq!(daemon.log_with("second signal: exiting at once").len(), 1);
    eprintln!("{took:?}, machine late by {late:?}");
    // A graceful stop takes longer: the FFmpegs that ignore SIGTERM have a second.
    assert!(took < Duration::from_secs(1) + late, "{took:?}");
}

#[test]
fn a_signal_that_is_sent_twice_at_once_ends_it_in_order() {
    let rabbit = Rabbit::shared();
    let config = fake_config(&rabbit.url(), "shutdown.twice", "", &six("stream"));
    let mut daemon = Setup::new(&config).watch_stop().start();
    daemon.wait_for_log("cam6: live", SOON);
    // Both are there before the daemon runs again, however late this test sends the second one. Two
    // different signals, since the kernel merges two equal ones.
    daemon.signal(Signal::STOP);
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::INT);
    daemon.signal(Signal::CONT);
    let exit = daemon.wait_exit(SOON);
    assert_eq!(exit.code(), Some(0));
    assert_eq!(daemon.log_with("second signal"), Vec::<String>::new());
    assert_eq!(daemon.overdue(), Vec::<String>::new());
    exit.report().check_accounting();
}

#[test]
fn no_ffmpeg_outlives_a_daemon_that_is_killed() {
    let rabbit = Rabbit::shared();
    let config = fake_config(&rabbit.url(), "shutdown.killed", "", &six("ignore_term"));
    let mut daemon = Daemon::start(&config);
    daemon.wait_for_log("cam6: live", SOON);
    wait_until(SOON, "six FFmpegs", || daemon.children().len() == 6);
    daemon.signal(Signal::KILL);
    daemon.wait_exit(SOON);
    wait_until(SOON, "the end of every FFmpeg", || {
        daemon.offspring().is_empty()
    });
}

#[test]
fn it_stops_in_every_phase_of_a_camera_and_a_broker() {
    let rabbit = Rabbit::shared();
    // A listener that never answers the login, and cameras that never send, that fail, and that
    // wait.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("amqp://127.0.0.1:{}/", silent.local_addr().unwrap().port());
    let plays = [
        "silent",
        "exit,n=0",
        "garbage",
        "trickle",
        "hang,n=1",
        "stderr_flood",
    ];
    let cameras: Vec<_> = plays
        .iter()
        .zip(["cam1", "cam2", "cam3", "cam4", "cam5", "cam6"])
        .map(|(play, id)| (id, (*play).to_owned()))
        .collect();
    for broker in [silent, rabbit.url(), "amqp://127.0.0.1:9/".to_owned()] {
        let config = fake_config(&broker, "shutdown.phases", "", &cameras);
        let mut daemon = Setup::new(&config).watch_stop().start();
        daemon.wait_for_log("cam5: live", SOON);
        let exit = daemon.terminate();
        assert_eq!(exit.code(), Some(0));
        exit.report().check_accounting();
        assert!(daemon.offspring().is_empty());
        assert_eq!(daemon.overdue(), Vec::<String>::new(), "{broker}");
        eprintln!("{broker}: {:?}", exit.took);
        assert!(exit.took < Duration::from_secs(3), "{:?}", exit.took);
    }
}
