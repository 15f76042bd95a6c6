//! Arguments, exit codes and the form of the log.

use crate::support::consumer::Consumer;
use crate::support::daemon::{Daemon, Report, Setup};
use crate::support::program::{Call, Ended, Listener};
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, TempDir, fake_config};
use rustix::process::Signal;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const V2: &str = include_str!("fixtures/v2-config.yaml");
const GOOD: &str = "cameras: [{id: door, url: lavfi:testsrc2}]\n";

fn run(args: &[&str]) -> Ended {
    Call::new(args).run()
}

#[track_caller]
fn said(ended: &Ended) -> (Option<i32>, &str, &str) {
    (ended.code(), ended.stdout.as_str(), ended.stderr.as_str())
}

fn one_camera(exchange: &str, more: &str) -> String {
    let cameras = [("door", "stream,tag=door".to_owned())];
    fake_config(&Rabbit::shared().url(), exchange, more, &cameras)
}

#[test]
fn version_and_help_are_printed_whatever_else_is_given() {
    let version = format!("edge-video {}\n", env!("CARGO_PKG_VERSION"));
    for args in [&["--version"][..], &["-V"], &["run", "--version"]] {
        assert_eq!(said(&run(args)), (Some(0), version.as_str(), ""));
    }
    for args in [&["--help"][..], &["-h"], &["watch", "--help"]] {
        let ended = run(args);
        let (code, stdout, stderr) = said(&ended);
        assert_eq!((code, stderr), (Some(0), ""));
        for word in ["run", "check", "watch", "--config", "RUST_LOG", "78"] {
            assert!(stdout.contains(word), "no {word} in\n{stdout}");
        }
    }
}

#[test]
fn the_manual_page_and_the_completions_know_what_the_help_knows() {
    let help = run(&["--help"]).stdout;
    let (usage, _) = help.split_once("\n\nFILE").unwrap();
    let mut known = vec![];
    for line in usage.lines() {
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        known.extend(words.filter(|word| word.starts_with("--")));
        let mut words = line
            .trim()
            .split(' ')
            .map(|word| word.trim_matches(['[', ']']));
        if words.next() == Some("edge-video") {
            known.extend(words.next().filter(|word| !word.starts_with('-')));
        }
    }
    assert!(known.contains(&"watch") && known.contains(&"--save"));
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    for file in [
        "man/edge-video.1",
        "completions/edge-video.bash",
        "completions/_edge-video",
        "completions/edge-video.fish",
    ] {
        let text = std::fs::read_to_string(packaging.join(file)).unwrap();
        let text = text.replace("\\-", "-").replace("-l ", "--");
        for word in &known {
            assert!(text.contains(word), "no {word} in {file}");
        }
    }
}

#[test]
fn wrong_usage_is_said_with_exit_code_2() {
    for (args, says) in [
        (
            &["start"][..],
            "there is no command \"start\"; see edge-video --help",
        ),
        (
            &["run", "twice"],
            "unexpected argument \"twice\"; see edge-video --help",
        ),
        (
            &["check", "door"],
            "unexpected argument \"door\"; see edge-video --help",
        ),
        (
            &["--nonsense"],
            "invalid option '--nonsense'; see edge-video --help",
        ),
        (&["-x"], "invalid option '-x'; see edge-video --help"),
        (
            &["run", "--save", "pictures"],
            "invalid option '--save'; see edge-video --help",
        ),
        (
            &["check", "--amqp", "amqp://localhost/"],
            "invalid option '--amqp'; see edge-video --help",
        ),
        (
            &["--config"],
            "missing argument for option '--config'; see edge-video --help",
        ),
        (
            &["watch", "--exchange"],
            "missing argument for option '--exchange'; see edge-video --help",
        ),
    ] {
        let expected = format!("edge-video: {says}\n");
        let ended = run(args);
        let expected = (Some(2), "", expected.as_str());
        assert_eq!(said(&ended), expected, "{args:?}");
    }
}

#[test]
fn the_configuration_is_found_however_it_is_named() {
    for args in [
        &["check", "-c", "my.yaml"][..],
        &["check", "-cmy.yaml"],
        &["check", "--config", "my.yaml"],
        &["--config=my.yaml", "check"],
        &["check", "-config", "my.yaml"],
        &["check", "-config=my.yaml"],
    ] {
        let ended = Call::new(args).file("my.yaml", GOOD).run();
        assert_eq!(ended.code(), Some(0), "{args:?}: {}", ended.stderr);
        assert!(ended.stdout.contains("id: door"), "{args:?}");
    }
    let ended = Call::new(&["check"]).file("config.yaml", GOOD).run();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("id: door"));
}

#[test]
fn a_missing_configuration_is_refused_with_its_name() {
    for command in ["run", "check", "watch"] {
        let ended = run(&[command, "--config", "nowhere/config.yaml"]);
        assert_eq!(
            said(&ended),
            (
                Some(78),
                "",
                "nowhere/config.yaml: cannot be read: No such file or directory\n"
            )
        );
    }
}

#[test]
fn a_refused_configuration_is_refused_with_every_problem() {
    let config = "\
fsp: 15
quality: 99
amqp:
  url: http://localhost/
cameras:
  - {id: a b, url: rtsp://h/1}
  - {id: door, url: gopher://h/}
  - {id: gate, url: /x, fps: '${EDGE_VIDEO_NEVER_SET}'}
";
    for command in ["run", "check", "watch"] {
        let ended = Call::new(&[command]).file("config.yaml", config).run();
        let lines: Vec<_> = ended.stderr.lines().collect();
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(78), ""));
        let expected = [
            "config.yaml:1: fsp: unknown key; did you mean \"fps\"?",
            "config.yaml:2: quality: 99 is out of range; 2 to 31 is allowed",
            "config.yaml:4: amqp.url: the scheme is unknown; allowed are amqp:// and amqps://",
            "config.yaml:6: cameras[0].id: ",
            "config.yaml:7: cameras[1].url: gopher:// is not a source; ",
            "config.yaml:8: cameras[2].fps: ${EDGE_VIDEO_NEVER_SET} is not set; ",
        ];
        assert_eq!(lines.len(), expected.len(), "{}", ended.stderr);
        for (line, start) in lines.iter().zip(expected) {
            assert!(line.starts_with(start), "{line}\nnot: {start}");
        }
    }
}

#[test]
fn a_file_of_version_2_is_accepted_unchanged() {
    let ended = Call::new(&["check", "-config", "v2.yaml"])
        .file("v2.yaml", V2)
        .run();
    assert_eq!(
        (ended.code(), ended.stderr.as_str()),
        (
            Some(0),
            "checking v2.yaml\n\
             warning: v2.yaml:9: amqp.prefetch_count: has no effect: it limits consumers, and this \
             program only publishes; remove it\n\
             OK: 6 cameras, 1 broker\n"
        )
    );
    for n in 1..=6 {
        assert!(ended.stdout.contains(&format!("- id: cam{n}\n")));
    }
    // The printed configuration can replace the file.
    let again = Call::new(&["check"])
        .file("config.yaml", &ended.stdout)
        .run();
    assert_eq!(again.code(), Some(0), "{}", again.stderr);
    assert_eq!(again.stdout, ended.stdout);
}

#[test]
fn what_check_prints_is_accepted_again() {
    let config = "\
amqp: {urls: [amqp://u:p4ssw0rd@a/, 'amqps://[::1]:1/a%2Fb'], connections: 0, max_in_flight: 7}
log: {format: json, level: trace}
http: {listen: '[::1]:1', pictures: never}
cameras:
  - {id: '007', url: \"rtsp://u:p4ssw0rd@h:1/?token=t0ken&x=${NAME}#y\", transport: udp}
  - {id: 'null', url: \"lavfi:testsrc2,drawtext=text='a: \\\\\\\"b\\\\\\\" # $${c}'\", width: 320}
  - {id: off, url: '/a b/ü.mp4', enabled: no, input_args: [-re, '', 'x: y'], fps: 1}
";
    let call = Call::new(&["check"]).env("NAME", "*&!%@`");
    let ended = call.file("config.yaml", config).run();
    let says = "checking config.yaml\nOK: 2 cameras (1 more disabled), 2 brokers\n";
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), says));
    assert!(!ended.stdout.contains("p4ssw0rd") && !ended.stdout.contains("t0ken"));
    let again = Call::new(&["check"])
        .file("config.yaml", &ended.stdout)
        .run();
    assert_eq!(again.code(), Some(0), "{}", again.stderr);
    assert_eq!(again.stdout, ended.stdout);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let checked = "checking config.yaml\nOK: 1 camera, 1 broker\n";
    for (args, says) in [
        (&["--help"][..], ""),
        (&["--version"], ""),
        (&["check"], checked),
    ] {
        let call = Call::new(args).file("config.yaml", GOOD);
        let ended = call.stdout(Listener::Gone).run();
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), says));
    }
    for args in [&["--nonsense"][..], &["check"]] {
        let call = Call::new(args).file("config.yaml", "fps: 99");
        let ended = call.stderr(Listener::Gone).run();
        assert!(matches!(ended.code(), Some(2 | 78)), "{ended:?}");
    }
}

#[test]
fn a_signal_ends_it_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = Daemon::start(&one_camera("command.signal", ""));
        daemon.wait_for_log("door: live", SOON);
        daemon.signal(signal);
        let exit = daemon.wait_exit(SOON);
        assert_eq!(exit.code(), Some(0), "{signal:?}");
        exit.report().check_accounting();
    }
}

/// `2026-11-20T10:11:12.123Z`, and digits to any precision.
fn is_time(text: &str) -> bool {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    shape.starts_with("0000-00-00T00:00:00.000") && shape.ends_with('Z')
}

#[test]
fn a_line_of_the_json_log_is_an_object_with_all_its_fields() {
    let config = one_camera("command.json", "log: {format: json, level: trace}");
    let mut daemon = Daemon::start(&config);
    daemon.wait_for_log("is acked", SOON);
    // A message of the program itself, with and without a camera, and one of a dependency.
    let exit = daemon.terminate();
    exit.report().check_accounting();
    let records: Vec<Value> = daemon
        .log()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for record in &records {
        let object = record.as_object().unwrap();
        assert!(is_time(object["ts"].as_str().unwrap()), "{record}");
        let level = object["level"].as_str().unwrap();
        assert!(["error", "warn", "info", "debug", "trace"].contains(&level));
        assert!(!object["target"].as_str().unwrap().is_empty());
        assert!(!object["msg"].as_str().unwrap().is_empty());
        assert!(matches!(
            object["camera_id"],
            Value::String(_) | Value::Null
        ));
    }
    let find = |part: &str| {
        let found = records.iter().find(|record| {
            let message = record["msg"].as_str().unwrap();
            message.contains(part)
        });
        found.unwrap_or_else(|| panic!("no {part}"))
    };
    let live = find("live: 320x240");
    assert_eq!(live["camera_id"], "door");
    assert_eq!(live["level"], "info");
    assert_eq!(live["target"], "edge_video::capture::session");
    assert_eq!(find("is acked")["level"], "trace");
    assert_eq!(find("connected to broker")["camera_id"], Value::Null);
    assert_eq!(find("{\"cameras\"")["target"], "edge_video::report");
    let report = records
        .iter()
        .find_map(|record| Report::from_log(&record.to_string()));
    assert_eq!(report, exit.report);
}

#[test]
fn a_line_of_the_text_log_has_a_time_unless_journald_adds_it() {
    let config = one_camera("command.text", "");
    let dir = TempDir::new("journal");
    let through = dir.path().join("edge-video");
    // First another stream is the journal, then stderr.
    for (journal, in_journal) in [
        ("8:12345", false),
        ("$(stat -Lc %d:%i /proc/self/fd/2)", true),
    ] {
        let script = format!(
            "#!/bin/sh\nexport JOURNAL_STREAM={journal}\nexec {} \"$@\"\n",
            env!("CARGO_BIN_EXE_edge-video")
        );
        std::fs::write(&through, script).unwrap();
        std::fs::set_permissions(&through, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut daemon = Setup::new(&config).program(through.clone()).start();
        let live = daemon.wait_for_log("door: live", SOON);
        let (first, rest) = live.split_once("INFO  ").unwrap();
        if in_journal {
            assert_eq!(first, "<6>", "{live}");
        } else {
            assert!(is_time(first.trim_end()), "{live}");
        }
        assert!(
            rest.starts_with("door: live: 320x240, first frame after "),
            "{live}"
        );
        daemon.terminate();
        if in_journal {
            for line in daemon.log() {
                assert!(
                    line.starts_with('<') && line.chars().nth(2) == Some('>'),
                    "{line}"
                );
            }
        }
    }
}

#[test]
fn rust_log_wins_over_the_configured_level() {
    for (configured, variable, traced) in [
        ("info", None, false),
        ("trace", None, true),
        ("info", Some("trace"), true),
        ("trace", Some("info"), false),
        (
            "error",
            Some("warn,edge_video::publish=trace,edge_video::report=info"),
            true,
        ),
    ] {
        let config = one_camera("command.level", &format!("log: {{level: {configured}}}"));
        let consumer = Consumer::start(Rabbit::shared().port(), "command.level");
        let mut setup = Setup::new(&config);
        if let Some(variable) = variable {
            setup = setup.env("RUST_LOG", variable);
        }
        let mut daemon = setup.start();
        consumer.wait_for("door", 3, SOON);
        daemon.terminate();
        let lines = daemon.log_with("is acked").len();
        assert_eq!(
            lines > 0,
            traced,
            "{configured} {variable:?}: {lines} lines"
        );
    }
}
