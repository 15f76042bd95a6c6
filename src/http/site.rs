//! Decides which path gets which answer.

use super::connection::{How, Look};
use super::exposition;
use super::history::History;
use super::page::{self, Update};
use super::request::Request;
use super::response::{Body, Response, head};
use super::state::PageState;
use crate::clock::span_text;
use crate::config::{Audience, Pictures};
use crate::frame::Picture;
use crate::overview::{Overview, View};
use crate::redact;
use crate::status::Activity;
use crate::system;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The longest time for which a snapshot waits for the next frame.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client waits for the next one of a camera whose pictures are its keyframes. Cameras
/// with a "smart codec" send one every 30 s at most.
pub(super) const KEYFRAME_PATIENCE: Duration = Duration::from_secs(45);
/// Between the pictures of a stream. A JPEG holds no such line.
const BOUNDARY: &str = "edge-video-picture";

/// All that is served.
#[derive(Debug)]
pub(super) struct Site {
    overview: Arc<Overview>,
    pictures: Audience,
    /// Tells this run of the program from another one.
    boot: String,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Reply {
    Now(Response),
    /// When the camera's next frame comes.
    Look(Look),
}

impl Site {
    pub(super) fn new(overview: Arc<Overview>, pictures: Audience) -> Self {
        Self {
            overview,
            pictures,
            boot: random_hex(),
        }
    }

    /// Shows `overview` from now on.
    pub(super) fn adopt(&mut self, overview: Arc<Overview>) {
        self.overview = overview;
    }

    pub(super) fn reply(&self, request: &Request, peer: IpAddr, history: &History) -> Reply {
        let now = Instant::now();
        Reply::Now(match request.path.as_str() {
            "/" => self.page(history, peer),
            "/page.json" => self.update(history, peer, &request.query),
            "/status" => json(&PageState::new(&self.overview, history, self.may_see(peer))),
            "/metrics" => Response::new(
                200,
                exposition::CONTENT_TYPE,
                exposition::text(&self.overview),
            ),
            "/livez" => self.livez(now),
            "/readyz" => self.readyz(),
            "/debug/threads" => threads(),
            path => match path
                .strip_prefix("/cameras/")
                .and_then(|rest| rest.split_once('/'))
            {
                Some((id, "snapshot.jpg")) => {
                    return self.look(id, peer, now, || How::Snapshot {
                        head_only: request.head_only,
                        keep_alive: request.keep_alive,
                        if_none_match: request.if_none_match.clone(),
                        quiet: request.query.split('&').any(|part| part == "missing=204"),
                    });
                }
                Some((id, "stream.mjpg")) => return self.look(id, peer, now, || How::Stream),
                _ => Response::text(404, "there is no such page"),
            },
        })
    }

    fn may_see(&self, peer: IpAddr) -> bool {
        match self.pictures {
            Audience::Never => false,
            Audience::Loopback => peer.to_canonical().is_loopback(),
            Audience::Always => true,
        }
    }

    fn page(&self, history: &History, peer: IpAddr) -> Response {
        let nonce = random_hex();
        let state = PageState::new(&self.overview, history, self.may_see(peer));
        let html = page::html(&state, &self.boot, history.points_made(), &nonce);
        let policy = format!(
            "default-src 'none'; img-src 'self' data:; connect-src 'self'; \
             style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        Response::new(200, "text/html; charset=utf-8", html)
            .with("Content-Security-Policy", &policy)
            .with("Cache-Control", "no-store")
    }

    fn update(&self, history: &History, peer: IpAddr, query: &str) -> Response {
        let seen = query
            .split('&')
            .find_map(|part| part.strip_prefix("points="))
            .and_then(|points| points.parse().ok());
        let state = PageState::new(&self.overview, history, self.may_see(peer));
        json(&Update::new(
            &state,
            &self.boot,
            history.points_made(),
            seen,
        ))
    }

    /// Whether our own loops are alive. A dead camera or broker is none of its business.
    fn livez(&self, now: Instant) -> Response {
        match self.overview.hung(now) {
            Some((thread, silent)) => {
                let silent = span_text(silent.as_secs_f64());
                Response::text(
                    503,
                    &format!("the thread {thread} has not reported for {silent}"),
                )
            }
            None => Response::text(200, "ok"),
        }
        .with("Cache-Control", "no-store")
    }

    /// Whether frames can go out. The configuration is loaded, or this code would not run.
    fn readyz(&self) -> Response {
        let broker = self.overview.broker();
        match broker.why_down {
            _ if self.overview.is_stopping() => Response::text(503, "stopping"),
            Some(why) => Response::text(503, &redact::clean(&why)),
            None => match self.overview.refused() {
                Some(why) => Response::text(503, &redact::clean(&why)),
                None => Response::text(200, "ready"),
            },
        }
        .with("Cache-Control", "no-store")
    }

    fn look(&self, id: &str, peer: IpAddr, now: Instant, how: impl FnOnce() -> How) -> Reply {
        let Some(camera) = self.overview.camera(id) else {
            return Reply::Now(Response::text(404, "there is no such camera"));
        };
        if !self.may_see(peer) {
            let why = match self.pictures {
                Audience::Loopback => "pictures are shown on this machine only",
                _ => "pictures are not shown",
            };
            return Reply::Now(Response::text(403, &format!("{why}: see http.pictures")));
        }
        let how = how();
        if let Some(why) = self.no_picture(camera, &how, now) {
            return Reply::Now(why);
        }
        let stale = self.view(camera).map_or(SNAPSHOT_PATIENCE, |view| {
            let stale = view.stale_timeout();
            match view.camera.pictures {
                Pictures::Keyframes => stale.max(KEYFRAME_PATIENCE),
                Pictures::All | Pictures::None => stale,
            }
        });
        Reply::Look(Look {
            camera,
            patience: match how {
                How::Snapshot { .. } => stale.min(SNAPSHOT_PATIENCE),
                How::Stream => stale,
            },
            how,
        })
    }

    fn view(&self, camera: usize) -> Option<&View> {
        self.overview.cameras.get(camera).map(|view| &**view)
    }

    /// Why camera `camera` has no fresh picture to show, if it has none.
    pub(super) fn no_picture(&self, camera: usize, how: &How, now: Instant) -> Option<Response> {
        let view = self.view(camera)?;
        if view.camera.pictures == Pictures::None {
            return Some(Response::text(
                404,
                "the camera has no pictures: pictures: none",
            ));
        }
        if view.is_up(now) {
            return None;
        }
        let status = view.status.get();
        let why = match (&status.activity, view.age(now)) {
            (Activity::Live, Some(age)) => {
                let age = span_text(age.as_secs_f64());
                format!("no {} for {age}", view.sign_of_life())
            }
            _ => view.words(now),
        };
        Some(unavailable(how, &why))
    }

    /// The answer to a client whose wait for a frame has timed out.
    pub(super) fn out_of_patience(&self, look: &Look) -> Response {
        let waited = span_text(look.patience.as_secs_f64());
        unavailable(&look.how, &format!("no new frame for {waited}"))
    }

    /// Whether `picture` is still the newest frame of its camera.
    pub(super) fn is_newest(&self, camera: usize, picture: &Picture) -> bool {
        self.view(camera).is_some_and(|view| {
            let newest = view.metrics.reader.last_frame_unix_us.get();
            newest == picture.captured.unix_us.cast_unsigned()
        })
    }
}

fn unavailable(how: &How, why: &str) -> Response {
    if how.is_quiet() {
        return Response::text(204, "").with("Cache-Control", "no-store");
    }
    Response::text(503, &format!("no fresh picture: {}", redact::clean(why)))
        .with("Retry-After", "1")
        .with("Cache-Control", "no-store")
}

fn json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(json) => Response::new(200, "application/json", json).with("Cache-Control", "no-store"),
        Err(error) => Response::text(500, &error.to_string()),
    }
}

/// One line a thread.
fn threads() -> Response {
    let mut text = String::from("name            state  CPU s\n");
    for thread in system::threads() {
        let _ = writeln!(
            text,
            "{:<15} {}  {:8.2}",
            thread.name, thread.state, thread.cpu_seconds
        );
    }
    Response::new(200, "text/plain; charset=utf-8", text).with("Cache-Control", "no-store")
}

/// A picture as the answer to a request for a snapshot.
pub(super) fn snapshot(picture: &Picture, if_none_match: Option<&str>) -> Response {
    let tag = format!("\"{}-{}\"", picture.epoch, picture.seq);
    let known = if_none_match.is_some_and(|tags| {
        let mut tags = tags
            .split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"));
        tags.any(|known| known == tag)
    });
    let captured = u64::try_from(picture.captured.unix_us).unwrap_or(0);
    let captured = UNIX_EPOCH + Duration::from_micros(captured);
    // Later than now if the clock was set back; a client may not believe that.
    let modified = httpdate::fmt_http_date(captured.min(SystemTime::now()));
    Response {
        status: if known { 304 } else { 200 },
        content_type: "image/jpeg",
        fields: String::new(),
        body: Body::Shared(Arc::clone(&picture.jpeg)),
    }
    .with("Last-Modified", &modified)
    .with("ETag", &tag)
    // Caches must ask each time, and only the browser's own may keep it.
    .with("Cache-Control", "private, no-cache")
}

/// The head of a stream.
pub(super) fn stream_head() -> Vec<u8> {
    let head = head(200, false);
    format!(
        "{head}Content-Type: multipart/x-mixed-replace; boundary={BOUNDARY}\r\n\
         Cache-Control: no-store\r\n\r\n--{BOUNDARY}\r\n"
    )
    .into_bytes()
}

/// The head of one picture in a stream. The boundary after it tells browsers at once that it is
/// whole; so each part but the first begins with the end of the one before.
pub(super) fn part_head(picture: &Picture) -> Vec<u8> {
    let us = picture.captured.unix_us;
    format!(
        "Content-Type: image/jpeg\r\nContent-Length: {}\r\nX-Timestamp: {}.{:06}\r\n\r\n",
        picture.jpeg.len(),
        us / 1_000_000,
        us % 1_000_000,
    )
    .into_bytes()
}

/// After a picture in a stream.
pub(super) const PART_END: &[u8] = b"\r\n--edge-video-picture\r\n";

/// 128 random bits, or what there are of them.
fn random_hex() -> String {
    let mut bytes = [0_u8; 16];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
