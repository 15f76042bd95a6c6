//! `edge-video watch`: the reference consumer. Shows once a second, per camera, what really
//! arrives.

mod gops;
mod recording;
mod table;
mod video;

use crate::amqp::{Connection, Error, ErrorKind, Received, Socket, dial};
use crate::backoff::{Backoff, JITTER, random};
use crate::clock::unix_us;
use crate::config::{Amqp, Config, Endpoint};
use crate::os_error::error_text;
use crate::repeat::Repeat;
use crate::shutdown::Stop;
use parking_lot::Mutex;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::io::{self, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use table::Table;
use video::VideoTable;

/// A line of the table covers what came in since the last one.
const PERIOD: Duration = Duration::from_secs(1);

/// Messages that wait for a slow watcher; older ones give way. Three seconds of six cameras.
const QUEUE_LENGTH: u16 = 256;
/// The same for units of video: three seconds of 100 cameras. A unit that gives way makes the rest
/// of its group of pictures useless, so there are more of them.
const VIDEO_QUEUE_LENGTH: u16 = 4096;

/// What the command line asks for.
#[derive(Debug, Default)]
pub struct Options {
    /// Only these cameras; all if empty.
    pub cameras: Vec<String>,
    /// The cameras' own video, instead of the pictures.
    pub video: bool,
    /// Where the latest pictures go, as `{camera}.jpg`, or the video.
    pub save: Option<PathBuf>,
    /// Another broker than the configuration's.
    pub amqp: Option<Broker>,
    /// Another exchange than the configuration's.
    pub exchange: Option<String>,
}

/// A broker that is named outside of the configuration.
#[derive(Debug)]
pub struct Broker {
    /// Where its URL is from, for messages.
    pub named_by: String,
    /// `amqp://...` or `amqps://...`.
    pub url: String,
}

/// Says something to the user, or does nothing if stderr is closed.
pub type Say<'a> = &'a dyn Fn(&str);

/// Runs until a signal ends it; a second one ends the process at once. Without a configuration the
/// options must name a broker. What happens meanwhile is told to `say`.
///
/// # Errors
/// A sentence for the user: a wrong URL, a refused login, a folder that cannot be made, a table
/// that cannot be written.
pub fn run(config: Option<&Config>, options: &Options, say: Say<'_>) -> Result<(), String> {
    let named = options.amqp.as_ref().map(config_of).transpose()?;
    let config = match (config, &named) {
        (Some(config), _) => config,
        (None, Some(named)) => named,
        (None, None) => return Err("no broker is named".to_owned()),
    };
    let endpoints = &named.as_ref().unwrap_or(config).amqp.endpoints;
    let exchanges = exchanges(config, options);
    if let Some(folder) = &options.save {
        std::fs::create_dir_all(folder).map_err(|error| {
            format!("cannot create {}: {}", folder.display(), error_text(&error))
        })?;
    }
    let ending = Ending {
        stop: Stop::new().map_err(|error| error_text(&error))?,
        socket: Mutex::new(None),
    };
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| error_text(&error))?;
    let signals_end = CloseWhenDropped(signals.handle());
    std::thread::scope(|scope| {
        // Also when this thread panics: the scope waits for the other one.
        let _end = signals_end;
        scope.spawn(|| {
            for _ in signals.forever() {
                if ending.stop.requested() {
                    // Held up by something else than the broker: a terminal, a name server.
                    std::process::exit(0);
                }
                ending.request();
            }
        });
        let watching = Watching {
            amqp: &config.amqp,
            exchanges: &exchanges,
            options,
            ending: &ending,
            say,
        };
        watching.run(endpoints)
    })
}

/// Ends the thread that waits for signals.
struct CloseWhenDropped(Handle);

impl Drop for CloseWhenDropped {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// How a watch is ended, also while the broker is frozen: all that waits for it waits on its
/// socket.
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
fn config_of(broker: &Broker) -> Result<Config, String> {
    // Every JSON string is a YAML string.
    let url = serde_json::Value::from(broker.url.as_str());
    let text = format!("amqp: {{url: {url}}}\ncameras: [{{id: none, url: \"lavfi:color\"}}]");
    Config::parse(&text, &broker.named_by, &|_| None)
        .map(|loaded| loaded.config)
        .map_err(|errors| errors.to_string())
}

/// Those that the watched cameras publish to.
fn exchanges(config: &Config, options: &Options) -> Vec<String> {
    let mut exchanges: Vec<_> = match &options.exchange {
        Some(exchange) => vec![exchange.clone()],
        None if options.video => vec![config.video.exchange.clone()],
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

/// What arrived, by camera.
trait View {
    /// Counts a message that arrived at `now_us`, Unix µs. False: this view does not show what it
    /// is.
    fn add(&mut self, received: Received, now_us: i64) -> bool;

    /// The connection is new: what was published since the last message is not known.
    fn connected(&mut self) {}

    /// The table of the period that ends now, which took `seconds`; begins the next.
    fn next(&mut self, seconds: f64) -> String;

    /// Writes what is to be saved.
    ///
    /// # Errors
    /// The first failure since the last call, when all has had its turn.
    fn save(&mut self) -> io::Result<()>;
}

/// What a watch works with.
struct Watching<'a> {
    amqp: &'a Amqp,
    exchanges: &'a [String],
    options: &'a Options,
    ending: &'a Ending,
    say: Say<'a>,
}

impl Watching<'_> {
    /// Connects, shows, and connects again until it is ended.
    fn run(&self, endpoints: &[Endpoint]) -> Result<(), String> {
        let save = self.options.save.clone();
        let mut view: Box<dyn View> = match self.options.video {
            false => Box::new(Table::new(save)),
            true => Box::new(VideoTable::new(save)),
        };
        let (mut period, mut said) = (Instant::now(), Repeat::default());
        let (first, longest) = (Duration::from_millis(200), Duration::from_secs(2));
        let mut backoff = Backoff::new(first, longest, 2.0, JITTER);
        for endpoint in endpoints.iter().cycle() {
            let mut shown = Ok(());
            view.connected();
            let consumed = self.consume(endpoint, |received| {
                backoff.reset();
                shown = self.hear(received, &mut *view, &mut period, &mut said);
                shown.is_ok() && !self.ending.stop.requested()
            });
            match shown {
                Ok(()) => {}
                // A reader of ours that is gone (`watch | head`) is no reason to complain.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => {
                    return Err(format!("cannot write the table: {}", error_text(&error)));
                }
            }
            if self.ending.stop.requested() {
                break;
            }
            match consumed {
                Ok(()) => break,
                Err(error) => self.explain(endpoint, &error, &mut said)?,
            }
            if self.ending.stop.sleep(backoff.next(random())) {
                break;
            }
        }
        Ok(())
    }

    /// Says why there is no connection; an error if only a person can mend that.
    fn explain(&self, endpoint: &Endpoint, error: &Error, said: &mut Repeat) -> Result<(), String> {
        let failure = format!("broker {endpoint}: {error}");
        match error.kind {
            ErrorKind::Refused | ErrorKind::Channel => return Err(failure),
            ErrorKind::Absent if self.options.exchange.is_some() => {
                return Err(format!(
                    "{failure}: check --exchange; `edge-video run` creates the exchange it publishes to"
                ));
            }
            _ => {}
        }
        if let Some(again) = said.say(&failure, Instant::now()) {
            (self.say)(&format!("{failure}{again}; retrying"));
        }
        Ok(())
    }

    /// Takes a message, and shows the table when it is due.
    fn hear(
        &self,
        received: Option<Received>,
        view: &mut dyn View,
        period: &mut Instant,
        said: &mut Repeat,
    ) -> io::Result<()> {
        if let Some(received) = received
            && self.options.wants(&received.headers.camera_id)
            && !view.add(received, unix_us())
            && let Some(again) = said.say(self.not_shown(), Instant::now())
        {
            (self.say)(&format!("{}{again}", self.not_shown()));
        }
        let elapsed = period.elapsed();
        if elapsed < PERIOD {
            return Ok(());
        }
        *period = Instant::now();
        show(&view.next(elapsed.as_secs_f64()))?;
        if let Err(error) = view.save() {
            let (what, next) = match self.options.video {
                false => ("pictures", "pictures"),
                true => ("video", "keyframe"),
            };
            let folder = self.options.save.as_deref();
            let folder = folder.unwrap_or(Path::new("")).display();
            let failure = format!("cannot save {what} in {folder}: {}", error_text(&error));
            if let Some(again) = said.say(&failure, Instant::now()) {
                (self.say)(&format!(
                    "{failure}{again}; trying again with the next {next}"
                ));
            }
        }
        Ok(())
    }

    /// About messages of the other kind.
    fn not_shown(&self) -> &'static str {
        match self.options.video {
            false => "video arrives, which is not shown: use --video",
            true => {
                "messages without video arrive, which are not shown: for pictures leave out --video"
            }
        }
    }

    fn consume(
        &self,
        endpoint: &Endpoint,
        each: impl FnMut(Option<Received>) -> bool,
    ) -> Result<(), Error> {
        let socket = dial(endpoint, self.amqp.connect_timeout, &self.ending.stop)?;
        self.ending.cuts(&socket);
        let mut connection = Connection::open(&socket, endpoint, self.amqp)?;
        let length = match self.options.video {
            false => QUEUE_LENGTH,
            true => VIDEO_QUEUE_LENGTH,
        };
        connection.consume(self.exchanges, length, each)
    }
}

fn show(table: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    // On a terminal each table takes the place of the one before.
    let clear = if out.is_terminal() {
        "\x1b[H\x1b[2J"
    } else {
        ""
    };
    writeln!(out, "{clear}{table}")?;
    out.flush()
}
