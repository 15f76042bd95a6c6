//! Cuts FFmpeg's `mpjpeg` output into whole pictures, read straight into recycled buffers.
//!
//! ```text
//! --ffmpeg␍␊                                                       once, at the very start
//! Content-type: image/jpeg␍␊Content-length: 17684␍␊␍␊ JPEG ␍␊--ffmpeg␍␊    a part, and so on
//! ```
//!
//! FFmpeg writes the boundary line right behind a picture, not before the next one. So a part is
//! read together with that line: the reader need not wait for the next picture to know that this
//! one is whole, and no byte of the next one is read. The first read of a part asks for as much as
//! the last part had, which brings header and picture in one go; when pictures shrink during a
//! burst it brings a piece of the next part too, and only such a piece is ever copied.
//!
//! No body byte is looked at while all is well: the announced length says where the picture ends,
//! and `EOI` before it and the boundary line behind it prove that. Only when they are missing is
//! the boundary searched for. What this cannot see: a damaged length that leads to exactly the end
//! of a later part, and damage inside a scan, which shows to a decoder only.

mod boundary;
mod carry;
mod header;
mod part;
mod search;
#[cfg(test)]
mod tests;

pub use part::{Part, Skip, SplitError};

use super::jpeg::{self, Walk};
use super::pipe::Arrival;
use crate::handoff::pool::Buffer;
use boundary::{Boundary, Line};
use carry::Carry;
use header::Header;
use search::Search;
use std::io::{self, Read};

/// The first read of a part asks for at least this many bytes: a page, since less saves nothing.
const SHORTEST_READ: usize = 4 * 1024;

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
    /// How many bytes of it are in the caller's buffer.
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
            phase: Phase::Search(Search::first(max_frame_bytes)),
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
        let bytes = self.read_so_far(buffer);
        if let Some(length) = self.boundary.again(bytes) {
            self.carry.put_back(bytes.get(length..).unwrap_or_default());
            self.begin_part();
            return Ok(None);
        }
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
