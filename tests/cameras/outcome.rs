//! What the daemon published, compared with what the camera sent.

use crate::clip::{Clip, Film};
use crate::picture;
use crate::rtsp::Sent;
use crate::support::consumer::Delivery;
use crate::support::daemon::Account;
use crate::support::{jpeg, unix_us};
use crate::table::Row;

/// `amqp.max_age`, and what a true age may be above it: a picture's own time in FFmpeg and in
/// pipes.
pub const OLDEST: f64 = 1.3;
/// The rate is not counted in the first second after the first picture.
const SETTLING_US: i64 = 1_000_000;

/// What a camera sent.
pub struct Truth {
    films: Vec<Film>,
    fps: f64,
    sent: Vec<Sent>,
    /// What the camera sent later is not known.
    until_us: i64,
}

impl Truth {
    /// Pictures of these clips, sent so.
    pub fn new<'a>(clips: impl IntoIterator<Item = &'a Clip>, sent: Vec<Sent>) -> Self {
        Self::of(clips.into_iter().map(|clip| clip.film).collect(), sent)
    }

    pub fn of(films: Vec<Film>, sent: Vec<Sent>) -> Self {
        Self {
            fps: f64::from(films[0].fps),
            films,
            sent,
            until_us: unix_us(),
        }
    }

    fn film(&self, number: u16) -> Option<&Film> {
        let has = |film: &&Film| {
            let pictures = film.fps * film.seconds;
            (u32::from(film.first)..u32::from(film.first) + pictures).contains(&number.into())
        };
        self.films.iter().find(has)
    }

    pub fn knows(&self, frame: &Delivery) -> bool {
        frame.captured_at_us() <= self.until_us
    }

    pub fn see(&self, frame: &Delivery) -> Seen {
        let picture = jpeg::decode(frame.jpeg());
        let number = picture.as_ref().ok().and_then(picture::number);
        let film = number.and_then(|number| self.film(number));
        let (mut damaged, mut size_is_right) = (true, false);
        let (mut colour_error, mut block_error) = (255.0, 255.0);
        if let (Ok(picture), Some(number), Some(film)) = (&picture, number, film) {
            damaged = film.look.is_damaged(number, picture);
            colour_error = film.look.colour_error(picture);
            block_error = film.look.worst_block(number, picture);
            size_is_right = (picture.width, picture.height) == (film.look.width, film.look.height);
        }
        let captured_us = frame.captured_at_us();
        // Of a number that was sent several times the newest that can be meant.
        let sent = self.sent.iter().rev();
        let mut sent =
            sent.filter(|sent| Some(sent.number) == number && sent.taken_us <= captured_us);
        Seen {
            number,
            damaged,
            colour_error,
            block_error,
            size_is_right,
            captured_us,
            arrived_us: frame.arrived_us,
            age: sent
                .next()
                .map(|sent| (captured_us - sent.taken_us) as f64 / 1e6),
        }
    }
}

/// A published picture.
#[derive(Debug, Clone)]
pub struct Seen {
    pub number: Option<u16>,
    /// Grey, smeared, mixed with another one, or not a JPEG at all.
    pub damaged: bool,
    pub colour_error: f64,
    /// By how much the worst block is off.
    pub block_error: f64,
    pub size_is_right: bool,
    pub captured_us: i64,
    pub arrived_us: i64,
    /// Seconds from when the camera took it to `captured_at_us`.
    pub age: Option<f64>,
}

/// What a case came to.
pub struct Outcome {
    /// Seconds from the daemon's start to the first picture.
    pub first: Option<f64>,
    /// Seconds from the first picture that the camera sent to the first one that was published.
    pub waited: Option<f64>,
    /// Pictures a second, from one second after the first to the last.
    pub fps: f64,
    pub pictures: Vec<Seen>,
    pub damaged: usize,
    /// The oldest true age, in seconds.
    pub oldest: f64,
    pub account: Account,
    pub log: Vec<String>,
    row: Row,
}

impl Outcome {
    pub fn new(
        row: Row,
        pictures: Vec<Seen>,
        account: Account,
        log: Vec<String>,
        began_us: i64,
        truth: &Truth,
    ) -> Self {
        let first_us = pictures.first().map(|first| first.arrived_us);
        let sent_us = truth.sent.first().map_or(began_us, |sent| sent.taken_us);
        let mut outcome = Self {
            first: first_us.map(|first| (first - began_us) as f64 / 1e6),
            waited: first_us.map(|first| (first - sent_us) as f64 / 1e6),
            fps: rate(&pictures),
            damaged: pictures.iter().filter(|seen| seen.damaged).count(),
            oldest: pictures
                .iter()
                .filter_map(|seen| seen.age)
                .fold(0.0, f64::max),
            pictures,
            account,
            log,
            row,
        };
        let row = &mut outcome.row;
        row.first = outcome.first;
        row.fps = outcome.fps;
        row.of = truth.fps;
        row.pictures = outcome.pictures.len();
        row.damaged = outcome.damaged;
        row.oldest = outcome.oldest;
        row.restarts = outcome.account.restarts_in_all();
        row.log = words(&outcome.log);
        outcome
    }

    /// Before any assertion, so that a failing case is in the table as well.
    pub fn noted(self) -> Self {
        self.row.write();
        println!("{}", self.summary());
        self
    }

    pub fn summary(&self) -> String {
        format!(
            "{}: first picture {:.2?} s, {:.2} fps, {} pictures, {} damaged (block {:.0}), oldest {:.2} s, dropped {:?}, \
             restarts {:?}",
            self.row.behaviour,
            self.first,
            self.fps,
            self.pictures.len(),
            self.damaged,
            self.pictures
                .iter()
                .filter(|seen| !seen.damaged)
                .map(|seen| seen.block_error)
                .fold(0.0, f64::max),
            self.oldest,
            self.account
                .dropped
                .iter()
                .filter(|(_, n)| **n > 0)
                .collect::<Vec<_>>(),
            self.account
                .restarts
                .iter()
                .filter(|(_, n)| **n > 0)
                .collect::<Vec<_>>(),
        )
    }

    /// The first picture came within so many seconds after the camera's first: how long a busy
    /// machine takes to start an FFmpeg is another matter.
    #[track_caller]
    pub fn first_within(&self, seconds: f64) -> &Self {
        let waited = self.waited.unwrap_or(f64::INFINITY);
        assert!(
            waited <= seconds,
            "first picture {waited:.2} s after the camera's: {}",
            self.summary()
        );
        self
    }

    /// No picture is damaged, and none is older than allowed.
    #[track_caller]
    pub fn all_good(&self) -> &Self {
        let bad = |seen: &&Seen| seen.damaged || seen.age.is_none();
        let bad: Vec<_> = self.pictures.iter().filter(bad).take(3).collect();
        assert!(bad.is_empty(), "{}: {bad:?}", self.summary());
        self.none_old()
    }

    /// No picture is damaged.
    #[track_caller]
    pub fn whole(&self) -> &Self {
        assert_eq!(self.damaged, 0, "{}", self.summary());
        self
    }

    /// No picture is older than allowed when it is said to have been captured.
    #[track_caller]
    pub fn none_old(&self) -> &Self {
        let old: Vec<_> = self
            .pictures
            .iter()
            .enumerate()
            .filter(|(_, seen)| seen.age > Some(OLDEST))
            .map(|(at, seen)| (at, seen.number, seen.age, seen.captured_us))
            .collect();
        assert!(
            old.is_empty(),
            "{} pictures are older than {OLDEST} s: {}: (place, number, age, captured) {:?}",
            old.len(),
            self.summary(),
            &old[..old.len().min(12)]
        );
        self
    }

    /// At least so many pictures a second.
    #[track_caller]
    pub fn at_least(&self, fps: f64) -> &Self {
        assert!(
            self.fps >= fps,
            "fewer than {fps} a second: {}",
            self.summary()
        );
        self
    }

    /// No patch of any picture is off by more than so much.
    #[track_caller]
    pub fn right_colours(&self, error: f64) -> &Self {
        let worst = self
            .pictures
            .iter()
            .map(|seen| seen.colour_error)
            .fold(0.0, f64::max);
        assert!(
            worst <= error,
            "colours are off by {worst:.1} of 255: {}",
            self.summary()
        );
        self
    }

    /// FFmpeg was started once.
    #[track_caller]
    pub fn no_restart(&self) -> &Self {
        let restarts = self.account.restarts_in_all();
        assert_eq!(restarts, 0, "FFmpeg was started again: {}", self.summary());
        self
    }

    /// FFmpeg was started again for new sizes only.
    #[track_caller]
    pub fn restarted_for_sizes_only(&self) -> &Self {
        let others = self.account.restarts_in_all() - self.account.restarts("parameters");
        assert_eq!(others, 0, "FFmpeg was started again: {}", self.summary());
        self
    }
}

/// From one second after the first picture to the last.
fn rate(pictures: &[Seen]) -> f64 {
    let Some(first) = pictures.first() else {
        return 0.0;
    };
    let settled: Vec<_> = pictures
        .iter()
        .map(|seen| seen.captured_us)
        .filter(|captured| *captured >= first.captured_us + SETTLING_US)
        .collect();
    let (Some(first), Some(last)) = (settled.first(), settled.last()) else {
        return 0.0;
    };
    let seconds = (last - first) as f64 / 1e6;
    if seconds > 0.0 {
        (settled.len() - 1) as f64 / seconds
    } else {
        0.0
    }
}

/// The warnings of a log, without what differs from run to run.
fn words(log: &[String]) -> Vec<String> {
    let mut words: Vec<String> = vec![];
    for line in log {
        let at = line.find("WARN ").or_else(|| line.find("ERROR "));
        let Some(line) = at.map(|at| &line[at..]) else {
            continue;
        };
        let mut parts = line.split("127.0.0.1:");
        let mut shown = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            shown += "127.0.0.1:…";
            shown += part.trim_start_matches(|c: char| c.is_ascii_digit());
        }
        if !words.contains(&shown) {
            words.push(shown);
        }
    }
    words.truncate(3);
    words
}
