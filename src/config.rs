//! The configuration, checked: whatever the rest of the program gets to see is within range.
//!
//! [`Config::load`] reads YAML (`raw`) key by key (`reader`) into the types of this file (`check`),
//! and complains about everything that is wrong at once. [`Config::to_yaml`] goes the way back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

mod address;
mod check;
mod decode;
mod defaults;
mod load;
mod raw;
mod reader;
mod render;
mod substitute;
#[cfg(test)]
mod tests;
pub mod tls;
mod units;

pub use decode::{Decode, Hardware};
pub use load::{ConfigError, ConfigErrors, Loaded};
pub use render::Lines;

/// A whole configuration, all defaults filled in and every value checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Every camera of the file, in its order, also those with `enabled: false`.
    pub cameras: Vec<Camera>,
    /// Broker and messages.
    pub amqp: Amqp,
    /// The cameras' own video, of those with `passthrough`.
    pub video: Video,
    /// Whether the quality of pictures follows the uplink.
    pub adaptive_quality: AdaptiveQuality,
    /// What becomes of a camera without a consumer.
    pub idle: Idle,
    /// After how many failures the next try of a camera waits.
    pub circuit_breaker: CircuitBreaker,
    /// Memory budget, and what is given up to stay within it.
    pub memory_controller: MemoryController,
    /// Events for programs that watch the cameras.
    pub metadata: Metadata,
    /// Metrics, health and status page.
    pub http: Http,
    /// What is logged, and how.
    pub log: Log,
    /// The FFmpeg program: a path, or a name that is looked up in PATH.
    pub ffmpeg_path: PathBuf,
    /// Larger frames are dropped and counted. Bytes.
    pub max_frame_bytes: usize,
}

/// One camera.
#[derive(Clone, PartialEq)]
pub struct Camera {
    /// Unique name, 1-64 of `A-Z a-z 0-9 . _ -`.
    pub id: Arc<str>,
    /// Where its pictures come from, credentials already in place.
    pub source: Source,
    /// Topic exchange, at most 255 bytes.
    pub exchange: String,
    /// Routing key, at most 255 bytes.
    pub routing_key: String,
    /// Whether the camera's own H.264 or H.265 is published too, not decoded.
    pub passthrough: bool,
    /// Which pictures are published as JPEGs; never none without `passthrough`.
    pub pictures: Pictures,
    /// Routing key of its video, at most 255 bytes.
    pub video_routing_key: String,
    /// What decodes its stream for the pictures.
    pub decode: Decode,
    /// When its picture counts as frozen.
    pub frozen: Frozen,
    /// What becomes of it without a consumer: [`Config::idle`].
    pub idle: Idle,
    /// About one picture is published in this time, whatever `fps` is. No key: set while the camera
    /// is idle.
    pub one_every: Option<Duration>,
    /// Frames per second published at most, 1-60.
    pub fps: u32,
    /// MJPEG quantiser, 2 (best) to 31.
    pub quality: u32,
    /// The user has chosen the quality, for this camera or for all.
    pub quality_is_chosen: bool,
    /// Width in pixels to scale to.
    pub width: Option<u32>,
    /// Height in pixels to scale to.
    pub height: Option<u32>,
    /// RTSP transport.
    pub transport: Transport,
    /// FFmpeg counts as hung after this time without a frame.
    pub stale_timeout: Duration,
    /// The same for the first frame after a start.
    pub first_frame_timeout: Duration,
    /// Extra FFmpeg arguments before `-i`.
    pub input_args: Vec<String>,
    /// Extra FFmpeg arguments after our own output options.
    pub output_args: Vec<String>,
    /// `false`: parsed and checked, not run.
    pub enabled: bool,
}

impl Camera {
    /// Whether its pictures are published in one size, whatever the camera's.
    pub fn has_fixed_size(&self) -> bool {
        self.width.is_some() && self.height.is_some()
    }

    /// The first of the user's own arguments that chooses a decoder, if one does.
    pub fn decoder_argument(&self) -> Option<&str> {
        let chooses = |arg: &str| {
            let option = arg.split(':').next().unwrap_or_default();
            matches!(option, "-hwaccel" | "-c" | "-codec" | "-vcodec")
        };
        let mut args = self.input_args.iter().map(String::as_str);
        args.find(|arg| chooses(arg))
    }

    /// Whether its JPEGs may be published as it sends them, if it sends JPEGs: nothing else is
    /// asked of them.
    pub fn may_be_copied(&self) -> bool {
        let kind = matches!(self.source.kind, SourceKind::Http | SourceKind::V4l2);
        let any_size = self.width.is_none() && self.height.is_none();
        kind && any_size
            && !self.quality_is_chosen
            && self.output_args.is_empty()
            && self.frozen.after.is_none()
    }

    /// What is captured of it while it is idle: of its pictures only keyframes, and few of them.
    pub fn while_idle(&self) -> Self {
        let pictures = match self.pictures {
            Pictures::All | Pictures::Keyframes => Pictures::Keyframes,
            Pictures::None => Pictures::None,
        };
        Self {
            pictures,
            one_every: Some(self.idle.every),
            ..self.clone()
        }
    }

    /// `stale_timeout`, or what replaces it while the camera is idle and its pictures are rare.
    pub fn stale_timeout_if(&self, idle: bool) -> Duration {
        match idle && self.pictures != Pictures::None {
            true => self.stale_timeout.max(IDLE_STALE_TIMEOUT),
            false => self.stale_timeout,
        }
    }
}

/// Two pictures of an idle camera are at most 30 s apart, by the largest `idle.every` or by the
/// longest distance of keyframes that cameras have. The status page warns at half of this time.
const IDLE_STALE_TIMEOUT: Duration = Duration::from_secs(75);

impl std::fmt::Debug for Camera {
    /// As derived, but without the secrets that may be among FFmpeg's arguments.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use crate::redact::arguments;
        f.debug_struct("Camera")
            .field("id", &self.id)
            .field("source", &self.source)
            .field("exchange", &self.exchange)
            .field("routing_key", &self.routing_key)
            .field("passthrough", &self.passthrough)
            .field("pictures", &self.pictures)
            .field("video_routing_key", &self.video_routing_key)
            .field("decode", &self.decode)
            .field("frozen", &self.frozen)
            .field("idle", &self.idle)
            .field("one_every", &self.one_every)
            .field("fps", &self.fps)
            .field("quality", &self.quality)
            .field("quality_is_chosen", &self.quality_is_chosen)
            .field("width", &self.width)
            .field("height", &self.height)
            .field("transport", &self.transport)
            .field("stale_timeout", &self.stale_timeout)
            .field("first_frame_timeout", &self.first_frame_timeout)
            .field("input_args", &arguments(&self.input_args))
            .field("output_args", &arguments(&self.output_args))
            .field("enabled", &self.enabled)
            .finish()
    }
}

/// Where a camera's pictures come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// What kind of address it is; decides FFmpeg's input options.
    pub kind: SourceKind,
    /// What FFmpeg gets after `-i`: the URL with credentials, the path, or the lavfi graph.
    pub address: Secret,
    /// Host that is asked for pictures, if any: connects to one host are spaced.
    pub host: Option<String>,
}

/// Kind of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// `rtsp://`, `rtsps://`
    Rtsp,
    /// `rtmp://`, `rtmps://`
    Rtmp,
    /// `http://`, `https://`
    Http,
    /// A file: played at its own speed, looped.
    File,
    /// `/dev/video*`
    V4l2,
    /// `lavfi:GRAPH`: FFmpeg's own test sources.
    Lavfi,
}

/// RTSP transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Interleaved in the RTSP connection.
    Tcp,
    /// RTP over UDP.
    Udp,
    /// What FFmpeg chooses.
    Auto,
}

/// Which pictures of a camera are published as JPEGs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pictures {
    /// All, at `fps` at most.
    All,
    /// Of the stream's keyframes only, the only ones that are decoded.
    Keyframes,
    /// None.
    None,
}

/// When a camera's picture counts as frozen, and what follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Frozen {
    /// If pictures come and do not change for this time; `None`: never.
    pub after: Option<Duration>,
    /// Whether FFmpeg is restarted then.
    pub restart: bool,
}

/// Broker and messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Amqp {
    /// Brokers, tried in turn; at least one.
    pub endpoints: Vec<Endpoint>,
    /// Private CA and client certificate.
    pub tls: Tls,
    /// Default topic exchange.
    pub exchange: String,
    /// Put before a camera's id to make its routing key.
    pub routing_key_prefix: String,
    /// Connections that the cameras are spread over; 0 = one per camera.
    pub connections: usize,
    /// Unconfirmed frames per camera.
    pub max_in_flight: MaxInFlight,
    /// A frame older than this is not sent.
    pub max_age: Duration,
    /// After this time without a confirm, the connection is closed and made again.
    pub confirm_timeout: Duration,
    /// Slower than this from capture to confirm counts as slow.
    pub slow_publish: Duration,
    /// AMQP heartbeat interval; whole seconds.
    pub heartbeat: Duration,
    /// For reaching one broker: name lookup, TCP, TLS and login, over all its addresses together.
    /// Also for the opening of a channel.
    pub connect_timeout: Duration,
    /// Count frames that reach no queue as returned.
    pub mandatory: bool,
}

/// One broker's address.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// `amqps`
    pub tls: bool,
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Virtual host.
    pub vhost: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

impl std::fmt::Display for Endpoint {
    /// `host:port/vhost`, never with credentials: what logs and errors call this broker.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = &self.host;
        if host.contains(':') {
            write!(f, "[{host}]:{}", self.port)?;
        } else {
            write!(f, "{host}:{}", self.port)?;
        }
        match self.vhost.as_str() {
            "/" => Ok(()),
            vhost => write!(f, "/{vhost}"),
        }
    }
}

/// TLS files for `amqps`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tls {
    /// PEM file of a private CA.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client certificate chain.
    pub cert_file: Option<PathBuf>,
    /// PEM file of the client's key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key_file: Option<PathBuf>,
}

/// The window of unconfirmed frames per camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxInFlight {
    /// Follows the broker's confirm latency.
    Auto,
    /// Always this many.
    Fixed(usize),
}

/// The cameras' own video, of those with `passthrough`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Video {
    /// Topic exchange that it goes to, at most 255 bytes. If a camera has `passthrough`, no
    /// pictures and no events go there.
    pub exchange: String,
    /// Put before a camera's id to make the routing key of its video.
    pub routing_key_prefix: String,
    /// What may wait of a camera's newest group of pictures. Bytes.
    pub max_bytes: usize,
    /// A unit older than this is not sent.
    pub max_age: Duration,
}

/// Whether the quality of pictures follows the uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveQuality {
    /// Whether it does.
    pub enabled: bool,
    /// The largest MJPEG quantiser that is set for it, 2-31.
    pub max: u32,
}

/// What becomes of a camera without a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idle {
    /// Without a consumer for this time it is idle; `None`: never.
    pub after: Option<Duration>,
    /// About one picture of an idle camera is published in this time.
    pub every: Duration,
}

/// After how many failures the next try of a camera waits, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct CircuitBreaker {
    /// Whether it may open at all.
    pub enabled: bool,
    /// Consecutive failed sessions that open it. A session with frames for 3 s is no failure.
    pub max_failures: u32,
    /// Frames in the trial session that close it.
    pub half_open_successes: u32,
    /// How long it stays open the first time.
    pub initial_backoff: Duration,
    /// And at most.
    pub max_backoff: Duration,
    /// From one opening to the next.
    pub backoff_multiplier: f64,
    /// After frames for this time without a failure, the failures and the grown backoff are
    /// forgotten.
    pub reset_timeout: Duration,
}

/// Memory budget of the daemon and its FFmpeg children.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryController {
    /// Whether it acts.
    pub enabled: bool,
    /// Budget in MB (10^6 bytes); 0 = the cgroup's limit, else 80 % of RAM.
    pub max_memory_mb: u64,
    /// Level 1, per cent of the budget.
    pub warning_percent: f64,
    /// Level 2.
    pub critical_percent: f64,
    /// Level 3.
    pub emergency_percent: f64,
    /// From here idle buffers go back to the system.
    pub gc_trigger_percent: f64,
    /// How often it looks.
    pub check_interval: Duration,
}

/// Events for programs that watch the cameras.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Whether they are sent.
    pub enabled: bool,
    /// Topic exchange that they go to, at most 255 bytes; no camera's.
    pub exchange: String,
    /// One for each published frame too.
    pub frames: bool,
}

/// Metrics, health and status page.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// Whether it listens.
    pub enabled: bool,
    /// Where.
    pub listen: std::net::SocketAddr,
    /// Further names and addresses under which it may be asked.
    pub hosts: Vec<String>,
    /// Who may see pictures.
    pub pictures: Audience,
}

/// Who may see pictures over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Nobody.
    Never,
    /// Clients on this machine.
    Loopback,
    /// Everybody who reaches the listener.
    Always,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `RUST_LOG` takes precedence over this.
    pub level: log::LevelFilter,
    /// Text for people, JSON for machines.
    pub format: LogFormat,
    /// How often the log sums up what the cameras do; `None`: never.
    pub summary: Option<Duration>,
}

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// level, camera, message
    Text,
    /// One object a line.
    Json,
}

/// A text that never shows: not in `Debug`, not in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For the one place that must hand it over.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
