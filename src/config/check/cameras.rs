//! Checks the section `cameras`.

use super::keys::CAMERA_KEYS;
use super::login::{Credentials, credentials};
use super::names::{LONGEST_NAME, exchange, name_fits};
use super::{HOUR, QUALITY, SECOND, decode, frozen, video};
use crate::config::address::{self, Url};
use crate::config::reader::{Item, Reader, Section};
use crate::config::{
    Amqp, Camera, Decode, Frozen, Idle, Pictures, Secret, Source, SourceKind, Transport, Video,
    defaults,
};
use crate::redact::percent_encode;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// What a camera takes over if it says nothing else.
pub(super) struct Globals<'a> {
    pub(super) fps: u32,
    pub(super) quality: u32,
    pub(super) quality_is_chosen: bool,
    pub(super) passthrough: bool,
    pub(super) pictures: Pictures,
    pub(super) decode: Decode,
    pub(super) amqp: &'a Amqp,
    pub(super) video: &'a Video,
    pub(super) frozen: Frozen,
    pub(super) idle: Idle,
}

pub(super) fn cameras(
    r: &mut Reader<'_>,
    root: &Section<'_>,
    globals: &Globals<'_>,
) -> Vec<Camera> {
    let list = root.get("cameras");
    let before = r.problems.len();
    let items = r.list(list.as_ref(), "cameras");
    let at = list.as_ref().map_or(root.at, |list| list.at);
    if items.is_empty() && r.problems.len() == before {
        r.problem(
            at,
            "cameras",
            "no camera; list at least one with an id and a url",
        );
    }
    let mut ids: HashMap<String, &str> = HashMap::new();
    let mut routes: HashMap<(String, String), &str> = HashMap::new();
    let mut cameras = Vec::new();
    for item in &items {
        let s = r.element(item, CAMERA_KEYS);
        let camera = camera(r, &s, globals);
        if let (Some(id), Some(camera)) = (s.get("id"), &camera) {
            if let Some(earlier) = ids.get(&*camera.id) {
                let message = format!(
                    "\"{}\" is already the id of {earlier}; choose another id",
                    camera.id
                );
                r.refuse(&id, message);
            } else {
                ids.insert(camera.id.to_string(), &item.key);
            }
        }
        if let Some(camera) = camera.as_ref().filter(|camera| camera.enabled) {
            let route = (camera.exchange.clone(), camera.routing_key.clone());
            if let Some(earlier) = routes.get(&route) {
                let message = format!(
                    "the same exchange and routing key as {earlier}; consumers can tell the two \
                     apart by the header camera_id only"
                );
                r.warn(
                    &s.get("routing_key").unwrap_or_else(|| item.clone()),
                    message,
                );
            } else {
                routes.insert(route, &item.key);
            }
        }
        cameras.extend(camera);
    }
    if r.problems.len() == before && !cameras.iter().any(|camera| camera.enabled) {
        r.problem(at, "cameras", "no camera is enabled; enable at least one");
    }
    cameras
}

fn camera(r: &mut Reader<'_>, s: &Section<'_>, globals: &Globals<'_>) -> Option<Camera> {
    let id = camera_id(r, s);
    let source = source(r, s);
    let exchange = exchange(r, s.get("exchange").as_ref());
    let fps = r.int(s.get("fps").as_ref(), 1..=60, globals.fps);
    let quality = s.get("quality");
    let passthrough = r.bool(s.get("passthrough").as_ref(), globals.passthrough);
    let pictures = video::pictures(r, s.get("pictures").as_ref(), globals.pictures);
    let video_prefix = ("video", &*globals.video.routing_key_prefix);
    let video_key = id.as_deref().map(|id| prefixed(r, s, video_prefix, id));
    let watchdog = SECOND..=HOUR;
    let camera = Camera {
        id: Arc::from(id.as_deref().unwrap_or_default()),
        source: source.clone().unwrap_or_else(|| Source {
            kind: SourceKind::File,
            address: Secret::new(""),
            host: None,
        }),
        exchange: exchange.unwrap_or_else(|| globals.amqp.exchange.clone()),
        routing_key: routing_key(r, s, globals, id.as_deref()).unwrap_or_default(),
        passthrough,
        pictures,
        video_routing_key: video_key.unwrap_or_default(),
        decode: decode::decode(r, s.get("decode").as_ref(), globals.decode),
        frozen: frozen::frozen(r, s, globals.frozen),
        idle: globals.idle,
        one_every: None,
        fps,
        quality: r.int(quality.as_ref(), QUALITY, globals.quality),
        quality_is_chosen: quality.is_some() || globals.quality_is_chosen,
        width: side(r, s.get("width").as_ref()),
        height: side(r, s.get("height").as_ref()),
        transport: r.choice(
            s.get("transport").as_ref(),
            &[
                ("tcp", Transport::Tcp),
                ("udp", Transport::Udp),
                ("auto", Transport::Auto),
            ],
            Transport::Tcp,
        ),
        stale_timeout: r.duration(
            s.get("stale_timeout").as_ref(),
            watchdog.clone(),
            defaults::stale_timeout(fps, passthrough, pictures),
        ),
        first_frame_timeout: r.duration(
            s.get("first_frame_timeout").as_ref(),
            watchdog,
            defaults::FIRST_FRAME_TIMEOUT,
        ),
        input_args: args(r, s.get("input_args").as_ref()),
        output_args: args(r, s.get("output_args").as_ref()),
        enabled: r.bool(s.get("enabled").as_ref(), true),
    };
    video::publishes_something(r, s, &camera);
    decode::fits(r, s, &camera);
    if let (Some(item), Some(source), true) = (s.get("url"), &source, camera.enabled) {
        doubtful(r, &item, source);
    }
    (id.is_some() && source.is_some()).then_some(camera)
}

/// Warns about an address that is allowed and most likely not what is meant.
fn doubtful(r: &mut Reader<'_>, item: &Item<'_>, source: &Source) {
    let address = source.address.expose();
    let path = address.strip_prefix("file:").unwrap_or(address);
    match source.kind {
        SourceKind::Rtsp if address.contains(' ') => r.warn(
            item,
            "the address contains a blank; FFmpeg sends it as it is, and many cameras refuse it: \
             write %20",
        ),
        SourceKind::File if path.bytes().all(|byte| byte.is_ascii_digit()) => r.warn(
            item,
            format!("{path} is read as the name of a file; for the device write /dev/video{path}"),
        ),
        SourceKind::File if path.starts_with('~') => r.warn(
            item,
            "~ is not replaced by a home directory; write the whole path",
        ),
        // A % stands for the number in a series of pictures.
        SourceKind::File | SourceKind::V4l2
            if !path.contains('%') && !(r.exists)(Path::new(path)) =>
        {
            r.warn(
                item,
                format!("{path} does not exist; the camera fails until it does"),
            );
        }
        _ => {}
    }
}

fn camera_id(r: &mut Reader<'_>, s: &Section<'_>) -> Option<String> {
    let Some(item) = s.get("id") else {
        r.problem(
            s.at,
            &format!("{}.id", s.key),
            "missing; each camera needs a unique id",
        );
        return None;
    };
    let is_id = |text: &str| {
        (1..=64).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            // They become names of files and parts of URL paths.
            && !matches!(text, "." | "..")
    };
    r.parsed(
        Some(&item),
        |text| is_id(text).then(|| Some(text.to_owned())),
        "1 to 64 of A-Z a-z 0-9 . _ - are allowed",
        None,
    )
}

fn routing_key(
    r: &mut Reader<'_>,
    s: &Section<'_>,
    globals: &Globals<'_>,
    id: Option<&str>,
) -> Option<String> {
    if let Some(item) = s.get("routing_key") {
        return r.text(Some(&item)).filter(|key| name_fits(r, &item, key));
    }
    let prefix = &globals.amqp.routing_key_prefix;
    Some(prefixed(r, s, ("amqp", prefix), id?))
}

/// The routing key that the prefix of a section makes with the camera's id.
fn prefixed(
    r: &mut Reader<'_>,
    s: &Section<'_>,
    (section, prefix): (&str, &str),
    id: &str,
) -> String {
    let key = format!("{prefix}{id}");
    if let Some(item) = s.get("id")
        && key.len() > LONGEST_NAME
    {
        r.refuse(
            &item,
            format!(
                "{section}.routing_key_prefix and id have {} bytes together; at most {LONGEST_NAME} \
                 are \
                 allowed",
                key.len()
            ),
        );
    }
    key
}

/// Pixels. JPEG with 4:2:0 colour wants even numbers.
fn side(r: &mut Reader<'_>, item: Option<&Item<'_>>) -> Option<u32> {
    let item = item?;
    let before = r.problems.len();
    let pixels: u32 = r.int(Some(item), 16..=7680, 16);
    if r.problems.len() == before && !pixels.is_multiple_of(2) {
        r.refuse(
            item,
            format!("{pixels} is odd; even numbers from 16 to 7680 are allowed"),
        );
    }
    Some(pixels)
}

fn args(r: &mut Reader<'_>, item: Option<&Item<'_>>) -> Vec<String> {
    let mut args = Vec::new();
    for item in r.list(item, "texts, one per argument") {
        let arg = r.text_or_empty(Some(&item));
        if arg.as_deref() == Some("-i") {
            r.refuse(
                &item,
                "-i adds a second input, but a camera has only url; remove it",
            );
        }
        args.extend(arg);
    }
    args
}

const SOURCES: &str = "allowed are rtsp://, rtsps://, rtmp://, rtmps://, http://, https://, the \
                       path of a file, /dev/video0 and the like, lavfi:GRAPH";

fn source(r: &mut Reader<'_>, s: &Section<'_>) -> Option<Source> {
    let credentials = credentials(r, s);
    let Some(item) = s.get("url") else {
        r.problem(
            s.at,
            &format!("{}.url", s.key),
            format!("missing; {SOURCES}"),
        );
        return None;
    };
    let text = r.text(Some(&item))?;
    r.hidden.hide_address(&text);
    if let Some(kind) = network_kind(&text) {
        let address = address::split(&text).and_then(|url| {
            if has_at_in_path(&url) {
                return Err(AT_IN_PATH);
            }
            credentials.conflict(r, &url, &item.key);
            if let (Some(key), None, None) = (
                &credentials.password_item,
                &credentials.username_item,
                url.userinfo,
            ) {
                r.refuse(key, "the user name is missing; set username");
            }
            let address = Secret::new(with_credentials(&url, &credentials));
            Ok(Source {
                kind,
                address,
                host: Some(url.host.replace("%25", "%").to_ascii_lowercase()),
            })
        });
        return match address {
            Ok(source) => Some(source),
            Err(message) => {
                r.refuse(&item, message);
                None
            }
        };
    }
    for key in [&credentials.username_item, &credentials.password_item]
        .into_iter()
        .flatten()
    {
        r.refuse(key, "url has no host to log in to; remove it");
    }
    match local_source(&text) {
        Ok((kind, address)) => Some(Source {
            kind,
            address: Secret::new(address),
            host: None,
        }),
        Err(message) => {
            r.refuse(&item, message);
            None
        }
    }
}

/// A password that holds a `/` ends the host too early, and the camera would be asked for at
/// another host. In a query an `@` is usual.
fn has_at_in_path(url: &Url<'_>) -> bool {
    let path = url.rest.split(['?', '#']).next();
    path.is_some_and(|path| path.contains('@'))
}

const AT_IN_PATH: &str = "an @ after the first /; for a password that contains a /, use the keys \
                          username and password instead; in a path write %40";

fn network_kind(text: &str) -> Option<SourceKind> {
    match address::scheme(text)?.to_ascii_lowercase().as_str() {
        "rtsp" | "rtsps" => Some(SourceKind::Rtsp),
        "rtmp" | "rtmps" => Some(SourceKind::Rtmp),
        "http" | "https" => Some(SourceKind::Http),
        _ => None,
    }
}

/// A source without a host, and what FFmpeg is to open.
fn local_source(text: &str) -> Result<(SourceKind, String), String> {
    if text.starts_with('-') {
        return Err(
            "begins with -, as an option of FFmpeg; write ./ before a file name".to_owned(),
        );
    }
    if let Some(graph) = text.strip_prefix("lavfi:") {
        if graph.trim().is_empty() {
            return Err("the graph is missing; write lavfi:testsrc2 for example".to_owned());
        }
        return Ok((SourceKind::Lavfi, graph.to_owned()));
    }
    let path = match text.strip_prefix("file:") {
        Some(path) => match path.strip_prefix("//") {
            Some(absolute) if absolute.starts_with('/') => absolute,
            Some(_) => return Err("a file on another host; write file:/path".to_owned()),
            None => path,
        },
        None => {
            if let Some((scheme, _)) = text.split_once("://") {
                // Not the rest: it may hold credentials.
                return Err(match address::scheme(text) {
                    Some(_) => format!("{scheme}:// is not a source; {SOURCES}"),
                    None => format!("not a source; {SOURCES}"),
                });
            }
            if has_protocol(text) {
                return Err(format!(
                    "not a source; {SOURCES}; write file: before a file name with a colon"
                ));
            }
            text
        }
    };
    if path.is_empty() {
        return Err("the path is missing; write file:/path".to_owned());
    }
    if path.starts_with("/dev/video") || path.starts_with("/dev/v4l/") {
        return Ok((SourceKind::V4l2, path.to_owned()));
    }
    // FFmpeg would take what stands before the colon for a protocol, and a - for an option.
    if has_protocol(path) || path.starts_with('-') {
        return Ok((SourceKind::File, format!("file:{path}")));
    }
    Ok((SourceKind::File, path.to_owned()))
}

/// Whether a colon comes before the first slash.
fn has_protocol(path: &str) -> bool {
    path.split('/')
        .next()
        .is_some_and(|first| first.contains(':'))
}

/// The URL with the credentials of the keys, otherwise unchanged, but for two characters in the
/// password that cameras understand and that would end the host for FFmpeg.
fn with_credentials(url: &Url<'_>, keys: &Credentials<'_>) -> String {
    let fit = |text: &str| text.replace('?', "%3F").replace('#', "%23");
    let in_url = url.userinfo;
    let username = match &keys.username {
        Some(username) => Some(percent_encode(username)),
        None => in_url.map(|userinfo| fit(userinfo.username)),
    };
    let password = match &keys.password {
        Some(password) => Some(percent_encode(password)),
        None => in_url.and_then(|userinfo| userinfo.password).map(fit),
    };
    let userinfo = match (username, password) {
        (Some(username), Some(password)) => format!("{username}:{password}@"),
        (Some(username), None) => format!("{username}@"),
        (None, _) => String::new(),
    };
    let scheme = url.scheme.to_ascii_lowercase();
    // RFC 6874 wants the % before an interface as %25, which FFmpeg does not decode.
    let authority = url.authority.replace("%25", "%");
    format!("{scheme}://{userinfo}{authority}{}", url.rest)
}
