//! Serves the clients within the limits: connections, streams among them, and bytes held for slow
//! clients. It knows no clock and no socket; tests simulate both.

#[cfg(test)]
mod tests;

use super::connection::{Connection, How, Look, Next, Phase, Stream};
use super::history::History;
use super::request::{Hosts, Refusal, Request};
use super::response::{Body, Output, Response};
use super::site::{self, KEYFRAME_PATIENCE, Reply, Site};
use crate::config::{Audience, Pictures};
use crate::frame::Picture;
use crate::idle::Sign;
use crate::overview::{Overview, View};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// Clients at once. A browser opens six.
const CONNECTIONS_MAX: usize = 128;
/// Of them, streams: the others must find room.
const STREAMS_MAX: usize = 64;
/// Bytes of answers that slow clients have not taken yet, all together.
const HELD_BYTES_MAX: usize = 16 << 20;

/// All clients, and what is shown to them.
#[derive(Debug)]
pub(super) struct Service<S> {
    hosts: Hosts,
    pub(super) overview: Arc<Overview>,
    site: Site,
    pub(super) history: History,
    pub(super) connections: Vec<Connection<S>>,
    /// Of each camera that a client looks at, the newest picture.
    newest: Vec<Newest>,
}

/// What clients see of a camera.
#[derive(Debug, Clone, Default)]
struct Newest {
    picture: Option<Picture>,
    /// When a client last asked for a snapshot.
    asked: Option<Instant>,
}

impl<S: Stream> Service<S> {
    /// Shows `overview` to clients that name one of `hosts`.
    pub(super) fn new(overview: Arc<Overview>, hosts: Hosts, pictures: Audience) -> Self {
        Self {
            hosts,
            site: Site::new(Arc::clone(&overview), pictures),
            history: History::new(overview.cameras.len()),
            connections: Vec::new(),
            newest: vec![Newest::default(); overview.cameras.len()],
            overview,
        }
    }

    /// The cameras have changed.
    pub(super) fn adopt(&mut self, overview: Arc<Overview>) {
        let old = std::mem::replace(&mut self.overview, Arc::clone(&overview));
        self.history.adopt(&old, &overview);
        self.newest = vec![Newest::default(); overview.cameras.len()];
        for connection in &mut self.connections {
            connection.renumber(|n| overview.camera(&old.cameras.get(n)?.camera.id));
        }
        self.site.adopt(overview);
    }

    /// A client has come, and gets a place if there is one.
    pub(super) fn admit(&mut self, stream: S, peer: SocketAddr, now: Instant) {
        if self.make_room() {
            self.connections.push(Connection::new(stream, peer, now));
        }
    }

    /// Forgets the clients that are closed.
    pub(super) fn sweep(&mut self) {
        self.connections
            .retain(|connection| !connection.is_closed());
    }

    /// Asks for the next picture of each camera that a client waits for, and drops old ones. Of a
    /// camera that a client looked at a moment ago, each keyframe is kept at hand: the next one may
    /// be half a minute away, too long for a client that comes between two.
    pub(super) fn ask_for_pictures(&mut self, now: Instant) {
        for connection in &self.connections {
            let look = connection.look();
            let Some(view) = look.and_then(|look| self.overview.cameras.get(look.camera)) else {
                continue;
            };
            viewed(view);
            if matches!(connection.phase, Phase::Looking(_)) {
                view.peek.want();
            }
        }
        for (camera, newest) in self.newest.iter_mut().enumerate() {
            let is_old = |it: &mut Picture| !self.site.is_newest(camera, it);
            newest.picture.take_if(is_old);
            let looked = newest.asked.is_some_and(|at| now - at < KEYFRAME_PATIENCE);
            if let Some(view) = self.overview.cameras.get(camera)
                && looked
                && view.camera.pictures == Pictures::Keyframes
            {
                view.peek.want();
            }
        }
    }

    /// Makes room for one more client: closes the one that has been
    /// idle for longest, else the one that has been slow for longest.
    fn make_room(&mut self) -> bool {
        if self.connections.len() < CONNECTIONS_MAX {
            return true;
        }
        let candidates = self.connections.iter().enumerate();
        let victim = candidates
            .filter(|(_, connection)| !connection.is_stream())
            .min_by_key(|(_, connection)| (!connection.is_idle(), connection.since));
        match victim.map(|(n, _)| n) {
            Some(n) => {
                self.connections.swap_remove(n);
                true
            }
            None => false,
        }
    }

    /// Client `n` has something for us, or can take something.
    pub(super) fn serve(&mut self, n: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(n) else {
            return;
        };
        match connection.phase {
            Phase::Sending(..) => connection.send(now),
            Phase::Closed => return,
            _ => connection.receive(),
        }
        self.answer_requests(n, now);
    }

    /// Answers what client `n` has asked, one after the other.
    fn answer_requests(&mut self, n: usize, now: Instant) {
        while let Some(connection) = self.connections.get_mut(n) {
            let request = connection.next_request(&self.hosts);
            let peer = connection.peer.ip();
            match request {
                Ok(None) => return,
                Ok(Some(request)) => match self.site.reply(&request, peer, &self.history) {
                    Reply::Now(response) => self.answer(n, response, &request, now),
                    Reply::Look(look) => self.look(n, look, &request, now),
                },
                Err(Refusal { status, why }) => {
                    let mut response = Response::text(status, why);
                    if status == 405 {
                        response = response.with("Allow", "GET, HEAD");
                    }
                    self.send(n, response.into_output(false, false), Next::Close, now);
                    return;
                }
            }
        }
    }

    fn answer(&mut self, n: usize, response: Response, request: &Request, now: Instant) {
        let next = if request.keep_alive {
            Next::Request
        } else {
            Next::Close
        };
        let output = response.into_output(request.head_only, request.keep_alive);
        self.send(n, output, next, now);
    }

    /// Client `n` wants to see a camera.
    fn look(&mut self, n: usize, look: Look, request: &Request, now: Instant) {
        if let Some(view) = self.overview.cameras.get(look.camera) {
            viewed(view);
        }
        match look.how {
            How::Stream if request.head_only => {
                let output = Output::new(site::stream_head(), Body::Own(Vec::new()));
                self.send(n, output, Next::Close, now);
            }
            How::Stream if self.streams() >= STREAMS_MAX => {
                let response = Response::text(503, "too many streams; snapshots are still served");
                let response = response.with("Retry-After", "10");
                self.answer(n, response, request, now);
            }
            How::Stream => {
                let output = Output::new(site::stream_head(), Body::Own(Vec::new()));
                self.send(n, output, Next::Picture(look), now);
            }
            How::Snapshot { .. } => {
                let camera = look.camera;
                if let Some(connection) = self.connections.get_mut(n) {
                    connection.look_at(look, now);
                }
                // The one that others looked at a moment ago may still be the newest.
                let newest = self.newest.get_mut(camera).and_then(|newest| {
                    newest.asked = Some(now);
                    newest.picture.clone()
                });
                if let Some(picture) = newest.filter(|it| self.site.is_newest(camera, it)) {
                    self.give(n, &picture, now);
                }
            }
        }
    }

    fn streams(&self) -> usize {
        let streams = self.connections.iter().filter(|it| it.is_stream());
        streams.count()
    }

    /// Gives the pictures that were left to those who wait for them.
    pub(super) fn show(&mut self, now: Instant) {
        for camera in 0..self.newest.len() {
            let left = self.overview.cameras.get(camera).map(|view| &view.peek);
            let Some(picture) = left.and_then(|peek| peek.take()) else {
                continue;
            };
            for n in 0..self.connections.len() {
                let looks = self.connections.get(n).is_some_and(
                    |it| matches!(&it.phase, Phase::Looking(look) if look.camera == camera),
                );
                if looks {
                    self.give(n, &picture, now);
                    self.answer_requests(n, now);
                }
            }
            if let Some(newest) = self.newest.get_mut(camera) {
                newest.picture = Some(picture);
            }
        }
    }

    /// Sends `picture` to client `n`, which waits for it.
    fn give(&mut self, n: usize, picture: &Picture, now: Instant) {
        let Some(Phase::Looking(look)) = self.connections.get(n).map(|it| &it.phase) else {
            return;
        };
        let look = look.clone();
        match &look.how {
            How::Snapshot {
                head_only,
                keep_alive,
                if_none_match,
                ..
            } => {
                let response = site::snapshot(picture, if_none_match.as_deref());
                let next = if *keep_alive {
                    Next::Request
                } else {
                    Next::Close
                };
                self.send(n, response.into_output(*head_only, *keep_alive), next, now);
            }
            How::Stream => {
                let body = Body::Shared(Arc::clone(&picture.jpeg));
                let output = Output::new(site::part_head(picture), body).ending(site::PART_END);
                self.send(n, output, Next::Picture(look), now);
            }
        }
    }

    /// Begins to send to client `n`. When too much is held for slow clients, the slowest go.
    fn send(&mut self, n: usize, output: Output, next: Next, now: Instant) {
        let mut held = output.left()
            + self
                .connections
                .iter()
                .map(Connection::holds)
                .sum::<usize>();
        while held > HELD_BYTES_MAX {
            let others = self.connections.iter_mut().enumerate();
            let slowest = others
                .filter(|(other, it)| *other != n && it.holds() > 0)
                .min_by_key(|(_, it)| it.since);
            let Some((_, slowest)) = slowest else { break };
            held -= slowest.holds();
            slowest.close();
        }
        if let Some(connection) = self.connections.get_mut(n) {
            connection.answer(output, next, now);
            connection.send(now);
        }
    }

    /// Ends what has taken too long, and what looks at a camera that shows nothing any more.
    pub(super) fn expire(&mut self, now: Instant) {
        for n in 0..self.connections.len() {
            let Some(connection) = self.connections.get_mut(n) else {
                return;
            };
            let late = connection.deadline <= now;
            let Phase::Looking(look) = &connection.phase else {
                if late {
                    connection.close();
                }
                continue;
            };
            let over = match self.site.no_picture(look.camera, &look.how, now) {
                None if late => Some(self.site.out_of_patience(look)),
                over => over,
            };
            match (over, look.how.clone()) {
                (None, _) => {}
                (Some(_), How::Stream) => connection.close(),
                (
                    Some(response),
                    How::Snapshot {
                        head_only,
                        keep_alive,
                        ..
                    },
                ) => {
                    let next = if keep_alive {
                        Next::Request
                    } else {
                        Next::Close
                    };
                    self.send(n, response.into_output(head_only, keep_alive), next, now);
                    // One that came with it; the next byte may never come.
                    self.answer_requests(n, now);
                }
            }
        }
    }
}

/// A client looks at the camera's pictures, so it is not idle.
fn viewed(view: &View) {
    if let Some(idleness) = &view.idleness {
        idleness.wanted(Sign::Viewed);
    }
}
