//! `edge-video watch`: the reference consumer. Shows once a second, per camera, what really arrives.

use crate::backoff::{Backoff, JITTER, random};
use crate::broker::{Connection, Error, ErrorKind, Received, Socket, dial};
use crate::clock::unix_us;
use crate::config::{Amqp, Config, Endpoint};
use crate::repeat::Repeat;
use crate::shutdown::Stop;
use parking_lot::Mutex;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A line of the table covers what came in since the last one.
const PERIOD: Duration = Duration::from_secs(1);

/// Messages that wait for a slow watcher; older ones give way. Three seconds of six cameras.
const QUEUE_LENGTH: i32 = 256;

/// What the command line asks for.
#[derive(Debug, Default)]
pub struct Options {
    /// Only these cameras; all if empty.
    pub cameras: Vec<String>,
    /// Where the latest pictures go, as `{camera}.jpg`.
    pub save: Option<PathBuf>,
    /// Another broker than the configuration's.
    pub amqp: Option<String>,
    /// Another exchange than the configuration's.
    pub exchange: Option<String>,
}

/// Runs until a signal ends it; a second one ends the process at once. Without a configuration the
/// options must name a broker.
///
/// # Errors
/// A sentence for the user: a wrong URL, a refused login, a folder that cannot be made.
pub fn run(config: Option<&Config>, options: &Options) -> Result<(), String> {
    let named = options.amqp.as_deref().map(config_of).transpose()?;
    let config = match (config, &named) {
        (Some(config), _) => config,
        (None, Some(named)) => named,
        (None, None) => return Err("no broker is named".to_owned()),
    };
    let endpoints = &named.as_ref().unwrap_or(config).amqp.endpoints;
    let exchanges = exchanges(config, options);
    if let Some(folder) = &options.save {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    }
    let ending = Ending {
        stop: Stop::new().map_err(|error| error.to_string())?,
        socket: Mutex::new(None),
    };
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| error.to_string())?;
    let signals_end = signals.handle();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in signals.forever() {
                if ending.stop.requested() {
                    // Held up by something else than the broker: a terminal, a name server.
                    std::process::exit(0);
                }
                ending.request();
            }
        });
        let watched = watch(&config.amqp, endpoints, &exchanges, options, &ending);
        signals_end.close();
        watched
    })
}

/// How a watch is ended, also while the broker is frozen: all that waits for it waits on its socket.
struct Ending {
    stop: Arc<Stop>,
    socket: Mutex<Option<Socket>>,
}

impl Ending {
    fn request(&self) {
        self.stop.request();
        if let Some(socket) = &*self.socket.lock() {
            socket.cut();
        }
    }

    /// From now on `socket` is what is cut.
    fn cuts(&self, socket: &Socket) {
        *self.socket.lock() = Some(socket.clone());
        if self.stop.requested() {
            socket.cut();
        }
    }
}

/// The configuration that a broker's URL alone makes, read and checked as one in a file is.
fn config_of(url: &str) -> Result<Config, String> {
    // Every JSON string is a YAML string.
    let url = serde_json::Value::from(url);
    let text = format!("amqp: {{url: {url}}}\ncameras: [{{id: none, url: \"lavfi:color\"}}]");
    Config::parse(&text, "--amqp", &|_| None)
        .map(|loaded| loaded.config)
        .map_err(|errors| errors.to_string())
}

/// Those that the watched cameras publish to.
fn exchanges(config: &Config, options: &Options) -> Vec<String> {
    let mut exchanges: Vec<_> = match &options.exchange {
        Some(exchange) => vec![exchange.clone()],
        None => config
            .cameras
            .iter()
            .filter(|camera| options.wants(&camera.id))
            .map(|camera| camera.exchange.clone())
            .collect(),
    };
    if exchanges.is_empty() {
        exchanges.push(config.amqp.exchange.clone());
    }
    exchanges.sort_unstable();
    exchanges.dedup();
    exchanges
}

impl Options {
    fn wants(&self, camera: &str) -> bool {
        self.cameras.is_empty() || self.cameras.iter().any(|wanted| wanted == camera)
    }
}

/// Connects, shows, and connects again for ever.
fn watch(
    amqp: &Amqp,
    endpoints: &[Endpoint],
    exchanges: &[String],
    options: &Options,
    ending: &Ending,
) -> Result<(), String> {
    let (mut table, mut said) = (Table::default(), Repeat::default());
    let (first, longest) = (Duration::from_millis(200), Duration::from_secs(2));
    let mut backoff = Backoff::new(first, longest, 2.0, JITTER);
    for endpoint in endpoints.iter().cycle() {
        let consumed = consume(amqp, endpoint, exchanges, ending, |received| {
            backoff.reset();
            if let Some(received) = received
                && options.wants(&received.headers.camera_id)
            {
                table.add(received, unix_us(), options.save.is_some());
            }
            if table.started.elapsed() >= PERIOD {
                show(&table.next());
                if let Some(folder) = &options.save {
                    table.save(folder);
                }
            }
            !ending.stop.requested()
        });
        match consumed {
            _ if ending.stop.requested() => break,
            Ok(()) => break,
            Err(error) if matches!(error.kind, ErrorKind::Refused | ErrorKind::Channel) => {
                return Err(format!("broker {endpoint}: {error}"));
            }
            Err(error) if error.kind == ErrorKind::Missing && options.exchange.is_some() => {
                return Err(format!(
                    "broker {endpoint}: {error}: check --exchange; the daemon that publishes to it \
                     creates it"
                ));
            }
            Err(error) => {
                let failure = format!("broker {endpoint}: {error}");
                if let Some(again) = said.say(&failure, Instant::now()) {
                    eprintln!("{failure}{again}; trying again until it works");
                }
            }
        }
        if ending.stop.sleep(backoff.next(random())) {
            break;
        }
    }
    Ok(())
}

fn consume(
    amqp: &Amqp,
    endpoint: &Endpoint,
    exchanges: &[String],
    ending: &Ending,
    each: impl FnMut(Option<Received>) -> bool,
) -> Result<(), Error> {
    let socket = dial(endpoint, amqp.connect_timeout, &ending.stop)?;
    ending.cuts(&socket);
    let mut connection = Connection::open(&socket, endpoint, amqp)?;
    connection.consume(exchanges, QUEUE_LENGTH, each)
}

fn show(table: &str) {
    let mut out = io::stdout().lock();
    // On a terminal each table takes the place of the one before.
    let clear = if out.is_terminal() {
        "\x1b[H\x1b[2J"
    } else {
        ""
    };
    // A reader of ours that is gone (`watch | head`) is no reason to complain.
    if writeln!(out, "{clear}{table}")
        .and_then(|()| out.flush())
        .is_err()
    {
        std::process::exit(0);
    }
}

/// What arrived, by camera.
#[derive(Debug)]
struct Table {
    started: Instant,
    cameras: BTreeMap<String, Line>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            cameras: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Default)]
struct Line {
    /// Arrival minus capture, µs, of each frame of this period.
    ages: Vec<i64>,
    bytes: usize,
    size: (i32, i32),
    /// Since the watch began.
    frames: u64,
    missing: i64,
    last: Option<(i64, i64)>,
    picture: Option<Vec<u8>>,
}

impl Table {
    fn add(&mut self, received: Received, now_us: i64, keep_picture: bool) {
        let headers = received.headers;
        let line = self
            .cameras
            .entry(headers.camera_id.into_owned())
            .or_default();
        line.ages.push(now_us - headers.captured_at_us);
        line.bytes += received.jpeg.len();
        line.size = (headers.width, headers.height);
        line.frames += 1;
        if let Some((epoch, seq)) = line.last
            && epoch == headers.epoch
        {
            line.missing += (headers.seq - seq - 1).max(0);
        }
        line.last = Some((headers.epoch, headers.seq));
        if keep_picture {
            line.picture = Some(received.jpeg);
        }
    }

    /// The table of the period that ends now; begins the next.
    fn next(&mut self) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        self.started = Instant::now();
        let mut text = format!(
            "{:<20} {:>9} {:>6} {:>8} {:>10} {:>10} {:>9} {:>8}",
            "camera", "size", "fps", "KB", "age p50", "age p99", "frames", "missing"
        );
        for (id, line) in &mut self.cameras {
            let count = line.ages.len();
            line.ages.sort_unstable();
            let _ = write!(
                text,
                "\n{id:<20} {:>9} {:>6.1} {:>8.1} {:>10} {:>10} {:>9} {:>8}",
                format!("{}x{}", line.size.0, line.size.1),
                count as f64 / seconds,
                line.bytes as f64 / 1000.0 / count.max(1) as f64,
                milliseconds(percentile(&line.ages, 50)),
                milliseconds(percentile(&line.ages, 99)),
                line.frames,
                line.missing,
            );
            line.ages.clear();
            line.bytes = 0;
        }
        if self.cameras.is_empty() {
            text += "\nno frame yet";
        }
        text
    }

    /// Writes the newest picture of each camera, so that a reader sees a whole one at any time.
    fn save(&mut self, folder: &Path) {
        for (id, line) in &mut self.cameras {
            let Some(picture) = line.picture.take() else {
                continue;
            };
            // The id comes from whoever published: it must not lead out of the folder.
            let name: String = id.chars().map(|c| if c == '/' { '_' } else { c }).collect();
            let file = folder.join(format!("{name}.jpg"));
            let new = folder.join(format!(".{name}.jpg.new"));
            let written = std::fs::write(&new, picture).and_then(|()| std::fs::rename(&new, &file));
            if let Err(error) = written {
                eprintln!("cannot write {}: {error}", file.display());
            }
        }
    }
}

/// The nearest-rank percentile of sorted values.
fn percentile(sorted: &[i64], percent: usize) -> Option<i64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

fn milliseconds(us: Option<i64>) -> String {
    us.map_or_else(
        || "-".to_owned(),
        |us| format!("{:.1} ms", us as f64 / 1000.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    fn received(camera: &str, epoch: i64, seq: i64, captured_at_us: i64) -> Received {
        Received {
            headers: Headers {
                camera_id: camera.to_owned().into(),
                epoch,
                seq,
                captured_at_us,
                width: 640,
                height: 360,
            },
            jpeg: vec![0; 2000],
        }
    }

    #[test]
    fn the_table_shows_age_size_and_gaps_per_camera() {
        let mut table = Table::default();
        for (seq, epoch) in [(1, 1), (2, 1), (5, 1), (9, 2), (10, 2)] {
            table.add(received("cam1", epoch, seq, 1_000), 3_500, false);
        }
        table.add(received("cam2", 1, 1, 0), 1_000, false);
        let text = table.next();
        let words = |n: usize| {
            text.lines()
                .nth(n)
                .unwrap()
                .split_whitespace()
                .collect::<Vec<_>>()
        };
        // A new epoch is no gap: seq counts anew in it.
        assert_eq!(words(1)[1], "640x360");
        assert_eq!(words(1)[3..], ["2.0", "2.5", "ms", "2.5", "ms", "5", "2"]);
        assert_eq!(words(2)[3..], ["2.0", "1.0", "ms", "1.0", "ms", "1", "0"]);
        assert_eq!(
            table
                .next()
                .lines()
                .nth(1)
                .unwrap()
                .split_whitespace()
                .nth(4),
            Some("-")
        );
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let values: Vec<i64> = (1..=100).collect();
        assert_eq!(percentile(&values, 50), Some(50));
        assert_eq!(percentile(&values, 99), Some(99));
        assert_eq!(percentile(&[7], 99), Some(7));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn a_camera_id_cannot_lead_out_of_the_folder() {
        let folder = std::env::temp_dir().join(format!("edge-video-watch-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("in")).unwrap();
        let mut table = Table::default();
        table.add(received("../out", 1, 1, 0), 0, true);
        table.save(&folder.join("in"));
        assert!(folder.join("in/.._out.jpg").exists());
        assert!(!folder.join("out.jpg").exists());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
