//! SIGHUP: the configuration is read again and applied, and unchanged cameras are not disturbed.

use crate::support::consumer::Consumer;
use crate::support::daemon::{Daemon, Setup};
use crate::support::http::{ON, value};
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, TempDir, fake_config, free_port, patient, wait_until};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const SIX: [&str; 6] = ["cam1", "cam2", "cam3", "cam4", "cam5", "cam6"];

fn streams(ids: &[&'static str]) -> Vec<(&'static str, String)> {
    let play = |id: &&'static str| (*id, format!("stream,tag={id}"));
    ids.iter().map(play).collect()
}

/// The newest epoch of each camera's frames from now on.
fn epochs(consumer: &Consumer, ids: &[&'static str]) -> BTreeMap<&'static str, i64> {
    consumer.take();
    let newest = |id: &&'static str| {
        let frames = consumer.wait_for(id, 5, SOON);
        (*id, frames.iter().map(|frame| frame.epoch()).max().unwrap())
    };
    ids.iter().map(newest).collect()
}

/// Waits for the `nth` such answer to a reload.
fn wait_for_lines(daemon: &Daemon, text: &str, nth: usize) {
    wait_until(SOON, text, || daemon.log_with(text).len() == nth);
}

#[test]
fn one_camera_of_six_changes_and_the_other_five_keep_their_epoch() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "reload.one");
    let mut cameras = streams(&SIX);
    let config = |cameras: &[_]| fake_config(&rabbit.url(), "reload.one", ON, cameras);
    let mut daemon = Daemon::start(&config(&cameras));
    let before = epochs(&consumer, &SIX);

    cameras[2].1 = "stream,tag=cam3,width=480,height=360".to_owned();
    daemon.reload(&config(&cameras));
    daemon.wait_for_log(
        "SIGHUP: cameras changed: cam3; added: none; removed: none",
        SOON,
    );
    consumer.wait_until(SOON, "cam3 in its new size", |arrived| {
        arrived.iter().any(|frame| frame.width() == 480)
    });
    let after = epochs(&consumer, &SIX);
    for id in SIX {
        match id {
            "cam3" => assert!(after[id] > before[id], "{before:?} {after:?}"),
            _ => assert_eq!(after[id], before[id], "{id}"),
        }
    }
    let exit = daemon.terminate();
    assert_eq!(exit.code(), Some(0));
    exit.report().check_accounting();
    for id in SIX {
        let camera = exit.report().camera(id);
        assert_eq!(camera.restarts("config"), u64::from(id == "cam3"), "{id}");
        assert_eq!(camera.restarts_in_all(), camera.restarts("config"), "{id}");
    }
    assert!(daemon.offspring().is_empty());
}

#[test]
fn cameras_come_go_and_come_again() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "reload.come");
    let config =
        |ids: &[&'static str]| fake_config(&rabbit.url(), "reload.come", ON, &streams(ids));
    let mut daemon = Daemon::start(&config(&["cam1", "cam2"]));
    let before = epochs(&consumer, &["cam1", "cam2"]);
    let http = daemon.http();
    // Cameras with a problem are shown first, and a slow start is a problem.
    let shown = || {
        let status = http.get("/status").json();
        let cameras = status["cameras"].as_array().unwrap().iter();
        let ids = cameras.map(|camera| camera["id"].as_str().unwrap().to_owned());
        ids.collect::<BTreeSet<_>>()
    };
    assert_eq!(shown(), ["cam1", "cam2"].map(str::to_owned).into());

    daemon.reload(&config(&["cam2", "cam3"]));
    daemon.wait_for_log("cameras changed: none; added: cam3; removed: cam1", SOON);
    let now = epochs(&consumer, &["cam2", "cam3"]);
    assert_eq!(now["cam2"], before["cam2"]);
    assert_eq!(shown(), ["cam2", "cam3"].map(str::to_owned).into());
    wait_until(SOON, "cam1's FFmpeg to be gone", || {
        daemon.children().len() == 2
    });
    assert!(!http.get("/metrics").text().contains("\"cam1\""));
    assert_eq!(http.get("/cameras/cam1/snapshot.jpg").status, 404);
    assert_eq!(http.get("/cameras/cam3/snapshot.jpg").status, 200);

    daemon.reload(&config(&["cam1", "cam2", "cam3"]));
    daemon.wait_for_log("cameras changed: none; added: cam1; removed: none", SOON);
    let again = epochs(&consumer, &["cam1", "cam2", "cam3"]);
    assert!(
        again["cam1"] > before["cam1"],
        "an epoch is never used twice"
    );
    assert_eq!(shown(), ["cam1", "cam2", "cam3"].map(str::to_owned).into());

    let exit = daemon.terminate();
    exit.report().check_accounting();
    let ids: BTreeSet<_> = exit
        .report()
        .cameras
        .iter()
        .map(|it| &*it.camera_id)
        .collect();
    assert_eq!(
        ids.into_iter().collect::<Vec<_>>(),
        ["cam1", "cam2", "cam3"]
    );
    assert_eq!(exit.report().total.restarts_in_all(), 0);
}

#[test]
fn what_is_refused_changes_nothing() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "reload.refused");
    let good = fake_config(
        &rabbit.url(),
        "reload.refused",
        "",
        &streams(&["cam1", "cam2"]),
    );
    let mut daemon = Daemon::start(&good);
    let before = epochs(&consumer, &["cam1", "cam2"]);

    daemon.reload(&good.replace("cameras:", "camera:"));
    daemon.wait_for_log(
        "SIGHUP: the configuration is refused; keeping the old configuration",
        SOON,
    );
    assert_eq!(daemon.log_with("did you mean \"cameras\"?").len(), 1);
    assert_eq!(epochs(&consumer, &["cam1", "cam2"]), before);

    let path = daemon.config_path();
    std::fs::remove_file(&path).unwrap();
    daemon.signal(Signal::HUP);
    wait_for_lines(&daemon, "SIGHUP: the configuration is refused", 2);

    daemon.reload(&good);
    daemon.wait_for_log("SIGHUP: nothing has changed", SOON);
    assert_eq!(epochs(&consumer, &["cam1", "cam2"]), before);
    let exit = daemon.terminate();
    assert_eq!(exit.report().total.restarts_in_all(), 0);
}

#[test]
fn another_exchange_or_port_starts_all_anew_in_the_same_process() {
    let rabbit = Rabbit::shared();
    let old = Consumer::start(rabbit.port(), "reload.old");
    let new = Consumer::start(rabbit.port(), "reload.new");
    let cameras = streams(&["cam1", "cam2"]);
    let mut daemon = Daemon::start(&fake_config(&rabbit.url(), "reload.old", ON, &cameras));
    old.wait_for("cam2", 5, SOON);
    let port = daemon.http();

    daemon.reload(&fake_config(&rabbit.url(), "reload.new", ON, &cameras));
    daemon.wait_for_log(
        "SIGHUP: settings that all cameras share have changed; restarting all cameras",
        SOON,
    );
    new.wait_for("cam1", 5, SOON);
    new.wait_for("cam2", 5, SOON);
    assert_eq!(port.get("/livez").status, 200, "the page keeps its port");

    let other = free_port();
    let moved = format!("http: {{listen: '127.0.0.1:{other}'}}\n");
    daemon.reload(&fake_config(&rabbit.url(), "reload.new", &moved, &cameras));
    daemon.wait_for_log(&format!("status page: http://127.0.0.1:{other}/"), SOON);
    wait_until(SOON, "the old port to be closed", || {
        TcpListener::bind(port.address).is_ok()
    });

    // The same port at another address, which cannot be opened while ours is open.
    let mapped = format!("[::ffff:127.0.0.1]:{other}");
    let more = format!("http: {{listen: '{mapped}'}}\n");
    daemon.reload(&fake_config(&rabbit.url(), "reload.new", &more, &cameras));
    daemon.wait_for_log(&format!("status page: http://{mapped}/"), SOON);
    daemon.reload(&fake_config(&rabbit.url(), "reload.new", &moved, &cameras));
    wait_for_lines(
        &daemon,
        &format!("status page: http://127.0.0.1:{other}/"),
        2,
    );

    let _taken = TcpListener::bind(format!("127.0.0.2:{other}")).unwrap();
    let more = format!("http: {{listen: '127.0.0.2:{other}'}}\n");
    daemon.reload(&fake_config(&rabbit.url(), "reload.new", &more, &cameras));
    daemon.wait_for_log(
        &format!(
            "SIGHUP: no status page at 127.0.0.2:{other}: Address already in use; another \
             edge-video may be running: choose another port with http.listen, or set \
             http.enabled: false; the status page stays at 127.0.0.1:{other}"
        ),
        SOON,
    );
    wait_for_lines(
        &daemon,
        &format!("status page: http://127.0.0.1:{other}/"),
        3,
    );
    epochs(&new, &["cam1", "cam2"]);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let more = format!("http: {{listen: '{address}'}}\n");
    daemon.reload(&fake_config(&rabbit.url(), "reload.new", &more, &cameras));
    daemon.wait_for_log(
        &format!(
            "SIGHUP: no status page at {address}: Address already in use; another edge-video may \
             be running: choose another port with http.listen, or set http.enabled: false; keeping \
             the old configuration"
        ),
        SOON,
    );
    epochs(&new, &["cam1", "cam2"]);

    let exit = daemon.terminate();
    assert_eq!(exit.code(), Some(0));
    let report = exit.report();
    report.check_accounting();
    let anew = report.total.restarts["config"];
    assert_eq!(
        anew,
        2 * 5,
        "two cameras, five times; what is refused restarts none"
    );
    let frames = [old.stop(), new.stop()].concat();
    let unique: BTreeSet<_> = frames
        .iter()
        .map(|frame| (frame.camera_id(), frame.epoch(), frame.seq()))
        .collect();
    assert_eq!(unique.len(), frames.len(), "no number is given twice");
}

#[test]
fn a_signal_that_comes_while_all_are_started_anew_ends_it_in_order() {
    let rabbit = Rabbit::shared();
    let cameras = [
        ("cam1", "ignore_term,tag=cam1".to_owned()),
        ("cam2", "ignore_term,tag=cam2".to_owned()),
    ];
    let config = |exchange| fake_config(&rabbit.url(), exchange, "", &cameras);
    let mut daemon = Daemon::start(&config("reload.ends"));
    daemon.wait_for_log("cam1: live", SOON);
    daemon.wait_for_log("cam2: live", SOON);
    // FFmpegs that ignore SIGTERM take a second to end.
    daemon.reload(&config("reload.ends.never"));
    daemon.wait_for_log("restarting all cameras", SOON);
    let exit = daemon.terminate();
    assert_eq!(exit.code(), Some(0));
    assert_eq!(daemon.log_with("SIGTERM: stopping").len(), 1);
    exit.report().check_accounting();
    assert!(daemon.offspring().is_empty());
}

#[test]
fn a_file_that_changes_again_while_all_are_started_anew_is_followed() {
    let rabbit = Rabbit::shared();
    let last = Consumer::start(rabbit.port(), "reload.last");
    let cameras = [("cam1", "ignore_term,tag=cam1".to_owned())];
    let config = |exchange| fake_config(&rabbit.url(), exchange, "", &cameras);
    let mut daemon = Daemon::start(&config("reload.first"));
    daemon.wait_for_log("cam1: live", SOON);
    // An FFmpeg that ignores SIGTERM takes a second to end.
    daemon.reload(&config("reload.second"));
    daemon.wait_for_log("restarting all cameras", SOON);
    daemon.reload(&config("reload.last"));
    last.wait_for("cam1", 5, SOON);
    let exit = daemon.terminate();
    assert_eq!(exit.code(), Some(0));
    exit.report().check_accounting();
}

#[test]
fn a_camera_is_changed_under_an_alarm() {
    let rabbit = Rabbit::start();
    let consumer = Consumer::start(rabbit.port(), "reload.alarm");
    let config = |cameras: &[_]| fake_config(&rabbit.url(), "reload.alarm", "", cameras);
    let mut cameras = streams(&["cam1", "cam2", "cam3"]);
    let mut daemon = Daemon::start(&config(&cameras));
    epochs(&consumer, &["cam1", "cam2", "cam3"]);
    rabbit.ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    daemon.wait_for_log("has blocked publishing (low on memory)", SOON);

    cameras[0].1 += ",size=30000";
    cameras.pop();
    daemon.reload(&config(&cameras));
    daemon.wait_for_log("cameras changed: cam1; added: none; removed: cam3", SOON);
    wait_for_lines(&daemon, "cam1: live", 2);
    wait_until(SOON, "the end of cam3's threads", || {
        daemon.children().len() == 2 && !daemon.thread_names().contains(&"pub-cam3".to_owned())
    });
    rabbit.ctl(&["set_vm_memory_high_watermark", "0.6"]);
    consumer.take();
    epochs(&consumer, &["cam1", "cam2"]);
    daemon.terminate().report().check_accounting();
}

#[test]
fn a_connection_that_is_given_up_takes_no_count_with_it() {
    let rabbit = Rabbit::start();
    let consumer = Consumer::start(rabbit.port(), "reload.counts");
    let config = |ids: &[&'static str]| {
        let config = fake_config(&rabbit.url(), "reload.counts", ON, &streams(ids));
        config.replacen("amqp:\n", "amqp:\n  connections: 0\n", 1)
    };
    let mut daemon = Daemon::start(&config(&["cam1", "cam2"]));
    epochs(&consumer, &["cam1", "cam2"]);
    drop(consumer);
    rabbit.ctl(&["close_all_connections", "to be counted"]);
    let http = daemon.http();
    let reconnects = || {
        let metrics = http.get("/metrics");
        value(metrics.text(), "edge_video_broker_reconnects_total")
    };
    wait_until(SOON, "two reconnects", || reconnects() == 2.0);
    daemon.reload(&config(&["cam1"]));
    wait_until(SOON, "one camera", || {
        let status = http.get("/status").json();
        status["cameras"].as_array().unwrap().len() == 1
    });
    assert_eq!(reconnects(), 2.0);
    daemon.terminate().report().check_accounting();
}

#[test]
fn cameras_are_changed_while_no_broker_answers() {
    let broker = format!("amqp://127.0.0.1:{}/", free_port());
    let config = |ids: &[&'static str]| fake_config(&broker, "reload.down", ON, &streams(ids));
    let mut daemon = Daemon::start(&config(&["cam1", "cam2"]));
    daemon.wait_for_log("cam2: live", SOON);
    daemon.reload(&config(&["cam3", "cam1"]));
    daemon.wait_for_log("cam3: live", SOON);
    wait_until(SOON, "cam2 to be gone", || daemon.children().len() == 2);
    let exit = daemon.terminate();
    assert_eq!(exit.code(), Some(0));
    exit.report().check_accounting();
    assert!(exit.report().camera("cam2").captured > 0);
}

#[test]
fn fifty_reloads_leave_nothing_behind() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "reload.fifty");
    let more = format!("{ON}log: {{summary: off}}\n");
    let config = |cameras: &[_]| fake_config(&rabbit.url(), "reload.fifty", &more, cameras);
    let mut cameras = streams(&["cam1", "cam2", "cam3"]);
    let mut daemon = Daemon::start(&config(&cameras));
    epochs(&consumer, &["cam1", "cam2", "cam3"]);
    let threads = daemon.thread_names();
    let fds = daemon.fds();
    let kept = epochs(&consumer, &["cam1"]);
    for n in 1..=50 {
        cameras[1].1 = format!("stream,tag=cam2,size={}", 20_000 + n);
        daemon.reload(&config(&cameras));
        wait_for_lines(&daemon, "SIGHUP: cameras changed: cam2", n);
    }
    assert_eq!(epochs(&consumer, &["cam1"]), kept);
    consumer.wait_until(SOON, "the last change of cam2", |arrived| {
        arrived
            .iter()
            .any(|frame| frame.camera_id() == "cam2" && frame.len == 20_050)
    });
    wait_until(SOON, "the same threads", || {
        daemon.thread_names() == threads
    });
    wait_until(SOON, "the same descriptors", || daemon.fds() == fds);
    assert_eq!(daemon.children().len(), 3);
    assert!(daemon.zombies().is_empty());
    let exit = daemon.terminate();
    exit.report().check_accounting();
    assert!(daemon.offspring().is_empty());
}

/// A user of its own, whose threads and processes can be counted and limited: nothing limits root.
struct OwnUser {
    id: u32,
    dir: TempDir,
}

impl OwnUser {
    fn new() -> Self {
        Self {
            id: 60_000 + std::process::id() % 5_000,
            dir: TempDir::new("own-user"),
        }
    }

    /// Runs `command` as this user.
    fn becomes(&self, command: &str) -> String {
        format!(
            "exec setpriv --reuid={} --clear-groups -- {command}",
            self.id
        )
    }

    fn start(&self, config: &str) -> Daemon {
        let script = self.dir.path().join("run");
        let run = self.becomes(&format!("{} \"$@\"", env!("CARGO_BIN_EXE_edge-video")));
        std::fs::write(&script, format!("#!/bin/sh\n{run}\n")).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        Setup::new(config).program(script).start()
    }

    /// Limits the number of threads and processes from now on.
    fn limit(&self, daemon: &Daemon, most: &str) {
        let limit = self.becomes(&format!("prlimit --pid={} --nproc={most}:", daemon.pid()));
        let status = Command::new("sh").args(["-c", &limit]).status();
        assert!(status.unwrap().success());
    }
}

#[test]
fn a_reload_for_which_there_are_no_threads_changes_nothing() {
    let rabbit = Rabbit::shared();
    let user = OwnUser::new();
    let consumer = Consumer::start(rabbit.port(), "reload.threads");
    let config = |exchange: &str, ids: &[&'static str]| {
        patient(&fake_config(&rabbit.url(), exchange, ON, &streams(ids)))
    };
    let few = ["cam1", "cam2"];
    let mut daemon = user.start(&config("reload.threads", &few));
    let before = epochs(&consumer, &few);
    let threads = daemon.threads();

    // Four new cameras need one thread too many: the reader of the fourth.
    let tasks = threads + daemon.children().len();
    user.limit(&daemon, &(tasks + 7).to_string());
    daemon.reload(&config("reload.threads", &SIX));
    daemon.wait_for_log(
        "SIGHUP: cannot start thread read-cam6: Resource temporarily unavailable; \
         keeping the old configuration",
        SOON,
    );
    assert_eq!(epochs(&consumer, &few), before);
    wait_until(SOON, "the new threads to end", || {
        daemon.threads() == threads
    });
    assert_eq!(daemon.log_with("cam3: live").len(), 0);
    // Another exchange for all cameras, which would restart all of them.
    daemon.reload(&config("reload.threads.other", &SIX));
    daemon.wait_for_log(
        "SIGHUP: cannot start 8 more threads: Resource temporarily unavailable; \
         keeping the old configuration",
        SOON,
    );
    assert_eq!(epochs(&consumer, &few), before);

    user.limit(&daemon, &(tasks + 100).to_string());
    daemon.reload(&config("reload.threads", &SIX));
    daemon.wait_for_log("cameras changed: none; added: cam3, cam4, cam5, cam6", SOON);
    assert_eq!(epochs(&consumer, &few), before);
    consumer.wait_for("cam6", 5, SOON);
    let exit = daemon.terminate();
    assert_eq!(exit.code(), Some(0));
    exit.report().check_accounting();
    assert_eq!(exit.report().total.restarts_in_all(), 0);
}
