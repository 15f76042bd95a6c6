//! The periodic summary in the log: one line for all cameras, and one for each camera with a
//! problem.

use crate::metrics::{Account, VideoAccount};
use crate::overview::{Overview, drops_matter};
use crate::status::Activity;
use std::time::{Duration, Instant};

/// When the next summary is due, and the counts at the last one.
#[derive(Debug)]
pub struct Summary {
    every: Duration,
    due: Instant,
    since: Instant,
    /// In the order of the overview.
    before: Vec<Counts>,
}

/// The counts of a camera's frames and, if its video is passed through, of its units.
#[derive(Debug, Clone)]
struct Counts {
    frames: Account,
    units: Option<VideoAccount>,
}

/// The lines of one summary.
#[derive(Debug, PartialEq, Eq)]
pub struct Lines {
    /// The line for all cameras.
    pub total: String,
    /// For each camera with a problem: its index in the overview, and its line.
    pub problems: Vec<(usize, String)>,
}

impl Summary {
    /// Begins at `now` with the counts of `overview`.
    pub fn new(every: Duration, overview: &Overview, now: Instant) -> Self {
        Self {
            every,
            due: now + every,
            since: now,
            before: counts(overview),
        }
    }

    /// When the next summary is due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// The lines for the time since the last summary.
    pub fn lines(&mut self, overview: &Overview, now: Instant) -> Lines {
        let uplink = overview.uplink();
        let passed = now.saturating_duration_since(self.since);
        self.since = now;
        self.due = now + self.every;
        let counts = counts(overview);
        let (mut all, mut problems, mut live) = (Counts::nothing(), Vec::new(), 0);
        let cameras = counts.iter().zip(&self.before).zip(&overview.cameras);
        for (n, ((counts, before), view)) in cameras.enumerate() {
            let new = counts.since(before);
            let is_live = view.status.get().activity == Activity::Live;
            live += usize::from(is_live);
            // Without a broker, or with an uplink that is too slow, all cameras drop frames, and
            // the line for all cameras says so.
            let has_broker = view.link().connected() && !view.link().blocked() && !uplink.short;
            let dropping = has_broker && new.drops_matter(view.may_be_idle());
            let frozen = view.frozen_for(now).is_some();
            if !is_live || dropping || frozen || new.frames.restarts.of_problems() > 0 {
                let words = view.words(now);
                problems.push((n, format!("{words}; {}", new.in_words(passed))));
            }
            all.add(&new);
        }
        self.before = counts;
        let (broker, memory) = (overview.broker(), overview.memory());
        let mb = |bytes: u64| bytes / 1_000_000;
        Lines {
            total: format!(
                "{live} of {} cameras live; {}; {:.1} MB/s{}; broker {}; memory {} of {} MB",
                overview.cameras.len(),
                all.in_words(passed),
                per_second(all.bytes(), passed) / 1e6,
                match uplink.short {
                    true => format!(
                        " of {:.1} offered, the uplink is too slow",
                        uplink.offered / 1e6
                    ),
                    false => String::new(),
                },
                broker.word(),
                mb(memory.used()),
                mb(memory.limit),
            ),
            problems,
        }
    }
}

fn counts(overview: &Overview) -> Vec<Counts> {
    let views = overview.cameras.iter();
    let counts = views.map(|view| Counts {
        frames: view.metrics.snapshot(),
        units: view.video(),
    });
    counts.collect()
}

impl Counts {
    fn nothing() -> Self {
        Self {
            frames: Account::default(),
            units: None,
        }
    }

    fn since(&self, before: &Self) -> Self {
        let units = self.units.as_ref().zip(before.units.as_ref());
        Self {
            frames: self.frames.since(&before.frames),
            units: units.map(|(units, before)| units.since(before)),
        }
    }

    fn add(&mut self, other: &Self) {
        self.frames += &other.frames;
        if let Some(units) = &other.units {
            *self.units.get_or_insert_default() += units;
        }
    }

    /// `may_be_idle`: what reached no queue is no problem.
    fn drops_matter(&self, may_be_idle: bool) -> bool {
        if may_be_idle {
            let counts = Self {
                frames: self.frames.without_returned(),
                units: self.units.as_ref().map(VideoAccount::without_returned),
            };
            return counts.drops_matter(false);
        }
        let units = self.units.as_ref();
        drops_matter(self.frames.captured, self.frames.dropped.total())
            || units.is_some_and(|units| drops_matter(units.captured, units.dropped.total()))
    }

    /// Bytes published.
    fn bytes(&self) -> u64 {
        self.frames.bytes + self.units.as_ref().map_or(0, |units| units.bytes)
    }

    fn in_words(&self, passed: Duration) -> String {
        let mut words = in_words(&self.frames, passed);
        if let Some(units) = &self.units {
            words += &units_in_words(units, passed);
        }
        words
    }
}

fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(0.001)
}

fn in_words(new: &Account, passed: Duration) -> String {
    let mut words = format!(
        "in {:.0} s {} frames captured, {} published ({:.1}/s)",
        passed.as_secs_f64(),
        new.captured,
        new.published,
        per_second(new.published, passed),
    );
    for (what, count, reasons) in [
        ("dropped", new.dropped.total(), new.dropped.in_words()),
        ("restarted", new.restarts.total(), new.restarts.in_words()),
    ] {
        if count > 0 {
            words += &format!(", {count} {what} ({reasons})");
        }
    }
    words
}

fn units_in_words(new: &VideoAccount, passed: Duration) -> String {
    let mut words = format!(
        "; video: {} units captured, {} published ({:.1}/s)",
        new.captured,
        new.published,
        per_second(new.published, passed),
    );
    let dropped = new.dropped.total();
    if dropped > 0 {
        words += &format!(", {dropped} dropped ({})", new.dropped.in_words());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_what_is_new_and_who_has_a_problem() {
        let config = "cameras: [{id: a, url: /a}, {id: b, url: /b}]\n\
            memory_controller: {max_memory_mb: 500}";
        let second = Duration::from_secs(1);
        let overview = Overview::for_test(config, &[]);
        let start = Instant::now();
        let mut summary = Summary::new(30 * second, &overview, start);
        let [a, b] = overview.cameras.as_slice() else {
            panic!("two cameras")
        };
        a.status.live();
        a.metrics.reader.captured.add(450);
        a.metrics.publisher.taken.add(450);
        a.metrics.publisher.published.add(450);
        a.metrics.publisher.published_bytes.add(45_000_000);
        b.status.failed(
            "refused",
            "exit code 1: refused",
            start + 42 * second,
            false,
        );
        b.metrics.reader.captured.add(4);
        b.metrics.reader.overwritten.add(4);
        b.metrics.reader.restarts_exited.add(1);
        assert_eq!(summary.due(), start + 30 * second);
        let lines = summary.lines(&overview, start + 30 * second);
        let (total, memory) = lines.total.split_once("; memory ").unwrap();
        assert_eq!(
            total,
            "1 of 2 cameras live; in 30 s 454 frames captured, 450 published (15.0/s), \
             4 dropped (4 overwritten), 1 restarted (1 exited); 1.5 MB/s; broker not connected"
        );
        assert!(memory.ends_with(" of 500 MB"), "{memory}");
        assert_eq!(
            lines.problems,
            [(
                1,
                "next try in 12 s: refused; in 30 s 4 frames captured, 0 published (0.0/s), \
                 4 dropped (4 overwritten), 1 restarted (1 exited)"
                    .to_owned()
            )]
        );
        b.status.live();
        b.metrics.reader.captured.add(4);
        b.metrics.reader.overwritten.add(4);
        let lines = summary.lines(&overview, start + 60 * second);
        assert_eq!(lines.problems, [], "a hiccup is no problem");
        assert!(
            lines
                .total
                .starts_with("2 of 2 cameras live; in 30 s 4 frames")
        );
        assert_eq!(summary.due(), start + 90 * second);
        b.metrics.reader.captured.add(450);
        b.metrics.reader.overwritten.add(450);
        let lines = summary.lines(&overview, start + 90 * second);
        assert_eq!(
            lines.problems,
            [],
            "the missing broker is none of the camera's"
        );
        assert!(lines.total.contains("450 dropped (450 overwritten)"));
    }

    #[test]
    fn a_camera_without_a_consumer_is_no_problem_if_it_may_be_idle() {
        let second = Duration::from_secs(1);
        for (idle, problems) in [("5m", 0), ("off", 1)] {
            let config = format!("idle: {{after: {idle}}}\ncameras: [{{id: a, url: /a}}]");
            let overview = Overview::for_test(&config, &[]);
            let start = Instant::now();
            let a = &overview.cameras[0];
            a.status.live();
            let counts = || Counts {
                frames: a.metrics.snapshot(),
                units: None,
            };
            let before = counts();
            a.metrics.reader.captured.add(450);
            a.metrics.publisher.taken.add(450);
            a.metrics.publisher.returned.add(450);
            let new = counts().since(&before);
            let matters = new.drops_matter(a.may_be_idle());
            assert_eq!(usize::from(matters), problems, "{idle}");

            let mut summary = Summary::new(30 * second, &overview, start);
            a.metrics.reader.restarts_idle.add(1);
            let lines = summary.lines(&overview, start + 30 * second);
            assert_eq!(lines.problems, []);
            assert!(
                lines.total.contains("1 restarted (1 idle)"),
                "{}",
                lines.total
            );
        }
    }

    #[test]
    fn it_tells_of_video_if_a_camera_passes_it_through() {
        let config = "cameras:
            - {id: a, url: /a}
            - {id: b, url: /b, passthrough: true, pictures: none}
            - {id: c, url: /c, passthrough: true}";
        let second = Duration::from_secs(1);
        let overview = Overview::for_test(config, &[]);
        let start = Instant::now();
        let mut summary = Summary::new(30 * second, &overview, start);
        let [a, b, c] = overview.cameras.as_slice() else {
            panic!("three cameras")
        };
        for view in [a, c] {
            view.status.live();
            view.metrics.reader.captured.add(450);
            view.metrics.publisher.taken.add(450);
            view.metrics.publisher.published.add(450);
            view.metrics.publisher.published_bytes.add(45_000_000);
        }
        let units = &c.metrics.video;
        units.reader.captured.add(450);
        units.reader.overwritten.add(20);
        units.reader.no_key.add(4);
        units.publisher.taken.add(426);
        units.publisher.published.add(426);
        units.publisher.published_bytes.add(9_000_000);
        let lines = summary.lines(&overview, start + 30 * second);
        let (total, _) = lines.total.split_once("; broker ").unwrap();
        assert_eq!(
            total,
            "2 of 3 cameras live; in 30 s 900 frames captured, 900 published (30.0/s); \
             video: 450 units captured, 426 published (14.2/s), 24 dropped (20 overwritten, \
             4 no_key); 3.3 MB/s"
        );
        assert_eq!(
            lines.problems,
            [(
                1,
                "waiting for its first access unit; in 30 s 0 frames captured, 0 published \
                 (0.0/s); video: 0 units captured, 0 published (0.0/s)"
                    .to_owned()
            )],
            "the missing broker is none of the camera's"
        );
        b.status.live();
        let lines = summary.lines(&overview, start + 60 * second);
        assert_eq!(lines.problems, []);
        assert!(
            lines
                .total
                .contains("; video: 0 units captured, 0 published (0.0/s); 0.0 MB/s;"),
            "{}",
            lines.total
        );
    }
}
