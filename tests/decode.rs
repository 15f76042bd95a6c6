//! The key `decode`: hardware decoders that are missing, and one that works.

use crate::support::consumer::Consumer;
use crate::support::daemon::{Daemon, Setup};
use crate::support::dev::Dev;
use crate::support::http::{Http, ON, values};
use crate::support::rabbit::Rabbit;
use crate::support::sources::Film;
use crate::support::{SOON, TempDir, fake_config, wait_for, wait_until};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The decoders that have a device here, in the order in which they are tried.
const DEVICES: [&str; 3] = ["nvidia0", "dri/renderD128", "video10"];

/// What is to be said of each that is missing.
const STEPS: [&str; 5] = [
    "the decoder cuda cannot be used: Cannot load libcuda.so.1; trying vaapi instead",
    "the decoder vaapi cannot be used: No device available for decoder: device type vaapi needed \
     for codec h264; trying qsv instead",
    "the decoder qsv cannot be used: No device available for decoder: device type qsv needed for \
     codec h264_qsv; trying drm instead",
    "the decoder drm cannot be used: No device available for decoder: device type drm needed for \
     codec h264; trying v4l2m2m instead",
    "the decoder v4l2m2m cannot be used: Could not find a valid device; decoding in software \
     instead",
];

/// The program of the FFmpeg that is to be tested.
fn ffmpeg() -> String {
    std::env::var("EDGE_VIDEO_FFMPEG").unwrap_or_else(|_| "ffmpeg".to_owned())
}

fn camera(http: Http, id: &str) -> Value {
    let state = http.get("/status").json();
    let cameras = state["cameras"].as_array().unwrap();
    cameras.iter().find(|it| it["id"] == id).unwrap().clone()
}

/// The decoders of `decoder_info`, each with its camera.
fn decoders(http: Http) -> Vec<String> {
    let metrics = http.get("/metrics");
    let decoders = values(metrics.text(), "edge_video_decoder_info");
    assert!(decoders.values().all(|value| *value == 1.0));
    decoders.into_keys().collect()
}

/// The arguments of each start so far.
fn starts(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The lines of the log that tell of a step, without what comes before.
fn steps(daemon: &Daemon) -> Vec<String> {
    let lines = daemon.log_with(" cannot be used: ");
    let told = |line: &String| Some(line.split_once(": the decoder ")?.1.to_owned());
    let lines = lines.iter().filter_map(told);
    lines.map(|line| format!("the decoder {line}")).collect()
}

#[test]
fn auto_lands_in_software_by_one_session_for_each_decoder_and_tells_of_each() {
    let (rabbit, dev) = (Rabbit::shared(), Dev::with(&DEVICES));
    let consumer = Consumer::start(rabbit.port(), "decode.auto");
    let dir = TempDir::new("decode");
    let file = dir.path().join("starts");
    let play = format!("stream,hardware=none,tag=gate,starts={}", file.display());
    let config = fake_config(
        &rabbit.url(),
        "decode.auto",
        &format!("{ON}decode: auto\n"),
        &[("gate", play)],
    );
    let mut daemon = Setup::new(&config).program(dev.program()).start();
    consumer.wait_for("gate", 5, SOON);
    assert_eq!(steps(&daemon), STEPS);
    let line = daemon.wait_for_log("gate: live: ", SOON);
    assert!(line.ends_with(" ms, decoded by software"), "{line}");
    let begun = starts(&file);
    assert_eq!(begun.len(), STEPS.len() + 1, "{begun:#?}");
    assert!(begun[2].contains("-hwaccel qsv -hwaccel_output_format qsv -c:v h264_qsv"));
    assert!(!begun[5].contains("-hwaccel") && !begun[5].contains("v4l2m2m"));
    let http = daemon.http();
    assert_eq!(camera(http, "gate")["decoder"], "software");
    assert_eq!(decoders(http), ["camera_id=\"gate\",decoder=\"software\""]);
    let page = http.get("/").text().to_owned();
    assert!(page.contains("<dd data-text=\"decoder\">software</dd>"));

    // What has failed is not tried again.
    let child = daemon.children()[0];
    kill_process(crate::support::guarded::pid_of(child), Signal::KILL).unwrap();
    wait_until(SOON, "another session", || {
        starts(&file).len() == STEPS.len() + 2
    });
    consumer.take();
    consumer.wait_for("gate", 5, SOON);
    assert_eq!(steps(&daemon).len(), STEPS.len());
    let exit = daemon.terminate();
    exit.report().check_accounting();
    let gate = exit.report().camera("gate");
    assert_eq!(gate.restarts("exited"), STEPS.len() as u64 + 1);
}

#[test]
fn the_real_ffmpeg_lands_in_software_by_one_session_for_each_decoder() {
    let (rabbit, dev, film) = (Rabbit::shared(), Dev::with(&DEVICES), Film::make());
    let consumer = Consumer::start(rabbit.port(), "decode.real");
    let config = format!(
        "decode: auto\namqp: {{url: '{}', exchange: decode.real}}\nffmpeg: {{path: {}}}\n{ON}\
         cameras:\n- {{id: film, url: {}}}\n",
        rabbit.url(),
        ffmpeg(),
        film.path().display()
    );
    let mut daemon = Setup::new(&config).program(dev.program()).start();
    consumer.wait_for("film", 5, 3 * SOON);
    let steps = steps(&daemon);
    let decoders = ["cuda", "vaapi", "qsv", "drm", "v4l2m2m"];
    let begins = |(step, decoder): (&String, &&str)| {
        step.starts_with(&format!("the decoder {decoder} cannot be used: "))
    };
    assert!(steps.iter().zip(&decoders).all(begins), "{steps:#?}");
    assert_eq!(steps.len(), decoders.len(), "{steps:#?}");
    let line = daemon.wait_for_log("film: live: ", SOON);
    assert!(line.ends_with(" ms, decoded by software"), "{line}");
    let exit = daemon.terminate();
    exit.report().check_accounting();
    assert_eq!(exit.report().camera("film").restarts("exited"), 5);
}

#[test]
fn a_named_decoder_that_is_missing_is_told_in_one_line_and_the_camera_stays_down() {
    let (rabbit, film) = (Rabbit::shared(), Film::make());
    let consumer = Consumer::start(rabbit.port(), "decode.named");
    let breaker = "circuit_breaker: {max_failures: 3, initial_backoff: 5m}";
    let config = format!(
        "amqp: {{url: '{}', exchange: decode.named}}\nffmpeg: {{path: {}}}\n{breaker}\n{ON}\
         cameras:\n- {{id: gate, url: {film}, decode: vaapi}}\n- {{id: well, url: {film}}}\n",
        rabbit.url(),
        ffmpeg(),
        film = film.path().display(),
    );
    let mut daemon = Daemon::start(&config);
    let line = daemon.wait_for_log("failed too often", 3 * SOON);
    let cause = "gate: the decoder vaapi cannot be used: No device available for decoder: device \
                 type vaapi needed for codec h264; install its driver, let the service's user open \
                 its device, or set decode: auto";
    assert!(line.contains(cause), "{line}");
    consumer.wait_for("well", 5, SOON);
    // One line when it begins, one when the breaker opens.
    let lines = daemon.log_with("the decoder vaapi");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("; starting again in "), "{lines:#?}");
    let http = daemon.http();
    let gate = wait_for(SOON, "the open breaker", || {
        let gate = camera(http, "gate");
        (gate["breaker"] == "open").then_some(gate)
    });
    assert_eq!(gate["decoder"], Value::Null);
    let words = gate["words"].as_str().unwrap();
    assert!(
        words.ends_with(" after 3 failures: the decoder vaapi cannot be used"),
        "{words}"
    );
    assert_eq!(decoders(http), ["camera_id=\"well\",decoder=\"software\""]);
    let exit = daemon.terminate();
    exit.report().check_accounting();
    let gate = exit.report().camera("gate");
    assert_eq!((gate.captured, gate.restarts("exited")), (0, 3));
}

#[test]
fn a_decoder_that_works_is_used_and_named() {
    let (rabbit, dev) = (Rabbit::shared(), Dev::with(&DEVICES));
    let consumer = Consumer::start(rabbit.port(), "decode.works");
    let dir = TempDir::new("decode-works");
    let file = |id: &str| dir.path().join(id);
    let camera_of = |id: &'static str, hardware: &str| {
        let file = file(id);
        let play = format!(
            "stream,hardware={hardware},tag={id},starts={}",
            file.display()
        );
        (id, play)
    };
    let config = fake_config(
        &rabbit.url(),
        "decode.works",
        ON,
        &[camera_of("auto", "vaapi"), camera_of("named", "v4l2m2m")],
    )
    .replace("{id: auto,", "{id: auto, decode: auto,")
    .replace("{id: named,", "{id: named, decode: v4l2m2m,");
    let mut daemon = Setup::new(&config).program(dev.program()).start();
    for (id, decoder) in [("auto", "vaapi"), ("named", "v4l2m2m")] {
        consumer.wait_for(id, 5, SOON);
        let line = daemon.wait_for_log(&format!("{id}: live: "), SOON);
        assert!(
            line.ends_with(&format!(" ms, decoded by {decoder}")),
            "{line}"
        );
        assert_eq!(camera(daemon.http(), id)["decoder"], decoder);
    }
    assert_eq!(steps(&daemon), [STEPS[0]]);
    // It names FFmpeg's decoder, and so asks for the codec first, without decoding.
    let begun = starts(&file("named"));
    assert!(
        begun[0].ends_with(" -map 0:v:0 -c copy -f null -"),
        "{begun:#?}"
    );
    assert!(begun[1].contains(" -c:v h264_v4l2m2m "), "{begun:#?}");
    assert_eq!((begun.len(), starts(&file("auto")).len()), (2, 2));
    let exit = daemon.terminate();
    exit.report().check_accounting();
    assert_eq!(exit.report().camera("named").restarts_in_all(), 0);
}
