//! The loader as a whole: shipped files, every message, secrets, robustness.

use super::check::{
    AMQP_KEYS, CAMERA_KEYS, CIRCUIT_BREAKER_KEYS, FFMPEG_KEYS, HTTP_KEYS, LOG_KEYS,
    MEMORY_CONTROLLER_KEYS, METADATA_KEYS, ROOT_KEYS, TLS_KEYS,
};
use super::raw::{Document, Node, Value, scalar};
use super::*;
use crate::redact;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

const SAMPLE: &str = include_str!("../../config.yaml");
const V2: &str = include_str!("../../tests/fixtures/v2-config.yaml");
const MANUAL: &str = include_str!("../../packaging/man/edge-video.yaml.5");

/// One camera, which is all that a configuration needs.
const CAMERA: &str = "cameras: [{id: a, url: /a.mp4}]\n";

fn lookup(name: &str) -> Option<String> {
    match name {
        "FPS" => Some("7".to_owned()),
        "WAIT" => Some("250ms".to_owned()),
        "ON" => Some("true".to_owned()),
        "HOST" => Some("cam.example.com".to_owned()),
        "YAML" => Some("x, fps: 60}]\nfps: 1".to_owned()),
        "NUMBER" => Some("90".to_owned()),
        "SECRET" => Some("Bx7-lookup-55".to_owned()),
        _ => None,
    }
}

fn read_file(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/pem") => Ok(include_str!("../../tests/fixtures/certificate-and-key.pem").to_owned()),
        Some("/no-pem") => Ok("-----BEGIN".to_owned()),
        Some("/password") => Ok("Jn2-file-31\n".to_owned()),
        Some("/password-crlf") => Ok("Jn2-crlf-32\r\n".to_owned()),
        Some("/password-refused") => Ok("Uz4-05-file".to_owned()),
        Some("/empty") => Ok("\n".to_owned()),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
    }
}

fn parse(text: &str) -> Result<Loaded, ConfigErrors> {
    let exists = |path: &Path| !path.starts_with("/missing") && path != Path::new("/dev/video9");
    Config::parse_with(text, "c.yaml", &lookup, &read_file, &exists)
}

fn config(text: &str) -> Config {
    parse(text)
        .unwrap_or_else(|errors| panic!("{text}\n{errors}"))
        .config
}

fn errors(text: &str) -> String {
    match parse(text) {
        Ok(_) => String::new(),
        Err(errors) => errors.to_string(),
    }
}

/// The only camera of a configuration with this camera section in flow style.
fn camera(section: &str) -> Camera {
    let mut cameras = config(&format!("cameras: [{{{section}}}]")).cameras;
    assert_eq!(cameras.len(), 1);
    cameras.remove(0)
}

fn endpoint(url: &str) -> Endpoint {
    config(&format!("{CAMERA}amqp: {{url: '{url}'}}"))
        .amqp
        .endpoints
        .remove(0)
}

#[test]
fn without_any_setting_all_is_default() {
    for text in [
        CAMERA.to_owned(),
        format!(
            "---\n{CAMERA}amqp:\ncircuit_breaker:\nmemory_controller: {{}}\nhttp: ~\nlog:\nfps:\n"
        ),
    ] {
        let config = config(&text);
        assert_eq!(config.amqp, Amqp::default());
        assert_eq!(config.circuit_breaker, CircuitBreaker::default());
        assert_eq!(config.memory_controller, MemoryController::default());
        assert_eq!(config.metadata, Metadata::default());
        assert_eq!(config.http, Http::default());
        assert_eq!(config.log, Log::default());
        assert_eq!(config.ffmpeg_path, Path::new("ffmpeg"));
        assert_eq!(config.max_frame_bytes, 8 << 20);
        assert_eq!(
            config.cameras,
            [Camera {
                id: "a".into(),
                source: Source {
                    kind: SourceKind::File,
                    address: Secret::new("/a.mp4"),
                    host: None
                },
                exchange: "cameras".to_owned(),
                routing_key: "camera.a".to_owned(),
                fps: 15,
                quality: 5,
                width: None,
                height: None,
                transport: Transport::Tcp,
                stale_timeout: Duration::from_secs(5),
                first_frame_timeout: Duration::from_secs(20),
                input_args: Vec::new(),
                output_args: Vec::new(),
                enabled: true,
            }]
        );
    }
}

#[test]
fn pictures_and_events_may_share_amq_topic() {
    let config = config(
        "
amqp: {exchange: amq.topic}
metadata: {enabled: true, exchange: amq.topic}
cameras: [{id: a, url: 'lavfi:testsrc'}]
",
    );
    assert_eq!(&*config.cameras[0].exchange, "amq.topic");
    assert_eq!(&*config.metadata.exchange, "amq.topic");
}

#[test]
fn every_setting_arrives() {
    let config = config(
        "
fps: 20
quality: 3
amqp:
  urls: ['amqps://b1.example.com', 'amqp://[2001:db8::1]:5673/v%2Fh']
  username: edge
  password_file: /password
  tls: {ca_file: /pem, cert_file: /pem, key_file: /pem}
  exchange: amq.topic
  routing_key_prefix: ''
  connections: 0
  max_in_flight: 8
  max_age: 2s
  confirm_timeout: 3s
  slow_publish: 1.5s
  heartbeat: 1m
  connect_timeout: 4s
  mandatory: yes
circuit_breaker:
  enabled: false
  max_failures: 6
  half_open_successes: 4
  initial_backoff: 1s
  max_backoff: 1m30s
  backoff_multiplier: 1
  reset_timeout: 1m
memory_controller:
  enabled: off
  max_memory_mb: 512
  warning_percent: 50
  critical_percent: 60.5
  emergency_percent: 100
  gc_trigger_percent: 55
  check_interval: 1s
cameras:
  - id: a
    url: rtsp://cam.example.com/s
    exchange: x
    routing_key: k
    fps: 1
    quality: 31
    width: 640
    height: 360
    transport: auto
    stale_timeout: 2s
    first_frame_timeout: 3s
    username: u
    password: Hq1-plain-08
    input_args: [-an, -analyzeduration, 1000]
    output_args: [-vf, 'scale=640:-2']
    enabled: true
  - {id: b, url: /dev/video0, fps: 1, enabled: no, transport: udp}
ffmpeg: {path: /opt/ffmpeg}
max_frame_bytes: 1MB
metadata: {enabled: true, exchange: plant.events, frames: yes}
http: {enabled: false, listen: '[::1]:80', hosts: [board.lan, '::1'], pictures: never}
log: {level: off, format: json, summary: 1m30s}
",
    );
    assert_eq!(
        config.amqp,
        Amqp {
            endpoints: vec![
                Endpoint {
                    tls: true,
                    host: "b1.example.com".to_owned(),
                    port: 5671,
                    vhost: "/".to_owned(),
                    username: "edge".to_owned(),
                    password: Secret::new("Jn2-file-31"),
                },
                Endpoint {
                    tls: false,
                    host: "2001:db8::1".to_owned(),
                    port: 5673,
                    vhost: "v/h".to_owned(),
                    username: "edge".to_owned(),
                    password: Secret::new("Jn2-file-31"),
                },
            ],
            tls: Tls {
                ca_file: Some("/pem".into()),
                cert_file: Some("/pem".into()),
                key_file: Some("/pem".into()),
            },
            exchange: "amq.topic".to_owned(),
            routing_key_prefix: String::new(),
            connections: 0,
            max_in_flight: MaxInFlight::Fixed(8),
            max_age: Duration::from_secs(2),
            confirm_timeout: Duration::from_secs(3),
            slow_publish: Duration::from_millis(1500),
            heartbeat: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(4),
            mandatory: true,
        }
    );
    assert_eq!(
        config.circuit_breaker,
        CircuitBreaker {
            enabled: false,
            max_failures: 6,
            half_open_successes: 4,
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(90),
            backoff_multiplier: 1.0,
            reset_timeout: Duration::from_secs(60),
        }
    );
    assert_eq!(
        config.memory_controller,
        MemoryController {
            enabled: false,
            max_memory_mb: 512,
            warning_percent: 50.0,
            critical_percent: 60.5,
            emergency_percent: 100.0,
            gc_trigger_percent: 55.0,
            check_interval: Duration::from_secs(1),
        }
    );
    assert_eq!(
        config.cameras[0],
        Camera {
            id: "a".into(),
            source: Source {
                kind: SourceKind::Rtsp,
                address: Secret::new("rtsp://u:Hq1-plain-08@cam.example.com/s"),
                host: Some("cam.example.com".to_owned()),
            },
            exchange: "x".to_owned(),
            routing_key: "k".to_owned(),
            fps: 1,
            quality: 31,
            width: Some(640),
            height: Some(360),
            transport: Transport::Auto,
            stale_timeout: Duration::from_secs(2),
            first_frame_timeout: Duration::from_secs(3),
            input_args: ["-an", "-analyzeduration", "1000"]
                .map(str::to_owned)
                .to_vec(),
            output_args: ["-vf", "scale=640:-2"].map(str::to_owned).to_vec(),
            enabled: true,
        }
    );
    let b = &config.cameras[1];
    assert_eq!(
        (b.source.kind, b.transport, b.enabled),
        (SourceKind::V4l2, Transport::Udp, false)
    );
    assert_eq!((b.quality, b.routing_key.as_str()), (3, "b"));
    assert_eq!(
        b.stale_timeout,
        Duration::from_secs(10),
        "ten frames at 1 fps"
    );
    assert_eq!(config.ffmpeg_path, Path::new("/opt/ffmpeg"));
    assert_eq!(config.max_frame_bytes, 1_000_000);
    assert_eq!(
        config.metadata,
        Metadata {
            enabled: true,
            exchange: "plant.events".to_owned(),
            frames: true,
        }
    );
    assert_eq!(
        config.http,
        Http {
            enabled: false,
            listen: "[::1]:80".parse().unwrap(),
            hosts: vec!["board.lan".to_owned(), "::1".to_owned()],
            pictures: Pictures::Never
        }
    );
    assert_eq!(
        config.log,
        Log {
            level: log::LevelFilter::Off,
            format: LogFormat::Json,
            summary: Some(Duration::from_secs(90)),
        }
    );
}

#[test]
fn a_version_2_file_works_unchanged() {
    let Loaded { config, warnings } = parse(V2).unwrap();
    assert_eq!(
        warnings,
        [
            "c.yaml:9: amqp.prefetch_count: has no effect: it limits consumers, and this program \
             only publishes; remove it"
        ]
    );
    assert_eq!(
        config.amqp.endpoints,
        [Endpoint {
            tls: false,
            host: "broker.example.com".to_owned(),
            port: 5672,
            vhost: "plant".to_owned(),
            username: "edge".to_owned(),
            password: Secret::new("Zr4-dock-warden"),
        }]
    );
    assert_eq!(config.amqp.exchange, "plant.cameras");
    assert_eq!(
        config.circuit_breaker.reset_timeout,
        Duration::from_secs(60)
    );
    assert_eq!(config.memory_controller.max_memory_mb, 2048);
    let cameras: Vec<_> = config
        .cameras
        .iter()
        .map(|c| {
            (
                &*c.id,
                c.source.kind,
                c.exchange.as_str(),
                c.routing_key.as_str(),
            )
        })
        .collect();
    assert_eq!(
        cameras,
        [
            ("cam1", SourceKind::Rtsp, "yard", "yard.north"),
            ("cam2", SourceKind::Rtsp, "yard", "yard.south"),
            ("cam3", SourceKind::Rtsp, "gates", "gate.main"),
            ("cam4", SourceKind::Rtsp, "gates", "gate.ramp"),
            ("cam5", SourceKind::Rtmp, "hall", "hall.stage"),
            ("cam6", SourceKind::Rtsp, "hall", "hall.door"),
        ]
    );
    assert_eq!(
        config.cameras[0].source.address.expose(),
        "rtsp://admin:Vq8-yard-41@192.0.2.11:554/cam/realmonitor?channel=1&subtype=0"
    );
    assert_eq!(
        config.cameras[2].source.address.expose(),
        "rtsp://viewer:Mt5@gate%2377@gate.example.com/cam/realmonitor?channel=1&subtype=1",
        "only the #, which would end the host for FFmpeg, is encoded"
    );
    assert_eq!(
        config.cameras[2].source.host.as_deref(),
        Some("gate.example.com")
    );
}

// The shipped sample.

/// The sample with every commented key taken into use.
fn uncommented_sample() -> String {
    let mut out = String::new();
    for line in SAMPLE.lines() {
        let text = line.trim_start();
        let is_key = text
            .strip_prefix('#')
            .is_some_and(|t| t.starts_with(char::is_alphabetic));
        match is_key {
            true => out.push_str(&line.replacen('#', "", 1)),
            false => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[test]
fn the_sample_holds_the_defaults() {
    let live = parse(SAMPLE).unwrap();
    let full = parse(&uncommented_sample()).unwrap();
    assert_eq!(live.config, full.config, "commented keys are the defaults");
    assert!(live.warnings.is_empty() && full.warnings.is_empty());

    let bare = config(CAMERA);
    let mut sample = live.config;
    let cameras = std::mem::replace(&mut sample.cameras, bare.cameras.clone());
    assert_eq!(sample, bare, "live keys are the defaults too");

    assert_eq!(cameras.len(), 3);
    for camera in cameras {
        assert_eq!(camera.source.kind, SourceKind::Lavfi);
        assert!(camera.source.address.expose().contains("640x360"));
        assert_eq!(
            Camera {
                id: bare.cameras[0].id.clone(),
                source: bare.cameras[0].source.clone(),
                routing_key: bare.cameras[0].routing_key.clone(),
                ..camera
            },
            bare.cameras[0]
        );
    }
}

fn keys<'n>(node: &'n Node, path: &[&str]) -> Vec<&'n str> {
    let Value::Map(entries) = &node.value else {
        panic!("no section {path:?}")
    };
    match path.split_first() {
        None => entries.iter().map(|entry| entry.key.as_str()).collect(),
        Some((first, rest)) => {
            let mut child = &entries
                .iter()
                .find(|entry| entry.key == *first)
                .unwrap()
                .value;
            if let Value::List(items) = &child.value {
                child = &items[0];
            }
            keys(child, rest)
        }
    }
}

/// Sections, and the keys that each may have.
const SECTIONS: [(&[&str], &[&str]); 10] = [
    (&[], ROOT_KEYS),
    (&["amqp"], AMQP_KEYS),
    (&["amqp", "tls"], TLS_KEYS),
    (&["circuit_breaker"], CIRCUIT_BREAKER_KEYS),
    (&["memory_controller"], MEMORY_CONTROLLER_KEYS),
    (&["metadata"], METADATA_KEYS),
    (&["cameras"], CAMERA_KEYS),
    (&["ffmpeg"], FFMPEG_KEYS),
    (&["http"], HTTP_KEYS),
    (&["log"], LOG_KEYS),
];

#[test]
fn the_sample_names_every_key() {
    let text = uncommented_sample();
    let document = Document::parse(&text).unwrap();
    for (path, known) in SECTIONS {
        let mut named = keys(&document.root, path);
        let mut known = known.to_vec();
        named.sort_unstable();
        known.sort_unstable();
        assert_eq!(named, known, "{path:?}");
    }
}

/// The scalars of `node` with their full path, as the manual has it.
fn scalars(node: &Node, path: &str, found: &mut BTreeMap<String, String>) {
    match &node.value {
        Value::Map(entries) => {
            for entry in entries {
                let dot = if path.is_empty() { "" } else { "." };
                scalars(&entry.value, &format!("{path}{dot}{}", entry.key), found);
            }
        }
        Value::List(items) if !items.is_empty() => scalars(&items[0], &format!("{path}[]"), found),
        Value::List(_) => drop(found.insert(path.to_owned(), "[]".to_owned())),
        _ => drop(found.insert(path.to_owned(), node.text.clone())),
    }
}

#[test]
fn the_manual_page_has_every_key_with_its_default() {
    let sections: Vec<String> = SECTIONS.iter().map(|(path, _)| path.join(".")).collect();
    let mut known = BTreeSet::new();
    for ((path, keys), section) in SECTIONS.iter().zip(&sections) {
        let list = if *path == ["cameras"] { "[]" } else { "" };
        for key in *keys {
            let name = match path {
                [] => (*key).to_owned(),
                _ => format!("{section}{list}.{key}"),
            };
            if !sections.contains(&name) {
                known.insert(name);
            }
        }
    }
    let mut defaults = BTreeMap::new();
    let text = uncommented_sample();
    scalars(&Document::parse(&text).unwrap().root, "", &mut defaults);

    let mut named = BTreeSet::new();
    let tags = MANUAL.split(".TP\n").skip(1);
    for tag in tags.map(|entry| entry.lines().next().unwrap()) {
        let (_, tag) = tag.split_once(' ').unwrap();
        for item in tag.replace('"', "").split(',') {
            let mut words = item.split_whitespace();
            let key = words.next().unwrap().to_owned();
            if let Some(default) = words.next() {
                let default = default.trim_matches(['(', ')']);
                assert_eq!(default, defaults[&key], "default of {key}");
            }
            assert!(named.insert(key), "{item} is there twice");
        }
    }
    assert_eq!(named, known);
}

#[test]
fn the_sample_camera_in_the_comment_works() {
    let example: String = SAMPLE
        .lines()
        .skip_while(|line| *line != "# - id: gate")
        .take_while(|line| line.starts_with("# "))
        .map(|line| format!("{}\n", &line[2..]))
        .collect();
    let text = format!("cameras:\n{}", example.replace("GATE_PASSWORD", "SECRET"));
    assert_eq!(
        config(&text).cameras[0].source.address.expose(),
        "rtsp://viewer:Bx7-lookup-55@192.0.2.10:554/stream1"
    );
}

// Messages, word for word.

#[track_caller]
fn refused(text: &str, lines: &[&str]) {
    let expected: Vec<String> = lines.iter().map(|line| format!("c.yaml:{line}")).collect();
    assert_eq!(errors(text), expected.join("\n"), "{text}");
}

/// `section`, in line 2, besides a camera in line 1.
#[track_caller]
fn section_refused(section: &str, lines: &[&str]) {
    refused(&format!("{CAMERA}{section}"), lines);
}

/// The camera `- id: a`, with `keys` from line 3 on.
#[track_caller]
fn camera_refused(keys: &str, lines: &[&str]) {
    let keys: String = keys.lines().map(|line| format!("    {line}\n")).collect();
    refused(&format!("cameras:\n  - id: a\n{keys}"), lines);
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    refused(
        "\
fps: 90
log:
  level: loud
cameras:
  - id: gate
    url: rtsp://192.0.2.1/
  - id: gate
    url: rtsp://192.0.2.2/
    transprot: udp
    fps: ten
amqp:
  max_age: 5
",
        &[
            "1: fps: 90 is out of range; 1 to 60 is allowed",
            "3: log.level: \"loud\" is unknown; allowed are off, error, warn, info, debug, trace",
            "7: cameras[1].id: \"gate\" is the id of cameras[0] too; ids are unique",
            "9: cameras[1].transprot: unknown key; did you mean \"transport\"?",
            "10: cameras[1].fps: \"ten\" is not a whole number; 1 to 60 is allowed",
            "12: amqp.max_age: a unit is missing: write 5s; 10ms to 1h is allowed",
        ],
    );
}

#[test]
fn the_parts_of_a_problem_can_be_had() {
    let errors = parse("fps: 90\ncameras: [{id: a, url: b}]").unwrap_err();
    assert_eq!(
        errors.errors(),
        [ConfigError {
            file: "c.yaml".to_owned(),
            line: Some(1),
            key: "fps".to_owned(),
            message: "90 is out of range; 1 to 60 is allowed".to_owned(),
        }]
    );
}

#[test]
fn what_is_not_yaml_is_refused_with_its_line() {
    refused(
        "fps: 1\nlog: {level: info\ncameras:\n",
        &[
            "3: not valid YAML: did not find expected ',' or '}' at line 3 column 8, while parsing \
             a flow mapping at line 2 column 6",
        ],
    );
    refused(
        "fps: 1\n\tquality: 2\n",
        &[
            "2: not valid YAML: found a tab character that violates indentation at line 2 column \
             1, while scanning a plain scalar at line 1 column 6",
        ],
    );
    refused(
        "fps: 1\nlog: !x {}\n",
        &["2: not valid YAML: tags such as !name are not allowed at line 2 column 6"],
    );
    refused(
        "fps: *x",
        &["1: not valid YAML: unknown anchor at line 1 column 6"],
    );
    refused(
        "fps: 1\n[a]: 2",
        &["2: not valid YAML: invalid type: sequence, expected a name as key at line 2 column 1"],
    );
    refused(
        "log: {<<: 5}",
        &["1: not valid YAML: << wants a section or a list of sections"],
    );
    refused(
        "fps: 1\n---\nfps: 2\n",
        &[
            "1: not valid YAML: deserializing from YAML containing more than one document is not \
           supported",
        ],
    );
}

#[test]
fn the_structure_is_checked() {
    let none = "cameras: no camera; list at least one with an id and a url";
    refused("", &[&format!("1: {none}")]);
    refused("# only this\n", &[&format!("1: {none}")]);
    refused("fps: 5\n\ncameras: []\n", &[&format!("3: {none}")]);
    refused("\nfps: 5\ncameras:\n", &[&format!("2: {none}")]);
    refused(
        "cameras:\n  - {id: a, url: b, enabled: false}\n",
        &["1: cameras: no camera is enabled; at least one must be"],
    );
    refused(
        "- fps: 5",
        &[
            "1: a list is not a section; its keys are fps, quality, amqp, circuit_breaker, \
             memory_controller, metadata, cameras, ffmpeg, max_frame_bytes, http, log",
            &format!("1: {none}"),
        ],
    );
    refused(
        "cameras: {id: a}",
        &["1: cameras: a section is not a list; write a list of cameras"],
    );
    refused(
        "cameras:\n  - a\n  -\n",
        &[
            &format!(
                "2: cameras[0]: text is not a section; its keys are {}",
                CAMERA_KEYS.join(", ")
            ),
            "2: cameras[0].id: missing; every camera wants a unique one",
            &format!("2: cameras[0].url: missing; {SOURCES}"),
            &format!(
                "3: cameras[1]: nothing is not a section; its keys are {}",
                CAMERA_KEYS.join(", ")
            ),
            "3: cameras[1].id: missing; every camera wants a unique one",
            &format!("3: cameras[1].url: missing; {SOURCES}"),
        ],
    );
    section_refused(
        "log:\n  level: info\n  format: text\n  level: warn\n",
        &["5: log.level: given twice; once is allowed"],
    );
    section_refused(
        "ffmpeg: {colour: 5}",
        &["2: ffmpeg.colour: unknown key; known are path"],
    );
    section_refused(
        "ffmpeg: {path: [a]}\nlog: true\n",
        &[
            "2: ffmpeg.path: a list is not a value; write text",
            "3: log: true or false is not a section; its keys are level, format, summary",
        ],
    );
    section_refused(
        "\"fps\\n\": 5",
        &["2: fps…: unknown key; did you mean \"fps\"?"],
    );
}

const SOURCES: &str = "allowed are rtsp://, rtsps://, rtmp://, rtmps://, http://, https://, the \
                       path of a file, /dev/video0 and the like, lavfi:GRAPH";

#[test]
fn values_are_checked() {
    for (section, message) in [
        ("fps: 0", "fps: 0 is out of range; 1 to 60 is allowed"),
        ("fps: -1", "fps: -1 is out of range; 1 to 60 is allowed"),
        (
            "fps: 12.5",
            "fps: 12.5 is not a whole number; 1 to 60 is allowed",
        ),
        (
            "fps: '15'",
            "fps: \"15\" is not a whole number; 1 to 60 is allowed",
        ),
        (
            "fps: .nan",
            "fps: .nan is not a whole number; 1 to 60 is allowed",
        ),
        (
            "fps: 1e300",
            "fps: 1e300 is out of range; 1 to 60 is allowed",
        ),
        (
            "fps: 99999999999999999999999999",
            "fps: 99999999999999999999999999 is out of range; 1 to 60 is allowed",
        ),
        (
            "fps: {a: 1}",
            "fps: a section is not a value; 1 to 60 is allowed",
        ),
        (
            "quality: 1",
            "quality: 1 is out of range; 2 to 31 is allowed",
        ),
        (
            "quality: 32",
            "quality: 32 is out of range; 2 to 31 is allowed",
        ),
        (
            "http: {enabled: maybe}",
            "http.enabled: \"maybe\" is neither; true or false is allowed",
        ),
        (
            "http: {enabled: 1}",
            "http.enabled: 1 is neither; true or false is allowed",
        ),
        (
            "http: {listen: ':2112'}",
            "http.listen: \":2112\" does not fit; write ADDRESS:PORT such as 127.0.0.1:2112 or \
             [::1]:2112",
        ),
        (
            "http: {hosts: ['board.lan:2112', '']}",
            "http.hosts[0]: \"board.lan:2112\" does not fit; write a name or an address without \
             scheme and port, such as board.lan\n\
             c.yaml:2: http.hosts[1]: \"\" does not fit; write a name or an address without scheme \
             and port, such as board.lan",
        ),
        (
            "http: {pictures: no}",
            "http.pictures: \"no\" is unknown; allowed are never, loopback, always",
        ),
        (
            "metadata: {enabled: 1}",
            "metadata.enabled: 1 is neither; true or false is allowed",
        ),
        (
            "metadata: {frames: all}",
            "metadata.frames: \"all\" is neither; true or false is allowed",
        ),
        (
            "metadata: {frame: true}",
            "metadata.frame: unknown key; did you mean \"frames\"?",
        ),
        (
            "metadata: yes",
            "metadata: text is not a section; its keys are enabled, exchange, frames",
        ),
        (
            "metadata: {exchange: amq.fanout}",
            "metadata.exchange: names that begin with amq. are the broker's own; of these only \
             amq.topic is allowed",
        ),
        (
            "metadata: {exchange: ''}",
            "metadata.exchange: empty; write some text, or leave the key out",
        ),
        (
            "metadata: {enabled: true, exchange: cameras}",
            "metadata.exchange: \"cameras\" is the exchange of cameras[0]; another one is allowed",
        ),
        (
            "log: {format: xml}",
            "log.format: \"xml\" is unknown; allowed are text, json",
        ),
        (
            "log: {format: 5}",
            "log.format: 5 is unknown; allowed are text, json",
        ),
        (
            "log: {summary: 10ms}",
            "log.summary: \"10ms\" does not fit; off or 1s to 24h is allowed",
        ),
        (
            "ffmpeg: {path: ''}",
            "ffmpeg.path: empty; write some text, or leave the key out",
        ),
        (
            "ffmpeg: {path: \"a\\nb\"}",
            "ffmpeg.path: a line break or another control character; only printable text is \
             allowed",
        ),
        (
            "max_frame_bytes: 1KiB",
            "max_frame_bytes: \"1KiB\" is out of range; 64KiB to 64MiB is allowed",
        ),
        (
            "max_frame_bytes: 65535",
            "max_frame_bytes: 65535 is out of range; 64KiB to 64MiB is allowed",
        ),
        (
            "max_frame_bytes: 65MiB",
            "max_frame_bytes: \"65MiB\" is out of range; 64KiB to 64MiB is allowed",
        ),
        (
            "max_frame_bytes: big",
            "max_frame_bytes: \"big\" is not a size such as 8MiB, 512KiB, 1MB or a number of \
             bytes; 64KiB to 64MiB is allowed",
        ),
        (
            "amqp: {connections: 65}",
            "amqp.connections: 65 is out of range; 0 to 64 is allowed",
        ),
        (
            "amqp: {connections: -1}",
            "amqp.connections: -1 is out of range; 0 to 64 is allowed",
        ),
        (
            "amqp: {max_in_flight: 0}",
            "amqp.max_in_flight: 0 does not fit; auto or 1 to 256 is allowed",
        ),
        (
            "amqp: {max_in_flight: 257}",
            "amqp.max_in_flight: 257 does not fit; auto or 1 to 256 is allowed",
        ),
        (
            "amqp: {max_in_flight: Auto}",
            "amqp.max_in_flight: \"Auto\" does not fit; auto or 1 to 256 is allowed",
        ),
        (
            "amqp: {max_age: 9ms}",
            "amqp.max_age: \"9ms\" is out of range; 10ms to 1h is allowed",
        ),
        (
            "amqp: {max_age: 61m}",
            "amqp.max_age: \"61m\" is out of range; 10ms to 1h is allowed",
        ),
        (
            "amqp: {max_age: 1.5}",
            "amqp.max_age: a unit is missing: write 1.5s; 10ms to 1h is allowed",
        ),
        (
            "amqp: {max_age: '7'}",
            "amqp.max_age: a unit is missing: write 7s; 10ms to 1h is allowed",
        ),
        (
            "amqp: {max_age: -1s}",
            "amqp.max_age: \"-1s\" is not a duration such as 100ms, 5s, 5m, 1h; 10ms to 1h is \
             allowed",
        ),
        (
            "amqp: {max_age: .inf}",
            "amqp.max_age: .inf is not a duration such as 100ms, 5s, 5m, 1h; 10ms to 1h is allowed",
        ),
        (
            "amqp: {confirm_timeout: 99ms}",
            "amqp.confirm_timeout: \"99ms\" is out of range; 100ms to 10m is allowed",
        ),
        (
            "amqp: {connect_timeout: 11m}",
            "amqp.connect_timeout: \"11m\" is out of range; 100ms to 10m is allowed",
        ),
        (
            "amqp: {slow_publish: 0s}",
            "amqp.slow_publish: \"0s\" is out of range; 1ms to 1h is allowed",
        ),
        (
            "amqp: {heartbeat: 0s}",
            "amqp.heartbeat: \"0s\" is out of range; 1s to 10m is allowed",
        ),
        (
            "amqp: {heartbeat: 1.5s}",
            "amqp.heartbeat: not a number of whole seconds; 1s to 10m is allowed",
        ),
        (
            "amqp: {mandatory: 2}",
            "amqp.mandatory: 2 is neither; true or false is allowed",
        ),
        (
            "amqp: {prefetch_count: x}",
            "amqp.prefetch_count: \"x\" is not a whole number; 0 to 18446744073709551615 is \
             allowed",
        ),
        (
            "amqp: {exchange: ''}",
            "amqp.exchange: empty; write some text, or leave the key out",
        ),
        (
            "amqp: {exchange: amq.direct}",
            "amqp.exchange: names that begin with amq. are the broker's own; of these only \
             amq.topic is allowed",
        ),
        (
            "circuit_breaker: {max_failures: 0}",
            "circuit_breaker.max_failures: 0 is out of range; 1 to 1000 is allowed",
        ),
        (
            "circuit_breaker: {half_open_successes: 1001}",
            "circuit_breaker.half_open_successes: 1001 is out of range; 1 to 1000 is allowed",
        ),
        (
            "circuit_breaker: {backoff_multiplier: 0.9}",
            "circuit_breaker.backoff_multiplier: 0.9 is out of range; 1 to 10 is allowed",
        ),
        (
            "circuit_breaker: {backoff_multiplier: .nan}",
            "circuit_breaker.backoff_multiplier: .nan is out of range; 1 to 10 is allowed",
        ),
        (
            "circuit_breaker: {backoff_multiplier: x}",
            "circuit_breaker.backoff_multiplier: \"x\" is not a number; 1 to 10 is allowed",
        ),
        (
            "circuit_breaker: {initial_backoff: 50ms}",
            "circuit_breaker.initial_backoff: \"50ms\" is out of range; 100ms to 24h is allowed",
        ),
        (
            "circuit_breaker: {initial_backoff: 6m}",
            "circuit_breaker.initial_backoff: 6m is longer than max_backoff; up to max_backoff, \
             5m, is allowed",
        ),
        (
            "circuit_breaker: {max_backoff: 1s}",
            "circuit_breaker.initial_backoff: 5s is longer than max_backoff; up to max_backoff, \
             1s, is allowed",
        ),
        (
            "circuit_breaker: {reset_timeout: 25h}",
            "circuit_breaker.reset_timeout: \"25h\" is out of range; 100ms to 24h is allowed",
        ),
        (
            "memory_controller: {max_memory_mb: 1000001}",
            "memory_controller.max_memory_mb: 1000001 is out of range; 0 to 1000000 is allowed",
        ),
        (
            "memory_controller: {warning_percent: 0.5}",
            "memory_controller.warning_percent: 0.5 is out of range; 1 to 100 is allowed",
        ),
        (
            "memory_controller: {gc_trigger_percent: 101}",
            "memory_controller.gc_trigger_percent: 101 is out of range; 1 to 100 is allowed",
        ),
        (
            "memory_controller: {warning_percent: 75.0}",
            "memory_controller: 75, 75, 85 do not rise; allowed is warning_percent < \
             critical_percent < emergency_percent",
        ),
        (
            "memory_controller: {check_interval: 2h}",
            "memory_controller.check_interval: \"2h\" is out of range; 100ms to 1h is allowed",
        ),
    ] {
        section_refused(section, &[&format!("2: {message}")]);
    }
    let long = "x".repeat(256);
    section_refused(
        &format!("amqp:\n  exchange: {long}\n  routing_key_prefix: {long}"),
        &[
            "3: amqp.exchange: 256 bytes are too long; 255 are allowed",
            "4: amqp.routing_key_prefix: 256 bytes are too long; 255 are allowed",
        ],
    );
    refused(
        &format!(
            "amqp: {{routing_key_prefix: {}}}\n{CAMERA}",
            "x".repeat(255)
        ),
        &[
            "2: cameras[0].id: amqp.routing_key_prefix and id have 256 bytes together; 255 are \
           allowed",
        ],
    );
}

#[test]
fn values_of_cameras_are_checked() {
    for (key, message) in [
        ("fps: 61", "fps: 61 is out of range; 1 to 60 is allowed"),
        (
            "quality: 1",
            "quality: 1 is out of range; 2 to 31 is allowed",
        ),
        (
            "width: 15",
            "width: 15 is out of range; 16 to 7680 is allowed",
        ),
        (
            "height: 7682",
            "height: 7682 is out of range; 16 to 7680 is allowed",
        ),
        (
            "width: 641",
            "width: 641 is odd; even numbers of 16 to 7680 are allowed",
        ),
        (
            "transport: http",
            "transport: \"http\" is unknown; allowed are tcp, udp, auto",
        ),
        (
            "stale_timeout: 500ms",
            "stale_timeout: \"500ms\" is out of range; 1s to 1h is allowed",
        ),
        (
            "first_frame_timeout: 2h",
            "first_frame_timeout: \"2h\" is out of range; 1s to 1h is allowed",
        ),
        (
            "enabled: 0",
            "enabled: 0 is neither; true or false is allowed",
        ),
        (
            "input_args: -an",
            "input_args: text is not a list; write a list of texts, one an argument",
        ),
        (
            "input_args: [-an, -i]",
            "input_args[1]: a second input; the only one allowed is url",
        ),
        (
            "output_args: [[x]]",
            "output_args[0]: a list is not a value; write text",
        ),
        (
            "output_args: [-an, ]\nexchange: ''",
            "exchange: empty; write some text, or leave the key out",
        ),
        (
            "exchange: amq.fanout",
            "exchange: names that begin with amq. are the broker's own; of these only amq.topic \
             is allowed",
        ),
        (
            "routing_key: ''",
            "routing_key: empty; write some text, or leave the key out",
        ),
        (
            "password: x",
            "password: url has no host to log in to; remove it",
        ),
        (
            "username: x",
            "username: url has no host to log in to; remove it",
        ),
    ] {
        let line = 3 + key.lines().count();
        camera_refused(
            &format!("url: /x\n{key}"),
            &[&format!("{line}: cameras[0].{message}")],
        );
    }
    let long = "é".repeat(128);
    camera_refused(
        &format!("url: /x\nrouting_key: {long}"),
        &["4: cameras[0].routing_key: 256 bytes are too long; 255 are allowed"],
    );
    for id in ["a b", "é", "a/b", "..", "."] {
        refused(
            &format!("cameras: [{{id: '{id}', url: /x}}]"),
            &[&format!(
                "1: cameras[0].id: \"{id}\" does not fit; 1 to 64 of A-Z a-z 0-9 . _ - are allowed"
            )],
        );
    }
    assert!(errors(&format!("cameras: [{{id: {}, url: /x}}]", "a".repeat(65))).contains("1 to 64"));
    assert_eq!(
        &*camera(&format!("id: {}, url: /x", "a".repeat(64))).id,
        "a".repeat(64)
    );
}

#[test]
fn camera_urls_are_checked() {
    for (url, message) in [
        ("rtsp:///x", "the host is missing; write SCHEME://HOST/"),
        (
            "rtsp://u:p-77-q@/x",
            "the host is missing; write SCHEME://HOST/",
        ),
        (
            "rtsp://h:x/",
            "the port is not a number of 1 to 65535; if this is part of a password that holds a \
             /, write the / as %2F",
        ),
        ("rtsp://::1/", "an IPv6 address wants brackets; write [::1]"),
        (
            "rtsp:/h/x",
            &format!("not a source; {SOURCES}; write file: before a file name with a colon"),
        ),
        (
            "concat:a|b",
            &format!("not a source; {SOURCES}; write file: before a file name with a colon"),
        ),
        (
            "gopher://u:p-78-q@h/",
            &format!("gopher:// is not a source; {SOURCES}"),
        ),
        ("file://host/x", "a file on another host; write file:/path"),
        ("file:", "the path is missing; write file:/path"),
        (
            "lavfi:",
            "the graph is missing; write lavfi:testsrc2 for example",
        ),
        (
            "-y",
            "begins with -, as an option of FFmpeg; write ./ before a file name",
        ),
        ("", "empty; write some text, or leave the key out"),
        ("a b://x", &format!("not a source; {SOURCES}")),
    ] {
        camera_refused(
            &format!("url: '{url}'"),
            &[&format!("3: cameras[0].url: {message}")],
        );
    }
    camera_refused(
        "url: rtsp://u:Gs2-url-60@h/\nusername: u\npassword: Gs2-key-61\npassword_file: /password",
        &[
            "4: cameras[0].username: cameras[0].url holds a user name too; one of the two is \
             allowed",
            "5: cameras[0].password: cameras[0].url holds a password too; one of the two is \
             allowed",
            "6: cameras[0].password_file: password is given too; one of the two is allowed",
        ],
    );
    camera_refused(
        "url: rtsp://h/\npassword_file: /nowhere",
        &[
            "4: cameras[0].password_file: /nowhere: no such file; name a file that can be read",
            "4: cameras[0].password_file: a user name is missing; give username too",
        ],
    );
    camera_refused(
        "url: rtsp://u@h/\npassword_file: /empty",
        &[
            "4: cameras[0].password_file: the file is not one line of text; write the password \
             into it",
        ],
    );
}

#[test]
fn broker_urls_are_checked() {
    for (url, message) in [
        (
            "http://h/",
            "the scheme is not known; allowed are amqp:// and amqps://",
        ),
        ("h", "not a URL; write SCHEME://HOST/"),
        ("amqp:///v", "the host is missing; write SCHEME://HOST/"),
        (
            "amqp://h:99999/",
            "the port is not a number of 1 to 65535; if this is part of a password that holds a \
             /, write the / as %2F",
        ),
        (
            "amqp://h/?heartbeat=5",
            "the parameter heartbeat in the URL; use the key amqp.heartbeat instead",
        ),
        (
            "amqp://h?connection_timeout=5",
            "the parameter connection_timeout in the URL; use the key amqp.connect_timeout instead",
        ),
        (
            "amqp://h/v?x=y",
            "a parameter in the URL; none is allowed, remove the ? and the rest",
        ),
        ("amqp://h/a#b", "a # in the virtual host; write it as %23"),
        (
            "amqp://u:Fw%zz-9@h/",
            "a % that is not followed by the two hexadecimal digits of a UTF-8 text; write a % \
             itself as %25",
        ),
        ("", "empty; write some text, or leave the key out"),
    ] {
        section_refused(
            &format!("amqp: {{url: '{url}'}}"),
            &[&format!("2: amqp.url: {message}")],
        );
    }
    section_refused(
        &format!("amqp: {{url: 'amqp://h/{}'}}", "x".repeat(256)),
        &["2: amqp.url: the virtual host has 256 bytes; 255 are allowed"],
    );
    section_refused(
        "amqp:\n  url: amqp://h/\n  urls: [amqp://h/]",
        &["4: amqp.urls: amqp.url is given too; one of the two is allowed"],
    );
    section_refused(
        "amqp: {urls: []}",
        &["2: amqp.urls: empty; list at least one URL, or leave the key out"],
    );
    section_refused(
        "amqp: {urls: amqp://h/}",
        &["2: amqp.urls: text is not a list; write a list of URLs"],
    );
    section_refused(
        "amqp:\n  urls:\n    - amqp://h/\n    - amqp://\n    - http://h/",
        &[
            "5: amqp.urls[1]: the host is missing; write SCHEME://HOST/",
            "6: amqp.urls[2]: the scheme is not known; allowed are amqp:// and amqps://",
        ],
    );
    section_refused(
        "amqp:\n  url: amqp://u:Ev3-url-14@h/\n  username: u\n  password: Ev3-key-15",
        &[
            "4: amqp.username: amqp.url holds a user name too; one of the two is allowed",
            "5: amqp.password: amqp.url holds a password too; one of the two is allowed",
        ],
    );
    section_refused(
        "amqp: {username: u}",
        &["2: amqp.username: a password is missing; give amqp.password or amqp.password_file too"],
    );
    for url in ["", "url: amqp://h/, "] {
        section_refused(
            &format!("amqp: {{{url}password: Ev3-key-16}}"),
            &["2: amqp.password: a user name is missing; give amqp.username too"],
        );
    }
}

#[test]
fn tls_files_are_checked() {
    section_refused(
        "amqp:\n  tls:\n    ca_file: /pem",
        &["4: amqp.tls.ca_file: no broker is addressed over TLS; write amqps:// in the URL"],
    );
    section_refused(
        "amqp:\n  url: amqps://h\n  tls:\n    ca_file: /nowhere/ca.pem\n    cert_file: /pem",
        &[
            "5: amqp.tls.ca_file: /nowhere/ca.pem: no such file; name a file that can be read",
            "6: amqp.tls.cert_file: key_file is missing; give both or none",
        ],
    );
    section_refused(
        "amqp: {url: amqps://h, tls: {key_file: /pem}}",
        &["2: amqp.tls.key_file: cert_file is missing; give both or none"],
    );
    section_refused(
        "amqp:\n  url: amqps://h\n  tls:\n    ca_file: /no-pem\n    cert_file: /no-pem\n    key_file: /pem",
        &[
            "5: amqp.tls.ca_file: /no-pem: no certificate in it; name a PEM file with the CA's \
             certificate",
            "6: amqp.tls.cert_file: /no-pem: no certificate in it; name a PEM file with the client's \
             certificate",
        ],
    );
}

// Values.

#[test]
fn broker_urls_are_read() {
    let full = |tls, host: &str, port, vhost: &str, username: &str, password: &str| Endpoint {
        tls,
        host: host.to_owned(),
        port,
        vhost: vhost.to_owned(),
        username: username.to_owned(),
        password: Secret::new(password),
    };
    for (url, wanted) in [
        ("amqp://h", full(false, "h", 5672, "/", "guest", "guest")),
        ("amqp://h/", full(false, "h", 5672, "/", "guest", "guest")),
        (
            "amqps://h/%2F",
            full(true, "h", 5671, "/", "guest", "guest"),
        ),
        (
            "AMQP://h:1/%2Fa%20b",
            full(false, "h", 1, "/a b", "guest", "guest"),
        ),
        (
            "amqp://u%40d:Ct5%2F-25@[::1]:5/v",
            full(false, "::1", 5, "v", "u@d", "Ct5/-25"),
        ),
        (
            "amqp://u:Ct6@x:26@h/v",
            full(false, "h", 5672, "v", "u", "Ct6@x:26"),
        ),
        ("amqp://u:@h/", full(false, "h", 5672, "/", "u", "")),
        (
            "amqp://[fe80::1%25eth0]/",
            full(false, "fe80::1%eth0", 5672, "/", "guest", "guest"),
        ),
    ] {
        assert_eq!(endpoint(url), wanted, "{url}");
    }
    let user_only = format!("{CAMERA}amqp: {{url: amqp://u@h/, password: Ct7-27}}");
    assert_eq!(
        config(&user_only).amqp.endpoints[0],
        full(false, "h", 5672, "/", "u", "Ct7-27")
    );
    let keys = format!("{CAMERA}amqp: {{username: 'a:b', password: 'c/d'}}");
    assert_eq!(
        config(&keys).amqp.endpoints[0],
        full(false, "127.0.0.1", 5672, "/", "a:b", "c/d")
    );
}

#[test]
fn a_broker_user_without_password_is_warned_about() {
    let loaded = parse(&format!("{CAMERA}amqp: {{url: 'amqp://u@h/'}}")).unwrap();
    assert_eq!(
        loaded.warnings,
        ["c.yaml:2: amqp.url: a user name without a password; the password \"guest\" is used"]
    );
}

#[test]
fn a_camera_address_that_is_most_likely_not_meant_is_warned_about() {
    for (url, warning) in [
        (
            "'~/a.mp4'",
            Some("~ is not replaced by a home directory; write the whole path"),
        ),
        (
            "'rtsp://h/Streaming Channels'",
            Some(
                "a blank in the address; FFmpeg sends it as it is and many cameras refuse it: write \
                 %20",
            ),
        ),
        (
            "0",
            Some("0 is a file of that name; for the device write /dev/video0"),
        ),
        (
            "'12'",
            Some("12 is a file of that name; for the device write /dev/video12"),
        ),
        (
            "/dev/video9",
            Some("/dev/video9 is not there; the camera fails until it is"),
        ),
        (
            "/missing/a.mp4",
            Some("/missing/a.mp4 is not there; the camera fails until it is"),
        ),
        (
            "'file:/missing/a:b.mp4'",
            Some("/missing/a:b.mp4 is not there; the camera fails until it is"),
        ),
        ("/missing/%03d.jpg", None),
        ("/missing/a.mp4, enabled: false", None),
        ("/dev/video0", None),
        ("/there/a.mp4", None),
        ("'lavfi:testsrc2, scale = 64:64'", None),
        ("'http://h/a b'", None),
    ] {
        let more = "{id: b, url: /b.mp4}";
        let loaded = parse(&format!("cameras: [{{id: a, url: {url}}}, {more}]\n")).unwrap();
        let expected: Vec<_> = warning
            .map(|warning| format!("c.yaml:1: cameras[0].url: {warning}"))
            .into_iter()
            .collect();
        assert_eq!(loaded.warnings, expected, "{url}");
    }
}

#[test]
fn an_at_sign_behind_the_host_of_a_camera_is_refused() {
    for url in [
        "rtsp://admin:12/34@h/x",
        "rtsp://u:p@ss/word@h/x",
        "http://h/@cam",
    ] {
        let says = "1: cameras[0].url: an @ after the first /; for a password that holds a /, use the \
                    keys username and password instead; in a path write %40";
        refused(&format!("cameras: [{{id: a, url: '{url}'}}]\n"), &[says]);
    }
    for url in ["rtsp://u:p@ss@h/x?to=a@b", "rtsp://h/x%40y"] {
        assert_eq!(
            camera(&format!("id: a, url: '{url}'"))
                .source
                .host
                .as_deref(),
            Some("h")
        );
    }
}

#[test]
fn camera_urls_are_read() {
    use SourceKind::{File, Http, Lavfi, Rtmp, Rtsp, V4l2};
    for (url, kind, address, host) in [
        // The only form of an interface that FFmpeg 5.1 and 7.1 take.
        (
            "rtsp://u:a%25b@[fe80::1%25eth0]:554/c%25d",
            Rtsp,
            "rtsp://u:a%25b@[fe80::1%eth0]:554/c%25d",
            Some("fe80::1%eth0"),
        ),
        (
            "rtsp://[fe80::1%eth0]/",
            Rtsp,
            "rtsp://[fe80::1%eth0]/",
            Some("fe80::1%eth0"),
        ),
        (
            "rtsp://h:554/a?b=c#d",
            Rtsp,
            "rtsp://h:554/a?b=c#d",
            Some("h"),
        ),
        (
            "RTSPS://Cam.Example.com",
            Rtsp,
            "rtsps://Cam.Example.com",
            Some("cam.example.com"),
        ),
        (
            "rtmp://[2001:db8::2]:1935/x",
            Rtmp,
            "rtmp://[2001:db8::2]:1935/x",
            Some("2001:db8::2"),
        ),
        ("rtmps://h/x", Rtmp, "rtmps://h/x", Some("h")),
        ("http://h/v.mjpg", Http, "http://h/v.mjpg", Some("h")),
        ("https://h", Http, "https://h", Some("h")),
        (
            "rtsp://u:Db8@x%40?#:-33@h/y",
            Rtsp,
            "rtsp://u:Db8@x%40%3F%23:-33@h/y",
            Some("h"),
        ),
        ("clips/a b.mp4", File, "clips/a b.mp4", None),
        ("clips/a:b.mp4", File, "clips/a:b.mp4", None),
        ("file:a:b.mp4", File, "file:a:b.mp4", None),
        ("file:-a.mp4", File, "file:-a.mp4", None),
        ("file:/a.mp4", File, "/a.mp4", None),
        ("file:///a.mp4", File, "/a.mp4", None),
        ("/dev/video12", V4l2, "/dev/video12", None),
        ("/dev/v4l/by-id/usb-x", V4l2, "/dev/v4l/by-id/usb-x", None),
        ("lavfi:movie=rtsp://h/", Lavfi, "movie=rtsp://h/", None),
    ] {
        let source = camera(&format!("id: a, url: '{url}'")).source;
        assert_eq!(
            (source.kind, source.address.expose(), source.host.as_deref()),
            (kind, address, host),
            "{url}"
        );
    }
}

#[test]
fn camera_credentials_are_put_into_the_url() {
    for (keys, address) in [
        (
            "url: 'rtsp://h/x', username: a@b, password: 'Lp9/:é-44'",
            "rtsp://a%40b:Lp9%2F%3A%C3%A9-44@h/x",
        ),
        ("url: 'rtsp://h/x', username: a", "rtsp://a@h/x"),
        (
            "url: 'rtsp://h/x', username: a, password: ''",
            "rtsp://a:@h/x",
        ),
        (
            "url: 'rtsp://h', username: a, password_file: /password-crlf",
            "rtsp://a:Jn2-crlf-32@h",
        ),
        (
            "url: 'rtsp://a%20b@h', password: 6183402957",
            "rtsp://a%20b:6183402957@h",
        ),
        ("url: 'rtsp://@h', username: a", "rtsp://a@h"),
    ] {
        let source = camera(&format!("id: a, {keys}")).source;
        assert_eq!(source.address.expose(), address);
    }
}

#[test]
fn two_cameras_with_one_route_are_warned_about() {
    let text = "
cameras:
  - {id: a, url: /a}
  - {id: b, url: /b, exchange: other, routing_key: camera.a}
  - {id: c, url: /c, routing_key: camera.a, enabled: false}
  - id: d
    url: /d
    routing_key: camera.a
";
    assert_eq!(
        parse(text).unwrap().warnings,
        [
            "c.yaml:8: cameras[3].routing_key: the same exchange and routing key as cameras[0]; \
          consumers can tell the two apart by the header camera_id only"
        ]
    );
}

#[test]
fn scalars_are_taken_as_written_where_text_is_wanted() {
    for (id, wanted) in [
        ("007", "007"),
        ("1", "1"),
        ("1.10", "1.10"),
        ("0x1F", "0x1F"),
        ("true", "true"),
        ("1e3", "1e3"),
    ] {
        assert_eq!(&*camera(&format!("id: {id}, url: /x")).id, wanted);
    }
    let rate = config(&format!("{CAMERA}fps: 10.0\nquality: 0x10"));
    assert_eq!((rate.cameras[0].fps, rate.cameras[0].quality), (10, 16));
    for (word, wanted) in [
        ("yes", true),
        ("On", true),
        ("NO", false),
        ("off", false),
        ("True", true),
    ] {
        assert_eq!(
            config(&format!("{CAMERA}http: {{enabled: {word}}}"))
                .http
                .enabled,
            wanted
        );
    }
}

#[test]
fn anchors_and_merge_keys_work() {
    let config = config(
        "
cameras:
  - &base {id: a, url: /a, fps: 5, quality: 9}
  - <<: *base
    id: b
    fps: 6
  - <<: [{id: c}, *base]
  - {id: d, url: /d, input_args: &args [-an]}
  - {id: e, url: /e, input_args: *args}
",
    );
    let got: Vec<_> = config
        .cameras
        .iter()
        .map(|c| (&*c.id, c.fps, c.quality, c.input_args.len()))
        .collect();
    assert_eq!(
        got,
        [
            ("a", 5, 9, 0),
            ("b", 6, 9, 0),
            ("c", 5, 9, 0),
            ("d", 15, 5, 1),
            ("e", 15, 5, 1)
        ]
    );
    refused(
        "cameras:\n  - &base {id: a, url: /a,\n     fps: 99}\n  - {<<: *base, id: b}\n",
        &[
            "3: cameras[0].fps: 99 is out of range; 1 to 60 is allowed",
            "3: cameras[1].fps: 99 is out of range; 1 to 60 is allowed",
        ],
    );
}

#[test]
fn variables_are_filled_in() {
    let config = config(
        "
fps: ${FPS}
amqp: {max_age: '${WAIT}', mandatory: '${ON}', routing_key_prefix: '$${HOST}.'}
cameras: [{id: a, url: 'rtsp://${HOST}/x', output_args: ['${FPS}']}]
",
    );
    assert_eq!(config.cameras[0].fps, 7);
    assert_eq!(config.amqp.max_age, Duration::from_millis(250));
    assert!(config.amqp.mandatory);
    assert_eq!(config.cameras[0].routing_key, "${HOST}.a");
    assert_eq!(
        config.cameras[0].source.address.expose(),
        "rtsp://cam.example.com/x"
    );
    assert_eq!(config.cameras[0].output_args, ["7"]);
}

#[test]
fn variables_are_checked_and_never_shown() {
    section_refused(
        "ffmpeg: {path: '${NOWHERE}'}\nfps: ${NUMBER}\nquality: ${SECRET}\nlog: {level: \
         '${SECRET'}",
        &[
            "2: ffmpeg.path: ${NOWHERE} is not set; set it in the environment or as a credential \
             of the service, or write $${ for the text ${",
            "3: fps: what ${} stands for is out of range; 1 to 60 is allowed",
            "4: quality: what ${} stands for is not a whole number; 2 to 31 is allowed",
            "5: log.level: \"${\" without a name and \"}\"; write ${NAME}, or $${ for the text ${",
        ],
    );
    section_refused(
        "amqp: {max_age: '${FPS}'}\nfps: ${YAML}",
        &[
            "2: amqp.max_age: a unit is missing: write 5s; 10ms to 1h is allowed",
            "3: fps: a line break or another control character; only printable text is allowed",
        ],
    );
}

#[test]
fn a_file_is_loaded() {
    let directory = std::env::temp_dir().join(format!("edge-video-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let password = directory.join("password");
    std::fs::write(&password, "Rk1-real-file-17\n").unwrap();
    let file = directory.join("config.yaml");
    std::fs::write(
        &file,
        format!(
            "amqp: {{username: u, password_file: '{}'}}\n{CAMERA}",
            password.display()
        ),
    )
    .unwrap();
    let loaded = Config::load(&file).unwrap();
    assert_eq!(
        loaded.config.amqp.endpoints[0].password.expose(),
        "Rk1-real-file-17"
    );

    std::fs::remove_file(&password).unwrap();
    assert_eq!(
        Config::load(&file).unwrap_err().to_string(),
        format!(
            "{}:1: amqp.password_file: {}: No such file or directory (os error 2); name a file \
             that can be read",
            file.display(),
            password.display()
        )
    );
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(
        Config::load(&file).unwrap_err().to_string(),
        format!(
            "{}: cannot be read: No such file or directory (os error 2)",
            file.display()
        )
    );
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_file() {
    assert_eq!(config(&format!("\u{feff}{CAMERA}")), config(CAMERA));
    let refused = errors("\u{feff}fsp: 1\ncameras: [{id: a, url: /a.mp4}]\n");
    assert_eq!(refused, "c.yaml:1: fsp: unknown key; did you mean \"fps\"?");
}

#[test]
fn two_thousand_problems_are_all_told_with_their_lines_within_seconds() {
    let mut text = "cameras:\n".to_owned();
    let mut expected = Vec::new();
    for n in 0..1000 {
        let line = 4 * n + 2;
        text += &format!("  - &a{n} {{id: a{n}, url: /a.mp4,\n     fps: 99}}\n");
        text += &format!("  - id: b{n}\n    # b\n");
        let (first, second) = (2 * n, 2 * n + 1);
        expected.push(format!("c.yaml:{}: cameras[{first}].fps: 99 is", line + 1));
        expected.push(format!(
            "c.yaml:{}: cameras[{second}].url: missing; ",
            line + 2
        ));
    }
    let started = std::time::Instant::now();
    let refused = errors(&text);
    // A walk for each problem took half a minute in this build, one walk for all a tenth of a second.
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(refused.lines().count(), expected.len());
    for (line, expected) in refused.lines().zip(&expected) {
        assert!(line.starts_with(expected.as_str()), "{line} for {expected}");
    }
}

// Secrets.

/// What FFmpeg's words look like after it has repeated all that it was given of `camera`.
fn repeated(camera: &Camera) -> String {
    let mut args = camera.input_args.clone();
    args.extend(["-i".to_owned(), camera.source.address.expose().to_owned()]);
    redact::words(&args.join(" "), &redact::Hidden::of_arguments(&args))
}

#[test]
fn no_secret_leaves_by_message_debug_or_yaml() {
    let text = "
amqp:
  urls: ['amqp://u:Sx1-broker-01@h/', 'amqp://v:Sx1%2Fbroker-02@h/']
cameras:
  - {id: a, url: 'rtsp://u:Sx1@came#ra-03@h/?token=Sx1-token-04'}
  - id: b
    url: 'rtsp://h/user=u_password=Sx1-path-05_channel=1'
    username: u
    password: Sx1-key-06
  - {id: c, url: 'http://u@h', password_file: /password, input_args: [-headers, 'X: Sx1-key-06']}
  - {id: d, url: 'http://h', username: u, password: '${SECRET}'}
  - {id: e, url: 'lavfi:movie=rtsp\\://u:Sx1-graph-07@h'}
";
    let secrets = [
        "Sx1-broker-01",
        "Sx1/broker-02",
        "Sx1%2Fbroker-02",
        "Sx1@came#ra-03",
        "Sx1@came%23ra-03",
        "Sx1-token-04",
        "Sx1-path-05",
        "Sx1-key-06",
        "Jn2-file-31",
        "Bx7-lookup-55",
    ];
    let loaded = parse(text).unwrap();
    let refused = errors(&text.replace("id: e", "id: e, fps: 0"));
    assert_eq!(
        refused,
        "c.yaml:12: cameras[4].fps: 0 is out of range; 1 to 60 is allowed"
    );
    let debug = format!("{loaded:?}");
    let yaml = loaded.config.to_yaml();
    let args: String = loaded.config.cameras.iter().map(repeated).collect();
    for secret in secrets {
        assert!(!debug.contains(secret), "{debug}");
        assert!(!yaml.contains(secret), "{yaml}");
        assert!(!args.contains(secret), "{args}");
    }
    // What is shown loads again, to a configuration that shows the same.
    assert_eq!(redact::clean(&yaml), yaml);
    assert_eq!(config(&yaml).to_yaml(), yaml);
}

#[test]
fn a_refused_file_tells_no_secret() {
    let text = "
amqp: {url: 'amqp://u:Uz4-01-broker@h/?x', password: Uz4-02-key, bad: 1}
cameras:
  - {url: 'rtsp://u:Uz4/03-camera@h/', password: Uz4-04-key, username: u}
  - {password_file: /password-refused}
log: {level: Uz4-02-key}
";
    let refused = errors(text);
    assert!(
        refused.contains("6: log.level: \"***\" is unknown; "),
        "{refused}"
    );
    for secret in [
        "Uz4-01-broker",
        "Uz4-02-key",
        "Uz4/03-camera",
        "Uz4-04-key",
        "Uz4-05-file",
    ] {
        assert!(!refused.contains(secret), "{refused}");
    }
}

#[test]
fn a_password_without_a_blank_before_it_is_not_shown() {
    for text in [
        "amqp: {username: u, password:Vd6-blank-01}",
        "amqp: {password=Vd6-blank-01: x}",
        "cameras: [{password:Vd6-blank-01: {[x]: y}}]",
        "cameras: [{password:Vd6-blank-01: !x {}}]",
    ] {
        let refused = errors(text);
        assert!(refused.starts_with("c.yaml:1: "), "{refused}");
        assert!(!refused.contains("Vd6-blank-01"), "{refused}");
    }
}

// The way back.

#[test]
fn the_effective_configuration_loads_to_itself() {
    for text in [
        SAMPLE.to_owned(),
        CAMERA.to_owned(),
        "
amqp:
  urls: ['amqps://b.example.com/v%2Fh', 'amqp://[fe80::1%25eth0]:1/']
  tls: {ca_file: /pem}
  max_in_flight: 3
  slow_publish: 1.5ms
  routing_key_prefix: 'yes: ${ON} $${x} # \"'
circuit_breaker: {backoff_multiplier: 1.25}
max_frame_bytes: 1MB
metadata: {enabled: yes, exchange: 'no', frames: yes}
http: {listen: '[::1]:80', hosts: [a_b.lan, '007'], pictures: always}
log: {level: off, format: json, summary: off}
cameras:
  - {id: 007, url: 'rtsp://h/a:b?', width: 16, height: 32, transport: udp, enabled: no}
  - {id: true, url: 'file:a:b c', routing_key: ' x', input_args: [-f, '', -t, '~', -re, -s, '5', -vf, \"a'b\"]}
  - {id: '~', url: /dev/video0, exchange: '1'}
"
        .replace("'~', url", "_, url"),
    ] {
        let config = config(&text);
        let yaml = config.to_yaml();
        assert_eq!(super::tests::config(&yaml), config, "{yaml}");
        assert!(!yaml.contains("no effect"), "{yaml}");
    }
}

#[test]
fn the_effective_configuration_of_a_version_2_file_loads() {
    let yaml = config(V2).to_yaml();
    let again = config(&yaml);
    assert_eq!(again.to_yaml(), yaml);
    assert_eq!(again.cameras.len(), 6);
    assert!(
        yaml.contains("url: amqp://***@broker.example.com:5672/plant\n"),
        "{yaml}"
    );
}

// Robustness.

/// Whatever comes out, it is well formed.
fn survives(text: &str) {
    if let Err(errors) = parse(text) {
        assert!(!errors.errors().is_empty());
        assert_eq!(
            errors.to_string().lines().count(),
            errors.errors().len(),
            "{errors}"
        );
        // YAML knows more line breaks than `lines`.
        let breaks = text
            .matches(['\r', '\n', '\u{85}', '\u{2028}', '\u{2029}'])
            .count();
        let in_file = |line| (1..=breaks + 2).contains(&line);
        assert!(
            errors
                .errors()
                .iter()
                .all(|error| error.line.is_some_and(in_file)),
            "{errors}"
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_survived(text in ".*") {
        survives(&text);
    }

    #[test]
    fn yaml_like_text_is_survived(
        text in "([ \n]{0,3}[-?:,&*!|>'\"%@`{}\\[\\]#a-c<~\\$\t]){0,40}",
    ) {
        survives(&text);
    }

    #[test]
    fn a_mutated_file_is_survived(
        file in prop::sample::select(vec![SAMPLE, V2]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<char>(), 0..3), 1..6),
    ) {
        let mut chars: Vec<char> = file.chars().collect();
        for (index, new, kind) in edits {
            let at = index.index(chars.len());
            match kind {
                0 => chars[at] = new,
                1 => { chars.remove(at); }
                _ => chars.insert(at, new),
            }
        }
        survives(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn any_value_of_any_key_is_survived(
        key in prop::sample::select([ROOT_KEYS, AMQP_KEYS, CAMERA_KEYS].concat()),
        value in ".*",
    ) {
        let value = scalar(&value.replace(char::is_control, ""));
        survives(&format!("{key}: {value}\namqp:\n  {key}: {value}\ncameras:\n- {key}: {value}\n"));
    }

    #[test]
    fn any_printable_text_goes_there_and_back(text in ".*") {
        let text = text.replace(char::is_control, "");
        prop_assume!(!text.is_empty() && text.len() <= 255);
        let mut config = config(CAMERA);
        config.cameras[0].routing_key = text;
        let yaml = config.to_yaml();
        prop_assert_eq!(super::tests::config(&yaml), config, "{}", yaml);
    }
}
