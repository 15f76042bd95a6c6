//! Limits of what a broker may send, checked before anything else reads it. Pure.
//!
//! amiquip trusts its peer: it reserves the memory that a frame announces, and its parser recurses
//! into each table in a table until the stack ends. So a frame is passed on only if its size, end
//! mark, method and table are within the bounds below. Otherwise the connection is ended with a
//! [`Refusal`].

mod refusal;
mod tables;

use super::frame::{BODY, END, FRAME_OVERHEAD, FRAME_START, Frame, HEADER, HEARTBEAT, METHOD};
use tables::check_table;

pub use refusal::Refusal;
pub(super) use tables::{Entry, entry, sized};

/// The largest frame in bytes until one is agreed, and the largest that we agree to. RabbitMQ's
/// default.
pub const FRAME_MAX: usize = 128 * 1024;
/// AMQP's smallest `frame_max`, in bytes.
const FRAME_MIN: usize = 4096;

/// Class and method of the first frame.
const START: (u16, u16) = (10, 10);
/// Bytes that suffice to tell every protocol that is recognised.
const TELLING: usize = 8;

/// The bounds of one connection.
#[derive(Debug)]
pub struct Bounds {
    frame_max: usize,
    /// The broker has sent its first frame.
    started: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            frame_max: FRAME_MAX,
            started: false,
        }
    }
}

impl Bounds {
    /// Sets the largest frame, as agreed with the broker, in bytes.
    pub fn agree(&mut self, frame_max: usize) {
        self.frame_max = frame_max.clamp(FRAME_MIN, FRAME_MAX);
    }

    /// The largest frame, in bytes.
    pub fn frame_max(&self) -> usize {
        self.frame_max
    }

    /// The first frame in `bytes` and what is behind it; `None` while it is not there completely.
    ///
    /// # Errors
    /// As soon as the bytes that are there tell that this frame is not to be believed.
    pub fn first<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Frame<'a>, &'a [u8])>, Refusal> {
        let Some(kind) = bytes.first() else {
            return Ok(None);
        };
        if !self.started && *kind != METHOD {
            return match bytes.len() < TELLING {
                true => Ok(None),
                false => Err(recognise(bytes)),
            };
        }
        let Some([_, c0, c1, s0, s1, s2, s3]) = bytes.first_chunk::<FRAME_START>() else {
            return Ok(None);
        };
        let channel = u16::from_be_bytes([*c0, *c1]);
        match (*kind, channel) {
            (METHOD, _) | (HEARTBEAT, 0) | (HEADER | BODY, 1..) => {}
            (kind, channel) => return Err(Refusal::Kind(kind, channel)),
        }
        let size = u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize;
        let most = self.frame_max - FRAME_OVERHEAD;
        if size > most {
            return Err(Refusal::Size(size, most));
        }
        let Some((frame, behind)) = Frame::first(bytes) else {
            return Ok(None);
        };
        if frame.bytes.last() != Some(&END) {
            return Err(Refusal::End);
        }
        if frame.kind == METHOD {
            self.method(&frame)?;
        }
        Ok(Some((frame, behind)))
    }

    /// What the end of the connection means when `bytes` are left; nothing if none are.
    pub fn at_end(&self, bytes: &[u8]) -> Option<Refusal> {
        match bytes.first() {
            None => None,
            Some(kind) if !self.started && *kind != METHOD => Some(recognise(bytes)),
            Some(_) => Some(Refusal::Cut),
        }
    }

    fn method(&mut self, frame: &Frame<'_>) -> Result<(), Refusal> {
        let channel = frame.channel;
        let Some(((class, method), args)) = frame.method() else {
            return Err(Refusal::Method(0, 0, channel));
        };
        let fits = match self.started {
            true => may_send(class, method, channel),
            false => (class, method) == START && channel == 0,
        };
        if !fits {
            return Err(Refusal::Method(class, method, channel));
        }
        if !self.started {
            // Two bytes of a version, then the server properties.
            let table = args.get(2..).and_then(|args| sized(args, 4));
            let (table, _) = table.ok_or(Refusal::Table)?;
            check_table(table, 1, &mut 0)?;
            self.started = true;
        }
        Ok(())
    }
}

/// Whether a broker may send this method after its first one, given what we ask for. No other is
/// parsed: each method with a table is a client's.
fn may_send(class: u16, method: u16, channel: u16) -> bool {
    match (class, method) {
        // connection: tune, open-ok, close, close-ok, blocked, unblocked
        (10, 30 | 41 | 50 | 51 | 60 | 61) => channel == 0,
        // channel: open-ok, close, close-ok
        (20, 11 | 40 | 41)
        // exchange: declare-ok; queue: declare-ok, bind-ok
        | (40, 11)
        | (50, 11 | 21)
        // basic: qos-ok, consume-ok, cancel, cancel-ok, return, deliver, ack, nack
        | (60, 11 | 21 | 30 | 31 | 50 | 60 | 80 | 120)
        // confirm: select-ok
        | (85, 11) => channel != 0,
        _ => false,
    }
}

/// What protocol the peer speaks, by its first bytes, which are no AMQP frame.
fn recognise(bytes: &[u8]) -> Refusal {
    match bytes {
        // The protocol header: since 0-9-1 a zero and the version's three numbers, 0-10 and before
        // two numbers behind two ones, 1.0 the kind of layer and its version.
        [b'A', b'M', b'Q', b'P', 0 | 2 | 3, 1, 0, 0, ..] => Refusal::Version("1.0".to_owned()),
        [b'A', b'M', b'Q', b'P', 0, a, b, c, ..] => Refusal::Version(format!("{a}-{b}-{c}")),
        [b'A', b'M', b'Q', b'P', 1, 1, a, b, ..] => Refusal::Version(format!("{a}-{b}")),
        [b'H', b'T', b'T', b'P', b'/', ..] => Refusal::Protocol("HTTP"),
        [b'S', b'S', b'H', b'-', ..] => Refusal::Protocol("SSH"),
        // An alert or a handshake record of TLS 1.x or SSL 3.
        [21 | 22, 3, 0..=4, ..] => Refusal::Tls,
        _ => {
            let bytes = bytes.get(..TELLING).unwrap_or(bytes);
            Refusal::Unknown(bytes.escape_ascii().to_string())
        }
    }
}

#[cfg(test)]
mod tests;
