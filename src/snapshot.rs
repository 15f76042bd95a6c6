//! Polls a camera that answers each request with one JPEG.
//!
//! This runs as a process of its own in FFmpeg's place, since FFmpeg opens a connection for each
//! picture. Towards the reader it plays FFmpeg: it writes `mpjpeg` parts to stdout, and ends with a
//! line on stderr in FFmpeg's words. So watchdog, limits, circuit breaker and messages are those of
//! any camera, and nothing that a camera answers can reach the daemon's memory.

mod answer;
mod client;
mod login;
mod url;

use crate::os_error::error_text;
use client::{Client, Got};
use std::convert::Infallible;
use std::ffi::OsString;
use std::io::Write;
use std::time::{Duration, Instant};
use url::Url;

/// How the first argument of our own program begins when it runs to poll a camera.
pub const ARGUMENT: &str = "--poll-pictures=";

/// Comes first, and behind each part, as FFmpeg writes it.
const BOUNDARY: &str = "--ffmpeg\r\n";

/// What to poll, and how.
#[derive(Debug)]
pub struct Order<'a> {
    /// `http://` or `https://`, with the login.
    pub url: &'a str,
    /// Pictures a second at most.
    pub fps: u32,
    /// Larger pictures are announced, and not sent. Bytes.
    pub max_bytes: usize,
    /// For connecting, and for each wait for the camera.
    pub timeout: Duration,
}

impl Order<'_> {
    /// The arguments with which our program carries it out.
    pub fn arguments(&self) -> Vec<String> {
        let Self {
            url,
            fps,
            max_bytes,
            timeout,
        } = self;
        let how = format!("{ARGUMENT}{fps},{max_bytes},{}", timeout.as_millis());
        // In FFmpeg's form, in which an address is known and hidden wherever it is repeated.
        vec![how, "-i".to_owned(), (*url).to_owned()]
    }

    fn parse(args: &[OsString]) -> Option<Order<'_>> {
        let [how, _, url] = args else { return None };
        let mut numbers = how.to_str()?.strip_prefix(ARGUMENT)?.split(',');
        Some(Order {
            url: url.to_str()?,
            fps: numbers.next()?.parse().ok().filter(|fps| *fps > 0)?,
            max_bytes: numbers.next()?.parse().ok()?,
            timeout: Duration::from_millis(numbers.next()?.parse().ok().filter(|ms| *ms > 0)?),
        })
    }
}

/// Polls as `args` say, which are those of [`Order::arguments`], until it fails or nobody reads
/// `out`. Returns why.
pub fn run(args: &[OsString], out: impl Write) -> String {
    let url = Order::parse(args).and_then(|order| Some((Url::parse(order.url)?, order)));
    match url {
        None => format!("{ARGUMENT} is for the program itself"),
        Some((url, order)) => match poll(url, &order, out) {
            Err(why) => why,
        },
    }
}

fn poll(url: Url, order: &Order<'_>, mut out: impl Write) -> Result<Infallible, String> {
    let mut client = Client::new(url, order.timeout, order.max_bytes);
    let mut pace = Pace::new(order.fps, Instant::now());
    let (mut picture, mut part) = (Vec::new(), BOUNDARY.as_bytes().to_vec());
    loop {
        std::thread::sleep(pace.wait(Instant::now()));
        let length = match client.picture(&mut picture)? {
            Got::Picture => picture.len(),
            Got::TooLarge(length) => length,
        };
        // At once, so that the reader wakes up once.
        let head = format!("Content-type: image/jpeg\r\nContent-length: {length}\r\n\r\n");
        part.extend_from_slice(head.as_bytes());
        part.extend_from_slice(&picture);
        part.extend_from_slice(b"\r\n");
        part.extend_from_slice(BOUNDARY.as_bytes());
        out.write_all(&part)
            .and_then(|()| out.flush())
            .map_err(|error| error_text(&error))?;
        part.clear();
    }
}

/// When the next picture is asked for. Pure.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    due: Instant,
}

impl Pace {
    fn new(fps: u32, now: Instant) -> Self {
        Self {
            interval: Duration::from_secs(1) / fps.max(1),
            due: now,
        }
    }

    /// How long to wait. What a slow camera misses is not made up for.
    fn wait(&mut self, now: Instant) -> Duration {
        let wait = self.due.saturating_duration_since(now);
        let late = now.saturating_duration_since(self.due);
        self.due = match late < self.interval {
            true => self.due + self.interval,
            false => now + self.interval,
        };
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_its_arguments() {
        let order = Order {
            url: "http://u:p@h/snap.jpg",
            fps: 5,
            max_bytes: 1 << 20,
            timeout: Duration::from_millis(1500),
        };
        let args: Vec<OsString> = order.arguments().into_iter().map(OsString::from).collect();
        let again = Order::parse(&args).unwrap();
        assert_eq!(
            (again.url, again.fps, again.max_bytes, again.timeout),
            (order.url, order.fps, order.max_bytes, order.timeout)
        );
        let why = run(&[OsString::from("--poll-pictures=0,1,1")], Vec::new());
        assert_eq!(why, "--poll-pictures= is for the program itself");
    }

    #[test]
    fn pictures_are_asked_for_at_the_rate_and_missed_ones_are_not_made_up_for() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::new(10, start);
        // When it asks, and how long the camera takes then.
        let mut asked = vec![];
        let mut now = 0;
        for takes in [20, 20, 130, 20, 20, 350, 20, 20] {
            now += pace.wait(at(now)).as_millis() as u64;
            asked.push(now);
            now += takes;
        }
        assert_eq!(asked, [0, 100, 200, 330, 400, 500, 850, 950]);
    }
}
