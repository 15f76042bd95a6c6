//! Status page, metrics, health and pictures over HTTP, in one thread that no client can block.
//!
//! One thread polls all sockets. A client that is slow or silent is a row in a table with a
//! deadline: it holds no thread, and no other client waits for it. tiny_http, the only maintained
//! synchronous server, gives each connection a thread and no time-out, and does not give out its
//! sockets: 200 idle clients would be 200 threads for ever. httparse reads the requests.
//!
//! There are limits for the connections, the streams among them, the bytes held for slow clients,
//! the size of a request, and the time of each phase of a connection. At a limit, the client that
//! was idle or slow for the longest time is disconnected.

mod connection;
mod exposition;
mod history;
mod page;
mod request;
mod response;
mod service;
mod site;
mod state;

use crate::config;
use crate::handoff::peek::PollWaker;
use crate::os_error::error_text;
use crate::overview::Overview;
use crate::shutdown::Stop;
use crate::system::wait_until;
use parking_lot::Mutex;
use request::Hosts;
use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt;
use service::Service;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The kernel's part of it, for each client. Its default grows to 4 MiB, and a stream would show
/// what has been queuing there instead of what is.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// New clients in one go, so that a flood of them does not keep the others waiting.
const ACCEPTS: usize = 32;
/// When no descriptor is left, no client is accepted for this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Pictures go first: on a busy board this thread gets a third of a capture thread's share.
const NICENESS: i32 = 5;

/// Through which the HTTP thread is given another overview.
#[derive(Debug, Clone)]
pub struct Handle {
    next: Arc<Mutex<Option<Arc<Overview>>>>,
    waker: Arc<PollWaker>,
}

impl Handle {
    /// Shows `overview` from now on.
    pub fn show(&self, overview: Arc<Overview>) {
        *self.next.lock() = Some(overview);
        self.waker.wake();
    }
}

/// The HTTP thread's state.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    stop: Arc<Stop>,
    handle: Handle,
    service: Service<TcpStream>,
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
        let text = error_text(&error);
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "; another edge-video may be running: choose another port with http.listen, or \
                 set http.enabled: false"
            }
            _ => "; check http.listen",
        };
        io::Error::new(
            error.kind(),
            format!("no status page at {}: {text}{advice}", http.listen),
        )
    })
}

impl Server {
    /// Serves `overview` at `listener` until `stop`. `waker` wakes it when a picture was left.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn new(
        listener: TcpListener,
        http: &config::Http,
        overview: Arc<Overview>,
        waker: Arc<PollWaker>,
        stop: Arc<Stop>,
    ) -> io::Result<Self> {
        // Accepted sockets inherit it.
        let _ = sockopt::set_socket_send_buffer_size(&listener, SEND_BUFFER_BYTES);
        let address = listener.local_addr()?;
        let name = rustix::system::uname();
        let hosts = Hosts::new(address, &name.nodename().to_string_lossy(), &http.hosts);
        Ok(Self {
            listener,
            address,
            stop,
            handle: Handle {
                next: Arc::default(),
                waker,
            },
            service: Service::new(overview, hosts, http.pictures),
            accept_after: None,
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

    /// Serves until it is told to stop.
    pub fn run(&mut self) {
        // After a panic: the client that was served may have caused it.
        self.service.connections.clear();
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
        self.handle.waker.clear();
        let next = self.handle.next.lock().take();
        let service = &mut self.service;
        if let Some(overview) = next {
            service.adopt(overview);
        }
        if let Some(beat) = &service.overview.http_beat {
            beat.beat();
        }
        service.history.sample(&service.overview, now);
        service.show(now);
        for n in 0..ready.len() {
            if ready.get(n) == Some(&true) {
                service.serve(n, now);
            }
        }
        service.expire(now);
        service.sweep();
        if accept {
            self.accept(now);
        }
        self.service.ask_for_pictures(now);
    }

    /// Waits for clients, pictures, the next deadline. Woken by the order to stop and by `waker`.
    /// Says which connections are ready, and whether a new one is.
    fn wait(&mut self) -> (Vec<bool>, bool) {
        let now = Instant::now();
        let may_accept = self.accept_after.is_none_or(|after| after <= now);
        let connections = &self.service.connections;
        let until = connections
            .iter()
            .map(|connection| connection.deadline)
            .chain(self.accept_after.filter(|_| !may_accept))
            .fold(self.service.history.due(), Instant::min);
        let listen = if may_accept {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        let mut fds = vec![
            PollFd::new(&*self.stop, PollFlags::IN),
            PollFd::new(&*self.handle.waker, PollFlags::IN),
            PollFd::new(&self.listener, listen),
        ];
        let own = fds.len();
        fds.extend(connections.iter().map(|connection| {
            PollFd::from_borrowed_fd(
                std::os::fd::AsFd::as_fd(connection.stream()),
                connection.interest(),
            )
        }));
        if let Err(error) = wait_until(&mut fds, until) {
            // No memory: nothing that we could do but let the others work.
            log::debug!("HTTP: cannot wait for clients: {}", error_text(&error));
            self.stop.sleep(ACCEPT_PAUSE);
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
                    if ready.is_ok() {
                        self.service.admit(stream, peer, now);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It went before its turn came.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    log::debug!(
                        "HTTP: cannot accept a client: {}; trying again",
                        error_text(&error)
                    );
                    self.accept_after = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }
}
