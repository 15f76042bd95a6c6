//! Tests of the breaker in simulated time.

use super::*;
use proptest::prelude::*;

const MIDDLE: f64 = 0.5;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The contract's defaults.
fn config() -> CircuitBreaker {
    CircuitBreaker {
        enabled: true,
        max_failures: 5,
        half_open_successes: 3,
        initial_backoff: secs(5),
        max_backoff: secs(300),
        backoff_multiplier: 2.0,
        reset_timeout: secs(30),
    }
}

/// A breaker with a clock that only the test moves.
struct Bench {
    breaker: Breaker,
    now: Instant,
}

impl Bench {
    fn new(config: &CircuitBreaker) -> Self {
        Self {
            breaker: Breaker::new(config),
            now: Instant::now(),
        }
    }

    /// Waits as told until a session is let through; how long that took, and was it a trial.
    fn begin(&mut self) -> (Duration, bool) {
        match self.breaker.before_session(self.now) {
            Decision::Go => (Duration::ZERO, false),
            Decision::Trial => (Duration::ZERO, true),
            Decision::Wait(wait) => {
                assert!(wait > Duration::ZERO, "would spin");
                let almost = self.now + wait - Duration::from_nanos(1);
                assert!(matches!(
                    self.breaker.before_session(almost),
                    Decision::Wait(_)
                ));
                self.now += wait;
                let (more, trial) = self.begin();
                assert_eq!(more, Duration::ZERO, "one wait must do");
                (wait, trial)
            }
        }
    }

    fn frames(&mut self, count: u32, apart: Duration) {
        for _ in 0..count {
            self.breaker.on_frame(self.now);
            self.now += apart;
        }
    }

    fn fail(&mut self) {
        self.breaker.session_ended(self.now, MIDDLE);
    }

    fn break_down(&mut self) {
        while self.breaker.state() != BreakerState::Open {
            self.begin();
            self.fail();
        }
    }
}

#[test]
fn the_full_cycle_of_the_contract() {
    let mut bench = Bench::new(&config());
    assert_eq!(bench.begin(), (Duration::ZERO, false));

    // Five consecutive failed sessions open it; until then there are short growing delays.
    for millis in [500, 1000, 2000, 4000] {
        bench.fail();
        assert_eq!(bench.breaker.state(), BreakerState::Closed);
        assert_eq!(bench.begin(), (Duration::from_millis(millis), false));
    }
    bench.fail();
    assert_eq!(bench.breaker.state(), BreakerState::Open);

    // One trial session after the initial backoff; it ends before it brings three frames.
    assert_eq!(bench.begin(), (secs(5), true));
    assert_eq!(bench.breaker.state(), BreakerState::HalfOpen);
    bench.frames(2, Duration::ZERO);
    bench.fail();
    assert_eq!(bench.breaker.state(), BreakerState::Open);

    // The next backoff is longer; three frames close the breaker.
    assert_eq!(bench.begin(), (secs(10), true));
    bench.frames(2, Duration::ZERO);
    assert_eq!(bench.breaker.state(), BreakerState::HalfOpen);
    bench.frames(1, Duration::ZERO);
    assert_eq!(bench.breaker.state(), BreakerState::Closed);

    // Closing forgot the failures, not the level: five more, and twice as long again.
    for millis in [500, 1000, 2000, 4000] {
        bench.fail();
        assert_eq!(bench.begin(), (Duration::from_millis(millis), false));
    }
    bench.fail();
    assert_eq!(bench.begin(), (secs(20), true));

    // Healthy for the reset timeout forgets the level too.
    bench.frames(31, secs(1));
    bench.break_down();
    assert_eq!(bench.begin(), (secs(5), true));
}

/// What a camera shows that hangs up after `session` of pictures, when FFmpeg needs 300 ms to the
/// first picture: seconds of picture a minute, over ten minutes.
fn picture_a_minute(session: Duration) -> f64 {
    let interval = Duration::from_millis(100);
    let mut bench = Bench::new(&config());
    let (start, mut pictures) = (bench.now, Duration::ZERO);
    while bench.now < start + secs(600) {
        bench.begin();
        bench.now += Duration::from_millis(300);
        let before = bench.now;
        while bench.now < before + session {
            bench.frames(1, interval);
        }
        pictures += session;
        bench.fail();
    }
    60.0 * pictures.as_secs_f64() / (bench.now - start).as_secs_f64()
}

#[test]
fn a_camera_that_hangs_up_after_a_while_is_called_again_at_once() {
    for (session, at_least) in [(5, 51.0), (10, 55.0), (25, 58.0)] {
        let shown = picture_a_minute(secs(session));
        assert!(shown >= at_least, "{session} s: {shown}");
    }
}

#[test]
fn a_camera_that_delivers_one_frame_and_dies_is_left_alone() {
    for frames in [1, 2] {
        let mut bench = Bench::new(&config());
        let mut rests = vec![];
        for _ in 0..9 {
            let (wait, trial) = bench.begin();
            rests.push((wait.as_millis(), trial));
            bench.frames(frames, Duration::from_millis(66));
            // It hangs until the watchdog ends it: that is not time with frames.
            bench.now += secs(20);
            bench.fail();
        }
        let delays = [0, 500, 1000, 2000, 4000].map(|ms| (ms, false));
        let trials = [5, 10, 20, 40].map(|secs| (secs * 1000, true));
        assert_eq!(rests, [&delays[..], &trials[..]].concat());
    }
}

#[test]
fn a_session_just_short_of_steady_is_a_failure() {
    for (frames, state) in [(30, BreakerState::Open), (31, BreakerState::Closed)] {
        let mut bench = Bench::new(&config());
        for _ in 0..5 {
            bench.begin();
            bench.frames(frames, STEADY / 30);
            bench.fail();
        }
        assert_eq!(bench.breaker.state(), state, "{frames} frames");
    }
}

#[test]
fn sessions_without_frames_count_until_frames_came_for_the_reset_timeout() {
    let mut bench = Bench::new(&config());
    bench.break_down();
    // Two sessions of 12 s close the breaker, and are too little to forget the backoff.
    for _ in 0..2 {
        bench.begin();
        bench.frames(13, secs(1));
        bench.fail();
    }
    bench.break_down();
    assert_eq!(bench.begin(), (secs(10), true));
    // Three in a row are enough.
    bench.frames(13, secs(1));
    bench.fail();
    for _ in 0..2 {
        bench.begin();
        bench.frames(13, secs(1));
        bench.fail();
    }
    bench.break_down();
    assert_eq!(bench.begin(), (secs(5), true));
}

#[test]
fn a_healthy_session_forgets_the_failures_before_it() {
    let mut bench = Bench::new(&config());
    for _ in 0..50 {
        for _ in 0..4 {
            bench.begin();
            bench.fail();
        }
        bench.begin();
        bench.frames(31, secs(1));
        assert_eq!(bench.breaker.state(), BreakerState::Closed);
    }
    bench.fail();
    assert_eq!(bench.begin().0, FIRST_RETRY);
}

#[test]
fn disabled_it_never_opens_and_never_spins() {
    let mut bench = Bench::new(&CircuitBreaker {
        enabled: false,
        ..config()
    });
    for _ in 0..1000 {
        bench.begin();
        bench.fail();
        assert_eq!(bench.breaker.state(), BreakerState::Closed);
    }
    let (wait, _) = bench.begin();
    assert!((secs(4)..=secs(5)).contains(&wait), "{wait:?}");
}

#[test]
fn a_trial_that_shutdown_ended_is_made_again() {
    let mut bench = Bench::new(&config());
    bench.break_down();
    bench.begin();
    bench.frames(2, Duration::ZERO);
    assert_eq!(bench.begin(), (Duration::ZERO, true));
    bench.frames(2, Duration::ZERO);
    assert_eq!(
        bench.breaker.state(),
        BreakerState::HalfOpen,
        "frames of two sessions do not add up"
    );
}

/// The Go program's breaker stayed open forever and its loop spun a core.
#[test]
fn breaker_that_never_leaves_open_and_spins() {
    let mut bench = Bench::new(&config());
    let mut trials = 0;
    let mut longest = Duration::ZERO;
    for flap in 0..1000 {
        let (wait, trial) = bench.begin();
        assert!(wait <= secs(300), "{wait:?}");
        assert!(flap == 0 || trial || wait > Duration::ZERO);
        longest = longest.max(wait);
        trials += u32::from(trial);
        bench.frames(flap % 3, Duration::from_millis(66));
        bench.breaker.session_ended(bench.now, MIDDLE);
    }
    assert_eq!(trials, 1000 - 5, "after five failures each one is a trial");
    assert_eq!(longest, secs(300).div_f64(1.0 + JITTER));
}

/// The Go program never recorded a success: its breaker could not close.
#[test]
fn successes_never_recorded() {
    let mut bench = Bench::new(&config());
    for _ in 0..1000 {
        bench.break_down();
        assert!(bench.begin().1);
        bench.frames(3, Duration::from_millis(66));
        assert_eq!(bench.breaker.state(), BreakerState::Closed);
    }
}

#[test]
fn a_backoff_longer_than_time_itself_does_not_overflow() {
    let mut bench = Bench::new(&CircuitBreaker {
        initial_backoff: Duration::MAX,
        max_backoff: Duration::MAX,
        max_failures: 1,
        ..config()
    });
    bench.begin();
    bench.fail();
    let decision = bench.breaker.before_session(bench.now);
    assert!(matches!(decision, Decision::Wait(wait) if wait > secs(1 << 40)));
}

#[derive(Debug, Clone)]
enum Event {
    Asked,
    Frame,
    Failed(f64),
    Passed(Duration),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        Just(Event::Asked),
        Just(Event::Frame),
        (0.0..=1.0f64).prop_map(Event::Failed),
        (0..400_000u64).prop_map(|ms| Event::Passed(Duration::from_millis(ms))),
    ];
    prop::collection::vec(event, 0..200)
}

proptest! {
    /// In any order, also one that makes no sense: once the longest backoff has passed, a
    /// session is let through, and an open breaker makes it a trial.
    #[test]
    fn time_always_leads_to_a_session(events in events(), enabled in any::<bool>()) {
        let mut bench = Bench::new(&CircuitBreaker { enabled, ..config() });
        for event in events {
            match event {
                Event::Asked => {
                    if let Decision::Wait(wait) = bench.breaker.before_session(bench.now) {
                        prop_assert!(wait > Duration::ZERO && wait <= secs(300));
                    }
                }
                Event::Frame => bench.breaker.on_frame(bench.now),
                Event::Failed(random) => bench.breaker.session_ended(bench.now, random),
                Event::Passed(time) => bench.now += time,
            }
        }
        let expected = match bench.breaker.state() {
            BreakerState::Closed => Decision::Go,
            BreakerState::HalfOpen | BreakerState::Open => Decision::Trial,
        };
        let later = bench.now + secs(300);
        prop_assert_eq!(bench.breaker.before_session(later), expected);
    }
}
