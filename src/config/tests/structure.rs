//! Messages about the structure of the file, word for word.

use super::super::check::keys::CAMERA_KEYS;
use super::*;

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
            "7: cameras[1].id: \"gate\" is already the id of cameras[0]; choose another id",
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
        &["1: not valid YAML: << needs a section or a list of sections"],
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
        &["1: cameras: no camera is enabled; enable at least one"],
    );
    refused(
        "- fps: 5",
        &[
            "1: a list is not a section; its keys are fps, quality, passthrough, pictures, amqp, \
             video, decode, frozen, adaptive_quality, idle, circuit_breaker, memory_controller, \
             metadata, cameras, ffmpeg, max_frame_bytes, http, log",
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
            "2: cameras[0].id: missing; each camera needs a unique id",
            &format!("2: cameras[0].url: missing; {SOURCES}"),
            &format!(
                "3: cameras[1]: nothing is not a section; its keys are {}",
                CAMERA_KEYS.join(", ")
            ),
            "3: cameras[1].id: missing; each camera needs a unique id",
            &format!("3: cameras[1].url: missing; {SOURCES}"),
        ],
    );
    section_refused(
        "log:\n  level: info\n  format: text\n  level: warn\n",
        &["5: log.level: set twice; remove one"],
    );
    section_refused(
        "ffmpeg: {colour: 5}",
        &["2: ffmpeg.colour: unknown key; known are path"],
    );
    section_refused(
        "passtrough: true\npicture: all\nvidio: {}\nvideo:\n  max_byte: 1MiB\n  url: x\n",
        &[
            "2: passtrough: unknown key; did you mean \"passthrough\"?",
            "3: picture: unknown key; did you mean \"pictures\"?",
            "4: vidio: unknown key; did you mean \"video\"?",
            "6: video.max_byte: unknown key; did you mean \"max_bytes\"?",
            "7: video.url: unknown key; known are exchange, routing_key_prefix, max_bytes, max_age",
        ],
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
