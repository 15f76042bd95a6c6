//! Tests that the sample configuration and the manual page agree with the program.

use super::super::check::keys::{
    ADAPTIVE_QUALITY_KEYS, AMQP_KEYS, CAMERA_KEYS, CIRCUIT_BREAKER_KEYS, FFMPEG_KEYS, FROZEN_KEYS,
    HTTP_KEYS, IDLE_KEYS, LOG_KEYS, MEMORY_CONTROLLER_KEYS, METADATA_KEYS, ROOT_KEYS, TLS_KEYS,
    VIDEO_KEYS,
};
use super::super::raw::{Document, Node, Value};
use super::*;
use std::collections::{BTreeMap, BTreeSet};

const MANUAL: &str = include_str!("../../../packaging/man/edge-video.yaml.5");

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
                video_routing_key: bare.cameras[0].video_routing_key.clone(),
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
const SECTIONS: [(&[&str], &[&str]); 15] = [
    (&[], ROOT_KEYS),
    (&["amqp"], AMQP_KEYS),
    (&["amqp", "tls"], TLS_KEYS),
    (&["video"], VIDEO_KEYS),
    (&["frozen"], FROZEN_KEYS),
    (&["adaptive_quality"], ADAPTIVE_QUALITY_KEYS),
    (&["idle"], IDLE_KEYS),
    (&["circuit_breaker"], CIRCUIT_BREAKER_KEYS),
    (&["memory_controller"], MEMORY_CONTROLLER_KEYS),
    (&["metadata"], METADATA_KEYS),
    (&["cameras"], CAMERA_KEYS),
    (&["cameras", "frozen"], FROZEN_KEYS),
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
    let sections = SECTIONS.map(|(path, _)| path.join("."));
    let mut known = BTreeSet::new();
    for ((_, keys), section) in SECTIONS.iter().zip(&sections) {
        for key in *keys {
            let name = match section.as_str() {
                "" => (*key).to_owned(),
                _ => format!("{section}.{key}"),
            };
            if !sections.contains(&name) {
                known.insert(name.replace("cameras.", "cameras[]."));
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
