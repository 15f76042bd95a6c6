//! Cuts FFmpeg's `mpjpeg` output into whole pictures, read straight into recycled buffers.
//!
//! ```text
//! --ffmpeg␍␊                                                       once, at the very start
//! Content-type: image/jpeg␍␊Content-length: 17684␍␊␍␊ JPEG ␍␊--ffmpeg␍␊    a part, and so on
//! ```
//!
//! FFmpeg writes the boundary line right behind a picture, not before the next one. So a part is
//! read together with that line: nobody waits for the next picture to know that this one is whole,
//! and no byte of the next one is read. The first read of a part asks for as much as the last part
//! had, which brings header and picture in one go; when pictures shrink during a burst it brings a
//! piece of the next part too, and only such a piece is ever copied.
//!
//! No body byte is looked at while all is well: the announced length says where the picture ends,
//! and `EOI` before it and the boundary line behind it prove that. Only when they are missing is
//! the boundary searched for. What this cannot see: a damaged length that leads to exactly the end
//! of a later part, and damage inside a scan, which shows to a decoder only.

use super::jpeg::{self, Walk};
use super::pipe::Arrival;
use crate::handoff::pool::Buffer;
use std::fmt;
use std::io::{self, Read};

/// The first read of a part asks for at least so many bytes. One page: less saves nothing.
const SHORTEST_READ: usize = 4 * 1024;

/// A longer part header is not one. FFmpeg's has 62 bytes.
const LONGEST_HEADER: usize = 4 * 1024;

/// RFC 2046, section 5.1.1: a boundary has at most 70 characters.
const LONGEST_BOUNDARY: usize = 70;

/// How much is read at once while searching for a boundary: what a pipe holds by default on Linux.
const SEARCH_READ: usize = 64 * 1024;

/// A surplus larger than this was left by an error; its memory is not kept.
const CARRY_KEPT: usize = 256 * 1024;

/// So many times the largest frame without a boundary, and it is no mpjpeg stream.
const LOST_AFTER: usize = 4;

/// What came next in the stream. Each part of it gives exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A whole picture, marked in the buffer.
    Frame {
        /// When the read returned that brought this part's first byte.
        first_byte: Arrival,
        /// From the picture's own header.
        size: jpeg::Size,
    },
    /// A part that is not delivered. The buffer holds nothing of use.
    Skipped(Skip),
}

/// Why a part was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Larger than the largest frame allowed.
    Oversize,
    /// The stream ended inside it: a child that was killed leaves one.
    Truncated,
    /// Its header is damaged.
    BadHeader,
    /// No boundary where its length says it ends.
    BadFraming,
    /// Framed well, but not a whole JPEG.
    BadPicture(jpeg::Fault),
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oversize => f.write_str("larger than max_frame_bytes"),
            Self::Truncated => f.write_str("the stream ended inside it"),
            Self::BadHeader => f.write_str("damaged part header"),
            Self::BadFraming => f.write_str("no boundary where its length says it ends"),
            Self::BadPicture(fault) => write!(f, "not a whole JPEG: {fault}"),
        }
    }
}

/// Why there is no next part.
#[derive(Debug)]
pub enum SplitError {
    /// The stream ended, between two parts or after a part that was reported as skipped.
    Eof,
    /// The reader failed. After a time-out (`TimedOut`, `WouldBlock`) reading can go on.
    Io(io::Error),
    /// No boundary within four times the largest frame: this is not mpjpeg.
    Lost,
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eof => f.write_str("end of stream"),
            Self::Io(error) => error.fmt(f),
            Self::Lost => f.write_str("no part boundary found: not an mpjpeg stream"),
        }
    }
}

impl std::error::Error for SplitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Eof | Self::Lost => None,
        }
    }
}

/// Cuts a stream into frames. Needs no buffered reader: it asks for what it needs at once.
#[derive(Debug)]
pub struct Splitter<R> {
    reader: R,
    arrival: fn(&R) -> Arrival,
    /// When the reader last brought something.
    last_read: Arrival,
    max_frame_bytes: usize,
    boundary: Boundary,
    carry: Carry,
    /// Length of the last good part, all included; most likely the next one is about as long.
    usual_part: usize,

    // The part that is being read, kept over a time-out.
    phase: Phase,
    /// So many bytes of the caller's buffer hold what was read of it.
    filled: usize,
    first_byte: Arrival,
}

/// Where in a part we are. All positions are places in the caller's buffer.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Behind a boundary line, in the header.
    Header,
    /// In a picture or the boundary line behind it.
    Body { start: usize, end: usize },
    /// In a picture whose length was not announced.
    Walk { start: usize, walk: Walk },
    /// Nothing fits: searching for the next boundary line.
    Search(Search),
}

#[derive(Debug, Clone, Copy)]
struct Search {
    from: usize,
    /// What to report once it is found; `None` for what comes before the first part.
    skip: Option<Skip>,
    /// Bytes to pass until the stream is lost.
    patience: usize,
}

impl<R: Read> Splitter<R> {
    /// `max_frame_bytes` bounds a picture, and what a buffer grows to but for a header and a line.
    /// `arrival` tells of the reader's last read when that was, and when the bytes were written.
    pub fn new(reader: R, max_frame_bytes: usize, arrival: fn(&R) -> Arrival) -> Self {
        let start = arrival(&reader);
        Self {
            reader,
            arrival,
            last_read: start,
            max_frame_bytes,
            boundary: Boundary::default(),
            carry: Carry::default(),
            usual_part: 0,
            phase: Phase::Search(Search {
                from: 0,
                skip: None,
                patience: max_frame_bytes.saturating_mul(LOST_AFTER),
            }),
            filled: 0,
            first_byte: start,
        }
    }

    /// The reader, for what must be done between two reads.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    /// Whether the reader has brought the beginning of the next picture already.
    pub fn has_next(&self) -> bool {
        const START_OF_IMAGE: [u8; 2] = [0xff, 0xd8];
        let rest = self.carry.bytes.get(self.carry.taken..).unwrap_or_default();
        rest.windows(2).any(|bytes| bytes == START_OF_IMAGE)
    }

    /// The reader.
    pub fn get_ref(&self) -> &R {
        &self.reader
    }

    /// Reads the next part into `buffer` and marks its picture there.
    ///
    /// # Errors
    /// [`SplitError`]. After `Io` with a time-out call again **with the same buffer**: it holds the
    /// part as far as it has come, and nothing is lost.
    pub fn next(&mut self, buffer: &mut Buffer) -> Result<Part, SplitError> {
        buffer.mark(0, 0);
        loop {
            let part = match self.phase {
                Phase::Header => self.header(buffer)?,
                Phase::Body { start, end } => self.body(buffer, start, end)?,
                Phase::Walk { start, walk } => self.walk(buffer, start, walk)?,
                Phase::Search(search) => self.search(buffer, search)?,
            };
            if let Some(part) = part {
                return Ok(part);
            }
        }
    }

    fn header(&mut self, buffer: &mut Buffer) -> Result<Option<Part>, SplitError> {
        match Header::parse(self.read_so_far(buffer)) {
            Header::Whole { body, length: None } => {
                let walk = Walk::default();
                self.phase = Phase::Walk { start: body, walk };
            }
            Header::Whole {
                body: start,
                length: Some(length),
            } => match usize::try_from(length) {
                Ok(length) if length <= self.max_frame_bytes => {
                    let end = start + length;
                    self.phase = Phase::Body { start, end };
                }
                // Searched for rather than discarded by the announced length: a damaged length
                // would take many good frames with it.
                length => self.search_from(start, Skip::Oversize, length.unwrap_or(usize::MAX)),
            },
            Header::Damaged => self.search_from(0, Skip::BadHeader, 0),
            Header::Partial => {
                if self.fill(buffer, self.stride())? == 0 {
                    if self.filled == 0 {
                        return Err(SplitError::Eof);
                    }
                    self.search_from(0, Skip::Truncated, 0);
                }
            }
        }
        Ok(None)
    }

    fn body(
        &mut self,
        buffer: &mut Buffer,
        start: usize,
        end: usize,
    ) -> Result<Option<Part>, SplitError> {
        let behind = self.read_so_far(buffer).get(end..);
        match behind.map_or(Line::Partial, |behind| self.boundary.line_behind(behind)) {
            Line::Whole(length) => {
                self.boundary.confirmed = true;
                return Ok(self.finish(buffer, start, end, end + length));
            }
            Line::Partial => {
                // More than FFmpeg's line has is asked for byte by byte.
                let whole = end + self.boundary.usual_length();
                let whole = whole.max(self.filled + 1);
                if self.fill(buffer, whole)? == 0 {
                    if self.filled >= end {
                        return Ok(self.finish(buffer, start, end, self.filled));
                    }
                    self.search_from(start, Skip::Truncated, 0);
                }
            }
            Line::Other => self.search_from(start, Skip::BadFraming, 0),
        }
        Ok(None)
    }

    fn walk(
        &mut self,
        buffer: &mut Buffer,
        start: usize,
        mut walk: Walk,
    ) -> Result<Option<Part>, SplitError> {
        let picture = self.read_so_far(buffer).get(start..).unwrap_or_default();
        match walk.advance(picture) {
            jpeg::Progress::End(length) if length <= self.max_frame_bytes => {
                // A damaged segment length leads the walk past the boundary into another picture.
                // No announced length contradicts it, so here the boundary is searched for.
                let picture = picture.get(..length).unwrap_or_default();
                if self.boundary.is_in(picture) {
                    self.search_from(start, Skip::BadFraming, 0);
                } else {
                    let end = start + length;
                    self.phase = Phase::Body { start, end };
                }
            }
            jpeg::Progress::NeedMore if picture.len() <= self.max_frame_bytes => {
                self.phase = Phase::Walk { start, walk };
                if self.fill(buffer, self.stride())? == 0 {
                    self.search_from(start, Skip::Truncated, 0);
                }
            }
            jpeg::Progress::Broken(fault) => self.search_from(start, Skip::BadPicture(fault), 0),
            jpeg::Progress::End(_) | jpeg::Progress::NeedMore => {
                self.search_from(start, Skip::Oversize, 0);
            }
        }
        Ok(None)
    }

    fn search(&mut self, buffer: &mut Buffer, search: Search) -> Result<Option<Part>, SplitError> {
        let bytes = self.read_so_far(buffer).get(search.from..);
        let bytes = bytes.unwrap_or_default();
        let passed = match self.boundary.find(bytes) {
            Found::Behind(at) => {
                self.carry.put_back(bytes.get(at..).unwrap_or_default());
                self.begin_part();
                return Ok(search.skip.map(Part::Skipped));
            }
            Found::NotBefore(at) => at,
        };
        let patience = search.patience.checked_sub(passed);
        let search = Search {
            from: 0,
            skip: search.skip,
            // Refilled when it is used up, for a caller that asks once more.
            patience: patience.unwrap_or(self.max_frame_bytes.saturating_mul(LOST_AFTER)),
        };
        let kept = bytes.len() - passed;
        let filled = self.filled;
        let storage = buffer.storage(filled);
        storage.copy_within(filled - kept..filled, 0);
        self.filled = kept;
        self.phase = Phase::Search(search);
        if patience.is_none() {
            return Err(SplitError::Lost);
        }
        if self.fill(buffer, kept + SEARCH_READ)? == 0 {
            let skip = search.skip.ok_or(SplitError::Eof)?;
            self.begin_part();
            return Ok(Some(Part::Skipped(skip)));
        }
        Ok(None)
    }

    /// Nothing fits any more: searches for a boundary from here. `announced` more bytes may pass
    /// before the stream counts as lost.
    fn search_from(&mut self, from: usize, skip: Skip, announced: usize) {
        let patience = self.max_frame_bytes.saturating_mul(LOST_AFTER);
        self.phase = Phase::Search(Search {
            from,
            skip: Some(skip),
            patience: patience.saturating_add(announced),
        });
    }

    /// The part is complete, so it seems: delivers the picture and gives back what was read beyond.
    fn finish(
        &mut self,
        buffer: &mut Buffer,
        start: usize,
        end: usize,
        part_end: usize,
    ) -> Option<Part> {
        let bytes = self.read_so_far(buffer);
        let body = bytes.get(start..end).unwrap_or_default();
        match jpeg::end(body).and_then(|length| Ok((length, jpeg::size(body)?))) {
            Ok((length, size)) => {
                let surplus = bytes.get(part_end..).unwrap_or_default();
                self.carry.put_back(surplus);
                self.usual_part = part_end;
                self.begin_part();
                buffer.mark(start, start + length);
                let first_byte = self.first_byte;
                Some(Part::Frame { first_byte, size })
            }
            // Perhaps the boundary line is a later one, and whole parts lie in between.
            Err(fault) => {
                self.search_from(start, Skip::BadPicture(fault), 0);
                None
            }
        }
    }

    fn begin_part(&mut self) {
        self.phase = Phase::Header;
        self.filled = 0;
    }

    fn read_so_far<'b>(&self, buffer: &'b mut Buffer) -> &'b [u8] {
        let storage = buffer.storage(self.filled);
        storage.get(..self.filled).unwrap_or_default()
    }

    /// How far to fill the buffer when the end of the part is not known.
    fn stride(&self) -> usize {
        let usual = self.usual_part.max(SHORTEST_READ);
        if self.filled < usual {
            usual
        } else {
            self.filled + SHORTEST_READ
        }
    }

    /// Adds what one read brings, up to `upto` bytes in all, which must be more than there are. 0:
    /// the stream has ended.
    fn fill(&mut self, buffer: &mut Buffer, upto: usize) -> Result<usize, SplitError> {
        let storage = buffer.storage(upto);
        let space = storage.get_mut(self.filled..upto).unwrap_or_default();
        let mut count = self.carry.take(space);
        if count == 0 {
            count = loop {
                match self.reader.read(space) {
                    Ok(count) => break count.min(space.len()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(SplitError::Io(error)),
                }
            };
            // The end of the stream brings nothing, so it must not make old bytes look new.
            if count > 0 {
                self.last_read = (self.arrival)(&self.reader);
            }
        }
        if self.filled == 0 {
            self.first_byte = self.last_read;
        }
        self.filled += count;
        Ok(count)
    }
}

/// What was read of the next part already.
#[derive(Debug, Default)]
struct Carry {
    bytes: Vec<u8>,
    taken: usize,
}

impl Carry {
    /// Moves as much as there is, and as has room, into `space`.
    fn take(&mut self, space: &mut [u8]) -> usize {
        let mut rest = self.bytes.get(self.taken..).unwrap_or_default();
        // A slice is a reader that never fails.
        let count = rest.read(space).unwrap_or_default();
        self.taken += count;
        if count == 0 {
            self.bytes.clear();
            self.bytes.shrink_to(CARRY_KEPT);
            self.taken = 0;
        }
        count
    }

    /// Takes back the bytes that were read last.
    fn put_back(&mut self, bytes: &[u8]) {
        // A read from the stream empties the carry: as long as it holds what was taken from it,
        // what comes back was taken from it too.
        match self.taken.checked_sub(bytes.len()) {
            Some(before) => self.taken = before,
            None => {
                self.bytes.clear();
                self.bytes.extend_from_slice(bytes);
                self.taken = 0;
            }
        }
    }
}

/// A part's header.
enum Header {
    /// The picture begins at `body`.
    Whole {
        body: usize,
        length: Option<u64>,
    },
    Partial,
    Damaged,
}

impl Header {
    /// Any order, any case, any further lines, line ends with or without CR.
    fn parse(bytes: &[u8]) -> Self {
        let window = bytes.get(..LONGEST_HEADER).unwrap_or(bytes);
        let mut length = None;
        let mut at = 0;
        loop {
            let rest = window.get(at..).unwrap_or_default();
            let Some(newline) = rest.iter().position(|&byte| byte == b'\n') else {
                return if window.len() < LONGEST_HEADER {
                    Self::Partial
                } else {
                    Self::Damaged
                };
            };
            at += newline + 1;
            let line = rest.get(..newline).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                return Self::Whole { body: at, length };
            }
            let Some((name, value)) = field(line) else {
                return Self::Damaged;
            };
            if name.eq_ignore_ascii_case("content-length") {
                match (length, value.parse()) {
                    (None, Ok(value)) => length = Some(value),
                    _ => return Self::Damaged,
                }
            }
        }
    }
}

/// Splits `Name: value`.
fn field(line: &[u8]) -> Option<(&str, &str)> {
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    let named = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    named.then_some((name, value.trim()))
}

/// The line between two parts, learnt from the stream.
#[derive(Debug, Default)]
struct Boundary {
    /// With its two dashes; empty until one was seen.
    delimiter: Vec<u8>,
    /// It stood behind a picture once. Until then any boundary line is taken for it, since the one
    /// that was learnt may have been damaged.
    confirmed: bool,
}

/// Is there a boundary line?
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// So many bytes, all included.
    Whole(usize),
    /// So far it could be one.
    Partial,
    Other,
}

/// Where is a boundary line?
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// It ends here.
    Behind(usize),
    /// None begins before this.
    NotBefore(usize),
}

impl Boundary {
    /// As FFmpeg writes it behind a picture: a line end before it, one after it.
    fn usual_length(&self) -> usize {
        self.delimiter.len() + 2 * b"\r\n".len()
    }

    /// What follows a picture: a line end and the boundary line.
    fn line_behind(&self, bytes: &[u8]) -> Line {
        let (line_end, line) = match bytes {
            [] | [b'\r'] => return Line::Partial,
            [b'\r', b'\n', line @ ..] => (2, line),
            [b'\n', line @ ..] => (1, line),
            _ => return Line::Other,
        };
        match self.known_line(line) {
            Line::Whole(length) => Line::Whole(line_end + length),
            other => other,
        }
    }

    /// Is this the boundary line?
    fn known_line(&self, line: &[u8]) -> Line {
        if line.starts_with(&self.delimiter) {
            rest_of_line(line, self.delimiter.len())
        } else if self.delimiter.starts_with(line) {
            Line::Partial
        } else {
            Line::Other
        }
    }

    /// Whether it lies anywhere in these bytes.
    fn is_in(&self, bytes: &[u8]) -> bool {
        let mut windows = bytes.windows(self.delimiter.len().max(1));
        windows.any(|window| window == self.delimiter)
    }

    /// Finds the next boundary line, and learns it unless it is known for sure.
    fn find(&mut self, bytes: &[u8]) -> Found {
        // After a gap this takes the middle of a line for its start: of no account in an error.
        let mut before = b'\n';
        for (at, &byte) in bytes.iter().enumerate() {
            if before == b'\n' && byte == b'-' {
                let line = bytes.get(at..).unwrap_or_default();
                let found = if self.confirmed {
                    self.known_line(line)
                } else {
                    any_line(line)
                };
                match found {
                    Line::Whole(length) => {
                        if !self.confirmed {
                            let line = line.get(..length).unwrap_or_default();
                            self.delimiter = line.trim_ascii_end().to_vec();
                        }
                        return Found::Behind(at + length);
                    }
                    Line::Partial => return Found::NotBefore(at),
                    Line::Other => {}
                }
            }
            before = byte;
        }
        Found::NotBefore(bytes.len())
    }
}

/// Is this any boundary line?
fn any_line(line: &[u8]) -> Line {
    let graphic = line.iter().take_while(|byte| byte.is_ascii_graphic());
    let length = graphic.take(2 + LONGEST_BOUNDARY).count();
    match line {
        [b'-'] | [b'-', b'-'] => Line::Partial,
        [b'-', b'-', ..] if length > 2 => rest_of_line(line, length),
        _ => Line::Other,
    }
}

/// Behind the delimiter only blanks may follow, and the dashes of the last boundary line.
fn rest_of_line(line: &[u8], delimiter: usize) -> Line {
    let rest = line.get(delimiter..).unwrap_or_default();
    let blank = |byte: &&u8| matches!(byte, b'-' | b' ' | b'\t' | b'\r');
    let blanks = rest.iter().take_while(blank).take(8).count();
    match rest.get(blanks) {
        Some(b'\n') => Line::Whole(delimiter + blanks + 1),
        None => Line::Partial,
        Some(_) => Line::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::jpeg::tests as make;
    use super::*;
    use crate::clock::Stamp;
    use crate::handoff::pool::Pool;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::ops::Range;
    use std::process::Command;
    use std::time::Instant;

    const MAX_FRAME: usize = 1024 * 1024;

    thread_local! {
        /// The tests' clock: how many reads have returned.
        static READS: Cell<i64> = const { Cell::new(0) };
        static ORIGIN: Instant = Instant::now();
    }

    fn reads<R>(_: &R) -> Arrival {
        let monotonic = ORIGIN.with(|origin| *origin);
        let read = Stamp {
            monotonic,
            unix_us: READS.get(),
        };
        Arrival {
            read,
            written_after: monotonic,
        }
    }

    /// What a read does.
    #[derive(Debug, Clone, Copy)]
    enum Act {
        Give(usize),
        Fail(io::ErrorKind),
    }

    /// Plays a pipe: what a read does follows `acts`, round and round.
    struct Pipe {
        stream: Vec<u8>,
        given: usize,
        acts: Vec<Act>,
        calls: usize,
        /// Where each read that brought something ended, and the clock then.
        ends: Vec<(usize, i64)>,
    }

    impl Pipe {
        fn new(stream: Vec<u8>, acts: Vec<Act>) -> Self {
            READS.set(0);
            Self {
                stream,
                given: 0,
                acts,
                calls: 0,
                ends: Vec::new(),
            }
        }

        /// Whatever is asked for is there at once.
        fn full(stream: Vec<u8>) -> Self {
            Self::new(stream, vec![Act::Give(usize::MAX)])
        }

        /// When this byte was read.
        fn read_of(&self, at: usize) -> i64 {
            self.ends.iter().find(|&&(end, _)| end > at).unwrap().1
        }
    }

    impl Read for Pipe {
        fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
            assert!(!space.is_empty(), "a read of nothing looks like the end");
            let act = self.acts[self.calls % self.acts.len()];
            self.calls += 1;
            READS.set(READS.get() + 1);
            let most = match act {
                Act::Give(most) => most.min(space.len()),
                Act::Fail(kind) => return Err(kind.into()),
            };
            let rest = &self.stream[self.given..];
            let count = most.min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            if count > 0 {
                self.given += count;
                self.ends.push((self.given, READS.get()));
            }
            Ok(count)
        }
    }

    fn splitter(pipe: Pipe) -> Splitter<Pipe> {
        Splitter::new(pipe, MAX_FRAME, reads)
    }

    #[derive(Debug, Clone, PartialEq)]
    struct Frame {
        jpeg: Vec<u8>,
        size: jpeg::Size,
        read: i64,
    }

    /// Everything until the end of the stream, with three recycled buffers as the reader has them.
    fn split(splitter: &mut Splitter<Pipe>) -> Vec<Result<Frame, Skip>> {
        let pool = Pool::new();
        let mut out = Vec::new();
        loop {
            let mut buffer = pool.take();
            let part = loop {
                match splitter.next(&mut buffer) {
                    Err(SplitError::Io(error)) => {
                        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                    }
                    part => break part,
                }
            };
            match part {
                Ok(Part::Frame { first_byte, size }) => out.push(Ok(Frame {
                    jpeg: buffer.picture().to_vec(),
                    size,
                    read: first_byte.read.unix_us,
                })),
                Ok(Part::Skipped(skip)) => {
                    assert!(buffer.picture().is_empty());
                    out.push(Err(skip));
                }
                Err(SplitError::Eof) => return out,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn split_all(stream: Vec<u8>) -> Vec<Result<Frame, Skip>> {
        split(&mut splitter(Pipe::full(stream)))
    }

    /// Only the pictures, and why there is none.
    fn pictures(stream: Vec<u8>) -> Vec<Result<Vec<u8>, Skip>> {
        let frames = split_all(stream).into_iter();
        frames.map(|frame| frame.map(|frame| frame.jpeg)).collect()
    }

    /// A picture of about `length` bytes.
    fn picture(length: usize, fill: u8) -> Vec<u8> {
        make::picture(&[
            make::thumbnail(),
            make::frame_header(0xC0, 640, 480),
            make::scan(&vec![fill; length]),
        ])
    }

    const LINE: &[u8] = b"--ffmpeg\r\n";

    /// A part as FFmpeg writes it, with the line behind it, announcing `length`.
    fn announcing(length: impl fmt::Display, jpeg: &[u8]) -> Vec<u8> {
        let header = format!("Content-type: image/jpeg\r\nContent-length: {length}\r\n\r\n");
        [header.as_bytes(), jpeg, b"\r\n", LINE].concat()
    }

    fn part(jpeg: &[u8]) -> Vec<u8> {
        announcing(jpeg.len(), jpeg)
    }

    fn stream(parts: &[Vec<u8>]) -> Vec<u8> {
        [LINE, &parts.concat()].concat()
    }

    #[test]
    fn what_ffmpeg_really_writes() {
        let ffmpeg = |format: &str| {
            let mut command = Command::new("ffmpeg");
            command.args(["-nostdin", "-loglevel", "error", "-threads", "1"]);
            command.args(["-f", "lavfi", "-i", "testsrc2=size=322x242:rate=5"]);
            command.args(["-frames:v", "20", "-c:v", "mjpeg", "-threads", "1"]);
            command.args(["-f", format, "-"]).output()
        };
        let Ok(parts) = ffmpeg("mpjpeg") else {
            eprintln!("skipped: no ffmpeg here");
            return;
        };
        let frames = split_all(parts.stdout);
        assert_eq!(frames.len(), 20);
        let mut concatenated = Vec::new();
        for frame in frames {
            let frame = frame.unwrap();
            assert_eq!((frame.size.width, frame.size.height), (322, 242));
            concatenated.extend(frame.jpeg);
        }
        assert!(concatenated == ffmpeg("mjpeg").unwrap().stdout);
    }

    #[test]
    fn frames_of_one_size_cost_one_read_each_and_no_copy() {
        let jpeg = picture(50_000, 7);
        let mut splitter = splitter(Pipe::full(stream(&vec![part(&jpeg); 50])));
        let pool = Pool::new();
        for seen in 0..50 {
            let mut buffer = pool.take();
            let reads = splitter.reader.calls;
            assert!(matches!(splitter.next(&mut buffer), Ok(Part::Frame { .. })));
            assert_eq!(buffer.picture(), jpeg);
            // The first read looked for the boundary and brought more than one part.
            if seen > 2 {
                assert_eq!(splitter.reader.calls - reads, 1);
                assert_eq!(splitter.carry.taken, splitter.carry.bytes.len());
            }
        }
    }

    #[test]
    fn after_warm_up_nothing_is_allocated() {
        let sizes = |n: usize| if n < 6 { 90_000 } else { n * 7919 % 90_000 };
        let parts = (0..300).map(|n| part(&picture(sizes(n), 1)));
        let mut splitter = splitter(Pipe::full(stream(&parts.collect::<Vec<_>>())));
        let pool = Pool::new();
        let mut warm = None;
        for seen in 0..300 {
            let mut buffer = pool.take();
            assert!(matches!(splitter.next(&mut buffer), Ok(Part::Frame { .. })));
            let storage = buffer.storage(0).len();
            assert!(storage < 100_000, "{storage}");
            if seen == 100 {
                warm = Some((storage, splitter.carry.bytes.capacity()));
            } else if seen > 100 {
                assert_eq!(warm, Some((storage, splitter.carry.bytes.capacity())));
            }
        }
    }

    #[test]
    fn a_frame_does_not_wait_for_the_next_one() {
        let jpeg = picture(9000, 7);
        let mut splitter = splitter(Pipe::new(
            stream(&[part(&jpeg)]),
            vec![Act::Give(1000), Act::Fail(io::ErrorKind::TimedOut)],
        ));
        let mut buffer = Pool::new().take();
        for _ in 0..9 {
            let waiting = splitter.next(&mut buffer);
            assert!(matches!(waiting, Err(SplitError::Io(_))), "{waiting:?}");
        }
        assert!(matches!(splitter.next(&mut buffer), Ok(Part::Frame { .. })));
        assert_eq!(buffer.picture(), jpeg);
    }

    #[test]
    fn padding_within_a_part_is_left_out() {
        let jpeg = picture(100, 7);
        let padded = [&jpeg[..], &[0; 7]].concat();
        let stream = stream(&[part(&padded), part(&jpeg)]);
        assert_eq!(pictures(stream), [Ok(jpeg.clone()), Ok(jpeg)]);
    }

    #[test]
    fn an_oversize_part_is_skipped_and_does_not_grow_the_buffer() {
        let (good, huge) = (picture(100, 7), picture(3 * MAX_FRAME, 7));
        let mut splitter = splitter(Pipe::full(stream(&[part(&huge), part(&good)])));
        let mut buffer = Pool::new().take();
        let skipped = splitter.next(&mut buffer).unwrap();
        assert_eq!(skipped, Part::Skipped(Skip::Oversize));
        assert!(matches!(splitter.next(&mut buffer), Ok(Part::Frame { .. })));
        assert_eq!(buffer.picture(), good);
        assert!(buffer.storage(0).len() <= 2 * SEARCH_READ);
    }

    #[test]
    fn an_oversize_part_is_never_taken_for_a_lost_stream() {
        let (good, huge) = (picture(100, 7), picture(9 * MAX_FRAME, 7));
        let stream = stream(&[part(&huge), part(&good)]);
        assert_eq!(pictures(stream), [Err(Skip::Oversize), Ok(good)]);
    }

    #[test]
    fn an_oversize_part_without_a_length_is_skipped() {
        let (good, huge) = (picture(100, 7), picture(3 * MAX_FRAME, 7));
        let huge = [b"\r\n", &huge[..], b"\r\n", LINE].concat();
        let mut splitter = splitter(Pipe::full(stream(&[huge, part(&good)])));
        let mut buffer = Pool::new().take();
        let skipped = splitter.next(&mut buffer).unwrap();
        assert_eq!(skipped, Part::Skipped(Skip::Oversize));
        assert!(matches!(splitter.next(&mut buffer), Ok(Part::Frame { .. })));
        assert_eq!(buffer.picture(), good);
        assert!(buffer.storage(0).len() <= MAX_FRAME + 2 * SEARCH_READ);
    }

    #[test]
    fn a_lying_length_costs_its_own_part_only() {
        let jpegs = [1, 2, 3].map(|fill| picture(1000, fill));
        let [first, second, third] = &jpegs;
        for (lie, skip) in [
            ("7", Skip::BadFraming),
            ("1500", Skip::BadFraming),
            ("1000000", Skip::Truncated),
            ("99999999", Skip::Oversize),
            ("99999999999999999999999", Skip::BadHeader),
            ("-1", Skip::BadHeader),
            ("7\r\nContent-Length: 1101", Skip::BadHeader),
        ] {
            let stream = stream(&[part(first), announcing(lie, second), part(third)]);
            assert_eq!(
                pictures(stream),
                [Ok(first.clone()), Err(skip), Ok(third.clone())],
                "{lie}"
            );
        }
    }

    #[test]
    fn a_frame_that_a_lying_length_took_is_not_stamped_later_than_it_came() {
        let jpeg = picture(1000, 7);
        let mut splitter = splitter(Pipe::full(stream(&[
            announcing(100_000, &jpeg),
            part(&jpeg),
        ])));
        let outcomes = split(&mut splitter);
        assert_eq!(outcomes[0], Err(Skip::Truncated));
        let read = outcomes[1].as_ref().unwrap().read;
        assert_eq!(read, splitter.reader.ends.last().unwrap().1);
        assert!(i64::try_from(splitter.reader.calls).unwrap() > read);
    }

    #[test]
    fn a_walk_that_runs_into_the_next_picture_gives_neither_for_one() {
        let good = picture(1000, 7);
        let mut scan = make::scan(&[1]);
        // Its header's length, 256 too much: past the boundary and into the next scan.
        scan[2] = 1;
        let astray = make::picture(&[make::frame_header(0xC0, 8, 8), scan]);
        let astray = [b"\r\n", &astray[..], b"\r\n", LINE].concat();
        let stream = stream(&[astray, part(&good), part(&good)]);
        assert_eq!(
            pictures(stream),
            [Err(Skip::BadFraming), Ok(good.clone()), Ok(good)]
        );
    }

    #[test]
    fn a_part_that_is_no_whole_jpeg_is_skipped() {
        let good = picture(100, 7);
        let cut = &good[..good.len() - 1];
        let text = b"hello".to_vec();
        let stream = stream(&[part(cut), part(&text), part(b""), part(&good)]);
        let bad = |fault| Err(Skip::BadPicture(fault));
        assert_eq!(
            pictures(stream),
            [
                bad(jpeg::Fault::NoEnd),
                bad(jpeg::Fault::NoEnd),
                bad(jpeg::Fault::NoEnd),
                Ok(good),
            ]
        );
    }

    #[test]
    fn a_stream_cut_anywhere_gives_whole_frames_only() {
        let jpeg = picture(30, 7);
        let whole = stream(&[part(&jpeg), part(&jpeg)]);
        let first_end = LINE.len() + part(&jpeg).len();
        for cut in 0..whole.len() {
            let frames = pictures(whole[..cut].to_vec());
            let body_end = |end: usize| end - LINE.len() - 2;
            let expected: &[_] = if cut < LINE.len() + 1 {
                &[]
            } else if cut < body_end(first_end) {
                &[Err(Skip::Truncated)]
            } else if cut <= first_end {
                &[Ok(jpeg.clone())]
            } else if cut < body_end(whole.len()) {
                &[Ok(jpeg.clone()), Err(Skip::Truncated)]
            } else {
                &[Ok(jpeg.clone()), Ok(jpeg.clone())]
            };
            assert_eq!(frames, expected, "{cut}");
        }
    }

    #[test]
    fn a_last_boundary_line_and_text_before_the_first_are_accepted() {
        let jpeg = picture(100, 7);
        let mut stream = stream(&[part(&jpeg), part(&jpeg)]);
        stream.truncate(stream.len() - 2);
        stream.extend(b"--\r\n");
        stream.splice(0..0, *b"usage: --x\r\n--x y\r\n");
        assert_eq!(pictures(stream), [Ok(jpeg.clone()), Ok(jpeg)]);
    }

    #[test]
    fn a_stream_without_boundaries_is_lost_in_bounded_time() {
        for junk in [b'x', b'-', b'\n', 0xFF] {
            let mut splitter = splitter(Pipe::full(vec![junk; 20 * MAX_FRAME]));
            let mut buffer = Pool::new().take();
            for passes in 1..=4 {
                let lost = splitter.next(&mut buffer);
                assert!(matches!(lost, Err(SplitError::Lost)), "{lost:?}");
                let read = splitter.get_mut().given;
                assert!(read < passes * (LOST_AFTER * MAX_FRAME + 2 * SEARCH_READ));
            }
            assert!(buffer.storage(0).len() <= 2 * SEARCH_READ);
        }
    }

    #[test]
    fn a_line_like_a_boundary_in_a_picture_is_not_one() {
        let good = picture(100, 7);
        let settings = make::segment(0xFE, b"\n--settings\r\n");
        let like = make::picture(&[settings, make::frame_header(0xC0, 8, 8), make::scan(&[1])]);
        let unannounced = [b"\r\n", &like[..], b"\r\n", LINE].concat();
        let stream = stream(&[part(&good), unannounced, announcing(9, &like), part(&good)]);
        let expected = [Ok(good.clone()), Ok(like), Err(Skip::BadFraming), Ok(good)];
        assert_eq!(pictures(stream), expected);
    }

    #[test]
    fn a_damaged_first_boundary_line_is_not_kept() {
        let jpeg = picture(100, 7);
        let mut stream = stream(&vec![part(&jpeg); 3]);
        stream[3] ^= 1;
        assert_eq!(
            pictures(stream),
            [Err(Skip::BadFraming), Ok(jpeg.clone()), Ok(jpeg)]
        );
    }

    #[test]
    fn the_memory_of_a_great_surplus_is_given_back() {
        let jpeg = picture(1000, 7);
        let mut parts = vec![announcing(MAX_FRAME, &jpeg)];
        parts.extend(vec![part(&jpeg); 2000]);
        let mut splitter = splitter(Pipe::full(stream(&parts)));
        assert_eq!(split(&mut splitter).iter().flatten().count(), 2000);
        assert!(splitter.carry.bytes.capacity() <= CARRY_KEPT);
    }

    /// A part in one of the many ways in which it may be written.
    #[derive(Debug, Clone)]
    struct Spec {
        scan: Vec<u8>,
        thumbnail: bool,
        padding: usize,
        announced: bool,
        length_first: bool,
        extra: bool,
        upper: bool,
        bare_newline: bool,
    }

    impl Spec {
        fn jpeg(&self) -> Vec<u8> {
            let thumbnail = if self.thumbnail {
                make::thumbnail()
            } else {
                Vec::new()
            };
            let header = make::frame_header(0xC2, 320, 240);
            make::picture(&[thumbnail, header, make::scan(&self.scan)])
        }

        /// Header, picture, boundary line.
        fn pieces(&self) -> [Vec<u8>; 3] {
            let mut jpeg = self.jpeg();
            let mut header = vec!["Content-type: image/jpeg".to_owned()];
            if self.announced {
                jpeg.extend(vec![0; self.padding]);
                let at = usize::from(!self.length_first);
                header.insert(at, format!("Content-length: {}", jpeg.len()));
            }
            if self.extra {
                header.insert(0, "X-Time:1:2".to_owned());
            }
            let newline = if self.bare_newline { "\n" } else { "\r\n" };
            let mut header = header.join(newline) + newline + newline;
            if self.upper {
                header.make_ascii_uppercase();
            }
            let line = format!("{newline}--ffmpeg{newline}");
            [header.into_bytes(), jpeg, line.into_bytes()]
        }
    }

    prop_compose! {
        fn spec()(
            scan in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..300),
                prop::collection::vec(any::<u8>(), 0..9000),
            ],
            padding in 0..4usize,
            announced in prop::bool::weighted(0.8),
            [thumbnail, length_first, extra, upper, bare_newline] in any::<[bool; 5]>(),
        ) -> Spec {
            Spec {
                scan, thumbnail, padding, announced, length_first, extra, upper, bare_newline,
            }
        }
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            4 => (1..20usize).prop_map(Act::Give),
            8 => (1..5000usize).prop_map(Act::Give),
            4 => Just(Act::Give(usize::MAX)),
            1 => Just(Act::Fail(io::ErrorKind::Interrupted)),
            1 => Just(Act::Fail(io::ErrorKind::TimedOut)),
        ];
        // At least one that gives, or it would never end.
        prop::collection::vec(act, 0..30).prop_map(|mut acts| {
            acts.push(Act::Give(700));
            acts
        })
    }

    /// The stream, where its parts lie, and where their headers and pictures. The first line
    /// belongs to the first part.
    fn assemble(specs: &[Spec]) -> (Vec<u8>, Vec<Range<usize>>, Vec<Range<usize>>) {
        let mut stream = LINE.to_vec();
        let (mut parts, mut bodies) = (Vec::new(), Vec::new());
        for spec in specs {
            let start = stream.len();
            let [header, jpeg, line] = spec.pieces();
            stream.extend(header);
            stream.extend(jpeg);
            bodies.push(start..stream.len());
            stream.extend(line);
            parts.push(start..stream.len());
        }
        parts[0].start = 0;
        (stream, parts, bodies)
    }

    /// Damage at a place from 0 to 1 within what may be damaged.
    #[derive(Debug, Clone)]
    enum Damage {
        Flip(f64, u8),
        Delete(f64, usize),
        Insert(f64, Vec<u8>),
    }

    fn damage() -> impl Strategy<Value = Damage> {
        prop_oneof![
            (0.0..1.0f64, 0..8u32).prop_map(|(at, bit)| Damage::Flip(at, 1 << bit)),
            (0.0..1.0f64, prop_oneof![1..10usize, 1..4000usize])
                .prop_map(|(at, length)| Damage::Delete(at, length)),
            (0.0..1.0f64, prop::collection::vec(any::<u8>(), 1..3000))
                .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        ]
    }

    impl Damage {
        /// Damages `stream` within `within`; what was touched, in places of the stream before.
        fn apply(&self, stream: &mut Vec<u8>, within: Range<usize>) -> Range<usize> {
            let place = |at: &f64| within.start + (at * within.len() as f64) as usize;
            match self {
                Self::Flip(at, bits) => {
                    let at = place(at);
                    stream[at] ^= bits;
                    at..at + 1
                }
                Self::Delete(at, length) => {
                    let at = place(at);
                    let end = (at + length).min(within.end);
                    stream.drain(at..end);
                    at..end
                }
                Self::Insert(at, bytes) => {
                    let at = place(at);
                    stream.splice(at..at, bytes.iter().copied());
                    // Between two bytes it touches both.
                    at.saturating_sub(1)..at + 1
                }
            }
        }
    }

    /// By chance the damaged length fits: the one thing that stays unseen.
    fn leads_to_a_later_end(frame: &Frame) -> bool {
        frame
            .jpeg
            .windows(LINE.len() - 2)
            .any(|window| window == b"--ffmpeg")
    }

    proptest! {
        /// However parts are written and however reads cut the stream: every frame comes, byte for
        /// byte, stamped with the read that brought its part's first byte.
        #[test]
        fn every_frame_of_a_sound_stream_comes(
            specs in prop::collection::vec(spec(), 1..12), acts in acts(),
        ) {
            let (stream, _, bodies) = assemble(&specs);
            let mut splitter = splitter(Pipe::new(stream, acts));
            let frames = split(&mut splitter);
            prop_assert_eq!(frames.len(), specs.len());
            for ((frame, spec), body) in frames.into_iter().zip(&specs).zip(bodies) {
                prop_assert_eq!(frame, Ok(Frame {
                    jpeg: spec.jpeg(),
                    size: jpeg::Size { width: 320, height: 240 },
                    read: splitter.reader.read_of(body.start),
                }));
            }
        }

        /// Damage inside one part's header or picture costs at most that part, which is counted
        /// once; all others come byte for byte. (The part itself may
        /// come: a flip inside a scan shows to a decoder only.)
        #[test]
        fn damage_within_a_part_costs_that_part_only(
            specs in prop::collection::vec(spec(), 1..8), acts in acts(),
            hit in any::<prop::sample::Index>(), damage in damage(),
        ) {
            let (mut stream, _, bodies) = assemble(&specs);
            let hit = hit.index(specs.len());
            damage.apply(&mut stream, bodies[hit].clone());
            let outcomes = split(&mut splitter(Pipe::new(stream, acts)));
            prop_assume!(!outcomes.iter().flatten().any(leads_to_a_later_end));
            prop_assert_eq!(outcomes.len(), specs.len());
            for (index, (outcome, spec)) in outcomes.into_iter().zip(&specs).enumerate() {
                if index != hit {
                    prop_assert_eq!(outcome.map(|frame| frame.jpeg), Ok(spec.jpeg()));
                }
            }
        }

        /// Damage anywhere, boundary lines too: it ends, no part is counted twice, and every sound
        /// part whose neighbours are sound comes byte for byte and in order.
        #[test]
        fn what_is_away_from_damage_comes(
            specs in prop::collection::vec(spec(), 1..12), acts in acts(),
            damages in prop::collection::vec(damage(), 1..4),
        ) {
            let (mut stream, parts, _) = assemble(&specs);
            let mut sound = vec![true; specs.len()];
            let share = stream.len() / damages.len();
            // From the back, so that places in front stay where they are.
            for (nth, damage) in damages.iter().enumerate().rev() {
                let touched = damage.apply(&mut stream, nth * share..(nth + 1) * share);
                for (index, part) in parts.iter().enumerate() {
                    if part.start < touched.end && touched.start < part.end {
                        let neighbours = index.saturating_sub(1)..(index + 2).min(specs.len());
                        sound[neighbours].fill(false);
                    }
                }
            }
            let outcomes = split(&mut splitter(Pipe::new(stream, acts)));
            prop_assume!(!outcomes.iter().flatten().any(leads_to_a_later_end));
            prop_assert!(outcomes.len() <= specs.len() + 1);
            let mut came = outcomes.into_iter().flatten();
            for (spec, _) in specs.iter().zip(sound).filter(|(_, sound)| *sound) {
                prop_assert!(came.any(|frame| frame.jpeg == spec.jpeg()));
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_hang(
            pieces in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..50),
                prop::sample::select(vec![
                    LINE.to_vec(), b"\r\n".to_vec(), b"--ff".to_vec(), b"--".to_vec(),
                    b"Content-length: 30\r\n".to_vec(), b"Content-length: 0\r\n\r\n".to_vec(),
                    picture(0, 7), part(&picture(9, 7)), vec![0xFF, 0xD8],
                ]),
            ], 0..30),
            acts in acts(),
        ) {
            split(&mut splitter(Pipe::new(pieces.concat(), acts)));
        }
    }
}
