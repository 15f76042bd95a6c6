//! Tests that the effective configuration loads again, and that the loader survives any text.

use super::super::check::keys::{AMQP_KEYS, CAMERA_KEYS, ROOT_KEYS};
use super::super::raw::scalar;
use super::*;
use proptest::prelude::*;

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
video: {exchange: 'null', routing_key_prefix: '', max_bytes: 65537, max_age: 100ms}
idle: {after: 90s, every: 1500ms}
passthrough: yes
pictures: keyframes
frozen: {after: 1m, restart: yes}
adaptive_quality: {enabled: yes, max: 31}
circuit_breaker: {backoff_multiplier: 1.25}
max_frame_bytes: 1MB
metadata: {enabled: yes, exchange: 'no', frames: yes}
http: {listen: '[::1]:80', hosts: [a_b.lan, '007'], pictures: always}
log: {level: off, format: json, summary: off}
cameras:
  - {id: 007, url: 'rtsp://h/a:b?', width: 16, height: 32, transport: udp, enabled: no}
  - {id: true, url: 'file:a:b c', routing_key: ' x', input_args: [-f, '', -t, '~', -re, -s, '5', -vf, \"a'b\"]}
  - {id: '~', url: /dev/video0, exchange: '1', pictures: none, frozen: {after: off}}
  - {id: x, url: /x, pictures: all, passthrough: no}
"
        .replace("'~', url", "_, url"),
    ] {
        let config = config(&text);
        let yaml = config.to_yaml();
        assert_eq!(super::config(&yaml), config, "{yaml}");
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
        prop_assert_eq!(super::config(&yaml), config, "{}", yaml);
    }
}
