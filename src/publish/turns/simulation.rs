//! Budget and turns with played cameras and a played uplink, in simulated time.

use super::*;
use crate::config::MaxInFlight;
use crate::publish::window::Window;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MAX_AGE: Duration = SECOND;

/// An uplink: a queue of any length, then so many bytes a second, and a way there and back.
#[derive(Clone)]
struct Uplink {
    round_trip: Duration,
    /// From these seconds on, bytes a second.
    rates: Vec<(f64, f64)>,
    /// Every so many seconds it carries nothing for so long, as after a loss.
    bursts: Option<(f64, f64)>,
    /// What the broker adds to each confirm.
    broker: Duration,
    /// Every so many seconds no confirm is heard for so long, as on a machine that has no time for it.
    deaf: Option<(f64, f64)>,
}

impl Uplink {
    fn new(rate: f64, round_trip: Duration) -> Self {
        Self {
            round_trip,
            rates: vec![(0.0, rate)],
            bursts: None,
            broker: Duration::ZERO,
            deaf: None,
        }
    }

    /// When a confirm that comes at `at` is heard.
    fn heard(&self, at: f64) -> f64 {
        let left = |(every, pause): (f64, f64)| (pause - at % every).max(0.0);
        at + self.deaf.map_or(0.0, left)
    }

    fn rate(&self, at: f64) -> f64 {
        let mut known = self.rates.iter().rev();
        known.find(|(from, _)| *from <= at).map_or(1.0, |it| it.1)
    }

    /// When so many bytes are through that begin at `at`.
    fn carry(&self, bytes: f64, mut at: f64) -> f64 {
        let (mut left, step) = (bytes, 0.002);
        loop {
            if let Some((every, pause)) = self.bursts
                && at % every < pause
            {
                at += pause - at % every + 1e-9;
                continue;
            }
            let rate = self.rate(at);
            if self.rates.len() == 1 && self.bursts.is_none() || left <= rate * step {
                return at + left / rate;
            }
            left -= rate * step;
            at += step;
        }
    }
}

struct Camera {
    number: usize,
    fps: f64,
    bytes: u64,
    window: Window,
    /// When the newest frame was captured, if it waits.
    mailbox: Option<Duration>,
    flying: VecDeque<Duration>,
}

/// What was seen after the first seconds.
#[derive(Default)]
struct Seen {
    /// Of each frame: when it was through, and how old it was then.
    ages: Vec<(f64, Duration)>,
    bytes: Vec<u64>,
    seconds: f64,
    waited: Duration,
}

impl Seen {
    fn p99(&self) -> Duration {
        let mut ages: Vec<_> = self.ages.iter().map(|it| it.1).collect();
        ages.sort();
        ages.get(ages.len() * 99 / 100).copied().unwrap_or_default()
    }

    fn goodput(&self) -> f64 {
        self.bytes.iter().sum::<u64>() as f64 / self.seconds
    }

    /// What was carried in the leanest of all spans of so many seconds, as a share of the mean.
    fn leanest(&self, span: f64, bytes: u64) -> f64 {
        let from = self.ages.first().map_or(0.0, |it| it.0);
        let spans = ((self.ages.last().map_or(0.0, |it| it.0) - from) / span) as usize;
        let mut carried = vec![0.0; spans];
        for (at, _) in &self.ages {
            if let Some(span) = carried.get_mut(((at - from) / span) as usize) {
                *span += bytes as f64;
            }
        }
        let least = carried.into_iter().fold(f64::INFINITY, f64::min);
        least / (self.goodput() * span)
    }

    /// Jain's index: 1 when all have the same.
    fn fairness(&self) -> f64 {
        let sum: f64 = self.bytes.iter().map(|it| *it as f64).sum();
        let squares: f64 = self.bytes.iter().map(|it| (*it as f64).powi(2)).sum();
        sum * sum / (squares * self.bytes.len() as f64)
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Event {
    Confirm { camera: usize, ticket: u64 },
    Capture { camera: usize },
    Look,
}

/// Cameras by fps and bytes a frame. Looks from `warm_up` on until `end`, seconds.
fn run(uplink: &Uplink, cameras: &[(f64, u64)], warm_up: f64, end: f64) -> Seen {
    let start = Instant::now();
    let mut order = Order::new(Some(Budget::new(MAX_AGE)));
    let mut cameras: Vec<_> = cameras
        .iter()
        .map(|&(fps, bytes)| Camera {
            number: order.join(None),
            fps,
            bytes,
            window: Window::new(MaxInFlight::Auto, fps.ceil() as u32, MAX_AGE),
            mailbox: None,
            flying: VecDeque::new(),
        })
        .collect();
    let mut seen = Seen {
        bytes: vec![0; cameras.len()],
        seconds: end - warm_up,
        ..Seen::default()
    };
    let mut events = BinaryHeap::new();
    for (n, camera) in cameras.iter().enumerate() {
        // Neither together nor in order.
        let phase = (n as f64 * 0.618_034).fract() / camera.fps;
        let at = Duration::from_secs_f64(phase);
        events.push(Reverse((at, Event::Capture { camera: n })));
    }
    let (mut free, half) = (0.0f64, uplink.round_trip.as_secs_f64() / 2.0);
    let mut look_at = None;
    while let Some(Reverse((at, event))) = events.pop() {
        if event == Event::Look && look_at != Some(at) {
            continue;
        }
        if at.as_secs_f64() > end {
            break;
        }
        let now = start + at;
        match event {
            Event::Capture { camera } => {
                cameras[camera].mailbox = Some(at);
                let next = at + Duration::from_secs_f64(1.0 / cameras[camera].fps);
                events.push(Reverse((next, Event::Capture { camera })));
            }
            Event::Confirm { camera, ticket } => {
                let camera = &mut cameras[camera];
                let full = camera.flying.len() >= camera.window.limit();
                if let Some(sent) = camera.flying.pop_front() {
                    camera.window.confirmed(start + sent, full, now);
                }
                order.confirmed(ticket, now);
            }
            Event::Look => {}
        }
        // Whoever could send asks, as its thread would; then the one whose turn it is.
        let own = match event {
            Event::Capture { camera } | Event::Confirm { camera, .. } => Some(camera),
            Event::Look => None,
        };
        let mut next = own.or_else(|| first(&order, &cameras));
        let mut looked = false;
        while let Some(n) = next {
            let camera = &mut cameras[n];
            let room = camera.flying.len() < camera.window.limit();
            let mailbox = &mut camera.mailbox;
            let waits = mailbox.is_some();
            let taken = match room {
                true => order.take(
                    camera.number,
                    now,
                    || waits,
                    || Some((mailbox.take()?, camera.bytes)),
                ),
                false => {
                    order.pass(camera.number, now);
                    Next::Nothing
                }
            };
            let mut sent = false;
            match taken {
                Next::Send {
                    item,
                    ticket,
                    carried,
                } if at - item + carried > MAX_AGE => {
                    order.forget(ticket);
                    order.give_back(camera.number);
                    sent = true;
                }
                Next::Send { item, ticket, .. } => {
                    camera.flying.push_back(at);
                    let begins = free.max(at.as_secs_f64() + half);
                    free = uplink.carry(camera.bytes as f64, begins);
                    let back = uplink.heard(free + half + uplink.broker.as_secs_f64());
                    let confirm = Event::Confirm { camera: n, ticket };
                    events.push(Reverse((Duration::from_secs_f64(back), confirm)));
                    if free > warm_up && free <= end {
                        let age = Duration::from_secs_f64(free) - item;
                        seen.ages.push((free, age));
                        seen.bytes[n] += camera.bytes;
                    }
                    sent = true;
                }
                Next::Wait(Some(then)) => {
                    let then = then - start + MS / 1000;
                    if look_at != Some(then) {
                        look_at = Some(then);
                        events.push(Reverse((then, Event::Look)));
                    }
                }
                Next::Wait(None) | Next::Nothing => {}
            }
            let first = first(&order, &cameras);
            next = first.filter(|first| sent || !looked && *first != n);
            looked = !sent;
        }
    }
    seen.waited = order.waited(start + Duration::from_secs_f64(end));
    seen
}

fn first(order: &Order, cameras: &[Camera]) -> Option<usize> {
    let (_, number) = order.first()?;
    // They have joined in this order.
    (cameras.get(number)?.number == number).then_some(number)
}

/// What the issue of a slow uplink asks of every one.
#[test]
fn on_any_uplink_frames_are_fresh_the_uplink_is_full_and_cameras_get_the_same() {
    let mut failed = vec![];
    for rate in [50e3, 300e3, 1.25e6, 10e6, 1e9] {
        for count in [1, 20, 200] {
            for round_trip in [MS / 5, 40 * MS, 800 * MS] {
                for (fps, bytes) in [(4.0, 5_000), (3.0, 127_000), (5.0, 500_000)] {
                    // That many would take minutes to play.
                    let fps = if count == 200 { 1.0 } else { fps };
                    check(rate, count, round_trip, fps, bytes, &mut failed);
                }
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} fail:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

fn check(
    rate: f64,
    count: usize,
    round_trip: Duration,
    fps: f64,
    bytes: u64,
    failed: &mut Vec<String>,
) {
    let one = bytes as f64 / rate;
    let offered = (count as f64) * fps * bytes as f64;
    // As long as it takes for each camera to get some turns.
    let warm_up = 15.0;
    // And 60 of them, but not for longer than the test may take.
    let end = (60.0 * count as f64 * one).clamp(10.0, 4000.0);
    let end = warm_up
        + end
            .min(24_000.0 / (count as f64 * fps))
            .max(40.0)
            .max(100.0 * round_trip.as_secs_f64());
    let seen = run(
        &Uplink::new(rate, round_trip),
        &vec![(fps, bytes); count],
        warm_up,
        end,
    );
    let most = MAX_AGE + round_trip + Duration::from_secs_f64(one);
    let (age, goodput, fairness) = (seen.p99(), seen.goodput(), seen.fairness());
    // A lone camera's own window has two frames in flight as long as its queue stops it from growing.
    let windows = count as f64 * 2.0 * bytes as f64 / (round_trip.as_secs_f64() + one);
    let asked = offered.min(rate).min(windows);
    let name = format!("{rate:e} B/s, {count} x {bytes} B, {round_trip:?}");
    if age > most {
        failed.push(format!("{name}: age {age:?} > {most:?}"));
    }
    // A tenth of a frame more or less at either end.
    if seen.ages.len() > 30 && goodput < 0.95 * asked {
        failed.push(format!("{name}: goodput {:.3}", goodput / asked));
    }
    // Twenty frames' time, for one more or less in each; and the round trip shows once in ten seconds.
    let span = (20.0 * one).max(10.0);
    let leanest = seen.leanest(span, bytes);
    if asked == rate && leanest < 0.8 {
        failed.push(format!(
            "{name}: oscillates, {leanest:.3} of the mean in {span:.0} s"
        ));
    }
    let mean = goodput * seen.seconds / count as f64;
    let turns = mean / bytes as f64;
    let (least, most) = (seen.bytes.iter().min(), seen.bytes.iter().max());
    let apart = (most.unwrap_or(&0) - least.unwrap_or(&0)) / bytes;
    if turns <= 20.0 && apart > 2 {
        failed.push(format!("{name}: {apart} frames apart"));
    }
    if turns > 20.0 && fairness < 0.95 {
        failed.push(format!("{name}: fairness {fairness:.3}"));
    }
    if turns > 20.0 && seen.bytes.iter().any(|got| (*got as f64) < mean / 2.0) {
        failed.push(format!("{name}: a camera is below half of its share"));
    }
}

#[test]
fn a_step_down_makes_old_frames_for_a_moment_and_a_step_up_is_used() {
    let mut uplink = Uplink::new(10e6, 40 * MS);
    uplink.rates = vec![(0.0, 10e6), (20.0, 0.5e6), (60.0, 10e6)];
    let seen = run(&uplink, &[(3.0, 127_000); 20], 10.0, 80.0);
    let oldest = |from: f64, to: f64| {
        let ages = seen.ages.iter().filter(|it| from < it.0 && it.0 < to);
        ages.map(|it| it.1).max().unwrap()
    };
    assert!(oldest(10.0, 20.0) < 100 * MS, "{:?}", oldest(10.0, 20.0));
    assert!(oldest(20.0, 25.0) < 4 * SECOND, "{:?}", oldest(20.0, 25.0));
    assert!(oldest(25.0, 60.0) < 1300 * MS, "{:?}", oldest(25.0, 60.0));
    assert!(oldest(63.0, 80.0) < 100 * MS, "{:?}", oldest(63.0, 80.0));
    let carried = |from: f64, to: f64| {
        let frames = seen.ages.iter().filter(|it| from < it.0 && it.0 < to);
        frames.count() as f64 * 127_000.0 / (to - from)
    };
    assert!(
        carried(22.0, 60.0) > 0.95 * 0.5e6,
        "{}",
        carried(22.0, 60.0)
    );
    assert!(
        carried(63.0, 80.0) > 0.95 * 7.62e6,
        "{}",
        carried(63.0, 80.0)
    );
}

#[test]
fn bursts_of_loss_neither_starve_the_uplink_nor_fill_it() {
    let mut uplink = Uplink::new(1.25e6, 40 * MS);
    uplink.bursts = Some((5.0, 0.25));
    let seen = run(&uplink, &[(3.0, 127_000); 20], 15.0, 75.0);
    assert!(seen.p99() < 1400 * MS, "{:?}", seen.p99());
    assert!(seen.goodput() > 0.95 * 0.95 * 1.25e6, "{}", seen.goodput());
    assert!(seen.fairness() > 0.95, "{}", seen.fairness());
}

#[test]
fn small_cameras_get_all_that_they_offer_and_large_ones_the_same() {
    let cameras = [
        (15.0, 240_000),
        (5.0, 120_000),
        (3.0, 20_000),
        (3.0, 20_000),
    ];
    let seen = run(&Uplink::new(1.25e6, 40 * MS), &cameras, 15.0, 115.0);
    let [one, other, small @ ..] = seen.bytes.as_slice() else {
        panic!("four cameras")
    };
    assert!(small.iter().all(|it| *it >= 20_000 * 285), "{small:?}");
    let ratio = *one as f64 / *other as f64;
    assert!((0.9..2.0).contains(&ratio), "{ratio}");
}

#[test]
fn a_broker_that_is_slow_to_confirm_is_no_slow_uplink() {
    let mut uplink = Uplink::new(1e9, MS);
    uplink.broker = 700 * MS;
    let seen = run(&uplink, &[(15.0, 25_000); 20], 15.0, 35.0);
    let offered = 20.0 * 15.0 * 25_000.0;
    assert!(seen.goodput() > 0.98 * offered, "{}", seen.goodput());
}

#[test]
fn a_machine_that_hears_confirms_late_makes_no_frame_old() {
    for (every, pause) in [(0.7, 0.1), (1.7, 0.3), (3.3, 0.5)] {
        for bytes in [127_000, 258_000] {
            let mut uplink = Uplink::new(1.25e6, 40 * MS);
            uplink.deaf = Some((every, pause));
            let seen = run(&uplink, &[(3.0, bytes); 20], 15.0, 135.0);
            let name = format!("{pause} s deaf every {every} s, {bytes} B");
            assert!(seen.p99() < MAX_AGE, "{name}: {:?}", seen.p99());
            assert!(seen.goodput() > 0.95 * 1.25e6, "{name}: {}", seen.goodput());
            assert!(seen.fairness() > 0.95, "{name}: {}", seen.fairness());
        }
    }
}

#[test]
fn a_frame_goes_only_if_its_last_byte_is_in_time() {
    // One of these takes 0.2 s, and when its turn comes it may have waited for one second.
    let seen = run(
        &Uplink::new(1.25e6, 40 * MS),
        &[(1.0, 258_000); 20],
        15.0,
        135.0,
    );
    let oldest = seen.ages.iter().map(|it| it.1).max().unwrap();
    assert!(oldest < MAX_AGE + 40 * MS, "{oldest:?}");
    assert!(seen.goodput() > 0.95 * 1.25e6, "{}", seen.goodput());
}

#[test]
fn a_camera_whose_frame_was_too_old_has_not_lost_its_turn() {
    let cameras = [[(1.0, 258_000); 10], [(5.0, 258_000); 10]].concat();
    let seen = run(&Uplink::new(1.25e6, 40 * MS), &cameras, 15.0, 315.0);
    assert!(seen.fairness() > 0.98, "{:?}", seen.bytes);
}
