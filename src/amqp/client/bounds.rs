//! What a broker may send: looked at before anything else believes it. Pure.
//!
//! amiquip trusts its peer: it reserves the memory that a frame announces, and its parser calls itself
//! for each table in a table until the stack ends. So a frame is passed on only when its size, its end
//! mark, its method and its table are within the bounds below. A connection whose broker steps over
//! them is ended with a [`Refusal`].

use super::encode::{BODY, END, FRAME_OVERHEAD, FRAME_START, HEADER, METHOD};
use std::fmt::{self, Display};

/// The largest frame, in bytes: before the broker and we have agreed on one, and the most that we agree
/// to. RabbitMQ's default.
pub const FRAME_MAX: usize = 128 * 1024;
/// AMQP's smallest `frame_max`, in bytes.
const FRAME_MIN: usize = 4096;

/// Tables and arrays within one another. RabbitMQ describes itself with a table in a table.
const DEEPEST: u32 = 8;
/// Values in all of them together. RabbitMQ describes itself with about 20. One byte on the wire
/// can become 60 in memory.
const MOST_VALUES: u32 = 256;

const HEARTBEAT: u8 = 8;
/// Class and method of the first frame.
const START: (u16, u16) = (10, 10);
/// So many bytes tell every protocol that is recognised.
const TELLING: usize = 8;

/// One AMQP frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Method, content header, content body or heartbeat.
    pub kind: u8,
    /// 0 is the connection itself.
    pub channel: u16,
    /// What is between its start and its end mark.
    pub payload: &'a [u8],
    /// All of it.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first in `bytes`, if it is there completely, and what is behind it.
    pub fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let ([kind, c0, c1, s0, s1, s2, s3], _) = bytes.split_first_chunk::<FRAME_START>()?;
        let size = u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize;
        let (bytes, behind) = bytes.split_at_checked(size.checked_add(FRAME_OVERHEAD)?)?;
        let frame = Self {
            kind: *kind,
            channel: u16::from_be_bytes([*c0, *c1]),
            payload: bytes.get(FRAME_START..FRAME_START + size)?,
            bytes,
        };
        Some((frame, behind))
    }

    /// Class and method, and the arguments, of a method frame.
    fn method(&self) -> Option<((u16, u16), &'a [u8])> {
        let (ids, args) = self.payload.split_first_chunk::<4>()?;
        let [c0, c1, m0, m1] = *ids;
        let method = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]));
        (self.kind == METHOD).then_some((method, args))
    }
}

/// Why a connection is ended: what the broker sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Another version of AMQP: its name.
    Version(String),
    /// Another protocol: its name.
    Protocol(&'static str),
    /// TLS, on a connection without.
    Tls,
    /// Something else: its first bytes, printable.
    Unknown(String),
    /// A frame that announces so many bytes, and how many there may be.
    Size(usize, usize),
    /// A frame whose last byte is not the end mark.
    End,
    /// A frame of a type that AMQP does not have, or not on this channel.
    Kind(u8, u16),
    /// A method, by class and number, that a broker does not send, or not on this channel or not now.
    Method(u16, u16, u16),
    /// Tables or arrays nested too deeply.
    Nesting,
    /// Too many values.
    Values,
    /// A table that is cut off or holds a value of an unknown type.
    Table,
    /// The end of the connection in the middle of a frame.
    Cut,
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(
                f,
                "the broker speaks AMQP {version}: AMQP 0-9-1 is needed; check the port"
            ),
            Self::Protocol(name) => write!(
                f,
                "no AMQP broker: an {name} server answers; check host and port"
            ),
            Self::Tls => f.write_str("the broker wants TLS on this port: use amqps:// in the URL"),
            Self::Unknown(bytes) => write!(
                f,
                "no AMQP broker: the answer begins with \"{bytes}\"; check host and port"
            ),
            Self::Size(size, most) => write!(
                f,
                "the broker announced a frame of {size} bytes: {most} are allowed; \
                 connection closed"
            ),
            Self::End => f.write_str(
                "the broker sent a frame without an end mark: the data is damaged or not AMQP; \
                 connection closed",
            ),
            Self::Kind(kind, channel) => write!(
                f,
                "the broker sent a frame of type {kind} on channel {channel}: the data is damaged \
                 or not AMQP; connection closed"
            ),
            Self::Method(class, method, channel) => write!(
                f,
                "the broker sent method {class}.{method} on channel {channel}: it has no place \
                 there; connection closed"
            ),
            Self::Nesting => write!(
                f,
                "the broker's server properties are nested more than {DEEPEST} deep; \
                 connection closed"
            ),
            Self::Values => write!(
                f,
                "the broker's server properties hold more than {MOST_VALUES} values; \
                 connection closed"
            ),
            Self::Table => f.write_str(
                "the broker's server properties are cut off or of an unknown type; \
                 connection closed",
            ),
            Self::Cut => f.write_str("the connection was cut in the middle of a frame"),
        }
    }
}

impl std::error::Error for Refusal {}

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
    /// From now on no frame is larger than what was agreed with the broker, in bytes.
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

    /// What the end of the connection means when `bytes` are left: nothing, if none are.
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

/// Whether a broker sends this method after its first, and upon what we ask. No other is parsed: each of
/// those that hold a table is a client's.
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

/// What speaks there, by its first bytes, which are not those of an AMQP frame.
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

/// A value whose length is in the first `width` bytes, and what is behind it.
pub(super) fn sized(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(width)?;
    let length = length
        .iter()
        .fold(0, |length, &byte| length << 8 | usize::from(byte));
    rest.split_at_checked(length)
}

/// The first value in `bytes`: its type, its bytes without their length, and what is behind it.
fn value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (value, behind) = match kind {
        b't' | b'b' | b'B' => rest.split_at_checked(1)?,
        b's' | b'U' | b'u' => rest.split_at_checked(2)?,
        b'I' | b'i' | b'f' => rest.split_at_checked(4)?,
        b'D' => rest.split_at_checked(5)?,
        b'l' | b'L' | b'd' | b'T' => rest.split_at_checked(8)?,
        b'S' | b'x' | b'A' | b'F' => sized(rest, 4)?,
        b'V' => rest.split_at(0),
        _ => return None,
    };
    Some((*kind, value, behind))
}

/// An entry of a table.
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    /// AMQP's letter for its type.
    pub(super) kind: u8,
    /// Without their length.
    pub(super) bytes: &'a [u8],
}

/// The first entry of a table, and what is behind it.
pub(super) fn entry(table: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (name, rest) = sized(table, 1)?;
    let (kind, bytes, behind) = value(rest)?;
    Some((Entry { name, kind, bytes }, behind))
}

/// Calls itself, [`DEEPEST`] times at most.
fn check_table(mut table: &[u8], depth: u32, values: &mut u32) -> Result<(), Refusal> {
    while !table.is_empty() {
        let (entry, behind) = entry(table).ok_or(Refusal::Table)?;
        check_value(entry.kind, entry.bytes, depth, values)?;
        table = behind;
    }
    Ok(())
}

fn check_value(kind: u8, mut bytes: &[u8], depth: u32, values: &mut u32) -> Result<(), Refusal> {
    *values += 1;
    if *values > MOST_VALUES {
        return Err(Refusal::Values);
    }
    if depth == DEEPEST && matches!(kind, b'A' | b'F') {
        return Err(Refusal::Nesting);
    }
    match kind {
        b'F' => check_table(bytes, depth + 1, values)?,
        b'A' => {
            while !bytes.is_empty() {
                let (kind, item, behind) = value(bytes).ok_or(Refusal::Table)?;
                check_value(kind, item, depth + 1, values)?;
                bytes = behind;
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::encode::frame;
    use super::*;

    fn method(channel: u16, class: u8, method: u8, args: &[u8]) -> Vec<u8> {
        let mut bytes = vec![];
        frame(&mut bytes, METHOD, channel, |out| {
            out.extend([0, class, 0, method]);
            out.extend(args);
        });
        bytes
    }

    fn long(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap();
        [&length.to_be_bytes(), bytes].concat()
    }

    /// `connection.start` with this table.
    fn start(table: &[u8]) -> Vec<u8> {
        let args = [&[0, 9], &long(table)[..], &long(b"PLAIN"), &long(b"en_US")].concat();
        method(0, 10, 10, &args)
    }

    /// So many arrays within one another, as a table.
    fn arrays(depth: usize) -> Vec<u8> {
        let nested = (0..depth).fold(b"V".to_vec(), |inner, _| [b"A", &long(&inner)[..]].concat());
        [b"\x01a", &nested[..]].concat()
    }

    /// So many tables within one another.
    fn tables(depth: usize) -> Vec<u8> {
        let innermost = b"\x01vV".to_vec();
        (0..depth).fold(innermost, |inner, _| {
            [b"\x01tF", &long(&inner)[..]].concat()
        })
    }

    fn refused(bytes: &[u8]) -> Option<Refusal> {
        Bounds::default().first(bytes).err()
    }

    /// After a broker's first frame.
    fn started() -> Bounds {
        let mut bounds = Bounds::default();
        assert!(bounds.first(&start(b"")).unwrap().is_some());
        bounds
    }

    #[test]
    fn a_peer_that_is_no_broker_is_named_by_its_first_bytes() {
        for (bytes, says) in [
            (
                &b"AMQP\0\0\x09\0"[..],
                "the broker speaks AMQP 0-9-0: AMQP 0-9-1 is needed; check the port",
            ),
            (
                b"AMQP\x01\x01\x08\0",
                "the broker speaks AMQP 8-0: AMQP 0-9-1 is needed; check the port",
            ),
            (
                b"AMQP\x03\x01\0\0",
                "the broker speaks AMQP 1.0: AMQP 0-9-1 is needed; check the port",
            ),
            (
                b"AMQP\0\x01\0\0",
                "the broker speaks AMQP 1.0: AMQP 0-9-1 is needed; check the port",
            ),
            (
                b"HTTP/1.1 400 Bad Request\r\n",
                "no AMQP broker: an HTTP server answers; check host and port",
            ),
            (
                b"SSH-2.0-OpenSSH_9.2\r\n",
                "no AMQP broker: an SSH server answers; check host and port",
            ),
            (
                b"\x15\x03\x03\0\x02\x02\x46",
                "the broker wants TLS on this port: use amqps:// in the URL",
            ),
            (
                b"220 \x1b[31m mail ESMTP\r\n",
                "no AMQP broker: the answer begins with \"220 \\x1b[31\"; check host and port",
            ),
            (
                b"-ERR",
                "no AMQP broker: the answer begins with \"-ERR\"; check host and port",
            ),
        ] {
            // Fewer bytes tell at the connection's end.
            let told = refused(bytes).or_else(|| Bounds::default().at_end(bytes));
            assert_eq!(told.unwrap().to_string(), says);
            if bytes.len() >= TELLING {
                assert!(refused(bytes).is_some(), "told at once: {says}");
            }
            assert_eq!(refused(&bytes[..3]), None, "could still be anything");
        }
    }

    #[test]
    fn the_size_of_a_frame_is_refused_before_its_bytes_are_there() {
        let announced = |size: u32| [&[1, 0, 0], &size.to_be_bytes()[..]].concat();
        assert_eq!(refused(&announced(131_064)), None);
        let refusal = refused(&announced(0xffff_fff0)).unwrap();
        assert_eq!(
            refusal.to_string(),
            "the broker announced a frame of 4294967280 bytes: 131064 are allowed; connection closed"
        );
        let mut bounds = started();
        bounds.agree(4096);
        assert_eq!(bounds.first(&announced(4088)), Ok(None));
        assert_eq!(
            bounds.first(&announced(4089)),
            Err(Refusal::Size(4089, 4088))
        );
        // Neither side can agree to less or more than the bounds.
        for (agreed, most) in [(0, FRAME_MIN), (usize::MAX, FRAME_MAX)] {
            bounds.agree(agreed);
            assert_eq!(bounds.frame_max(), most);
        }
    }

    #[test]
    fn server_properties_are_held_to_depth_number_and_form() {
        let says = |table: &[u8]| refused(&start(table)).map(|refusal| refusal.to_string());
        let nested =
            "the broker's server properties are nested more than 8 deep; connection closed";
        let many = "the broker's server properties hold more than 256 values; connection closed";
        let form = "the broker's server properties are cut off or of an unknown type; \
                    connection closed";
        let values = |count: usize| [b"\x01aA", &long(&vec![b'V'; count])[..]].concat();
        for (table, expected) in [
            (arrays(7), None),
            (arrays(8), Some(nested)),
            (arrays(20_000), Some(nested)),
            (tables(7), None),
            (tables(8), Some(nested)),
            (tables(15_000), Some(nested)),
            (values(255), None),
            (values(256), Some(many)),
            (b"\x01vV".repeat(257), Some(many)),
            (b"\x01sS\0\0\0\x05four".to_vec(), Some(form)),
            (b"\x01z?".to_vec(), Some(form)),
            (b"\x09short".to_vec(), Some(form)),
        ] {
            assert_eq!(says(&table).as_deref(), expected, "{} bytes", table.len());
        }
        // A table that claims to be longer than its frame.
        let beyond = method(0, 10, 10, b"\0\x09\0\0\x10\0\x01vV");
        assert_eq!(refused(&beyond), Some(Refusal::Table));
        // Every type that amiquip knows.
        let every = b"\x01at\x01\x01bb\0\x01cB\0\x01ds\0\0\x01eU\0\0\x01fu\0\0\x01gI\0\0\0\0\
            \x01hi\0\0\0\0\x01jf\0\0\0\0\x01kl\0\0\0\0\0\0\0\0\x01lL\0\0\0\0\0\0\0\0\x01md\0\0\0\0\0\0\0\0\
            \x01nT\0\0\0\0\0\0\0\0\x01oD\0\0\0\0\0\x01pS\0\0\0\x01x\x01qx\0\0\0\x01x\x01rA\0\0\0\x01V\
            \x01sF\0\0\0\x03\x01vV\x01tV";
        assert_eq!(says(every), None);
    }

    #[test]
    fn only_what_a_broker_may_send_at_that_point_passes() {
        let close = method(0, 10, 50, b"");
        assert_eq!(refused(&close), Some(Refusal::Method(10, 50, 0)));
        let says = Refusal::Method(50, 10, 3).to_string();
        assert_eq!(
            says,
            "the broker sent method 50.10 on channel 3: it has no place there; connection closed"
        );
        let mut bounds = started();
        for (class, id, channel, passes) in [
            (10, 30, 0, true),
            (10, 50, 0, true),
            (10, 50, 1, false),
            (10, 60, 0, true),
            // A second connection.start, connection.secure, and a client's connection.start-ok.
            (10, 10, 0, false),
            (10, 20, 0, false),
            (10, 11, 0, false),
            (20, 11, 1, true),
            (20, 11, 0, false),
            (20, 40, 1, true),
            // A client's queue.declare, exchange.declare and basic.consume hold tables.
            (50, 10, 1, false),
            (40, 10, 1, false),
            (60, 20, 1, false),
            (60, 80, 1, true),
            (60, 80, 0, false),
            (85, 11, 1, true),
            (0, 0, 0, false),
        ] {
            let bytes = method(channel, class, id, &tables(2000));
            let passed = bounds.first(&bytes).is_ok();
            assert_eq!(passed, passes, "{class}.{id} on {channel}");
        }
        let mut empty = vec![];
        frame(&mut empty, METHOD, 0, |out| out.extend([0, 10]));
        assert_eq!(bounds.first(&empty), Err(Refusal::Method(0, 0, 0)));
    }

    #[test]
    fn a_frame_has_an_end_mark_and_a_type_and_is_whole() {
        let mut bounds = started();
        let mut broken = method(0, 10, 50, b"");
        *broken.last_mut().unwrap() = 0;
        let end = bounds.first(&broken).unwrap_err().to_string();
        assert_eq!(
            end,
            "the broker sent a frame without an end mark: the data is damaged or not AMQP; \
             connection closed"
        );
        for (kind, channel, passes) in [
            (HEARTBEAT, 0, true),
            (HEARTBEAT, 1, false),
            (BODY, 0, false),
            (HEADER, 1, true),
            (0, 0, false),
            (9, 1, false),
        ] {
            let mut bytes = vec![];
            frame(&mut bytes, kind, channel, |_| {});
            assert_eq!(bounds.first(&bytes).is_ok(), passes, "{kind} on {channel}");
        }
        assert_eq!(
            bounds
                .first(&[9, 0, 0, 0, 0, 0, 0])
                .unwrap_err()
                .to_string(),
            "the broker sent a frame of type 9 on channel 0: the data is damaged or not AMQP; \
             connection closed"
        );
        assert_eq!(bounds.at_end(b""), None);
        assert_eq!(
            bounds.at_end(&[1, 0, 0]).unwrap().to_string(),
            "the connection was cut in the middle of a frame"
        );
    }
}
