//! What ends a session, or the flow of units, and what arrives then.

use super::live::Live;
use super::{ONLY_VIDEO, START, Watched};
use crate::support::guarded::pid_of;
use crate::support::sources::{Mount, Rtsp};
use crate::support::units::{decode_strictly, pts_us, runs};
use crate::support::{SOON, unix_us, wait_for, wait_until};
use rustix::process::{Signal, kill_process};

#[test]
fn a_new_size_in_mid_stream_is_a_new_session() {
    let play = |size| format!("{size} -c:v libx264 -preset ultrafast -g 15 -bf 2 -f mpegts");
    let camera = Live::start(&play("320x240"));
    let cameras = [("camera", camera.url())];
    let mut watched = Watched::start("resized", ONLY_VIDEO, &cameras);
    watched.units.wait_for("camera", 60, START);
    camera.play(&play("640x360"));
    watched
        .units
        .wait_until(START, "units of the new size", |units| {
            units.iter().filter(|unit| unit.width() == 640).count() >= 30
        });
    let line = "INFO  camera: the stream's parameter sets have changed; restarting FFmpeg";
    assert_eq!(watched.daemon.log_with(line).len(), 1);
    let exit = watched.ends();
    let account = exit.report().camera("camera");
    assert_eq!(
        (account.restarts("parameters"), account.restarts_in_all()),
        (1, 1)
    );
    // Each has the size that its message announces.
    let runs = watched.decodes("camera");
    let sizes: Vec<_> = runs.iter().map(|run| run[0].width()).collect();
    assert!(
        sizes.is_sorted() && sizes.contains(&320) && sizes.contains(&640),
        "{sizes:?}"
    );
    for (old, new) in runs.iter().zip(&runs[1..]) {
        let same = old[0].width() == new[0].width();
        assert!(same || old[0].epoch() < new[0].epoch());
    }
}

#[test]
fn after_a_cameras_death_in_mid_gop_a_key_unit_comes_first() {
    let mount = Mount::new("camera", "ball").encoder("x264enc key-int-max=30 bframes=2");
    let mut server = Rtsp::start(&[mount]);
    let cameras = [("camera", server.url("camera"))];
    let more = format!("{ONLY_VIDEO}\ncircuit_breaker: {{initial_backoff: 100ms}}");
    let mut watched = Watched::start("death", &more, &cameras);
    for _ in 0..2 {
        watched.units.wait_for("camera", 40, START);
        server.kill();
        let since = unix_us();
        server.start_again();
        watched
            .units
            .wait_until(START, "units of the next session", |units| {
                units
                    .iter()
                    .filter(|it| it.captured_at_us() > since)
                    .count()
                    >= 40
            });
    }
    watched.ends();
    let mut runs = runs(&watched.units.of("camera"));
    assert!(runs.len() >= 3);
    // The last one that a dying camera sends may be cut.
    for run in &mut runs {
        run.pop();
    }
    runs.retain(|run| !run.is_empty());
    decode_strictly(&runs);
}

#[test]
fn after_ffmpegs_death_in_mid_unit_a_key_unit_comes_first() {
    let encoder = "x264enc tune=zerolatency key-int-max=15";
    let server = Rtsp::start(&[Mount::new("camera", "snow").encoder(encoder)]);
    let cameras = [("camera", server.url("camera"))];
    let more = format!("{ONLY_VIDEO}\ncircuit_breaker: {{initial_backoff: 100ms}}");
    let mut watched = Watched::start("killed", &more, &cameras);
    for n in 1..=4 {
        let epochs = || {
            let mut epochs: Vec<_> = watched.units.all().iter().map(|it| it.epoch()).collect();
            epochs.dedup();
            epochs.len()
        };
        wait_until(START, "units of one more session", || epochs() >= n);
        let ffmpeg = wait_for(SOON, "FFmpeg", || watched.daemon.children().pop());
        kill_process(pid_of(ffmpeg), Signal::KILL).unwrap();
    }
    let exit = watched.ends();
    assert!(exit.report().camera("camera").restarts("exited") >= 3);
    assert!(watched.decodes("camera").len() >= 4);
}

/// The camera's clock shows what is old: what waited outside the daemon was read only just now.
#[test]
fn after_the_daemon_was_stopped_no_old_unit_arrives() {
    let server = Rtsp::start(&[Mount::new("camera", "snow")]);
    let cameras = [("camera", server.url("camera"))];
    let more = format!("{ONLY_VIDEO}\nvideo: {{exchange: video.stopped, max_age: 1s}}");
    let mut watched = Watched::start("stopped", &more, &cameras);
    watched.units.wait_for("camera", 60, START);
    watched.daemon.signal(Signal::STOP);
    let stopped = unix_us();
    wait_until(2 * SOON, "10 s to pass", || {
        unix_us() > stopped + 10_000_000
    });
    watched.daemon.signal(Signal::CONT);
    let since = unix_us();
    watched.units.wait_until(START, "units again", |units| {
        let fresh = units
            .iter()
            .filter(|it| it.captured_at_us() > since + 2_000_000);
        fresh.count() >= 30
    });
    watched.ends();
    let units = watched.units.of("camera");
    let runs = runs(&units);
    decode_strictly(&runs);
    let epoch = units[0].epoch();
    let ahead = |unit: &crate::support::consumer::Delivery| unit.arrived_us - pts_us(unit);
    let same: Vec<_> = units.iter().filter(|it| it.epoch() == epoch).collect();
    let soonest = same.iter().map(|it| ahead(it)).min().unwrap();
    let oldest = same.iter().map(|it| ahead(it) - soonest).max().unwrap();
    eprintln!(
        "{} units in {} runs, {} of the first session; the oldest was {oldest} µs late",
        units.len(),
        runs.len(),
        same.len()
    );
    assert!(oldest < 1_300_000, "{oldest} µs");
}
