//! The loader as a whole: shipped files, every message, secrets, robustness.

mod addresses;
mod reading;
mod robust;
mod secrets;
mod settings;
mod shipped;
mod structure;
mod values;

use super::*;
use std::io;
use std::path::Path;

const SAMPLE: &str = include_str!("../../config.yaml");
const V2: &str = include_str!("../../tests/fixtures/v2-config.yaml");

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

const SOURCES: &str = "allowed are rtsp://, rtsps://, rtmp://, rtmps://, http://, https://, the \
                       path of a file, /dev/video0 and the like, lavfi:GRAPH";

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
