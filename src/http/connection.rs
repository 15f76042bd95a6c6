//! The connection of one client: its phase, and the deadline of that phase.

use super::request::{self, HEAD_BYTES, Hosts, Refusal, Request};
use super::response::Output;
use rustix::event::PollFlags;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// For a request's head to come, counted from the opening or from the last answer: slower than any
/// client, faster than a collection of idle ones grows.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// For an answer, or a stream's picture, to be taken: 8 MiB at 2 Mbit/s.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// For a client that was refused to stop talking, so that it gets to read why.
pub(super) const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// A client's socket, or a played one.
pub(super) trait Stream: Read + Write {
    /// Nothing more will be sent.
    fn finish(&mut self);
}

impl Stream for TcpStream {
    fn finish(&mut self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// A connection to a client.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    pub peer: SocketAddr,
    input: Vec<u8>,
    pub phase: Phase,
    /// Since when it is in this phase.
    pub since: Instant,
    /// When this phase must be over.
    pub deadline: Instant,
}

/// What a connection is doing.
#[derive(Debug)]
pub(super) enum Phase {
    /// It waits for a request.
    Reading,
    /// It waits for a camera's next frame.
    Looking(Look),
    /// It is being answered.
    Sending(Output, Next),
    /// It was refused and may read why.
    Leaving,
    Closed,
}

/// What comes after an answer.
#[derive(Debug, Clone)]
pub(super) enum Next {
    /// The next request.
    Request,
    /// The stream's next picture.
    Picture(Look),
    /// The end.
    Close,
}

/// A wait for the next frame of a camera.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// Its number in the overview.
    pub camera: usize,
    /// How long it may wait for a frame.
    pub patience: Duration,
    pub how: How,
}

/// What the frame is wanted for.
#[derive(Debug, Clone)]
pub(super) enum How {
    Snapshot {
        head_only: bool,
        keep_alive: bool,
        if_none_match: Option<String>,
        /// Without a picture the answer is 204, which is no error in a browser's log.
        quiet: bool,
    },
    Stream,
}

impl How {
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self, Self::Snapshot { quiet: true, .. })
    }
}

impl<S: Stream> Connection<S> {
    pub(super) fn new(stream: S, peer: SocketAddr, now: Instant) -> Self {
        Self {
            stream,
            peer,
            input: Vec::new(),
            phase: Phase::Reading,
            since: now,
            deadline: now + REQUEST_TIMEOUT,
        }
    }

    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    /// What is to be waited for.
    pub(super) fn interest(&self) -> PollFlags {
        match self.phase {
            Phase::Sending(..) => PollFlags::OUT,
            _ => PollFlags::IN,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Bytes that we hold for it.
    pub(super) fn holds(&self) -> usize {
        match &self.phase {
            Phase::Sending(output, _) => output.left(),
            _ => 0,
        }
    }

    pub(super) fn is_stream(&self) -> bool {
        matches!(
            self.look(),
            Some(Look {
                how: How::Stream,
                ..
            })
        )
    }

    /// What it looks at, or will when its answer is sent.
    pub(super) fn look(&self) -> Option<&Look> {
        match &self.phase {
            Phase::Looking(look) | Phase::Sending(_, Next::Picture(look)) => Some(look),
            _ => None,
        }
    }

    /// The cameras have other numbers now, or none; who looks at one that has none is closed.
    pub(super) fn renumber(&mut self, number: impl Fn(usize) -> Option<usize>) {
        let (Phase::Looking(look) | Phase::Sending(_, Next::Picture(look))) = &mut self.phase
        else {
            return;
        };
        match number(look.camera) {
            Some(camera) => look.camera = camera,
            None => self.close(),
        }
    }

    /// It waits for nothing but the client's next request.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Reading | Phase::Leaving)
    }

    pub(super) fn close(&mut self) {
        self.phase = Phase::Closed;
    }

    /// Waits for a frame.
    pub(super) fn look_at(&mut self, look: Look, now: Instant) {
        let patience = look.patience;
        self.enter(Phase::Looking(look), patience, now);
    }

    /// Answers.
    pub(super) fn answer(&mut self, output: Output, next: Next, now: Instant) {
        self.enter(Phase::Sending(output, next), ANSWER_TIMEOUT, now);
    }

    fn enter(&mut self, phase: Phase, timeout: Duration, now: Instant) {
        self.phase = phase;
        self.since = now;
        self.deadline = now + timeout;
    }

    /// Takes what the client sent. A client that has gone, or that talks while it is to listen, is
    /// closed.
    pub(super) fn receive(&mut self) {
        let mut bytes = [0; HEAD_BYTES];
        // One byte more than a head may have tells that it is too long.
        let room = (HEAD_BYTES + 1)
            .saturating_sub(self.input.len())
            .min(bytes.len());
        let leaving = matches!(self.phase, Phase::Leaving);
        let room = if leaving { bytes.len() } else { room };
        match self.stream.read(bytes.get_mut(..room).unwrap_or_default()) {
            Ok(0) => self.close(),
            Ok(_) if leaving => {}
            Ok(n) => self.input.extend(bytes.iter().take(n)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.close(),
        }
    }

    /// The next request, if one is whole and it is its turn.
    pub(super) fn next_request(&mut self, hosts: &Hosts) -> Result<Option<Request>, Refusal> {
        if !matches!(self.phase, Phase::Reading) || self.input.is_empty() {
            return Ok(None);
        }
        let parsed = request::parse(&self.input, hosts)?;
        Ok(parsed.map(|(request, length)| {
            self.input.drain(..length);
            if self.input.is_empty() {
                // An idle client keeps nothing.
                self.input = Vec::new();
            }
            request
        }))
    }

    /// Sends what the client takes.
    pub(super) fn send(&mut self, now: Instant) {
        let Phase::Sending(output, next) = &mut self.phase else {
            return;
        };
        match output.send(&mut self.stream) {
            Ok(false) => {}
            Err(_) => self.close(),
            Ok(true) => match next.clone() {
                Next::Request => self.enter(Phase::Reading, REQUEST_TIMEOUT, now),
                Next::Picture(look) => self.look_at(look, now),
                Next::Close => {
                    self.stream.finish();
                    self.enter(Phase::Leaving, GOODBYE_TIMEOUT, now);
                }
            },
        }
    }
}
