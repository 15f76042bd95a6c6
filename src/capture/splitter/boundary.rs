//! The boundary line between two parts: how one looks, and where the next one is. Pure.

/// RFC 2046, section 5.1.1: a boundary has at most 70 characters.
const LONGEST_BOUNDARY: usize = 70;

/// The line between two parts, learnt from the stream.
#[derive(Debug, Default)]
pub(super) struct Boundary {
    /// With its two dashes; empty until one was seen.
    delimiter: Vec<u8>,
    /// It stood behind a picture once. Until then any boundary line is taken for it, since the one
    /// that was learnt may have been damaged.
    pub(super) confirmed: bool,
}

/// Is there a boundary line?
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A whole boundary, and its length in bytes.
    Whole(usize),
    /// So far it could be one.
    Partial,
    Other,
}

/// Where is a boundary line?
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It ends here.
    Behind(usize),
    /// None begins before this.
    NotBefore(usize),
}

impl Boundary {
    /// As FFmpeg writes it behind a picture: a line end before it, one after it.
    pub(super) fn usual_length(&self) -> usize {
        self.delimiter.len() + 2 * b"\r\n".len()
    }

    /// What follows a picture: a line end and the boundary line.
    pub(super) fn line_behind(&self, bytes: &[u8]) -> Line {
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

    /// The length of a second boundary line, where a header is due. An output of FFmpeg that had no
    /// picture writes its first line when FFmpeg ends.
    pub(super) fn again(&self, bytes: &[u8]) -> Option<usize> {
        match self.known_line(bytes) {
            Line::Whole(length) if self.confirmed => Some(length),
            _ => None,
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
    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        let mut windows = bytes.windows(self.delimiter.len().max(1));
        windows.any(|window| window == self.delimiter)
    }

    /// Finds the next boundary line, and learns it unless it is known for sure.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Found {
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
