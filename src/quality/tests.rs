//! Simulated hours of cameras behind links that change.

use super::*;

/// How often the main thread looks.
const TICK: Duration = Duration::from_secs(10);

struct Camera {
    fps: f64,
    /// Bytes of a picture at the configured quality.
    bytes: f64,
    quality: Quality,
    /// Since the start.
    captured: f64,
    lost: f64,
    sent: f64,
    published_lately: f64,
    live: bool,
}

impl Camera {
    /// Measured on moving noisy pictures: a quantiser 2.5 times as large halves them.
    fn picture(&self) -> f64 {
        let coarse = f64::from(self.quality.now()) / f64::from(self.quality.configured());
        self.bytes * coarse.powf(-0.75)
    }
}

/// What the confirms show of the link.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shown {
    /// Nothing: the user has set `max_in_flight`.
    Nothing,
    /// What is sent, as long as the link is not full: round trips hide the rest.
    Sent,
    /// All that it can carry.
    All,
}

const SHOWN: [Shown; 3] = [Shown::Nothing, Shown::Sent, Shown::All];

/// Cameras behind one link that gives each the same number of bytes, as the scheduler does.
struct Site {
    cameras: Vec<Camera>,
    adaptive: Adaptive,
    start: Instant,
    ticks: u32,
    shown: Shown,
    /// Minute, camera, and the quality from then on.
    steps: Vec<(u32, usize, u32)>,
}

impl Site {
    fn new(cameras: &[(f64, f64, u32)], max: u32, shown: Shown) -> Self {
        let start = Instant::now();
        let camera = |&(fps, bytes, quality): &(f64, f64, u32)| Camera {
            fps,
            bytes,
            quality: Quality::new(quality),
            captured: 0.0,
            lost: 0.0,
            sent: 0.0,
            published_lately: 0.0,
            live: true,
        };
        Self {
            cameras: cameras.iter().map(camera).collect(),
            adaptive: Adaptive::new(max, start),
            start,
            ticks: 0,
            shown,
            steps: vec![],
        }
    }

    fn equal(shown: Shown) -> Self {
        Self::new(&[(15.0, 50_000.0, 5); 6], 15, shown)
    }

    /// Frames a second that the link carries of each camera: max-min fair in bytes.
    fn share(&self, link: f64) -> Vec<f64> {
        let offered = |it: &Camera| it.fps * it.picture();
        let mut order: Vec<usize> = (0..self.cameras.len()).collect();
        order.sort_by(|a, b| offered(&self.cameras[*a]).total_cmp(&offered(&self.cameras[*b])));
        let (mut left, mut rates) = (link, vec![0.0; self.cameras.len()]);
        for (n, &at) in order.iter().enumerate() {
            let part = left / (order.len() - n) as f64;
            let got = offered(&self.cameras[at]).min(part);
            left -= got;
            rates[at] = got / self.cameras[at].picture();
        }
        rates
    }

    /// One look later; `link` in bytes a second.
    fn tick(&mut self, link: f64) {
        self.ticks += 1;
        let (now, seconds) = (self.start + TICK * self.ticks, TICK.as_secs_f64());
        let rates = self.share(link);
        for (camera, rate) in self.cameras.iter_mut().zip(rates) {
            camera.captured += camera.fps * seconds;
            camera.lost += (camera.fps - rate) * seconds;
            camera.sent += camera.fps * seconds * camera.picture();
            camera.published_lately = rate;
        }
        let offered: f64 = self.cameras.iter().map(|it| it.fps * it.picture()).sum();
        let carries = match self.shown {
            Shown::Nothing => None,
            Shown::Sent => Some(offered.min(link)),
            Shown::All => Some(link),
        };
        let readings = self.cameras.iter().enumerate().map(|(n, camera)| Reading {
            id: format!("cam{n}").into(),
            quality: (camera.quality.configured(), camera.quality.now()),
            live: camera.live,
            captured: camera.captured as u64,
            lost: camera.lost as u64,
            bytes: camera.sent as u64,
            video_bytes: 0,
            connection: 1,
            carries,
        });
        let readings: Vec<_> = readings.collect();
        if let Some(step) = self.adaptive.look(&readings, now) {
            let camera = &self.cameras[step.camera];
            assert_eq!(camera.quality.now(), step.from);
            camera.quality.set(step.to);
            self.steps.push((self.ticks / 6, step.camera, step.to));
        }
    }

    fn run(&mut self, minutes: u32, link: impl Fn(u32) -> f64) {
        for n in 0..minutes * 6 {
            self.tick(link(n));
        }
    }

    fn qualities(&self) -> Vec<u32> {
        self.cameras.iter().map(|it| it.quality.now()).collect()
    }

    fn published(&self) -> f64 {
        self.cameras.iter().map(|it| it.published_lately).sum()
    }

    /// Steps of each camera in the worst hour that begins with `from` or later.
    fn most_in_an_hour(&self, from: u32) -> usize {
        let hours = (from..=(self.ticks / 6).saturating_sub(60)).map(|start| {
            let within = |(at, ..): &&(u32, usize, u32)| (start..start + 60).contains(at);
            let of = |n| {
                let steps = self.steps.iter().filter(within);
                steps.filter(|(_, camera, _)| *camera == n).count()
            };
            (0..self.cameras.len()).map(of).max().unwrap_or(0)
        });
        hours.max().unwrap_or(0)
    }
}

const MB: f64 = 1e6;

#[test]
fn six_cameras_on_a_slow_uplink_are_lowered_evenly_within_five_minutes() {
    let mut site = Site::equal(Shown::All);
    site.run(1, |_| MB);
    let before = site.published();
    site.run(4, |_| MB);
    assert_eq!(site.qualities(), [13; 6]);
    assert!(site.published() > before * 1.6, "{}", site.published());
    // A camera is lowered for the second time only when all were for the first time.
    let order: Vec<_> = site.steps.iter().map(|(_, camera, _)| *camera).collect();
    let (first, second) = order.split_at(6);
    let mut sorted = [first.to_vec(), second.to_vec()];
    sorted.iter_mut().for_each(|it| it.sort_unstable());
    assert_eq!(sorted, [[0, 1, 2, 3, 4, 5]; 2].map(Vec::from));
}

#[test]
fn on_a_constant_link_a_camera_has_at_most_four_steps_an_hour() {
    for shown in SHOWN {
        for tenths in (1..60).step_by(2) {
            let link = f64::from(tenths) * MB / 10.0;
            let mut site = Site::equal(shown);
            site.run(4 * 60, |_| link);
            let most = site.most_in_an_hour(0);
            assert!(most <= 4, "{shown:?} {link}: {:?}", site.steps);
            // Later a camera tries once an hour whether the link carries more.
            let all = site.steps.iter().filter(|(at, ..)| *at >= 60).count();
            assert!(all <= 3 * 3, "{shown:?} {link}: {:?}", site.steps);
        }
    }
}

#[test]
fn a_link_that_flutters_brings_no_more_steps_than_a_constant_one() {
    for shown in SHOWN {
        for period in [1, 3, 6, 12, 30, 60] {
            let mut site = Site::equal(shown);
            let link = |n: u32| {
                if (n / period).is_multiple_of(2) {
                    1.2 * MB
                } else {
                    3.4 * MB
                }
            };
            site.run(6 * 60, link);
            let most = site.most_in_an_hour(0);
            assert!(most <= 4, "{shown:?} {period}: {:?}", site.steps);
        }
    }
}

#[test]
fn when_the_link_is_fast_again_all_get_their_quality_back() {
    SHOWN.into_iter().for_each(slow_and_fast_again);
}

fn slow_and_fast_again(shown: Shown) {
    let mut site = Site::equal(shown);
    site.run(20, |_| MB);
    assert_eq!(site.qualities(), [13; 6]);
    site.run(4, |_| 20.0 * MB);
    assert_eq!(site.qualities(), [13; 6], "five minutes without loss first");
    site.run(16, |_| 20.0 * MB);
    assert_eq!(site.qualities(), [5; 6]);
    let last: Vec<_> = site.steps.iter().rev().take(12).map(|it| it.0).collect();
    assert!(
        last.windows(2).all(|pair| pair[0] > pair[1]),
        "a minute apart: {last:?}"
    );
    // And down again when it is slow again.
    site.run(5, |_| MB);
    assert_eq!(site.qualities(), [13; 6]);
}

#[test]
fn a_step_up_that_the_link_does_not_carry_is_taken_back_and_not_tried_again_for_an_hour() {
    // At quality 8 all fit; at 5 one of them does not.
    let mut site = Site::equal(Shown::Nothing);
    site.run(3 * 60, |_| 3.2 * MB);
    assert_eq!(site.qualities(), [8; 6]);
    let ups: Vec<_> = site
        .steps
        .iter()
        .filter(|it| it.2 == 5)
        .map(|it| it.0)
        .collect();
    assert!(
        ups.windows(2).any(|pair| pair[1] - pair[0] >= 60),
        "{ups:?}"
    );
    assert!(site.most_in_an_hour(0) <= 4, "{:?}", site.steps);
}

#[test]
fn a_small_camera_that_loses_nothing_keeps_its_quality() {
    let mut cameras = vec![(15.0, 50_000.0, 5); 5];
    cameras.push((2.0, 10_000.0, 5));
    let mut site = Site::new(&cameras, 15, Shown::All);
    site.run(60, |_| MB);
    assert_eq!(site.qualities(), [13, 13, 13, 13, 13, 5]);
}

#[test]
fn no_quantiser_is_above_max_unless_it_is_configured() {
    let cameras = [
        (15.0, 50_000.0, 5),
        (15.0, 50_000.0, 12),
        (15.0, 50_000.0, 20),
    ];
    let mut site = Site::new(&cameras, 10, Shown::All);
    site.run(60, |_| MB / 10.0);
    assert_eq!(site.qualities(), [10, 12, 20]);
}

#[test]
fn what_is_lost_without_a_broker_or_a_camera_is_no_reason() {
    let mut site = Site::equal(Shown::All);
    site.cameras.iter_mut().for_each(|it| it.live = false);
    site.run(60, |_| 1.0);
    assert_eq!(site.steps, []);
    // Nor does an outage count as calm.
    site.cameras.iter_mut().for_each(|it| it.live = true);
    site.run(10, |_| MB);
    assert_eq!(site.qualities(), [13; 6]);
    site.cameras.iter_mut().for_each(|it| it.live = false);
    site.run(60, |_| 20.0 * MB);
    assert_eq!(site.qualities(), [13; 6]);
}

#[test]
fn a_hiccup_is_no_reason() {
    let mut site = Site::equal(Shown::All);
    site.run(60, |n| if n % 6 < 2 { 0.1 * MB } else { 20.0 * MB });
    assert_eq!(site.steps, [], "20 s of each minute");
}

#[test]
fn each_step_is_told_with_its_reason() {
    let words = |why| {
        let (camera, from, to) = (0, 5, 8);
        Step {
            camera,
            from,
            to,
            why,
        }
        .words()
    };
    assert_eq!(
        words(Why::Lost(0.427)),
        "43 % of the frames wait too long for the uplink; lowering the quality from 5 to 8"
    );
    assert_eq!(
        words(Why::Calm(Duration::from_secs(390))),
        "the uplink has carried all frames for 6 min; raising the quality from 5 to 8"
    );
}
