//! The periodic summary in the log: one line for all cameras, and one for each camera with a
//! problem.

use crate::metrics::Account;
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
    before: Vec<Account>,
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
            before: accounts(overview),
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
        let accounts = accounts(overview);
        let (mut all, mut problems, mut live) = (Account::default(), Vec::new(), 0);
        let cameras = accounts.iter().zip(&self.before).zip(&overview.cameras);
        for (n, ((account, before), view)) in cameras.enumerate() {
            let new = account.since(before);
            let status = view.status.get();
            let is_live = status.activity == Activity::Live;
            live += usize::from(is_live);
            // Without a broker, or with an uplink that is too slow, all cameras drop frames, and
            // the line for all cameras says so.
            let has_broker = view.link().connected() && !view.link().blocked() && !uplink.short;
            let dropping = has_broker && drops_matter(new.captured, &new.dropped);
            if !is_live || dropping || new.restarts.total() > 0 {
                let words = status.words(now);
                problems.push((n, format!("{words}; {}", in_words(&new, passed))));
            }
            all += &new;
        }
        self.before = accounts;
        let (broker, memory) = (overview.broker(), overview.memory());
        let mb = |bytes: u64| bytes / 1_000_000;
        Lines {
            total: format!(
                "{live} of {} cameras live; {}; {:.1} MB/s{}; broker {}; memory {} of {} MB",
                overview.cameras.len(),
                in_words(&all, passed),
                per_second(all.bytes, passed) / 1e6,
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

fn accounts(overview: &Overview) -> Vec<Account> {
    let views = overview.cameras.iter();
    views.map(|view| view.metrics.snapshot()).collect()
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
}
