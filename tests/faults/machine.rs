//! Machine and program: the clock, descriptors, the disk, panics and signals.

use crate::lab::{Lab, Node, Plan, SIX, plan};
use crate::support::guarded::pid_of;
use crate::support::{self, TempDir, free_port, unix_us, wait_until};
use rustix::process::{Resource, Rlimit, Signal, kill_process, prlimit};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(8);
const LOG: Duration = Duration::from_secs(30);
const SHORT_RESTS: &str = "circuit_breaker: {initial_backoff: 1s, max_backoff: 2s}\n";

#[test]
fn a_killed_daemon_leaves_no_ffmpeg_and_starts_again() {
    let mut lab = plan("the daemon killed (SIGKILL) and started again").start();
    lab.break_by(|lab| {
        lab.daemon.signal(Signal::KILL);
        lab.daemon.wait_exit(LOG);
    });
    wait_until(LOG, "the end of every FFmpeg", || {
        lab.daemon.offspring().is_empty()
    });
    lab.mend_by(Lab::start_again);
    lab.check(SOON);
}

#[test]
fn without_a_descriptor_it_says_so_and_goes_on_once_there_are_some() {
    let mut lab = plan("out of file descriptors, then a reset and a killed FFmpeg")
        .config(SHORT_RESTS)
        .start();
    let pid = pid_of(lab.daemon.pid());
    let limit = |current| {
        let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
        let new = Rlimit { current, maximum };
        prlimit(Some(pid), Resource::Nofile, new).unwrap().current
    };
    let mut old = None;
    lab.break_by(|lab| {
        // 0, 1 and 2 are in use.
        old = limit(Some(3));
        kill_process(pid_of(lab.daemon.children()[0]), Signal::KILL).unwrap();
        lab.proxy.reset();
    });
    lab.says("cannot start FFmpeg: Too many open files; starting again in ");
    lab.says("too many open files; retrying, keeping only the newest frame of each camera");
    // A client that cannot be let in must not make the page's thread spin.
    let page = lab.daemon.http();
    let _client = page.connect();
    let before = lab.daemon.cpu_time();
    lab.lasts(Duration::from_secs(6));
    let used = lab.daemon.cpu_time() - before;
    assert!(used < Duration::from_secs(1), "{used:?} of CPU");
    lab.mend_by(|_| {
        limit(old);
    });
    lab.check(SOON);
}

#[test]
fn a_full_disk_under_the_log_costs_log_lines_only() {
    let dir = TempDir::new("disk");
    let disk = dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let program = dir.path().join("daemon");
    // A disk of 16 MB that only this daemon sees.
    script(
        &program,
        &format!(
            "exec unshare --map-root-user --mount sh -c 'mount -t tmpfs -o size=16m none {disk} && exec {} \"$@\" \
             2>>{disk}/log' sh \"$@\"",
            env!("CARGO_BIN_EXE_edge-video"),
            disk = disk.display(),
        ),
    );
    let mut lab = plan("disk full under the log")
        .program(program)
        .env("RUST_LOG", "info,edge_video::publish=trace")
        .start_ill();
    let seen = format!("/proc/{}/root{}", lab.daemon.pid(), disk.display());
    let log = || fs::File::open(format!("{seen}/log")).ok();
    lab.daemon.log_is_in(support::wait_for(LOG, "the log", log));
    lab.become_well();
    let filler = Path::new(&seen).join("filler");
    lab.break_by(|_| {
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    });
    // What is left of the log's last page is soon full.
    let length = || fs::metadata(format!("{seen}/log")).unwrap().len();
    wait_until(LOG, "a log that no longer grows", || {
        let before = length();
        lab.await_frames(10, unix_us(), LOG);
        length() == before
    });
    lab.proxy.reset();
    lab.await_frames(30, unix_us(), LOG);
    fs::remove_file(&filler).unwrap();
    // The line that was cut off half-way is in front of the next one.
    let full = length();
    wait_until(LOG, "a log that grows again", || length() > full + 4096);
    lab.proxy.refuse();
    lab.says("connection refused; retrying, keeping only the newest frame of each camera");
    lab.mend_by(|lab| lab.proxy.pass());
    lab.check(SOON);
}

/// A program in another one's place.
fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The clock of `clock.c`, built once.
fn clock_library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clock.so");
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/clock.c"))
            .arg("-ldl")
            .status();
        assert!(status.unwrap().success(), "cc fails");
        library
    })
}

/// A daemon under that clock.
fn clocked(plan: Plan) -> Plan {
    let dir = plan.dir().display().to_string();
    let library = clock_library().display().to_string();
    plan.env("LD_PRELOAD", &library).env("TEST_CLOCK", &dir)
}

fn set_clock(lab: &Lab, seconds: i64) {
    let link = lab.dir().join("offset.new");
    symlink(seconds.to_string(), &link).unwrap();
    fs::rename(&link, lab.dir().join("offset")).unwrap();
}

#[test]
fn a_clock_that_is_set_moves_the_capture_time_and_nothing_else() {
    let mut lab = clocked(plan("clock set back an hour, then forward a day").config(SHORT_RESTS))
        .ailing(&["cam3"], "")
        .start();
    let shifted = |lab: &Lab, by: i64| {
        wait_until(LOG, "frames with the new time", || {
            let frames = lab.frames();
            SIX.iter().all(|id| {
                let of = frames.iter().filter(|frame| frame.camera_id() == *id);
                let off = of.map(|frame| (frame.captured_at_us() - frame.arrived_us) / 1_000_000);
                off.filter(|off| (off - by).abs() < 10).count() > 30
            })
        });
    };
    lab.break_by(|lab| set_clock(lab, -3600));
    shifted(&lab, -3600);
    // A session that begins in the past is still the newer one.
    let epoch = |lab: &Lab| {
        let frames = lab.frames();
        let of = frames.iter().filter(|frame| frame.camera_id() == "cam3");
        let epochs: Vec<_> = of.map(|frame| frame.epoch()).collect();
        assert!(epochs.is_sorted(), "epochs go back");
        epochs[epochs.len() - 1]
    };
    let before = epoch(&lab);
    kill_process(pid_of(lab.ffmpeg_of("cam3")), Signal::KILL).unwrap();
    wait_until(LOG, "a new session", || epoch(&lab) > before);
    set_clock(&lab, 86_400);
    shifted(&lab, 86_400);
    assert_eq!(lab.metric("broker_reconnects_total"), 0.0);
    lab.mend_by(|lab| set_clock(lab, 0));
    shifted(&lab, 0);
    // By the time of their capture the frames of tomorrow would be the freshest.
    lab.late_counts_from_now();
    lab.collect();
    lab.mend_by(|_| {});
    lab.check(SOON);
}

/// The next look at a clock of this thread of the daemon panics.
fn panic_in(lab: &Lab, thread: &str) {
    symlink(thread, lab.dir().join("panic")).unwrap();
    wait_for_panic(lab);
}

fn wait_for_panic(lab: &Lab) {
    let link = lab.dir().join("panic");
    wait_until(LOG, "the panic", || link.symlink_metadata().is_err());
}

#[track_caller]
fn panics(fault: &'static str, thread: &str, ailing: &[&'static str]) {
    let mut lab = clocked(plan(fault).config(SHORT_RESTS))
        .ailing(ailing, "")
        .start();
    lab.break_by(|lab| panic_in(lab, thread));
    lab.says(&format!("ERROR thread {thread} panicked at "));
    if !lab.daemon.is_running() {
        // It was the lock library that looked at the clock, and that answers a panic by aborting.
        assert!(!lab.daemon.log_with("panic in parking lot").is_empty());
        return panics(fault, thread, ailing);
    }
    lab.mend_by(|_| {});
    if !ailing.is_empty() {
        lab.others_go_on();
    }
    lab.check(SOON);
}

#[test]
fn a_panic_of_a_reader_costs_its_camera_a_second() {
    panics("panic in a reader", "read-cam3", &["cam3"]);
}

#[test]
fn a_panic_of_a_publisher_costs_its_camera_a_second() {
    panics("panic in a publisher", "pub-cam3", &["cam3"]);
}

#[test]
fn a_panic_of_a_connections_owner_costs_a_second() {
    let mut lab = clocked(plan("panic in the owner of a connection")).start();
    lab.break_by(|lab| {
        let panics = || lab.daemon.log_with(" panicked at ").len();
        // The library's timer has its owner's name.
        wait_until(LOG, "the owner to panic", || {
            let before = panics();
            symlink("amqp-0", lab.dir().join("panic")).unwrap();
            lab.proxy.reset();
            wait_for_panic(lab);
            // The word is spoken before it is written.
            wait_until(LOG, "its last words", || panics() > before);
            !lab.daemon
                .log_with("ERROR thread amqp-0 panicked")
                .is_empty()
        });
    });
    lab.says("ERROR thread amqp-0 panicked at ");
    lab.mend_by(|_| {});
    lab.check(SOON);
}

#[test]
fn a_panic_of_the_amqp_library_costs_a_connection() {
    panics("panic in the AMQP library's own thread", "amiquip-io", &[]);
}

#[test]
fn a_panic_of_the_page_costs_no_frame() {
    let mut lab = clocked(plan("panic in the thread of the status page")).start();
    let reconnects = lab.metric("broker_reconnects_total");
    lab.break_by(|lab| panic_in(lab, "http"));
    lab.says("ERROR thread http panicked at ");
    lab.mend_by(|_| {});
    wait_until(LOG, "the page to be back", || {
        lab.metric("worker_panics_total") >= 1.0
    });
    assert_eq!(lab.metric("broker_reconnects_total"), reconnects);
    lab.check(SOON);
}

#[test]
fn five_panics_of_one_thread_end_the_program_for_systemd_to_start_it_anew() {
    let mut lab = clocked(plan(
        "five panics of a reader, then started again (exit code 70)",
    ))
    .start();
    lab.break_by(|lab| {
        for _ in 0..5 {
            // Not while it rests: the lock library that it rests with answers a panic by aborting.
            lab.await_camera("cam3", 5, unix_us(), LOG);
            panic_in(lab, "read-cam3");
        }
    });
    lab.says("ERROR thread read-cam3 panicked 5 times within 10 minutes: exiting with code 70");
    let exit = lab.daemon.wait_exit(LOG);
    assert_eq!(exit.code(), Some(70));
    exit.report().check_accounting();
    wait_until(LOG, "the end of every FFmpeg", || {
        lab.daemon.offspring().is_empty()
    });
    lab.mend_by(Lab::start_again);
    lab.check(SOON);
}

#[test]
fn a_panic_of_the_main_thread_ends_the_program_for_systemd_to_start_it_anew() {
    let mut lab = clocked(plan(
        "panic in the main thread, then started again (exit code 70)",
    ))
    .start();
    lab.break_by(|lab| panic_in(lab, "edge-video"));
    lab.says("ERROR thread main panicked at ");
    let exit = lab.daemon.wait_exit(LOG);
    assert_eq!(exit.code(), Some(70));
    assert!(exit.report().total.published > 0);
    wait_until(LOG, "the end of every FFmpeg", || {
        lab.daemon.offspring().is_empty()
    });
    lab.mend_by(Lab::start_again);
    lab.check(SOON);
}

/// What a stop may take at most: FFmpegs that do not hear, and a broker that does not confirm.
const STOP: Duration = Duration::from_secs(3);

#[test]
fn sigterm_ends_it_in_every_phase_of_the_broker() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("amqp://127.0.0.1:{}/", silent.local_addr().unwrap().port());
    let mut lab = plan("SIGTERM while connecting to a broker that does not answer")
        .url(silent)
        .start_ill();
    lab.says("INFO  cam6: live: ");
    lab.ends(STOP);

    let mut lab = plan("SIGTERM between two attempts to connect")
        .url(format!("amqp://127.0.0.1:{}/", free_port()))
        .start_ill();
    lab.says("connection refused; retrying");
    lab.ends(STOP);

    let lab = plan("SIGTERM while all is well").start();
    lab.ends(STOP);

    let lab = plan("SIGTERM while frames are with a broker that does not confirm").start();
    lab.proxy.pause();
    // As many as the budget of an uplink allows that stands still.
    let flying = || {
        let flying = support::http::values(&lab.metrics(), "edge_video_frames_in_flight");
        flying.values().sum::<f64>()
    };
    wait_until(LOG, "frames that nobody confirms", || {
        let before = flying();
        std::thread::sleep(Duration::from_millis(500));
        before >= 1.0 && flying() == before
    });
    lab.ends(STOP);

    let mut lab = plan("SIGTERM under a memory alarm")
        .broker(Node::mine())
        .start();
    lab.rabbit()
        .ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    lab.says("has blocked publishing");
    let node = lab.ends(STOP);
    node.get().ctl(&["set_vm_memory_high_watermark", "0.6"]);
}

#[test]
fn sigterm_ends_it_in_every_phase_of_a_camera() {
    let path = TempDir::new("slow");
    let path = path.path().join("ffmpeg");
    script(&path, "sleep 60");
    let lab = plan("SIGTERM while FFmpeg is asked for its version")
        .ffmpeg(path)
        .start_ill();
    wait_until(LOG, "FFmpeg to be asked", || {
        !lab.daemon.children().is_empty()
    });
    lab.ends(STOP);

    let lab = plan("SIGTERM while the first frames are waited for")
        .cameras(SIX, "silent")
        .start_ill();
    wait_until(LOG, "six FFmpegs", || lab.daemon.children().len() == 6);
    lab.ends(STOP);

    let lab = plan("SIGTERM in the middle of a frame")
        .cameras(SIX, "trickle")
        .start_ill();
    wait_until(LOG, "six FFmpegs", || lab.daemon.children().len() == 6);
    lab.ends(STOP);

    let mut lab = plan("SIGTERM while cameras rest between two attempts")
        .cameras(SIX, "exit,n=0")
        .start_ill();
    for id in SIX {
        lab.daemon
            .wait_for_log(&format!("{id}: FFmpeg ended (exit code 1)"), LOG);
    }
    lab.says("FFmpeg ended (exit code 1); starting again in ");
    lab.ends(STOP);

    let lab = plan("SIGTERM with FFmpegs that ignore it")
        .cameras(SIX, "stream,ignore_term=1")
        .start();
    lab.ends(STOP);
}

#[test]
fn sighup_changes_one_camera_and_leaves_the_others_alone() {
    let mut lab =
        plan("SIGHUP: one camera of six changed, and changed back, and a file that is refused")
            .ailing(&["cam3"], "")
            .start();
    let old = lab.config.clone();
    lab.break_by(|lab| {
        lab.daemon
            .reload(&old.replace("tag=cam3", "tag=cam3,width=480,height=360"))
    });
    lab.says("INFO  SIGHUP: cameras changed: cam3; added: none; removed: none");
    lab.others_go_on();
    lab.daemon.reload(&old.replace("cameras:", "camera:"));
    lab.says("SIGHUP: the configuration is refused; keeping the old configuration");
    lab.mend_by(|lab| lab.daemon.reload(&old));
    lab.check(SOON);
}
