//! How late a camera's pictures reach us: the stream's time against ours. Pure.
//!
//! A picture that FFmpeg decodes late, or that the network brings late, looks like any other. Its
//! lag shows in the stream's time stamps, which fall behind our clock. They cannot simply be
//! believed: many cameras send stamps that are equal, run at half speed or jump back. So each
//! growth of the lag needs a cause:
//!
//! - The pictures stopped for a while: the network, FFmpeg or the machine stood still. Believed.
//! - They come evenly, while the stamps advance more slowly than our clock: FFmpeg is too slow, or
//!   the stamps are wrong. Bytes that wait unread in FFmpeg's sockets, or threads that are always
//!   at work, tell that it is FFmpeg. Without such a sign it is the stamps, unless they kept pace
//!   with our clock before.
//!
//! A session starts with its own age as the lag, until FFmpeg has been seen to wait for the camera:
//! what FFmpeg read while it probed the stream is that old.

use super::backlog::Store;
use std::time::Duration;

/// A pause between two pictures is a stop when it is longer than this and than [`STOP_INTERVALS`]
/// usual ones. The jitter of a camera on Wi-Fi stays below.
const STOP: f64 = 0.5;
const STOP_INTERVALS: f64 = 3.0;

/// If the stamps advance by this many seconds more than our clock and the lag from one picture to
/// the next, they were reset.
const JUMP: f64 = 2.0;

/// Part of the passing time by which the lag is forgotten, and to which stamps must keep pace to be
/// trusted. Cameras that count stamps by a nominal frame rate are off by up to one part in a
/// hundred.
const DRIFT: f64 = 0.01;

/// Stamps are trusted when they have kept pace for this many seconds, apart from the jitter of a
/// healthy stream.
const TRUSTED_AFTER: f64 = 5.0;
const JITTER: f64 = 0.1;

/// This many seconds after FFmpeg has opened the stream, the data it read while probing is decoded.
const PROBED: f64 = 0.5;

/// The sockets must be found empty for this many seconds. Between two reads of a backlog they may
/// be empty for an instant, and what FFmpeg read while probing is not in them.
const DRAINED_FOR: f64 = 0.2;

/// Pictures whose stamps advance this many times faster than our clock were stored somewhere.
const IN_STORE: f64 = 1.5;

/// After a stop the camera may have pictures in store as well, and send them little faster than it
/// takes new ones. So pace and sockets are looked at for longer.
const CALM: f64 = 2.0;
const CALM_PACE: f64 = 1.1;

/// The lag of one session's pictures. All times are seconds since the session's start.
#[derive(Debug)]
pub struct Lag {
    /// From here on FFmpeg's sockets are looked at.
    doubtful: f64,
    opened: Option<f64>,
    last: Option<Seen>,
    /// Between two pictures, lately; 0 before the second.
    interval: f64,
    /// Growth whose cause is known, and the rest.
    known: f64,
    unexplained: f64,
    /// FFmpeg has been seen to wait for the camera, or has caught up with it.
    settled: bool,
    /// The first picture since which FFmpeg seems to wait for the camera.
    waiting: Option<Seen>,
    /// Since then all its threads were seen asleep.
    asleep: bool,
    /// The picture from which on the pace is measured, see [`Lag::keeps_pace`], and whether its
    /// sockets were seen empty since.
    paced: Option<Seen>,
    drained: bool,
    /// The first picture after the stamps' last jump.
    steady: Option<Seen>,
    trusted: bool,
    /// The stamps have told of a lag while FFmpeg waited for the camera.
    wrong: bool,
}

/// A picture on both clocks.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: f64,
    stream: f64,
}

impl Lag {
    /// For a session whose pictures are dropped when they are later than `limit`.
    pub fn new(limit: Duration) -> Self {
        Self {
            doubtful: limit.as_secs_f64() / 2.0,
            opened: None,
            last: None,
            interval: 0.0,
            known: 0.0,
            unexplained: 0.0,
            settled: false,
            waiting: None,
            asleep: false,
            paced: None,
            drained: false,
            steady: None,
            trusted: false,
            wrong: false,
        }
    }

    /// FFmpeg has opened the stream.
    pub fn opened(&mut self, at: Duration) {
        self.opened = Some(at.as_secs_f64());
    }

    /// Whether most of the lag came at once, as the pictures stopped for a while.
    pub fn came_at_once(&self) -> bool {
        self.settled && self.known > self.unexplained
    }

    /// How late a picture is. It was read `at` after the start of the session, and its time in the
    /// stream is `stream`, in seconds. `store` returns what FFmpeg still holds; it is called only
    /// when that decides.
    pub fn of(&mut self, at: Duration, stream: f64, store: impl FnOnce() -> Store) -> Duration {
        let at = at.as_secs_f64();
        let seen = Seen { at, stream };
        match self.last.replace(seen) {
            Some(last) => self.add(last, seen),
            None => {
                self.known = at;
                self.steady = Some(seen);
            }
        }
        let total = self.known + self.unexplained;
        self.settled |= total == 0.0;
        if total <= self.doubtful {
            self.note_pace(seen);
        }
        let in_doubt = !self.settled || total > self.doubtful && !self.trusted;
        if in_doubt {
            match store() {
                Store::Unread => self.waiting = None,
                store => {
                    self.drained = true;
                    self.forgive(seen, store == Store::Nothing);
                }
            }
            if !self.settled && self.keeps_pace(seen) {
                self.settle();
            }
        } else {
            self.waiting = None;
        }
        Duration::from_secs_f64(self.known + self.unexplained)
    }

    /// Takes back what is no lag if FFmpeg has been waiting for the camera for a while, as far as
    /// its sockets, which are empty, its threads and the pace of its pictures tell: those in store
    /// come faster than their stamps.
    fn forgive(&mut self, seen: Seen, asleep: bool) {
        let is_first = self.interval == 0.0;
        let mut first = *self.waiting.get_or_insert(seen);
        let in_store = seen.stream - first.stream > (seen.at - first.at) * IN_STORE;
        if in_store {
            first = seen;
            self.waiting = Some(seen);
        }
        // No thread that slept before the window tells of it.
        self.asleep = asleep || self.asleep && first.at < seen.at;
        let (passed, advanced) = (seen.at - first.at, seen.stream - first.stream);
        // No first picture is held back for this long after probing.
        let probed = is_first && self.opened.is_some_and(|opened| seen.at - opened > PROBED);
        // Once the stamps are known to be wrong, empty sockets are all that they are held against.
        if !self.asleep && !self.wrong || !probed && passed < DRAINED_FOR {
            return;
        }
        self.wrong |= self.settled && self.unexplained > self.known;
        self.unexplained = 0.0;
        self.asleep = false;
        if !self.settled || passed >= CALM && advanced <= passed * CALM_PACE {
            self.settle();
        }
    }

    /// Whether the pictures have kept pace with our clock for a while. An FFmpeg with pictures in
    /// store gives them faster, or more slowly if it is too slow. On a busy machine its threads may
    /// never be seen asleep, but its sockets are empty now and then.
    fn keeps_pace(&mut self, seen: Seen) -> bool {
        let first = *self.paced.get_or_insert(seen);
        let (passed, advanced) = (seen.at - first.at, seen.stream - first.stream);
        let in_store = advanced > passed * IN_STORE;
        if !in_store && passed < CALM {
            return false;
        }
        self.paced = Some(seen);
        let drained = std::mem::take(&mut self.drained);
        drained && advanced <= passed * CALM_PACE && passed <= advanced * CALM_PACE
    }

    fn settle(&mut self) {
        self.known = 0.0;
        self.unexplained = 0.0;
        self.settled = true;
    }

    /// Adds what this picture changes.
    fn add(&mut self, last: Seen, seen: Seen) {
        let passed = (seen.at - last.at).max(0.0);
        let advanced = seen.stream - last.stream;
        let stopped = self.interval > 0.0 && passed > STOP.max(self.interval * STOP_INTERVALS);
        if !stopped {
            let weight = if self.interval > 0.0 { 0.1 } else { 1.0 };
            self.interval += weight * (passed - self.interval);
        }
        // A camera that could not send for a while leaves out what it has not sent: then the lag
        // shrinks.
        let lag = self.known + self.unexplained;
        let jumped = advanced < 0.0 || advanced > passed + lag + JUMP;
        if jumped {
            self.steady = Some(seen);
            self.trusted = false;
            self.wrong = false;
        }
        // Stamps that were set anew say nothing about this picture.
        let behind = match (jumped, stopped) {
            (false, _) => passed - advanced,
            (true, true) => passed,
            (true, false) => 0.0,
        };
        if stopped {
            self.known += behind.max(0.0);
        } else {
            self.unexplained += behind.max(0.0);
        }
        let less = passed * DRIFT + (-behind).max(0.0);
        let rest = (less - self.unexplained).max(0.0);
        self.unexplained = (self.unexplained - less).max(0.0);
        self.known = (self.known - rest).max(0.0);
    }

    fn note_pace(&mut self, seen: Seen) {
        if let Some(first) = self.steady {
            let ours = seen.at - first.at;
            let off = (seen.stream - first.stream - ours).abs();
            if ours >= TRUSTED_AFTER {
                self.trusted = off <= ours * DRIFT + JITTER;
                self.wrong &= !self.trusted;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);
    const FRAME: f64 = 1.0 / 15.0;

    /// A session under simulated time.
    struct Session {
        lag: Lag,
        at: f64,
        stream: f64,
        store: Store,
        late: Vec<f64>,
    }

    impl Session {
        /// FFmpeg took 0.3 s to open the stream and is through with what it read then.
        fn live(fps: f64) -> Self {
            let mut session = Self {
                lag: Lag::new(LIMIT),
                at: 0.3,
                stream: 0.0,
                store: Store::Nothing,
                late: vec![],
            };
            session.lag.opened(Duration::from_millis(200));
            session.pictures(10, 1.0 / fps, 1.0 / fps);
            session
        }

        fn picture(&mut self) -> f64 {
            let at = Duration::from_secs_f64(self.at);
            let lag = self.lag.of(at, self.stream, || self.store);
            self.late.push(lag.as_secs_f64());
            lag.as_secs_f64()
        }

        /// `n` pictures; `passed` seconds pass between two of them, and `advanced` in the
        /// stream.
        fn pictures(&mut self, n: usize, passed: f64, advanced: f64) -> f64 {
            let mut lag = 0.0;
            for _ in 0..n {
                self.at += passed;
                self.stream += advanced;
                lag = self.picture();
            }
            lag
        }

        fn most(&self) -> f64 {
            self.late.iter().copied().fold(0.0, f64::max)
        }
    }

    #[test]
    fn a_healthy_camera_is_never_late() {
        // Its clock is off by up to half a part in a hundred, for a day.
        for speed in [0.995, 0.9998, 1.0, 1.0002, 1.005] {
            let mut session = Session::live(15.0);
            session.pictures(15 * 86_400, FRAME, FRAME * speed);
            assert!(session.most() < 0.5, "{speed}: {}", session.most());
        }
    }

    #[test]
    fn wrong_stamps_of_a_camera_that_ffmpeg_keeps_up_with_are_not_lag() {
        type Stamps = fn(usize) -> f64;
        let cases: [(&str, Stamps); 6] = [
            ("equal", |_| 0.0),
            ("half speed", |k| k as f64 * FRAME / 2.0),
            ("ten times as fast", |k| k as f64 * FRAME * 10.0),
            ("jitter", |k| {
                k as f64 * FRAME + 0.2 * ((k * 7919 % 13) as f64 / 6.0 - 1.0)
            }),
            ("1.5 s back every 3 s", |k| {
                k as f64 * FRAME - 1.5 * (k / 45) as f64
            }),
            ("wrapped", |k| (k as f64 * FRAME + 47_720.0) % 47_721.858),
        ];
        for (what, stamp) in cases {
            for fps in [1.0, 15.0, 30.0] {
                let mut session = Session::live(fps);
                session.late.clear();
                for k in 0..2000 {
                    session.at += 1.0 / fps;
                    session.stream = stamp(k);
                    session.picture();
                }
                assert!(
                    session.most() <= 1.0,
                    "{what}, {fps} fps: {}",
                    session.most()
                );
            }
        }
    }

    #[test]
    fn an_ffmpeg_that_is_too_slow_falls_behind() {
        let mut session = Session::live(15.0);
        session.store = Store::Unread;
        // Each second brings half a second of the stream.
        let lag = session.pictures(75, 2.0 * FRAME, FRAME);
        assert!((4.5..5.1).contains(&lag), "{lag}");
        // It has more time now, and catches up.
        let lag = session.pictures(300, FRAME / 4.0, FRAME);
        assert_eq!(lag, 0.0);
        session.store = Store::Nothing;
        assert_eq!(session.pictures(15, FRAME, FRAME), 0.0);
    }

    #[test]
    fn one_that_is_too_slow_from_the_start_is_late_from_the_start() {
        let mut lag = Lag::new(LIMIT);
        lag.opened(Duration::from_secs(3));
        for k in 0..100 {
            let at = 3.2 + f64::from(k) * 0.5;
            let late = lag.of(Duration::from_secs_f64(at), f64::from(k) * FRAME, || {
                Store::Unread
            });
            assert!(late.as_secs_f64() > 3.0, "{k}: {late:?}");
        }
    }

    #[test]
    fn empty_sockets_of_an_ffmpeg_that_never_sleeps_say_little() {
        let mut session = Session::live(15.0);
        session.store = Store::InWork;
        // The pictures gather in the queues between its threads.
        let lag = session.pictures(60, 2.0 * FRAME, FRAME);
        assert!((3.8..4.1).contains(&lag), "{lag}");
        session.store = Store::Nothing;
        let lag = session.pictures(4, FRAME, FRAME);
        assert_eq!(lag, 0.0);
    }

    #[test]
    fn an_ffmpeg_that_keeps_up_and_never_sleeps_is_believed_after_a_while() {
        let mut lag = Lag::new(LIMIT);
        lag.opened(Duration::from_secs(3));
        let late = |k| {
            let at = 3.6 + f64::from(k) * FRAME;
            let at = Duration::from_secs_f64(at);
            lag.of(at, f64::from(k) * FRAME, || Store::InWork)
        };
        let late: Vec<_> = (0..40).map(late).collect();
        assert!(late[29].as_secs_f64() > 3.4, "{late:?}");
        assert_eq!(late[31], Duration::ZERO, "{late:?}");
    }

    #[test]
    fn unread_bytes_are_held_against_pictures_that_keep_pace() {
        for pace in [0.95, 1.0, 1.05] {
            let mut lag = Lag::new(LIMIT);
            lag.opened(Duration::from_secs(3));
            for k in 0..100 {
                let at = 3.2 + f64::from(k) * FRAME / pace;
                let at = Duration::from_secs_f64(at);
                let late = lag.of(at, f64::from(k) * FRAME, || Store::Unread);
                assert!(late > LIMIT, "{pace}, {k}: {late:?}");
            }
        }
    }

    #[test]
    fn a_burst_at_the_start_delays_nothing_on_a_busy_machine() {
        let mut lag = Lag::new(LIMIT);
        lag.opened(Duration::from_secs(3));
        let mut at = 3.2;
        let mut late = 0;
        for k in 0..60 {
            // What was read while probing comes at once.
            at += if k < 9 { 0.005 } else { FRAME };
            let at = Duration::from_secs_f64(at);
            late += u32::from(lag.of(at, f64::from(k) * FRAME, || Store::InWork) > LIMIT);
        }
        assert!((30..45).contains(&late), "{late} pictures");
    }

    #[test]
    fn stamps_that_were_found_wrong_are_not_believed_again() {
        // Motion JPEG: FFmpeg counts 25 pictures a second, whatever comes. It is seen asleep once.
        let mut session = Session::live(15.0);
        session.pictures(25, FRAME, 0.04);
        session.store = Store::InWork;
        session.late.clear();
        session.pictures(1000, FRAME, 0.04);
        assert!(session.most() < 1.0, "{}", session.most());
    }

    #[test]
    fn after_a_stop_of_the_machine_pictures_are_late_until_the_newest_is_reached() {
        for trusted in [false, true] {
            let mut session = Session::live(15.0);
            session.pictures(if trusted { 15 * 60 } else { 30 }, FRAME, FRAME);
            session.store = Store::Unread;
            session.at += 20.0;
            // 20 s of pictures were waiting and are read within 3 s.
            let mut n = 0;
            while session.pictures(1, 0.01, FRAME) > 1.0 {
                n += 1;
            }
            assert!((320..=340).contains(&n), "{n} pictures of 20 s dropped");
        }
    }

    #[test]
    fn a_network_that_stood_still_brings_old_pictures_and_then_new_ones() {
        let mut session = Session::live(15.0);
        session.pictures(15 * 60, FRAME, FRAME);
        session.at += 3.0;
        // The burst leaves no bytes behind in the sockets.
        let mut n = 0;
        while session.pictures(1, 0.005, FRAME) > 1.0 {
            n += 1;
        }
        assert!((25..=36).contains(&n), "{n}");
        session.pictures(40, 0.005, FRAME);
        session.late.clear();
        session.pictures(100, FRAME, FRAME);
        assert!(session.most() < 0.2, "{}", session.most());
    }

    #[test]
    fn a_camera_that_leaves_out_what_it_could_not_send_is_new_again() {
        let mut session = Session::live(15.0);
        session.store = Store::Unread;
        session.at += 20.0;
        assert!(session.pictures(30, 0.01, FRAME) > 17.0);
        session.stream += 13.0;
        let lag = session.pictures(1, 0.01, FRAME);
        assert!((4.5..5.5).contains(&lag), "{lag}");
    }

    #[test]
    fn a_known_good_camera_on_a_network_that_gets_too_slow_is_late() {
        let mut session = Session::live(15.0);
        session.pictures(15 * 60, FRAME, FRAME);
        let lag = session.pictures(60, 2.0 * FRAME, FRAME);
        assert!(lag > 3.5, "{lag}");
    }

    #[test]
    fn what_was_read_while_probing_is_as_old_as_the_session() {
        let mut lag = Lag::new(LIMIT);
        lag.opened(Duration::from_millis(2900));
        let late: Vec<_> = (0..45)
            .map(|k| {
                let at = Duration::from_millis(3000 + 5 * k);
                lag.of(at, k as f64 * FRAME, || Store::Nothing)
                    .as_secs_f64()
            })
            .collect();
        assert!(late[0] == 3.0 && late[20] > 1.0, "{late:?}");
        assert!(late[44] < 0.5, "{late:?}");
    }

    #[test]
    fn a_keyframe_that_was_waited_for_is_new() {
        let mut lag = Lag::new(LIMIT);
        lag.opened(Duration::from_secs(5));
        let late = lag.of(Duration::from_secs(20), 20.0, || Store::Nothing);
        assert_eq!(late, Duration::ZERO);
    }
}
