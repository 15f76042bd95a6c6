//! Finding the next part when nothing fits: at the start of the stream, and after damage.

use super::boundary::Found;
use super::part::{Part, Skip, SplitError};
use super::{Phase, Splitter};
use crate::handoff::pool::Buffer;
use std::io::Read;

/// How much is read at once while searching for a boundary: what a pipe holds by default on Linux.
pub(super) const SEARCH_READ: usize = 64 * 1024;

/// If this many times the largest frame has no boundary, this is no mpjpeg stream.
pub(super) const LOST_AFTER: usize = 4;

/// A search for a boundary line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    from: usize,
    /// What to report once it is found; `None` for what comes before the first part.
    skip: Option<Skip>,
    /// Bytes to pass until the stream is lost.
    patience: usize,
}

impl Search {
    /// For the first part of a stream.
    pub(super) fn first(max_frame_bytes: usize) -> Self {
        Self {
            from: 0,
            skip: None,
            patience: max_frame_bytes.saturating_mul(LOST_AFTER),
        }
    }
}

impl<R: Read> Splitter<R> {
    pub(super) fn search(
        &mut self,
        buffer: &mut Buffer,
        search: Search,
    ) -> Result<Option<Part>, SplitError> {
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
    pub(super) fn search_from(&mut self, from: usize, skip: Skip, announced: usize) {
        let patience = self.max_frame_bytes.saturating_mul(LOST_AFTER);
        self.phase = Phase::Search(Search {
            from,
            skip: Some(skip),
            patience: patience.saturating_add(announced),
        });
    }
}
