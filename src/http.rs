//! Status page, metrics, health and pictures over HTTP: one thread, whatever clients do.
//!
//! tiny_http, the synchronous server there is, gives each connection a thread and no time-out, and
//! keeps its sockets to itself: 200 idle clients are 200 threads for ever. So here one thread polls all
//! sockets: a client that is slow or silent is a row in a table with a deadline, it holds no thread and
//! makes nobody wait. httparse reads the requests.
//!
//! What bounds it: connections, streams among them, bytes held for slow clients, the size of a request,
//! and a deadline for every phase of a connection. Where a bound is reached, the client that has been
//! idle or slow for longest goes.

mod connection;
mod exposition;
mod history;
mod page;
mod request;
mod response;
mod site;
mod state;

use crate::config;
use crate::frame::Picture;
use crate::handoff::peek::Bell;
use crate::overview::Overview;
use crate::shutdown::Stop;
use connection::{Connection, How, Look, Next, Phase};
use history::History;
use parking_lot::Mutex;
use request::{Hosts, Refusal, Request};
use response::{Body, Output, Response};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use site::{Reply, Site};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Clients at once. A browser opens six.
const CONNECTIONS_MAX: usize = 128;
/// Of them, streams: the others must find room.
const STREAMS_MAX: usize = 64;
/// Bytes of answers that slow clients have not taken yet, all together.
const HELD_BYTES_MAX: usize = 16 << 20;
/// The kernel's part of it, for each client. Its default grows to 4 MiB, and a stream would show
/// what has been queuing there instead of what is.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// New clients in one go, so that a flood of them does not keep the others waiting.
const ACCEPTS: usize = 32;
/// When no descriptor is left, the listener is left alone for so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Pictures go first: on a busy board this thread gets a third of a capture thread's share.
const NICENESS: i32 = 5;

/// Through which the HTTP thread is given another overview.
#[derive(Debug, Clone)]
pub struct Handle {
    next: Arc<Mutex<Option<Arc<Overview>>>>,
    bell: Arc<Bell>,
}

impl Handle {
    /// Shows `overview` from now on.
    pub fn show(&self, overview: Arc<Overview>) {
        *self.next.lock() = Some(overview);
        self.bell.ring();
    }
}

/// The HTTP thread's state.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    hosts: Hosts,
    stop: Arc<Stop>,
    handle: Handle,
    overview: Arc<Overview>,
    site: Site,
    history: History,
    connections: Vec<Connection>,
    /// Of each camera that somebody looks at, the newest picture.
    newest: Vec<Option<Picture>>,
    accept_after: Option<Instant>,
}

/// Opens the port, which is what can fail.
///
/// # Errors
/// When the address is not ours or the port is taken.
pub fn listen(http: &config::Http) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(http.listen).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| {
        let text = error.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "; does another edge-video run here? http.listen takes another port, \
                 http.enabled: false none"
            }
            _ => "; see http.listen",
        };
        io::Error::new(
            error.kind(),
            format!("no status page at {}: {text}{advice}", http.listen),
        )
    })
}

impl Server {
    /// Serves `overview` at `listener` until `stop`. `bell` is rung when a picture was left.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn new(
        listener: TcpListener,
        http: &config::Http,
        overview: Arc<Overview>,
        bell: Arc<Bell>,
        stop: Arc<Stop>,
    ) -> io::Result<Self> {
        // Accepted sockets inherit it.
        let _ = sockopt::set_socket_send_buffer_size(&listener, SEND_BUFFER_BYTES);
        let address = listener.local_addr()?;
        let name = rustix::system::uname();
        Ok(Self {
            hosts: Hosts::new(address, &name.nodename().to_string_lossy(), &http.hosts),
            listener,
            address,
            stop,
            handle: Handle {
                next: Arc::default(),
                bell,
            },
            site: Site::new(Arc::clone(&overview), http.pictures),
            history: History::new(overview.cameras.len()),
            connections: Vec::new(),
            newest: vec![None; overview.cameras.len()],
            accept_after: None,
            overview,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// To give it another overview while it runs.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The cameras have changed.
    fn adopt(&mut self, overview: Arc<Overview>) {
        let old = std::mem::replace(&mut self.overview, Arc::clone(&overview));
        self.history.adopt(&old, &overview);
        self.newest = vec![None; overview.cameras.len()];
        for connection in &mut self.connections {
            connection.renumber(|n| overview.camera(&old.cameras.get(n)?.camera.id));
        }
        self.site.adopt(overview);
    }

    /// Serves until it is told to stop.
    pub fn run(&mut self) {
        // After a panic: whoever was served may be what caused it.
        self.connections.clear();
        // To this thread only; where it is not allowed, all are equal.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
        while !self.stop.requested() {
            self.turn();
        }
    }

    /// Waits until something is to do, and does it.
    fn turn(&mut self) {
        let (ready, accept) = self.wait();
        let now = Instant::now();
        self.handle.bell.hush();
        let next = self.handle.next.lock().take();
        if let Some(overview) = next {
            self.adopt(overview);
        }
        if let Some(beat) = &self.overview.http_beat {
            beat.beat();
        }
        self.history.sample(&self.overview, now);
        self.show(now);
        for n in 0..ready.len() {
            if ready.get(n) == Some(&true) {
                self.serve(n, now);
            }
        }
        self.expire(now);
        self.connections
            .retain(|connection| !connection.is_closed());
        if accept {
            self.accept(now);
        }
        for connection in &self.connections {
            if let Phase::Looking(look) = &connection.phase
                && let Some(view) = self.overview.cameras.get(look.camera)
            {
                view.peek.want();
            }
        }
        // Old pictures are for nobody.
        for (camera, newest) in self.newest.iter_mut().enumerate() {
            newest.take_if(|picture| !self.site.is_newest(camera, picture));
        }
    }

    /// Waits for clients, pictures, the next deadline. Woken by the stop and the bell. Says which
    /// connections are ready, and whether a new one is.
    fn wait(&mut self) -> (Vec<bool>, bool) {
        let now = Instant::now();
        let may_accept = self.accept_after.is_none_or(|after| after <= now);
        let until = self
            .connections
            .iter()
            .map(|connection| connection.deadline)
            .chain(self.accept_after.filter(|_| !may_accept))
            .fold(self.history.due(), Instant::min);
        let left = until.saturating_duration_since(now);
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let listen = if may_accept {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        let mut fds = vec![
            PollFd::new(&*self.stop, PollFlags::IN),
            PollFd::new(&*self.handle.bell, PollFlags::IN),
            PollFd::new(&self.listener, listen),
        ];
        let own = fds.len();
        fds.extend(self.connections.iter().map(|connection| {
            PollFd::from_borrowed_fd(
                std::os::fd::AsFd::as_fd(connection.stream()),
                connection.interest(),
            )
        }));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                // No memory: nothing that we could do but let the others work.
                log::debug!("HTTP: poll: {error}");
                self.stop.sleep(ACCEPT_PAUSE);
            }
        }
        let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        (
            fds.iter().skip(own).map(ready).collect(),
            fds.get(own - 1).is_some_and(ready),
        )
    }

    fn accept(&mut self, now: Instant) {
        self.accept_after = None;
        for _ in 0..ACCEPTS {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    let ready = stream
                        .set_nonblocking(true)
                        .and_then(|()| stream.set_nodelay(true));
                    if ready.is_ok() && self.make_room() {
                        self.connections.push(Connection::new(stream, peer, now));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It went before its turn came.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    log::debug!("HTTP: no new client: {error}");
                    self.accept_after = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    /// Makes room for one more client: who has been idle for longest goes, else who has been slow.
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
    fn serve(&mut self, n: usize, now: Instant) {
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
                let newest = self.newest.get(camera).cloned().flatten();
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
    fn show(&mut self, now: Instant) {
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
                *newest = Some(picture);
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
    fn expire(&mut self, now: Instant) {
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
