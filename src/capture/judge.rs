//! Judges whether a picture from FFmpeg is whole and as new as it looks. Pure.

use super::backlog::Store;
use super::lag::Lag;
use super::pipe::Arrival;
use super::remarks::{Decoded, Remark};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// In a stream that marks no keyframe, damage counts as repaired after this time: an encoder with
/// intra refresh renews the whole picture within one or two seconds.
const REFRESH: Duration = Duration::from_secs(2);

/// This decoder gives no picture before one that it can make whole, with or without a keyframe. All
/// others do.
const SILENT_BEFORE_A_KEYFRAME: &str = "h264 (native)";

/// A stream that has no keyframe for this time marks none, and its pictures are accepted as they
/// are. Cameras with a "smart codec" send a keyframe every 30 s at the most.
const NO_KEYFRAME: Duration = Duration::from_secs(40);

/// Pictures that the filter let pass and that have not been read. More than fit into the pipe.
const AWAITED: usize = 4096;

/// What is to be done with a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is published.
    Good,
    /// FFmpeg knows that it, or a picture that it was made from, is damaged.
    Damaged,
    /// It is older than the limit.
    Late {
        /// How late it reaches us.
        lag: Duration,
        /// Where the time went.
        cause: Cause,
    },
}

/// Where a late picture's time went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The pictures stopped for a while: something on their way stood still.
    Stop,
    /// FFmpeg has pictures in store.
    Ffmpeg,
    /// It came late to this machine.
    Network,
}

impl Cause {
    /// What happened and what to do.
    pub fn words(self) -> &'static str {
        match self {
            Self::Stop => "this machine, the network or the camera stood still for a while",
            Self::Ffmpeg => {
                "FFmpeg cannot keep up: lower the camera's resolution or frame rate, use its substream, \
                 or give this machine fewer cameras"
            }
            Self::Network => "the network to the camera is too slow for its stream",
        }
    }
}

/// Judges the pictures of one session. FFmpeg's remark on a picture is written before the picture,
/// so remarks are handed in first.
#[derive(Debug)]
pub struct Judge {
    started: Instant,
    limit: Duration,
    /// Absent where the stream's time says nothing: what plays at its own speed from a file is
    /// never late.
    lag: Option<Lag>,
    awaited: VecDeque<Awaited>,
    damage: Damage,
    /// Pictures so far.
    judged: u64,
}

#[derive(Debug)]
struct Awaited {
    stream: f64,
    damaged: bool,
}

impl Judge {
    /// For the session that started at `started`. Pictures later than `limit` are late. `live`: the
    /// source is a camera that goes on whether we read it or not.
    pub fn new(started: Instant, limit: Duration, live: bool) -> Self {
        Self {
            started,
            limit,
            lag: live.then(|| Lag::new(limit)),
            awaited: VecDeque::new(),
            damage: Damage::default(),
            judged: 0,
        }
    }

    /// FFmpeg has said this.
    pub fn hear(&mut self, remark: &Remark, now: Instant) {
        match remark {
            Remark::Decoded(decoded) => {
                let damaged = self.damage.of(decoded, now);
                if decoded.passed && self.awaited.len() < AWAITED {
                    let stream = decoded.stream;
                    self.awaited.push_back(Awaited { stream, damaged });
                }
            }
            Remark::Damaged(_) => self.damage.hurt = true,
            Remark::Lost(_) => self.damage.since = Some(now),
            Remark::Opened(_) => {
                if let Some(lag) = &mut self.lag {
                    lag.opened(now.saturating_duration_since(self.started));
                }
            }
            Remark::Decoder(decoder) => self.damage.begun |= decoder == SILENT_BEFORE_A_KEYFRAME,
            Remark::Stream(_)
            | Remark::Size(..)
            | Remark::Picture(_)
            | Remark::Error(_)
            | Remark::Warning(_)
            | Remark::Other => {}
        }
    }

    /// Whether FFmpeg's remark on the next picture has been heard, or none will come: what is not
    /// FFmpeg makes none.
    pub fn knows_next(&self) -> bool {
        !self.awaited.is_empty() || self.judged > 0 && self.damage.first.is_none()
    }

    /// Whether FFmpeg was seen to wait for the camera.
    pub fn is_settled(&self) -> bool {
        self.lag.as_ref().is_some_and(Lag::is_settled)
    }

    /// A picture was read that is no good: its remark is not the next one's.
    pub fn skip(&mut self) {
        self.judged += 1;
        self.awaited.pop_front();
    }

    /// Judges the picture that was read now. `store` tells what FFmpeg has in store.
    pub fn judge(&mut self, arrival: &Arrival, mut store: impl FnMut() -> Store) -> Verdict {
        let now = arrival.read.monotonic;
        self.judged += 1;
        let awaited = self.awaited.pop_front();
        let at = now.saturating_duration_since(self.started);
        let lag = match (&mut self.lag, &awaited) {
            (Some(lag), Some(picture)) => lag.of(at, picture.stream, &mut store),
            _ => Duration::ZERO,
        };
        let in_pipe = now.saturating_duration_since(arrival.written_after);
        if in_pipe > self.limit {
            let (lag, cause) = (lag.max(in_pipe), Cause::Stop);
            return Verdict::Late { lag, cause };
        }
        if lag > self.limit {
            let stopped = self.lag.as_ref().is_some_and(Lag::came_at_once);
            let cause = match stopped {
                true => Cause::Stop,
                false if store() == Store::Nothing => Cause::Network,
                false => Cause::Ffmpeg,
            };
            return Verdict::Late { lag, cause };
        }
        if awaited.is_some_and(|picture| picture.damaged) {
            return Verdict::Damaged;
        }
        Verdict::Good
    }
}

/// All pictures are damaged before the first keyframe, and from a damage on until the next keyframe
/// that is whole.
#[derive(Debug, Default)]
struct Damage {
    /// The decoder had what it takes to make whole pictures.
    begun: bool,
    first: Option<Instant>,
    /// FFmpeg has complained since the last picture.
    hurt: bool,
    /// The last complaint that no keyframe has healed.
    since: Option<Instant>,
    has_keys: bool,
}

impl Damage {
    fn of(&mut self, decoded: &Decoded, now: Instant) -> bool {
        self.has_keys |= decoded.key;
        let first = *self.first.get_or_insert(now);
        self.begun |= decoded.key || now - first > NO_KEYFRAME;
        if std::mem::take(&mut self.hurt) {
            self.since = Some(now);
        } else if decoded.key || !self.has_keys && self.since.is_some_and(|at| now - at > REFRESH) {
            self.since = None;
        }
        !self.begun || self.since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;

    const LIMIT: Duration = Duration::from_secs(1);
    const FRAME: Duration = Duration::from_millis(66);

    struct Bench {
        judge: Judge,
        now: Instant,
        stream: f64,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            let mut judge = Judge::new(now, LIMIT, true);
            judge.hear(&Remark::Opened("rtsp".into()), now);
            Self {
                judge,
                now,
                stream: 0.0,
            }
        }

        fn decoded(&mut self, key: bool, passed: bool) {
            self.now += FRAME;
            self.stream += FRAME.as_secs_f64();
            let stream = self.stream;
            let decoded = Decoded {
                stream,
                passed,
                key,
            };
            self.judge.hear(&Remark::Decoded(decoded), self.now);
        }

        fn read(&mut self, written_after: Instant) -> Verdict {
            let read = Stamp {
                monotonic: self.now,
                unix_us: 0,
            };
            let arrival = Arrival {
                read,
                written_after,
            };
            self.judge.judge(&arrival, || Store::Nothing)
        }

        fn picture(&mut self, key: bool) -> Verdict {
            self.decoded(key, true);
            self.read(self.now)
        }
    }

    #[test]
    fn from_a_damage_on_pictures_are_damaged_until_a_whole_keyframe() {
        use Verdict::{Damaged, Good};
        let mut bench = Bench::new();
        assert_eq!([bench.picture(true), bench.picture(false)], [Good; 2]);
        bench.judge.hear(&Remark::Damaged("x".into()), bench.now);
        assert_eq!([bench.picture(false), bench.picture(false)], [Damaged; 2]);
        bench.judge.hear(&Remark::Damaged("x".into()), bench.now);
        assert_eq!([bench.picture(true), bench.picture(false)], [Damaged; 2]);
        // A keyframe that the filter held back heals as well.
        bench.decoded(true, false);
        assert_eq!(bench.picture(false), Good);
    }

    #[test]
    fn a_keyframe_behind_a_lost_picture_is_whole() {
        let mut bench = Bench::new();
        assert_eq!(bench.picture(true), Verdict::Good);
        bench.judge.hear(&Remark::Lost("x".into()), bench.now);
        assert_eq!(bench.picture(false), Verdict::Damaged);
        bench.judge.hear(&Remark::Lost("x".into()), bench.now);
        assert_eq!(bench.picture(true), Verdict::Good);
    }

    #[test]
    fn nothing_is_whole_before_the_first_keyframe_but_what_h264_gives() {
        let mut bench = Bench::new();
        assert_eq!(
            [bench.picture(false), bench.picture(false)],
            [Verdict::Damaged; 2]
        );
        assert_eq!(
            [bench.picture(true), bench.picture(false)],
            [Verdict::Good; 2]
        );
        let mut bench = Bench::new();
        bench
            .judge
            .hear(&Remark::Decoder("h264 (native)".into()), bench.now);
        assert_eq!(bench.picture(false), Verdict::Good);
    }

    #[test]
    fn a_stream_that_marks_no_keyframe_is_taken_as_it_is_after_a_while() {
        let mut bench = Bench::new();
        let damaged = (0..1000)
            .take_while(|_| bench.picture(false) == Verdict::Damaged)
            .count();
        assert_eq!(damaged, 607, "40 s of 66 ms, and the first");
    }

    #[test]
    fn without_keyframes_a_damage_heals_with_the_refresh() {
        let mut bench = Bench::new();
        bench
            .judge
            .hear(&Remark::Decoder("h264 (native)".into()), bench.now);
        bench.judge.hear(&Remark::Damaged("x".into()), bench.now);
        let damaged = (0..100)
            .take_while(|_| bench.picture(false) == Verdict::Damaged)
            .count();
        assert_eq!(damaged, 31, "2 s of 66 ms, and the first");
    }

    #[test]
    fn a_skipped_picture_takes_its_remark_with_it() {
        let mut bench = Bench::new();
        assert_eq!(bench.picture(true), Verdict::Good);
        bench.judge.hear(&Remark::Damaged("x".into()), bench.now);
        bench.decoded(false, true);
        bench.judge.skip();
        assert_eq!(bench.picture(true), Verdict::Good);
        // With a limit of 1 s 20 remarks too many would make each picture late.
        for _ in 0..20 {
            bench.decoded(false, true);
            bench.judge.skip();
        }
        assert_eq!(bench.picture(false), Verdict::Good);
    }

    #[test]
    fn a_picture_that_waited_in_the_pipe_is_late() {
        let mut bench = Bench::new();
        let before = bench.now;
        bench.picture(true);
        bench.decoded(false, true);
        bench.now += 20 * LIMIT;
        let verdict = bench.read(before);
        let late = |verdict| match verdict {
            Verdict::Late { lag, cause } => Some((lag.as_secs(), cause)),
            _ => None,
        };
        assert_eq!(late(verdict), Some((20, Cause::Stop)));
    }

    #[test]
    fn a_picture_without_a_remark_is_good() {
        let mut bench = Bench::new();
        for _ in 0..10 {
            bench.now += FRAME;
            assert_eq!(bench.read(bench.now), Verdict::Good);
        }
    }
}
