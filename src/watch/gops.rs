//! Whether the units of a camera can be decoded as they arrive. Pure.
//!
//! The publisher promises: after a gap in `seq` the next unit is a key unit. A consumer relies on
//! it with the gap rule: after a gap, and in a new epoch, skip until a key unit.

use crate::message::{Headers, VideoHeaders};

/// A larger distance between two keyframes is a jump of the camera's clock, µs.
const MAX_GOP_US: i64 = 3_600_000_000;

/// What a decoder does with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A key unit that does not continue what was decoded before: the decoder starts anew.
    Start,
    /// The decoder has all that this unit needs.
    Continue,
    /// Something is missing that this unit needs.
    Skip,
}

/// The units of one camera, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// Epoch and seq of the last unit. None: what came before the next unit is not known.
    last: Option<(i64, i64)>,
    /// The last unit was decoded.
    decoding: bool,
    /// The last key unit: epoch, number of its group of pictures, presentation time in µs.
    key: Option<(i64, i64, i64)>,
    /// The group of pictures that was counted as broken last.
    last_broken: Option<(i64, i64)>,
    /// Time between the last two key units of consecutive groups of pictures, µs.
    pub(super) gop_us: Option<i64>,
    /// How often `seq` did not go on by one within an epoch.
    pub(super) gaps: u64,
    /// Groups of pictures that break the promise: one of their units is no key unit, and what is
    /// before it did not arrive.
    pub(super) broken: u64,
}

impl Follower {
    /// Units may have been missed that were published: the next one breaks no promise.
    pub(super) fn connected(&mut self) {
        self.last = None;
        self.decoding = false;
    }

    pub(super) fn arrived(&mut self, headers: &Headers<'_>, video: &VideoHeaders) -> Step {
        let (epoch, seq) = (headers.epoch, headers.seq);
        let last = self.last.replace((epoch, seq));
        let same_epoch = last.is_some_and(|(before, _)| before == epoch);
        let follows =
            same_epoch && last.is_some_and(|(_, before)| before.checked_add(1) == Some(seq));
        self.gaps += u64::from(same_epoch && !follows);
        if last.is_some() && !follows && !video.key {
            let gop = Some((epoch, video.gop));
            self.broken += u64::from(self.last_broken != gop);
            self.last_broken = gop;
        }
        if video.key {
            self.measure((epoch, video.gop, video.pts_us));
        }
        let continues = follows && self.decoding;
        self.decoding = continues || video.key;
        match (continues, self.decoding) {
            (true, _) => Step::Continue,
            (false, true) => Step::Start,
            (false, false) => Step::Skip,
        }
    }

    fn measure(&mut self, key: (i64, i64, i64)) {
        let (epoch, number, pts_us) = key;
        if let Some((same, before, since)) = self.key.replace(key)
            && (same, before.checked_add(1)) == (epoch, Some(number))
        {
            let distance = pts_us.saturating_sub(since);
            self.gop_us = Some(distance).filter(|it| (1..=MAX_GOP_US).contains(it));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Codec;

    /// Each unit of a stream with a keyframe every 5 units, 0.2 s apart, in this epoch.
    fn unit(follower: &mut Follower, epoch: i64, seq: i64) -> Step {
        let video = VideoHeaders {
            key: seq % 5 == 1,
            gop: (seq - 1) / 5 + 1,
            gop_index: ((seq - 1) % 5) as i32,
            pts_us: seq * 200_000,
            codec: Codec::H264,
        };
        let headers = Headers {
            epoch,
            seq,
            ..Headers::default()
        };
        follower.arrived(&headers, &video)
    }

    /// What a decoder does with the units of these numbers: S, c or a dot.
    fn steps(follower: &mut Follower, epoch: i64, seqs: impl IntoIterator<Item = i64>) -> String {
        let step = |seq| match unit(follower, epoch, seq) {
            Step::Start => 'S',
            Step::Continue => 'c',
            Step::Skip => '.',
        };
        seqs.into_iter().map(step).collect()
    }

    #[test]
    fn a_watch_that_begins_within_a_group_waits_for_the_key_and_calls_nothing_broken() {
        let mut it = Follower::default();
        assert_eq!(steps(&mut it, 1, 3..=12), "...Scccccc");
        assert_eq!((it.gaps, it.broken), (0, 0));
        assert_eq!(it.gop_us, Some(1_000_000));
    }

    #[test]
    fn after_a_gap_that_ends_with_a_key_unit_the_decoder_starts_and_the_promise_is_kept() {
        let mut it = Follower::default();
        assert_eq!(steps(&mut it, 1, [1, 2, 3, 11, 12]), "SccSc");
        assert_eq!((it.gaps, it.broken), (1, 0));
        // Two keys with a group between them say nothing about the length of one.
        assert_eq!(it.gop_us, None);
    }

    #[test]
    fn a_unit_without_what_it_needs_breaks_its_group_once_and_is_skipped_with_the_rest() {
        let mut it = Follower::default();
        // 3 and 5 are missing: two gaps in one group.
        assert_eq!(steps(&mut it, 1, [1, 2, 4]), "Sc.");
        assert_eq!((it.gaps, it.broken), (1, 1));
        assert_eq!(steps(&mut it, 1, [6, 7, 9, 10, 11]), "Sc..S");
        assert_eq!((it.gaps, it.broken), (3, 2));
        let mut it = Follower::default();
        assert_eq!(steps(&mut it, 1, [1, 3, 5, 6]), "S..S");
        assert_eq!((it.gaps, it.broken), (2, 1));
    }

    #[test]
    fn a_new_epoch_starts_with_a_key_unit_and_its_numbers_are_no_gap() {
        let mut it = Follower::default();
        assert_eq!(steps(&mut it, 1, 1..=3), "Scc");
        assert_eq!(steps(&mut it, 2, [6, 7]), "Sc");
        assert_eq!((it.gaps, it.broken), (0, 0));
        assert_eq!(it.gop_us, None);
        // seq goes on, but it is another stream.
        assert_eq!(steps(&mut it, 3, [8, 9, 10, 11]), "...S");
        assert_eq!((it.gaps, it.broken), (0, 1));
    }

    #[test]
    fn what_was_missed_while_there_was_no_connection_breaks_nothing() {
        let mut it = Follower::default();
        assert_eq!(steps(&mut it, 1, 1..=3), "Scc");
        it.connected();
        assert_eq!(steps(&mut it, 1, [9, 10, 11]), "..S");
        assert_eq!((it.gaps, it.broken), (0, 0));
        // Not even one that happens to follow: in between, another may have come and gone.
        it.connected();
        assert_eq!(steps(&mut it, 1, [12]), ".");
    }

    #[test]
    fn a_unit_that_comes_twice_or_too_late_is_not_decoded_twice() {
        let mut it = Follower::default();
        assert_eq!(steps(&mut it, 1, [1, 2, 2, 3]), "Sc..");
        assert_eq!((it.gaps, it.broken), (1, 1));
    }

    #[test]
    fn numbers_that_a_publisher_invents_overflow_nothing() {
        let mut it = Follower::default();
        let extreme = [i64::MIN, -1, 0, i64::MAX];
        for epoch in extreme {
            for seq in extreme {
                for key in [true, false] {
                    let video = VideoHeaders {
                        key,
                        gop: seq,
                        gop_index: i32::MIN,
                        pts_us: epoch,
                        codec: Codec::H265,
                    };
                    let headers = Headers {
                        epoch,
                        seq,
                        ..Headers::default()
                    };
                    it.arrived(&headers, &video);
                }
            }
        }
        assert_eq!(it.gop_us, None);
    }
}
