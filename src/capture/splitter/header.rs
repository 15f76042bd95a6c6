//! Parses the header of a part. Pure.

/// A longer part header is not one. FFmpeg's has 62 bytes.
const LONGEST_HEADER: usize = 4 * 1024;

/// A part's header.
pub(super) enum Header {
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
    pub(super) fn parse(bytes: &[u8]) -> Self {
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
