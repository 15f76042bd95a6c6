//! Messages about values, word for word.

use super::*;

/// Each section, in line 2, is refused with its message.
#[track_caller]
fn all_refused(table: &[(&str, &str)]) {
    for (section, message) in table {
        section_refused(section, &[&format!("2: {message}")]);
    }
}

#[test]
fn numbers_are_checked() {
    all_refused(&[
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
            "adaptive_quality: {max: 32}",
            "adaptive_quality.max: 32 is out of range; 2 to 31 is allowed",
        ),
        (
            "quality: 32",
            "quality: 32 is out of range; 2 to 31 is allowed",
        ),
    ]);
}

#[test]
fn http_settings_are_checked() {
    all_refused(&[
        (
            "http: {enabled: maybe}",
            "http.enabled: \"maybe\" is not valid; write true or false",
        ),
        (
            "http: {enabled: 1}",
            "http.enabled: 1 is not valid; write true or false",
        ),
        (
            "http: {listen: ':2112'}",
            "http.listen: \":2112\" is not valid; write ADDRESS:PORT such as 127.0.0.1:2112 or \
             [::1]:2112",
        ),
        (
            "http: {hosts: ['board.lan:2112', '']}",
            "http.hosts[0]: \"board.lan:2112\" is not valid; write a name or an address without \
             scheme and port, such as board.lan\n\
             c.yaml:2: http.hosts[1]: \"\" is not valid; write a name or an address without scheme \
             and port, such as board.lan",
        ),
        (
            "http: {pictures: no}",
            "http.pictures: \"no\" is unknown; allowed are never, loopback, always",
        ),
    ]);
}

#[test]
fn log_and_event_settings_are_checked() {
    all_refused(&[
        (
            "metadata: {enabled: 1}",
            "metadata.enabled: 1 is not valid; write true or false",
        ),
        (
            "metadata: {frames: all}",
            "metadata.frames: \"all\" is not valid; write true or false",
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
            "metadata.exchange: \"cameras\" is already used by cameras[0]; choose a different exchange",
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
            "log.summary: \"10ms\" is not valid; off or 1s to 24h is allowed",
        ),
        (
            "idle: {after: 25h}",
            "idle.after: \"25h\" is not valid; off or 1s to 24h is allowed",
        ),
        (
            "idle: {every: 31s}",
            "idle.every: \"31s\" is out of range; 1s to 30s is allowed",
        ),
        (
            "idle: 5m",
            "idle: text is not a section; its keys are after, every",
        ),
    ]);
}

#[test]
fn paths_and_sizes_are_checked() {
    all_refused(&[
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
    ]);
}

#[test]
fn broker_settings_are_checked() {
    all_refused(&[
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
            "amqp.max_in_flight: 0 is not valid; auto or 1 to 256 is allowed",
        ),
        (
            "amqp: {max_in_flight: 257}",
            "amqp.max_in_flight: 257 is not valid; auto or 1 to 256 is allowed",
        ),
        (
            "amqp: {max_in_flight: Auto}",
            "amqp.max_in_flight: \"Auto\" is not valid; auto or 1 to 256 is allowed",
        ),
        (
            "amqp: {mandatory: 2}",
            "amqp.mandatory: 2 is not valid; write true or false",
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
    ]);
}

#[test]
fn durations_of_the_broker_are_checked() {
    all_refused(&[
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
    ]);
}

#[test]
fn circuit_breaker_settings_are_checked() {
    all_refused(&[
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
            "circuit_breaker.initial_backoff: 6m is longer than max_backoff (5m); lower it, or \
             raise max_backoff",
        ),
        (
            "circuit_breaker: {max_backoff: 1s}",
            "circuit_breaker.initial_backoff: 5s is longer than max_backoff (1s); lower it, or \
             raise max_backoff",
        ),
        (
            "circuit_breaker: {reset_timeout: 25h}",
            "circuit_breaker.reset_timeout: \"25h\" is out of range; 100ms to 24h is allowed",
        ),
    ]);
}

#[test]
fn memory_settings_are_checked() {
    all_refused(&[
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
            "memory_controller: 75, 75, 85 must rise: warning_percent < critical_percent < \
             emergency_percent",
        ),
        (
            "memory_controller: {check_interval: 2h}",
            "memory_controller.check_interval: \"2h\" is out of range; 100ms to 1h is allowed",
        ),
    ]);
}

#[test]
fn video_settings_are_checked() {
    all_refused(&[
        (
            "passthrough: auto",
            "passthrough: \"auto\" is not valid; write true or false",
        ),
        (
            "pictures: some",
            "pictures: \"some\" is unknown; allowed are all, keyframes, none",
        ),
        (
            "video: true",
            "video: true or false is not a section; its keys are exchange, routing_key_prefix, \
             max_bytes, max_age",
        ),
        (
            "video: {max_bytes: 63KiB}",
            "video.max_bytes: \"63KiB\" is out of range; 64KiB to 256MiB is allowed",
        ),
        (
            "video: {max_bytes: 257MiB}",
            "video.max_bytes: \"257MiB\" is out of range; 64KiB to 256MiB is allowed",
        ),
        (
            "video: {max_age: 99ms}",
            "video.max_age: \"99ms\" is out of range; 100ms to 1m is allowed",
        ),
        (
            "video: {max_age: 61s}",
            "video.max_age: \"61s\" is out of range; 100ms to 1m is allowed",
        ),
        (
            "video: {exchange: amq.fanout}",
            "video.exchange: names that begin with amq. are the broker's own; of these only \
             amq.topic is allowed",
        ),
    ]);
}

#[test]
fn a_camera_of_which_nothing_is_published_is_refused() {
    let message = "none without passthrough publishes nothing; set passthrough to true, or \
                   pictures to all or keyframes";
    camera_refused(
        "url: /x\npictures: none",
        &[&format!("4: cameras[0].pictures: {message}")],
    );
    refused(
        "pictures: none\npassthrough: true\ncameras:\n  - {id: a, url: /a}\n  - {id: b, url: /b, passthrough: false}\n",
        &[&format!("5: cameras[1].pictures: {message}")],
    );
}

#[test]
fn video_has_an_exchange_of_its_own() {
    for (text, line, exchange, user) in [
        (
            "passthrough: true\nvideo: {exchange: cameras}",
            3,
            "cameras",
            "amqp.exchange",
        ),
        (
            "passthrough: true\nvideo:\n  max_age: 5s\n  exchange: amq.topic\namqp: {exchange: amq.topic}",
            5,
            "amq.topic",
            "amqp.exchange",
        ),
        (
            "passthrough: true\nmetadata: {enabled: true, exchange: v}\nvideo: {exchange: v}",
            4,
            "v",
            "metadata.exchange",
        ),
        (
            "passthrough: true\namqp: {exchange: cameras.video}",
            1,
            "cameras.video",
            "amqp.exchange",
        ),
    ] {
        section_refused(
            text,
            &[&format!(
                "{line}: video.exchange: \"{exchange}\" is already used by {user}; choose a \
                 different exchange"
            )],
        );
    }
    refused(
        "cameras:\n  - {id: a, url: /a, passthrough: true}\n  - {id: b, url: /b, exchange: v}\nvideo: {exchange: v}",
        &["4: video.exchange: \"v\" is already used by cameras[1]; choose a different exchange"],
    );
}

#[test]
fn names_that_are_too_long_for_the_broker_are_refused() {
    let long = "x".repeat(256);
    for section in ["amqp", "video"] {
        section_refused(
            &format!("{section}:\n  exchange: {long}\n  routing_key_prefix: {long}"),
            &[
                &format!("3: {section}.exchange: has 256 bytes; at most 255 are allowed"),
                &format!("4: {section}.routing_key_prefix: has 256 bytes; at most 255 are allowed"),
            ],
        );
        refused(
            &format!(
                "{section}: {{routing_key_prefix: {}}}\n{CAMERA}",
                "x".repeat(255)
            ),
            &[&format!(
                "2: cameras[0].id: {section}.routing_key_prefix and id have 256 bytes together; at \
                 most 255 are allowed"
            )],
        );
    }
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
            "width: 641 is odd; even numbers from 16 to 7680 are allowed",
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
        ("enabled: 0", "enabled: 0 is not valid; write true or false"),
        (
            "decode: nvdec",
            "decode: \"nvdec\" is unknown; allowed are software, auto, vaapi, qsv, cuda, v4l2m2m, \
             drm, rkmpp",
        ),
        (
            "input_args: [-re, '-c:v', h264_cuvid]\ndecode: auto",
            "decode: auto and -c:v in input_args both choose the decoder; remove -c:v, or set \
             decode: software",
        ),
        (
            "pictures: keyframes\ndecode: v4l2m2m",
            "decode: v4l2m2m decodes every picture, and pictures: keyframes wants the keyframes \
             only; set decode: software, which takes little for them",
        ),
        (
            "input_args: -an",
            "input_args: text is not a list; write a list of texts, one per argument",
        ),
        (
            "input_args: [-an, -i]",
            "input_args[1]: -i adds a second input, but a camera has only url; remove it",
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
}

#[test]
fn keys_and_ids_of_cameras_are_checked() {
    let long = "é".repeat(128);
    camera_refused(
        &format!("url: /x\nrouting_key: {long}"),
        &["4: cameras[0].routing_key: has 256 bytes; at most 255 are allowed"],
    );
    for id in ["a b", "é", "a/b", "..", "."] {
        refused(
            &format!("cameras: [{{id: '{id}', url: /x}}]"),
            &[&format!(
                "1: cameras[0].id: \"{id}\" is not valid; 1 to 64 of A-Z a-z 0-9 . _ - are allowed"
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
fn when_a_picture_is_frozen_is_checked() {
    let allowed = "off or 2s to 24h is allowed";
    all_refused(&[
        (
            "frozen: {after: 1s}",
            &format!("frozen.after: \"1s\" is not valid; {allowed}"),
        ),
        (
            "frozen: {after: false}",
            &format!("frozen.after: false is not valid; {allowed}"),
        ),
        (
            "frozen: {restart: 40s}",
            "frozen.restart: \"40s\" is not valid; write true or false",
        ),
    ]);
    camera_refused(
        "url: /x\nfrozen: {after: 25h}",
        &[&format!(
            "4: cameras[0].frozen.after: \"25h\" is not valid; {allowed}"
        )],
    );
}
