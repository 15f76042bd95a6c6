//! Camera and FFmpeg: whatever one of them does is noticed, said, mended, and no other camera's
//! business.
//!
//! `cam3` is the one that ails. Where a camera itself fails, real FFmpeg reads H.264 of a real RTSP
//! server through a proxy; where FFmpeg fails, a program plays it.

use crate::lab::{Lab, Plan, plan};
use crate::support::guarded::pid_of;
use crate::support::proxy::Proxy;
use crate::support::sources::{Mount, Rtsp};
use crate::support::{self, fake_ffmpeg_path, wait_until};
use rustix::process::{Signal, kill_process};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const AILING: &str = "cam3";

/// Rests of a person's configuration would make minutes of each test.
const SHORT_RESTS: &str = "circuit_breaker: {initial_backoff: 1s, max_backoff: 2s}\n";
const SHORT_TIMEOUTS: &str = ", stale_timeout: 1s, first_frame_timeout: 3s";

/// The longest rest, an FFmpeg that is given a second to end, and its start.
const SOON: Duration = Duration::from_secs(8);
/// An RTSP server and a real FFmpeg take their time to begin, the more so on a busy machine.
const RTSP_SOON: Duration = Duration::from_secs(30);
const LOG: Duration = Duration::from_secs(30);

#[track_caller]
fn played(fault: &'static str) -> Plan {
    plan(fault)
        .config(SHORT_RESTS)
        .ailing(&[AILING], SHORT_TIMEOUTS)
}

/// Waits for so many dropped frames of the ailing camera.
fn wait_for_drops(lab: &Lab, reason: &str, n: f64) {
    wait_until(LOG, "frames dropped", || {
        let name = "edge_video_frames_dropped_total";
        let label = format!("camera_id=\"{AILING}\",reason=\"{reason}\"");
        support::http::values(&lab.metrics(), name)[&label] >= n
    });
}

#[test]
fn an_ffmpeg_that_is_killed_is_started_again() {
    let mut lab = played("FFmpeg killed (SIGKILL)").start();
    lab.break_by(|lab| kill_process(pid_of(lab.ffmpeg_of(AILING)), Signal::KILL).unwrap());
    lab.says("WARN  cam3: FFmpeg ended (signal 9); starting again in ");
    lab.mend_by(|_| {});
    lab.others_go_on();
    lab.check(SOON);
}

#[test]
fn an_ffmpeg_that_is_stopped_is_replaced() {
    let mut lab = played("FFmpeg stopped (SIGSTOP)").start();
    lab.break_by(|lab| kill_process(pid_of(lab.ffmpeg_of(AILING)), Signal::STOP).unwrap());
    lab.says("WARN  cam3: no frame for 1 s; starting again in ");
    lab.mend_by(|_| {});
    lab.others_go_on();
    lab.check(SOON);
}

#[test]
fn an_ffmpeg_that_hangs_is_replaced_until_it_works() {
    let mut lab = played("FFmpeg hangs without a frame").start();
    lab.break_by(|lab| lab.play("silent"));
    lab.says("WARN  cam3: no frame for 1 s; starting again in ");
    lab.says("WARN  cam3: no first frame for 3 s; starting again in ");
    lab.others_go_on();
    lab.mend_by(|lab| lab.play("stream"));
    lab.check(SOON);
}

#[test]
fn an_ffmpeg_that_ignores_sigterm_is_killed() {
    let mut lab = played("FFmpeg hangs and ignores SIGTERM")
        .plays(AILING, "stream,ignore_term=1")
        .start();
    let pid = lab.ffmpeg_of(AILING);
    lab.break_by(|lab| lab.play("silent"));
    lab.says("WARN  cam3: no frame for 1 s; starting again in ");
    wait_until(LOG, "its end", || {
        !Path::new(&format!("/proc/{pid}")).exists()
    });
    lab.others_go_on();
    lab.mend_by(|lab| lab.play("stream"));
    lab.check(SOON);
}

#[test]
fn an_ffmpeg_that_trickles_is_replaced_until_it_works() {
    let mut lab = played("FFmpeg sends 50 bytes a second for ever").start();
    lab.break_by(|lab| lab.play("trickle"));
    lab.says("WARN  cam3: no frame for 1 s");
    lab.says("WARN  cam3: no first frame for 3 s; starting again in ");
    lab.others_go_on();
    lab.mend_by(|lab| lab.play("stream"));
    lab.check(SOON);
}

#[test]
fn garbage_is_noticed_and_costs_no_other_camera_anything() {
    let mut lab = played("FFmpeg writes garbage")
        .config("max_frame_bytes: 256KiB\n")
        .start();
    lab.break_by(|lab| lab.play("garbage"));
    lab.says(
        "WARN  cam3: FFmpeg sends data that is not a stream of JPEG pictures; starting again \
         in ",
    );
    lab.others_go_on();
    lab.mend_by(|lab| lab.play("stream"));
    lab.check(SOON);
}

#[test]
fn truncated_frames_are_dropped_and_the_others_arrive() {
    let mut lab = played("every 5th frame truncated").start();
    lab.break_by(|lab| lab.play("truncate"));
    wait_for_drops(&lab, "corrupt", 10.0);
    lab.others_go_on();
    lab.mend_by(|lab| lab.play("stream"));
    lab.check(SOON);
}

#[test]
fn a_length_that_lies_costs_that_frame() {
    for (fault, by) in [
        ("every 5th frame announces 7 bytes too many", 7),
        ("every 5th frame announces 7 bytes too few", -7),
    ] {
        let mut lab = played(fault).start();
        lab.break_by(|lab| lab.play(&format!("lie,by={by}")));
        wait_for_drops(&lab, "corrupt", 10.0);
        lab.others_go_on();
        lab.mend_by(|lab| lab.play("stream"));
        lab.check(SOON);
    }
}

#[test]
fn frames_of_twenty_megabytes_are_dropped_and_cost_no_memory() {
    let mut lab = played("every second frame has 20 MB").start();
    lab.break_by(|lab| lab.play("huge,k=2,fps=4,traps=0"));
    wait_for_drops(&lab, "oversize", 10.0);
    lab.others_go_on();
    lab.mend_by(|lab| lab.play("stream"));
    lab.check(SOON);
}

#[test]
fn a_megabyte_of_stderr_a_second_holds_nothing_up() {
    let mut lab = played("FFmpeg writes 1 MB/s of messages").start();
    lab.break_by(|lab| lab.play("stderr_flood"));
    let from = support::unix_us();
    lab.await_camera(AILING, 60, from, LOG);
    lab.others_go_on();
    lab.mend_by(|lab| lab.play("stream"));
    lab.check(SOON);
}

#[test]
fn a_leaking_ffmpeg_is_replaced_before_the_board_has_no_memory_left() {
    let mut lab = plan("FFmpeg leaks 10 MB a second, of a budget of 150 MB")
        .config("memory_controller: {max_memory_mb: 150, check_interval: 100ms}\n")
        .ailing(&[AILING], "")
        .start();
    // So slowly that each level lasts for more than a second and is seen.
    lab.break_by(|lab| lab.play("leak,mb=300,rate=10"));
    lab.says_within("MB of it by edge-video, the rest by FFmpeg", LOG);
    // What has begun to leak goes on; the next one does not.
    lab.play("stream");
    lab.says("critical, each camera publishes every second frame");
    lab.says("emergency, each camera publishes one frame per second");
    lab.says("cam3: memory is short, and its FFmpeg uses most of it: ");
    lab.mend_by(|_| {});
    lab.says(": normal again");
    lab.check(SOON);
}

#[test]
fn a_grandchild_that_holds_the_pipe_holds_nothing_up() {
    let mut lab = played("FFmpeg hangs, and a process that it left holds its output open").start();
    lab.break_by(|lab| lab.play("grandchild,hold=20"));
    lab.says("WARN  cam3: no frame for 1 s; starting again in ");
    lab.others_go_on();
    lab.mend_by(|lab| lab.play("stream"));
    lab.check(SOON);
}

#[test]
fn a_size_that_changes_is_followed() {
    let mut lab = played("resolution changes every 10 frames").start();
    lab.break_by(|lab| lab.play("resize,n=10,width2=640,height2=480"));
    let widths = [(320, 240), (640, 480)];
    wait_until(LOG, "frames of both sizes", || {
        let frames = lab.frames();
        let has = |size: &(i32, i32)| {
            let sizes = frames.iter().map(|frame| (frame.width(), frame.height()));
            sizes.filter(|other| other == size).count() > 20
        };
        widths.iter().all(has)
    });
    lab.others_go_on();
    lab.mend_by(|lab| lab.play("stream"));
    lab.check(SOON);
}

#[test]
fn a_camera_that_sends_a_frame_in_ten_seconds_is_left_alone() {
    let mut lab = plan("one frame in 10 s, with `stale_timeout` 15 s")
        .config(SHORT_RESTS)
        .ailing(&[AILING], ", stale_timeout: 15s")
        .start();
    lab.break_by(|lab| lab.play("stream,fps=0.1"));
    wait_until(LOG, "a frame ten seconds after another", || {
        let mut frames = lab.frames();
        frames.retain(|frame| frame.camera_id() == AILING);
        let times: Vec<_> = frames.iter().map(|it| it.captured_at_us()).collect();
        times.windows(2).any(|pair| pair[1] - pair[0] > 9_000_000)
    });
    lab.others_go_on();
    lab.mend_by(|lab| lab.play("stream"));
    assert!(lab.daemon.log_with("starting again").is_empty());
    lab.check(SOON);
}

#[test]
fn an_ffmpeg_that_is_not_installed_is_found_once_it_is() {
    let mut plan = played("FFmpeg not installed, then installed");
    let path = plan.dir().join("ffmpeg");
    let install = |path: &PathBuf| std::os::unix::fs::symlink(fake_ffmpeg_path(), path).unwrap();
    install(&path);
    plan = plan.ffmpeg(path.clone());
    let mut lab = plan.start();
    lab.break_by(|lab| {
        fs::remove_file(&path).unwrap();
        kill_process(pid_of(lab.ffmpeg_of(AILING)), Signal::KILL).unwrap();
    });
    let line = lab.says("ffmpeg: No such file or directory");
    let advice = ": install it (apt install ffmpeg) or set ffmpeg.path; starting again in ";
    assert!(line.contains(advice), "{line}");
    lab.others_go_on();
    lab.mend_by(|_| install(&path));
    lab.check(SOON);
}

/// A program in FFmpeg's place.
fn script(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, path).unwrap();
}

#[test]
fn an_ffmpeg_without_mpjpeg_is_named_and_works_once_it_is_replaced() {
    let plan = plan("FFmpeg without mpjpeg at the start, then a complete one").config(SHORT_RESTS);
    let path = plan.dir().join("ffmpeg");
    let fake = fake_ffmpeg_path().display().to_string();
    script(
        &path,
        &format!("case \"$*\" in *-muxers) exit 0;; esac; exec {fake} \"$@\""),
    );
    let mut lab = plan.ffmpeg(path.clone()).start_ill();
    lab.says("ffmpeg cannot write mpjpeg: install a complete FFmpeg (apt install ffmpeg); starting again in ");
    lab.mend_by(|_| script(&path, &format!("exec {fake} \"$@\"")));
    lab.check(SOON);
}

/// A real camera at `cam3`, behind a proxy; the others are played.
struct Camera {
    rtsp: Rtsp,
    proxy: Proxy,
}

const STREAM: &str = "stream1";
/// A camera's password, which no word of the log holds.
const RIGHT: &str = "r1ght-pass";

impl Camera {
    fn new(login: Option<(&str, &str)>) -> Self {
        let rtsp = Rtsp::start_with(&[Mount::new(STREAM, "ball")], login);
        let proxy = Proxy::start(rtsp.port());
        Self { rtsp, proxy }
    }

    #[track_caller]
    fn plan(&self, fault: &'static str) -> Plan {
        self.plan_with(fault, "")
    }

    #[track_caller]
    fn plan_with(&self, fault: &'static str, more: &str) -> Plan {
        let plan = plan(fault)
            .config(SHORT_RESTS)
            .ailing(
                &[AILING],
                &format!(", stale_timeout: 2s, first_frame_timeout: 10s{more}"),
            )
            .camera(AILING, &self.rtsp.url_through(self.proxy.port(), STREAM));
        let path = plan.dir().join("ffmpeg");
        script(
            &path,
            &format!(
                "case \"$*\" in *rtsp:*) exec ffmpeg \"$@\";; *) exec {} \"$@\";; esac",
                fake_ffmpeg_path().display()
            ),
        );
        plan.ffmpeg(path)
    }
}

#[test]
fn a_camera_that_refuses_connections_is_tried_until_it_takes_them() {
    let camera = Camera::new(None);
    let mut lab = camera.plan("RTSP port refuses connections").start();
    lab.break_by(|_| camera.proxy.refuse());
    lab.says_within(
        "WARN  cam3: connection refused: nothing listens on this port of the camera; check host and \
         port in the url, and whether the camera is still starting; starting again in ",
        LOG,
    );
    lab.others_go_on();
    lab.mend_by(|_| camera.proxy.pass());
    lab.check(RTSP_SOON);
}

#[test]
fn a_camera_that_does_not_answer_is_tried_until_it_does() {
    let camera = Camera::new(None);
    let mut lab = camera
        .plan("host of the camera does not answer (packets vanish)")
        .start();
    lab.break_by(|_| camera.proxy.vanish());
    lab.says_within("WARN  cam3: ", LOG);
    lab.says_within(
        "the camera does not answer: connection timed out; check host and port",
        LOG,
    );
    lab.others_go_on();
    lab.mend_by(|_| camera.proxy.pass());
    lab.check(RTSP_SOON);
}

#[test]
fn an_rtsp_server_that_dies_is_waited_for() {
    let mut camera = Camera::new(None);
    let mut lab = camera.plan("RTSP server dies and is started again").start();
    lab.break_by(|_| camera.rtsp.kill());
    lab.says_within("WARN  cam3: the camera ", LOG);
    lab.others_go_on();
    lab.mend_by(|_| camera.rtsp.start_again());
    lab.check(RTSP_SOON);
}

#[test]
fn an_rtsp_server_that_hangs_is_left_and_tried_again() {
    let camera = Camera::new(None);
    let mut lab = camera
        .plan("RTSP server hangs without closing (SIGSTOP)")
        .start();
    lab.break_by(|_| camera.rtsp.process().signal(Signal::STOP));
    lab.says_within(
        "WARN  cam3: no picture for 2 s: the camera stopped sending and kept the connection open; \
         if it sends pictures more rarely, raise stale_timeout; starting again in ",
        LOG,
    );
    lab.others_go_on();
    lab.mend_by(|_| camera.rtsp.process().signal(Signal::CONT));
    lab.check(RTSP_SOON);
}

#[test]
fn a_camera_on_a_line_of_100_bytes_a_second_is_left_and_tried_again() {
    let camera = Camera::new(None);
    let mut lab = camera
        .plan("camera's line carries 100 bytes a second")
        .start();
    lab.break_by(|_| camera.proxy.throttle(100));
    lab.says_within("WARN  cam3: no frame for 2 s", LOG);
    lab.others_go_on();
    lab.mend_by(|_| camera.proxy.pass());
    lab.check(RTSP_SOON);
}

#[test]
fn a_stream_that_is_not_there_is_said_and_found_once_it_is() {
    let mut camera = Camera::new(None);
    let mut lab = camera
        .plan("404: the camera's stream has another name")
        .start();
    lab.break_by(|_| {
        camera
            .rtsp
            .serve_instead(&[Mount::new("other", "ball")], None)
    });
    lab.says_within(
        "WARN  cam3: the camera has no stream at this path (404 Not Found): check the path in the \
         url; starting again in ",
        LOG,
    );
    lab.others_go_on();
    lab.mend_by(|_| {
        camera
            .rtsp
            .serve_instead(&[Mount::new(STREAM, "ball")], None)
    });
    lab.check(RTSP_SOON);
}

#[test]
fn a_password_that_the_camera_does_not_take_is_said_and_works_once_it_does() {
    let login = |password: &'static str| Some(("admin", password));
    let mut camera = Camera::new(login(RIGHT));
    let mut lab = camera
        .plan("401: the camera's password was changed, and changed back")
        .start();
    let mounts = [Mount::new(STREAM, "ball")];
    lab.break_by(|_| camera.rtsp.serve_instead(&mounts, login("other")));
    lab.says_within(
        "WARN  cam3: the camera refused the login (401 Unauthorized): check username and password; ",
        LOG,
    );
    // Neither password, whatever the line says.
    assert!(lab.daemon.log_with(RIGHT).is_empty());
    lab.others_go_on();
    lab.mend_by(|_| camera.rtsp.serve_instead(&mounts, login(RIGHT)));
    lab.check(RTSP_SOON);
}

#[test]
fn a_third_of_the_packets_lost_over_udp_publishes_no_damaged_picture() {
    let mut camera = Camera::new(None);
    // RTP goes past the proxy.
    let mut lab = camera
        .plan_with(
            "30 % of the RTP packets lost (H.264 over UDP)",
            ", transport: udp",
        )
        .start();
    let mut lossy = Mount::new(STREAM, "ball");
    lossy.loss_percent = 30;
    lab.break_by(|_| camera.rtsp.serve_instead(&[lossy], None));
    // A picture is six packets, so one of nine is whole, and still made from those before it.
    lab.says_within("WARN  cam3: no frame for 2 s; damaged frames: ", LOG);
    wait_for_drops(&lab, "corrupt", 30.0);
    lab.others_go_on();
    lab.mend_by(|_| {
        camera
            .rtsp
            .serve_instead(&[Mount::new(STREAM, "ball")], None)
    });
    lab.check(RTSP_SOON);
}
