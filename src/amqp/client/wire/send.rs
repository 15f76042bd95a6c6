//! Sends a publisher's messages over the shared socket.

use super::{Opening, Shared};
use crate::amqp::client::encode::Message;
use crate::amqp::client::frame::{BODY, END, FRAME_OVERHEAD, FRAME_START, write_frame_start};
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Body frames per `writev`: 2 MiB at RabbitMQ's frame size. The array of slices fits on the stack.
pub(super) const PIECES: usize = 16;

/// A publisher's side of the socket: one channel.
#[derive(Debug)]
pub(in crate::amqp::client) struct Wire {
    shared: Arc<Shared>,
    channel: u16,
    opening: Option<Opening>,
    /// All of a message but its body. Kept to reuse its memory.
    envelope: Vec<u8>,
}

impl Wire {
    /// For the open channel of this number.
    pub(in crate::amqp::client) fn new(shared: &Arc<Shared>, channel: u16) -> Self {
        Self {
            opening: shared.write_side.lock().channels.get(&channel).copied(),
            shared: Arc::clone(shared),
            channel,
            envelope: Vec::new(),
        }
    }

    /// Sends a message, if it still `goes` once the socket is free. Blocks while the socket takes
    /// nothing; woken by its shutdown.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] when the channel is closed. Any other ends the connection,
    /// since the broker may have half a message.
    pub(in crate::amqp::client) fn publish(
        &mut self,
        message: &Message<'_>,
        goes: impl FnOnce() -> bool,
    ) -> io::Result<()> {
        self.envelope.clear();
        message.head(self.channel, &mut self.envelope);
        let head = self.envelope.len();
        let Shared {
            socket,
            write_side,
            amiquip_next,
            amiquip_wrote,
            ..
        } = &*self.shared;
        let mut write_side = write_side.lock();
        while write_side.amiquip.in_frame() || amiquip_next.load(Ordering::Relaxed) {
            write_side.wait(amiquip_wrote);
        }
        let opening = write_side.channels.get(&self.channel).copied();
        if opening != self.opening || !opening.is_some_and(|opening| opening.open) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if !goes() {
            return Ok(());
        }
        let piece = write_side.frame_max.saturating_sub(FRAME_OVERHEAD).max(1);
        for piece in message.body.chunks(piece) {
            write_frame_start(&mut self.envelope, BODY, self.channel, piece.len());
            self.envelope.push(END);
        }
        let sent = send(socket, &self.envelope, head, message.body, piece);
        if sent.is_err() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        sent
    }
}

/// Sends `body` in pieces, each in a frame. `envelope` holds everything else in order: the first
/// `head` bytes, then for each piece the start of its frame and the end mark.
fn send(
    socket: &TcpStream,
    envelope: &[u8],
    head: usize,
    body: &[u8],
    piece: usize,
) -> io::Result<()> {
    let split = |bytes: &[u8], at: usize| at.min(bytes.len());
    let (mut before, mut later) = envelope.split_at(split(envelope, head + FRAME_START));
    for group in body.chunks(piece.saturating_mul(PIECES)) {
        let mut slices = [IoSlice::new(&[]); 2 * PIECES + 1];
        let mut used = 0;
        for (pair, piece) in slices.chunks_exact_mut(2).zip(group.chunks(piece)) {
            pair.copy_from_slice(&[IoSlice::new(before), IoSlice::new(piece)]);
            // The end of this piece's frame and the start of the next one, if there is one.
            (before, later) = later.split_at(split(later, FRAME_OVERHEAD));
            used += 2;
        }
        if later.is_empty()
            && let Some(slice) = slices.get_mut(used)
        {
            *slice = IoSlice::new(before);
            used += 1;
        }
        write_all(socket, slices.get_mut(..used).unwrap_or_default())?;
    }
    match body {
        [] => write_all(socket, &mut [IoSlice::new(envelope)]),
        _ => Ok(()),
    }
}

fn write_all(mut socket: &TcpStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match socket.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut room = [PollFd::new(&socket, PollFlags::OUT)];
                match poll(&mut room, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
