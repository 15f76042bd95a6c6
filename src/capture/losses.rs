//! Which access units may be incomplete because packets of the stream got lost. Pure.
//!
//! FFmpeg reports missing RTP packets on stderr when it reads the next packet. The report does not
//! say to which unit they belong, and it may overtake units that FFmpeg has already written.

/// So many units after a report may be incomplete: the one that FFmpeg puts together, the next one
/// if the gap covers its beginning too, and one that waits between the threads of FFmpeg 7.
const SUSPECT: u32 = 3;

/// What is known of losses in one session.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// So many units to come may be incomplete.
    suspect: u32,
}

impl Losses {
    /// FFmpeg has reported missing packets.
    pub(super) fn reported(&mut self) {
        self.suspect = SUSPECT;
    }

    /// Whether the unit that was read now is whole, as far as FFmpeg knows. `corrupt` is what
    /// FFmpeg says of the unit itself. `newest` tells whether nothing waits behind it: a unit that
    /// has waited may be older than the report.
    pub(super) fn is_whole(&mut self, corrupt: bool, newest: impl FnOnce() -> bool) -> bool {
        if self.suspect == 0 {
            return !corrupt;
        }
        if newest() {
            self.suspect -= 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(losses: &mut Losses, newest: &[bool]) -> Vec<bool> {
        let mut is_whole = |newest: &bool| losses.is_whole(false, || *newest);
        newest.iter().map(&mut is_whole).collect()
    }

    #[test]
    fn after_a_report_three_units_are_suspect() {
        let mut losses = Losses::default();
        assert_eq!(of(&mut losses, &[true]), [true]);
        losses.reported();
        assert_eq!(
            of(&mut losses, &[true; 5]),
            [false, false, false, true, true]
        );
        losses.reported();
        assert_eq!(of(&mut losses, &[true; 2]), [false; 2]);
        losses.reported();
        assert_eq!(of(&mut losses, &[true; 4]), [false, false, false, true]);
    }

    #[test]
    fn units_that_waited_are_suspect_and_do_not_count() {
        let mut losses = Losses::default();
        losses.reported();
        let newest = [false, false, true, true, false, true, true];
        assert_eq!(
            of(&mut losses, &newest),
            [false, false, false, false, false, false, true]
        );
    }

    #[test]
    fn a_unit_that_ffmpeg_calls_corrupt_is_not_whole() {
        let mut losses = Losses::default();
        assert!(!losses.is_whole(true, || true));
        assert!(losses.is_whole(false, || true));
    }
}
