//! The parameter sets in front of a unit's picture, in Annex B format.

use crate::frame::Codec;
use std::collections::BTreeSet;

const START_CODE: &[u8] = &[0, 0, 1];

/// At most this many bytes of parameter sets in a unit are compared. Cameras send less than 1 KiB;
/// 256 with scaling matrices, the most that H.264 has, still fit.
const MOST_BYTES: usize = 64 * 1024;

/// The different parameter sets of a unit.
#[derive(Debug)]
pub(super) struct ParameterSets(BTreeSet<Box<[u8]>>);

impl ParameterSets {
    /// Those of `unit`.
    pub(super) fn of(codec: Codec, unit: &[u8]) -> Self {
        Self(parameter_sets(codec, unit).map(Box::from).collect())
    }

    /// Whether `unit` has no others.
    pub(super) fn include_those_of(&self, codec: Codec, unit: &[u8]) -> bool {
        parameter_sets(codec, unit).all(|set| self.0.contains(set))
    }
}

/// Whether a start code, with any number of zeros in front, is the first thing in `unit`.
pub(super) fn begins_with_start_code(unit: &[u8]) -> bool {
    let zeros = unit.iter().take_while(|byte| **byte == 0).count();
    zeros >= 2 && unit.get(zeros) == Some(&1)
}

/// Whether a slice is in `unit`. It is near the beginning if there is one.
pub(super) fn has_picture(codec: Codec, unit: &[u8]) -> bool {
    let mut rest = behind_start_code(unit).map(|(_, rest)| rest);
    while let Some(unread) = rest {
        match unread.first() {
            Some(header) if Nal::of(codec, *header) == Nal::Slice => return true,
            _ => rest = behind_start_code(unread).map(|(_, behind)| behind),
        }
    }
    false
}

/// What a NAL unit is, as far as it matters.
#[derive(PartialEq, Eq)]
enum Nal {
    ParameterSet,
    Slice,
    Other,
}

impl Nal {
    /// By the first byte of its header.
    fn of(codec: Codec, header: u8) -> Self {
        match codec {
            Codec::H264 => match header & 0x1f {
                1..=5 => Self::Slice,
                7 | 8 => Self::ParameterSet,
                _ => Self::Other,
            },
            Codec::H265 => match header >> 1 & 0x3f {
                0..=31 => Self::Slice,
                32..=34 => Self::ParameterSet,
                _ => Self::Other,
            },
        }
    }
}

/// The parameter sets before the first slice, which is most of a unit and is not looked at.
fn parameter_sets(codec: Codec, unit: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = behind_start_code(unit).map(|(_, rest)| rest);
    let mut left = MOST_BYTES;
    std::iter::from_fn(move || {
        loop {
            let unread = rest.take()?;
            let nal = Nal::of(codec, *unread.first()?);
            if nal == Nal::Slice {
                return None;
            }
            let bytes = match behind_start_code(unread) {
                Some((bytes, behind)) => {
                    rest = Some(behind);
                    bytes
                }
                None => unread,
            };
            if nal == Nal::ParameterSet {
                left = left.checked_sub(bytes.len())?;
                return Some(without_zeros_behind(bytes));
            }
        }
    })
}

/// What is in front of the next start code, and behind it.
fn behind_start_code(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut windows = bytes.windows(START_CODE.len());
    let at = windows.position(|window| window == START_CODE)?;
    Some((bytes.get(..at)?, bytes.get(at + START_CODE.len()..)?))
}

/// Zeros behind a NAL unit belong to the next start code, or fill up: a NAL unit never ends with
/// one.
fn without_zeros_behind(bytes: &[u8]) -> &[u8] {
    let last = bytes.iter().rposition(|byte| *byte != 0);
    bytes
        .get(..last.map_or(0, |last| last + 1))
        .unwrap_or_default()
}
