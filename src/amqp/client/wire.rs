//! The socket that amiquip and publishers share. A publisher sends a message with one `writev`, out
//! of the buffer that FFmpeg was read into.
//!
//! Through amiquip each publish would copy the frame three times and wake its I/O thread three
//! times, more than half of what a frame costs. So amiquip writes through [`Stream`], and a
//! publisher through [`Wire`]: whole AMQP frames each, and nothing between the parts of a message.
//! amiquip never waits for a publisher, so it goes on reading.

mod scanner;
mod send;

use super::answers::Listeners;
use super::bounds::{FRAME_MAX, Refusal};
use super::frame::{CHANNEL_CLOSE, CHANNEL_CLOSE_OK, CHANNEL_OPEN, TUNE_OK};
use super::gather::{AnswerWaiters, Pace, REST};
use super::incoming::Incoming;
use crate::amqp::lock::{Ordered, Rank};
use mio::{Evented, Poll, PollOpt, Ready, Token};
use parking_lot::Condvar;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use scanner::Scanner;

pub(super) use send::Wire;

/// What both sides of a connection share.
#[derive(Debug)]
pub(super) struct Shared {
    socket: Arc<TcpStream>,
    write_side: Ordered<WriteSide>,
    /// amiquip found a publisher writing, so it writes next. Otherwise many publishers could keep
    /// it waiting for long.
    amiquip_next: AtomicBool,
    /// Notified when amiquip has written, and no half frame: a publisher may write.
    amiquip_wrote: Condvar,
    pub(super) listeners: Listeners,
    /// Why the connection was ended, if the broker exceeded its bounds.
    pub(super) refused: OnceLock<Refusal>,
    pub(super) answer_waiters: Arc<AnswerWaiters>,
}

/// What has been written. The lock's holder may write, but in the middle of a frame of amiquip's
/// only amiquip.
#[derive(Debug)]
struct WriteSide {
    amiquip: Scanner,
    /// The largest frame, as agreed with the broker.
    frame_max: usize,
    channels: BTreeMap<u16, Opening>,
}

/// A channel number is used for one channel after another. Only the current one may send: the
/// broker ends the whole connection upon a message on a closed channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opening {
    count: u64,
    open: bool,
}

/// amiquip's side of the socket.
#[derive(Debug)]
pub(super) struct Stream {
    bytes: Bytes,
    incoming: Incoming,
    pace: Pace,
    shared: Arc<Shared>,
}

/// The socket, or the TLS session on it.
#[derive(Debug)]
pub(super) enum Bytes {
    Plain(mio::net::TcpStream),
    Tls(native_tls::TlsStream<mio::net::TcpStream>),
}

impl Bytes {
    fn socket(&self) -> &mio::net::TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(session) => session.get_ref(),
        }
    }

    fn stream(&mut self) -> &mut dyn ReadWrite {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(session) => session,
        }
    }
}

trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

/// Both sides of `socket`, which must not block.
pub(super) fn share(socket: &Arc<TcpStream>, bytes: Bytes) -> (Stream, Arc<Shared>) {
    let shared = Arc::new(Shared {
        socket: Arc::clone(socket),
        write_side: Ordered::new(
            Rank::WriteSide,
            WriteSide {
                amiquip: Scanner::default(),
                frame_max: FRAME_MAX,
                channels: BTreeMap::new(),
            },
        ),
        amiquip_next: AtomicBool::new(false),
        amiquip_wrote: Condvar::new(),
        listeners: Listeners::default(),
        refused: OnceLock::new(),
        answer_waiters: Arc::default(),
    });
    let stream = Stream {
        bytes,
        incoming: Incoming::default(),
        pace: Pace::default(),
        shared: Arc::clone(&shared),
    };
    (stream, shared)
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let listeners = &self.shared.listeners;
        let read = self.incoming.read(self.bytes.stream(), listeners, buf);
        if let Some(refusal) = self.incoming.refused() {
            let _ = self.shared.refused.set(refusal.clone());
        }
        // Not under TLS, where this thread also sends the frames.
        if matches!(&read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            && matches!(self.bytes, Bytes::Plain(_))
            && self.pace.fast(self.incoming.take_answers(), Instant::now())
        {
            self.shared.answer_waiters.rest(REST);
        }
        read
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let shared = &self.shared;
        // A publisher is writing. amiquip tries again as soon as the socket is writable.
        let Some(mut write_side) = shared.write_side.try_lock() else {
            shared.amiquip_next.store(true, Ordering::Relaxed);
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let written = self.bytes.stream().write(buf)?;
        let listeners = &shared.listeners;
        write_side.wrote(buf.get(..written).unwrap_or_default(), listeners);
        self.incoming.agree(write_side.frame_max);
        shared.amiquip_next.store(false, Ordering::Relaxed);
        if !write_side.amiquip.in_frame() {
            shared.amiquip_wrote.notify_all();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Before the lock is taken: a publisher that is blocked in the socket holds it.
        let _ = self.shared.socket.shutdown(Shutdown::Both);
        let mut write_side = self.shared.write_side.lock();
        write_side.amiquip = Scanner::at_frame();
        self.shared.amiquip_next.store(false, Ordering::Relaxed);
        self.shared.amiquip_wrote.notify_all();
        drop(write_side);
        self.shared.listeners.end_all();
    }
}

impl Evented for Stream {
    fn register(
        &self,
        poll: &Poll,
        token: Token,
        interest: Ready,
        opts: PollOpt,
    ) -> io::Result<()> {
        self.bytes.socket().register(poll, token, interest, opts)
    }

    fn reregister(
        &self,
        poll: &Poll,
        token: Token,
        interest: Ready,
        opts: PollOpt,
    ) -> io::Result<()> {
        self.bytes.socket().reregister(poll, token, interest, opts)
    }

    fn deregister(&self, poll: &Poll) -> io::Result<()> {
        self.bytes.socket().deregister(poll)
    }
}

impl WriteSide {
    /// Notes what amiquip has written.
    fn wrote(&mut self, bytes: &[u8], listeners: &Listeners) {
        let Self {
            amiquip,
            frame_max,
            channels,
        } = self;
        amiquip.pass(bytes, |channel, method, args| match method {
            TUNE_OK => {
                // The number of channels, then the largest frame; 0 means no limit.
                let agreed = args.get(2..).and_then(<[u8]>::first_chunk);
                if let Some(agreed @ 1..) = agreed.map(|agreed| u32::from_be_bytes(*agreed)) {
                    *frame_max = usize::try_from(agreed).unwrap_or(FRAME_MAX);
                }
            }
            CHANNEL_OPEN => {
                let count = channels.get(&channel).map_or(0, |before| before.count) + 1;
                channels.insert(channel, Opening { count, open: true });
            }
            CHANNEL_CLOSE | CHANNEL_CLOSE_OK => {
                if let Some(opening) = channels.get_mut(&channel) {
                    opening.open = false;
                }
                listeners.end(channel);
            }
            _ => {}
        });
    }
}

#[cfg(test)]
impl Shared {
    /// As a publisher that writes until this is dropped.
    pub(super) fn publisher_is_writing(&self) -> impl Sized {
        self.write_side.lock()
    }

    /// Whether amiquip found a publisher writing, and has not written since.
    pub(super) fn amiquip_waits(&self) -> bool {
        self.amiquip_next.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
