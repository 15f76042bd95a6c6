//! Tests that no secret is shown.

use super::*;
use crate::redact;

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
