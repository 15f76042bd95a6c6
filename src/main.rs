//! Arguments and exit codes; nothing else.

use edge_video::capture::child;
use edge_video::config::{Config, Loaded};
use edge_video::daemon;
use edge_video::os_error::error_text;
use edge_video::{check as trial, logging, probe, redact, snapshot, watch};
use lexopt::prelude::*;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
Publishes live camera pictures to RabbitMQ.

Usage:
  edge-video [run] [--config FILE]     run the daemon
  edge-video check [--connect] [--config FILE]
                                       validate, and print the effective configuration;
                                       --connect: also log in to each broker once and get one
                                       frame from each camera
  edge-video probe [CAMERA|URL]... [--json] [--config FILE]
                                       ask cameras what they send, 10 s each, and print the lines
                                       of configuration that fit
  edge-video probe --discover [--json] list cameras on the local network (WS-Discovery)
  edge-video watch [CAMERA]... [--video] [--save DIR] [--amqp URL | --amqp-file FILE]
                   [--exchange NAME] [--config FILE]
                                       consume what is published: a live table per camera;
                                       DIR gets the latest pictures;
                                       --video: the cameras' own video, and DIR gets all of it
  edge-video --version | --help

FILE is ./config.yaml if it exists, else /etc/edge-video/config.yaml.
EDGE_VIDEO_AMQP names the broker for watch without showing its password to other users.
RUST_LOG takes precedence over log.level. SIGINT and SIGTERM stop gracefully, a second one at once.
SIGHUP: read FILE again and restart only the cameras that changed.
Exit codes: 0 done or stopped by a signal, 1 could not run, 2 wrong usage,
70 a thread panicked five times within ten minutes, 78 configuration refused.
";

/// Of sysexits.h: a configuration error.
const EX_CONFIG: u8 = 78;
const WRONG_USAGE: u8 = 2;
/// Names the broker to watch, where the command line would show its password to every user.
const BROKER_VARIABLE: &str = "EDGE_VIDEO_AMQP";

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if args.first().is_some_and(|arg| arg == child::GUARD_ARGUMENT) {
        complain(child::become_program(&args[1..]));
        // What a shell answers for a program that cannot be run.
        return ExitCode::from(127);
    }
    let polls = |arg: &OsString| {
        arg.as_encoded_bytes()
            .starts_with(snapshot::ARGUMENT.as_bytes())
    };
    if args.first().is_some_and(polls) {
        complain(snapshot::run(&args, io::stdout().lock()));
        return ExitCode::FAILURE;
    }
    for arg in &mut args {
        // The Go program's spelling, `-config FILE` or `-config=FILE`.
        if arg == "-config" || arg.as_encoded_bytes().starts_with(b"-config=") {
            let mut long = OsString::from("-");
            long.push(&*arg);
            *arg = long;
        }
    }
    match Command::parse(args) {
        Ok(Command::Help) => print(HELP),
        Ok(Command::Version) => print(concat!("edge-video ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Run(file)) => {
            let file = file.unwrap_or_else(default_file);
            load(&file).map_or_else(|code| code, |loaded| run(&loaded, &file))
        }
        Ok(Command::Check(file, connect)) => {
            let file = file.unwrap_or_else(default_file);
            load(&file).map_or_else(|code| code, |loaded| check(&loaded, &file, connect))
        }
        Ok(Command::Probe(file, options)) => probe(file, &options),
        Ok(Command::Watch(file, broker, options)) => watch(file, broker, options),
        Err(error) => {
            complain(format_args!("edge-video: {error}; see edge-video --help"));
            ExitCode::from(WRONG_USAGE)
        }
    }
}

/// How a watch's broker is named.
enum Named {
    /// By `--amqp`.
    Url(String),
    /// By `--amqp-file`.
    File(PathBuf),
    /// By the environment or the configuration.
    Elsewhere,
}

/// What `probe` is to do.
#[derive(Default)]
struct Probe {
    wanted: Vec<String>,
    json: bool,
    discover: bool,
}

enum Command {
    Help,
    Version,
    Run(Option<PathBuf>),
    Check(Option<PathBuf>, bool),
    Probe(Option<PathBuf>, Probe),
    Watch(Option<PathBuf>, Named, watch::Options),
}

impl Command {
    fn parse(args: Vec<OsString>) -> Result<Self, lexopt::Error> {
        let mut parser = lexopt::Parser::from_args(args);
        let (mut name, mut file) = (None::<String>, None);
        let (mut connect, mut ask) = (false, Probe::default());
        let (mut options, mut broker) = (watch::Options::default(), Named::Elsewhere);
        while let Some(arg) = parser.next()? {
            let watching = name.as_deref() == Some("watch");
            let probing = name.as_deref() == Some("probe");
            match arg {
                Short('h') | Long("help") => return Ok(Self::Help),
                Short('V') | Long("version") => return Ok(Self::Version),
                Short('c') | Long("config") => file = Some(PathBuf::from(parser.value()?)),
                Long("connect") if name.as_deref() == Some("check") => connect = true,
                Long("json") if probing => ask.json = true,
                Long("discover") if probing => ask.discover = true,
                Long("video") if watching => options.video = true,
                Long("save") if watching => options.save = Some(parser.value()?.into()),
                Long("amqp") if watching => broker = Named::Url(parser.value()?.string()?),
                Long("amqp-file") if watching => broker = Named::File(parser.value()?.into()),
                Long("exchange") if watching => options.exchange = Some(parser.value()?.string()?),
                Value(value) if name.is_none() => name = Some(value.string()?),
                Value(value) if probing => ask.wanted.push(value.string()?),
                Value(value) if watching => options.cameras.push(value.string()?),
                _ => return Err(arg.unexpected()),
            }
        }
        match name.as_deref() {
            None | Some("run") => Ok(Self::Run(file)),
            Some("check") => Ok(Self::Check(file, connect)),
            Some("probe") if ask.discover && !ask.wanted.is_empty() => {
                Err("--discover takes no camera".into())
            }
            Some("probe") => Ok(Self::Probe(file, ask)),
            Some("watch") => Ok(Self::Watch(file, broker, options)),
            Some(other) => Err(format!("there is no command \"{other}\"").into()),
        }
    }
}

fn default_file() -> PathBuf {
    let here = PathBuf::from("config.yaml");
    if here.exists() {
        here
    } else {
        PathBuf::from("/etc/edge-video/config.yaml")
    }
}

fn load(file: &Path) -> Result<Loaded, ExitCode> {
    Config::load(file).map_err(|errors| {
        complain(errors);
        ExitCode::from(EX_CONFIG)
    })
}

/// Remarks go to stderr, so that stdout is the configuration alone.
fn check(loaded: &Loaded, file: &Path, connect: bool) -> ExitCode {
    complain(format_args!("checking {}", file.display()));
    for warning in &loaded.warnings {
        complain(format_args!("warning: {warning}"));
    }
    let printed = print(&loaded.config.to_yaml());
    if printed != ExitCode::SUCCESS {
        return printed;
    }
    let config = &loaded.config;
    let enabled = config.cameras.iter().filter(|it| it.enabled).count();
    let off = match config.cameras.len() - enabled {
        0 => String::new(),
        off => format!(" ({off} more disabled)"),
    };
    let (cameras, brokers) = (count(enabled, "camera"), config.amqp.endpoints.len());
    let brokers = count(brokers, "broker");
    let mut failed = None;
    if connect {
        let say = |outcome: &Result<String, String>| match outcome {
            Ok(text) => complain(format_args!("ok: {text}")),
            Err(text) => complain(format_args!("FAILED: {text}")),
        };
        match trial::connect(config, &say) {
            Ok(all) => failed = Some(all).filter(|all| all.brokers + all.cameras > 0),
            Err(error) => {
                complain(format_args!(
                    "edge-video: check --connect cannot start: {}",
                    error_text(&error)
                ));
                return ExitCode::FAILURE;
            }
        }
    }
    match failed {
        None => {
            complain(format_args!("OK: {cameras}{off}, {brokers}"));
            ExitCode::SUCCESS
        }
        Some(failed) => {
            complain(format_args!(
                "FAILED: {} of {cameras}{off}, {} of {brokers}",
                failed.cameras, failed.brokers
            ));
            ExitCode::FAILURE
        }
    }
}

fn probe(file: Option<PathBuf>, options: &Probe) -> ExitCode {
    if options.discover {
        return discover(options.json);
    }
    // Addresses alone need no configuration, which the user may not be allowed to read.
    let optional = file.is_none() && !options.wanted.is_empty();
    let optional = optional && options.wanted.iter().all(|text| probe::is_url(text));
    let file = file.unwrap_or_else(default_file);
    let loaded = match optional {
        true => Config::load(&file).ok(),
        false => match load(&file) {
            Ok(loaded) => Some(loaded),
            Err(code) => return code,
        },
    };
    let config = loaded.as_ref().map(|loaded| &loaded.config);
    let cameras = match probe::select(config, &options.wanted) {
        Ok(cameras) => cameras,
        Err(error) => return finish(Err(error)),
    };
    let all = count(cameras.len(), "camera");
    complain(format_args!("asking {all}, 10 to 20 s each"));
    let mut printed = ExitCode::SUCCESS;
    let mut say = |text: &str| {
        if printed == ExitCode::SUCCESS {
            printed = print(text);
        }
    };
    let ffmpeg = config.map_or_else(|| PathBuf::from("ffmpeg"), |it| it.ffmpeg_path.clone());
    match probe::run(&cameras, ffmpeg, options.json, &mut say) {
        Ok(0) => {
            complain(format_args!("OK: {all}"));
            printed
        }
        Ok(failed) => {
            complain(format_args!("FAILED: {failed} of {all}"));
            ExitCode::FAILURE
        }
        Err(error) => finish(Err(format!("probe cannot start: {}", error_text(&error)))),
    }
}

fn discover(json: bool) -> ExitCode {
    let wait = probe::DISCOVER_PATIENCE.as_secs();
    complain(format_args!(
        "looking for cameras on the local network, {wait} s"
    ));
    let found = match probe::discover() {
        Ok(found) => found,
        Err(error) => return finish(Err(format!("discover: {}", error_text(&error)))),
    };
    let all = count(found.len(), "camera");
    complain(format_args!("{all} answered"));
    print(&probe::discovered(&found, json))
}

/// `1 camera`, `20 cameras`
fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

fn run(loaded: &Loaded, file: &Path) -> ExitCode {
    if let Err(error) = logging::start(&loaded.config.log) {
        complain(format_args!(
            "edge-video: cannot start the log: {}",
            error_text(&error)
        ));
        return ExitCode::FAILURE;
    }
    for warning in &loaded.warnings {
        log::warn!("{warning}");
    }
    let outcome = daemon::run(&loaded.config, &|| Config::load(file));
    if let Err(error) = &outcome {
        log::error!("cannot run: {}", error_text(error));
    }
    logging::flush();
    match outcome {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(_) => ExitCode::FAILURE,
    }
}

fn watch(file: Option<PathBuf>, broker: Named, mut options: watch::Options) -> ExitCode {
    options.amqp = match broker_of(broker) {
        Ok(broker) => broker,
        Err(error) => return finish(Err(error)),
    };
    let say = |text: &str| complain(text);
    // On a consumer's machine there is no configuration, and the broker's URL says all.
    if file.is_none() && options.amqp.is_some() && !default_file().exists() {
        return finish(watch::run(None, &options, &say));
    }
    load(&file.unwrap_or_else(default_file)).map_or_else(
        |code| code,
        |loaded| finish(watch::run(Some(&loaded.config), &options, &say)),
    )
}

/// The broker that is named outside of the configuration, if one is.
fn broker_of(named: Named) -> Result<Option<watch::Broker>, String> {
    let (named_by, url) = match named {
        Named::Url(url) => ("--amqp".to_owned(), url),
        Named::File(file) => {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(&file)
                .map_err(|error| format!("cannot read {name}: {}", error_text(&error)))?;
            (name, text.trim_end().to_owned())
        }
        Named::Elsewhere => match std::env::var(BROKER_VARIABLE) {
            Ok(url) => (BROKER_VARIABLE.to_owned(), url),
            Err(std::env::VarError::NotPresent) => return Ok(None),
            // Not its own words, which show the value.
            Err(_) => return Err(format!("{BROKER_VARIABLE} is not valid UTF-8")),
        },
    };
    Ok(Some(watch::Broker { named_by, url }))
}

fn finish(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("edge-video: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Not `print!`, which panics when the reader has gone (`edge-video check | head`); that is no
/// error.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format_args!(
                "edge-video: cannot write: {}",
                error_text(&error)
            ));
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// Says it on stderr without secrets: also what was mistyped may be a URL with a password in it.
fn complain(text: impl Display) {
    // stderr is closed, and there is no other place to say so.
    let _ = writeln!(io::stderr(), "{}", redact::clean(&text.to_string()));
}
