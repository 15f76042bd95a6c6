//! Tests of the budget and the scheduler with simulated cameras and a simulated uplink, in
//! simulated time.

use super::*;
use crate::config::MaxInFlight;
use crate::publish::window::Window;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MAX_AGE: Duration = SECOND;

/// An uplink: a queue of any length, then this many bytes a second, and a way there and back.
#[derive(Clone)]
struct Uplink {
    round_trip: Duration,
    /// From these seconds on, bytes a second.
    rates: Vec<(f64, f64)>,
    /// Period and length, in seconds, of the times when it carries nothing, as after a loss.
    bursts: Option<(f64, f64)>,
    /// What the broker adds to each confirm.
    broker: Duration,
    /// Period and length, in seconds, of the times when no confirm is read, as on a busy machine.
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

    /// When `bytes` bytes that begin at `at` are through.
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
    unconfirmed: VecDeque<Duration>,
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

    /// What was carried in the leanest of all spans of `span` seconds, as a share of the mean.
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
    let budget = Some(Budget::new(MAX_AGE));
    play(Order::new(budget), uplink, cameras, warm_up, end)
}

fn play(mut order: Order, uplink: &Uplink, cameras: &[(f64, u64)], warm_up: f64, end: f64) -> Seen {
    let start = Instant::now();
    let mut cameras: Vec<_> = cameras
        .iter()
        .map(|&(fps, bytes)| Camera {
            number: order.join(None),
            fps,
            bytes,
            window: Window::new(MaxInFlight::Auto, fps.ceil() as u32, MAX_AGE),
            mailbox: None,
            unconfirmed: VecDeque::new(),
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
                let full = camera.unconfirmed.len() >= camera.window.limit();
                if let Some(sent) = camera.unconfirmed.pop_front() {
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
            let room = camera.unconfirmed.len() < camera.window.limit();
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
                    camera.unconfirmed.push_back(at);
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

mod shows;
