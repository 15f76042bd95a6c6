//! Parses AMQP tables, and limits the number and the nesting of their values. Pure.

use super::Refusal;

/// Tables and arrays within one another. RabbitMQ describes itself with a table in a table.
pub(super) const DEEPEST: u32 = 8;
/// Values in all of them together. RabbitMQ describes itself with about 20. One byte on the wire
/// can become 60 in memory.
pub(super) const MOST_VALUES: u32 = 256;

/// A value whose length is in the first `width` bytes, and what is behind it.
pub(in crate::amqp::client) fn sized(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
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
pub(in crate::amqp::client) struct Entry<'a> {
    pub(in crate::amqp::client) name: &'a [u8],
    /// AMQP's letter for its type.
    pub(in crate::amqp::client) kind: u8,
    /// Without their length.
    pub(in crate::amqp::client) bytes: &'a [u8],
}

/// The first entry of a table, and what is behind it.
pub(in crate::amqp::client) fn entry(table: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (name, rest) = sized(table, 1)?;
    let (kind, bytes, behind) = value(rest)?;
    Some((Entry { name, kind, bytes }, behind))
}

/// Calls itself, [`DEEPEST`] times at most.
pub(super) fn check_table(mut table: &[u8], depth: u32, values: &mut u32) -> Result<(), Refusal> {
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
