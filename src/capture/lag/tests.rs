//! Tests of the lag under simulated time.

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

#[test]
fn what_the_pictures_of_a_session_have_shown_holds_for_its_units() {
    let mut lag = Lag::new(LIMIT);
    let at = |seconds: f64| Duration::from_secs_f64(seconds);
    assert_eq!(lag.of(at(0.4), 0.0, || Store::InWork), at(0.4));
    lag.note_settled();
    let of = |lag: &mut Lag, now, stream| lag.of(at(now), stream, || panic!("nothing is in doubt"));
    assert_eq!(of(&mut lag, 0.4 + FRAME, FRAME), Duration::ZERO);
    // A stop afterwards is a lag all the same.
    let late = lag.of(at(3.4 + FRAME), 2.0 * FRAME, || Store::InWork);
    lag.note_settled();
    assert!(late > at(2.9), "{late:?}");
    let still = lag.of(at(3.4 + 2.0 * FRAME), 3.0 * FRAME, || Store::InWork);
    assert!(still > at(2.9), "{still:?}");
}
