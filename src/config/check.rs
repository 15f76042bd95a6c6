//! Turns the tree of the file into a [`Config`]: checks every key and its range, and sets the
//! defaults.

mod amqp;
mod cameras;
mod decode;
mod frozen;
mod idle;
pub(super) mod keys;
mod login;
mod names;
mod video;

use super::raw::Node;
use super::reader::{Item, Reader, Section};
use super::units::{duration_text, parse_duration};
use super::{
    AdaptiveQuality, Audience, Camera, CircuitBreaker, Config, Frozen, Http, Log, LogFormat,
    MemoryController, Metadata, defaults,
};
use keys::{
    ADAPTIVE_QUALITY_KEYS, CIRCUIT_BREAKER_KEYS, FFMPEG_KEYS, HTTP_KEYS, LOG_KEYS,
    MEMORY_CONTROLLER_KEYS, METADATA_KEYS, ROOT_KEYS,
};
use names::exchange;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Smaller than 64 KiB refuses ordinary pictures; each camera has three buffers that may grow to
/// this size, and 64 MiB is more than an 8K picture of the best quality has.
const MAX_FRAME_BYTES: RangeInclusive<usize> = (64 << 10)..=(64 << 20);

/// FFmpeg's quantisers for JPEGs.
const QUALITY: RangeInclusive<u32> = 2..=31;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const TENTH: Duration = Duration::from_millis(100);

/// The configuration, with a default in place of each wrong value. It may be used only if `r` has
/// collected no problems.
pub(super) fn check(r: &mut Reader<'_>, root: &Node) -> Config {
    let root = r.root(root, ROOT_KEYS);
    let fps = r.int(root.get("fps").as_ref(), 1..=60, defaults::FPS);
    let quality = r.int(root.get("quality").as_ref(), QUALITY, defaults::QUALITY);
    let passthrough = r.bool(root.get("passthrough").as_ref(), defaults::PASSTHROUGH);
    let pictures = video::pictures(r, root.get("pictures").as_ref(), defaults::PICTURES);
    let decode = decode::decode(r, root.get("decode").as_ref(), defaults::DECODE);
    let amqp = amqp::amqp(r, &root);
    let (video, video_exchange_at) = video::video(r, &root);
    let frozen = frozen::frozen(r, &root, Frozen::default());
    let adaptive_quality = adaptive_quality(r, &root);
    let idle = idle::idle(r, &root);
    let circuit_breaker = circuit_breaker(r, &root);
    let memory_controller = memory_controller(r, &root);
    let cameras = cameras::cameras(
        r,
        &root,
        &cameras::Globals {
            fps,
            quality,
            // Steps of the quality are for pictures that we encode.
            quality_is_chosen: root.get("quality").is_some() || adaptive_quality.enabled,
            passthrough,
            pictures,
            decode,
            amqp: &amqp,
            video: &video,
            frozen,
            idle,
        },
    );
    let metadata = metadata(r, &root, &cameras);
    video::has_its_own_exchange(r, (&video, video_exchange_at), (&amqp, &cameras, &metadata));
    let ffmpeg = r.section(&root, "ffmpeg", FFMPEG_KEYS);
    let ffmpeg_path = r.text(ffmpeg.get("path").as_ref());
    let max_frame_bytes = r.size(
        root.get("max_frame_bytes").as_ref(),
        MAX_FRAME_BYTES,
        defaults::MAX_FRAME_BYTES,
    );
    Config {
        cameras,
        amqp,
        video,
        adaptive_quality,
        idle,
        circuit_breaker,
        memory_controller,
        metadata,
        http: http(r, &root),
        log: log(r, &root),
        ffmpeg_path: ffmpeg_path
            .unwrap_or_else(|| defaults::FFMPEG_PATH.to_owned())
            .into(),
        max_frame_bytes,
    }
}

fn adaptive_quality(r: &mut Reader<'_>, root: &Section<'_>) -> AdaptiveQuality {
    let s = r.section(root, "adaptive_quality", ADAPTIVE_QUALITY_KEYS);
    let d = AdaptiveQuality::default();
    AdaptiveQuality {
        enabled: r.bool(s.get("enabled").as_ref(), d.enabled),
        max: r.int(s.get("max").as_ref(), QUALITY, d.max),
    }
}

fn circuit_breaker(r: &mut Reader<'_>, root: &Section<'_>) -> CircuitBreaker {
    let s = r.section(root, "circuit_breaker", CIRCUIT_BREAKER_KEYS);
    let d = CircuitBreaker::default();
    let before = r.problems.len();
    let initial = s.get("initial_backoff");
    let breaker = CircuitBreaker {
        enabled: r.bool(s.get("enabled").as_ref(), d.enabled),
        max_failures: r.int(s.get("max_failures").as_ref(), 1..=1000, d.max_failures),
        half_open_successes: r.int(
            s.get("half_open_successes").as_ref(),
            1..=1000,
            d.half_open_successes,
        ),
        initial_backoff: r.duration(initial.as_ref(), TENTH..=DAY, d.initial_backoff),
        max_backoff: r.duration(s.get("max_backoff").as_ref(), TENTH..=DAY, d.max_backoff),
        backoff_multiplier: r.float(
            s.get("backoff_multiplier").as_ref(),
            1.0..=10.0,
            d.backoff_multiplier,
        ),
        reset_timeout: r.duration(
            s.get("reset_timeout").as_ref(),
            TENTH..=DAY,
            d.reset_timeout,
        ),
    };
    if r.problems.len() == before && breaker.initial_backoff > breaker.max_backoff {
        let item = initial.or_else(|| s.get("max_backoff"));
        r.problem(
            item.map_or(s.at, |item| item.at),
            "circuit_breaker.initial_backoff",
            format!(
                "{} is longer than max_backoff ({}); lower it, or raise max_backoff",
                duration_text(breaker.initial_backoff),
                duration_text(breaker.max_backoff)
            ),
        );
    }
    breaker
}

fn memory_controller(r: &mut Reader<'_>, root: &Section<'_>) -> MemoryController {
    let s = r.section(root, "memory_controller", MEMORY_CONTROLLER_KEYS);
    let d = MemoryController::default();
    let before = r.problems.len();
    let mut percent = |key, default| r.float(s.get(key).as_ref(), 1.0..=100.0, default);
    let warning_percent = percent("warning_percent", d.warning_percent);
    let critical_percent = percent("critical_percent", d.critical_percent);
    let emergency_percent = percent("emergency_percent", d.emergency_percent);
    let gc_trigger_percent = percent("gc_trigger_percent", d.gc_trigger_percent);
    let rising = warning_percent < critical_percent && critical_percent < emergency_percent;
    if r.problems.len() == before && !rising {
        r.problem(
            s.at,
            &s.key,
            format!(
                "{warning_percent}, {critical_percent}, {emergency_percent} must rise: \
                 warning_percent < critical_percent < emergency_percent"
            ),
        );
    }
    MemoryController {
        enabled: r.bool(s.get("enabled").as_ref(), d.enabled),
        max_memory_mb: r.int(
            s.get("max_memory_mb").as_ref(),
            0..=1_000_000,
            d.max_memory_mb,
        ),
        warning_percent,
        critical_percent,
        emergency_percent,
        gc_trigger_percent,
        check_interval: r.duration(
            s.get("check_interval").as_ref(),
            TENTH..=HOUR,
            d.check_interval,
        ),
    }
}

fn metadata(r: &mut Reader<'_>, root: &Section<'_>, cameras: &[Camera]) -> Metadata {
    let s = r.section(root, "metadata", METADATA_KEYS);
    let d = Metadata::default();
    let item = s.get("exchange");
    let metadata = Metadata {
        enabled: r.bool(s.get("enabled").as_ref(), d.enabled),
        exchange: exchange(r, item.as_ref()).unwrap_or(d.exchange),
        frames: r.bool(s.get("frames").as_ref(), d.frames),
    };
    // A consumer that binds a queue for pictures to all of that exchange would get events too.
    // amq.topic is the broker's own and always shared: all that MQTT clients read passes through
    // it.
    let taken = |camera: &Camera| camera.enabled && camera.exchange == metadata.exchange;
    if metadata.enabled
        && metadata.exchange != "amq.topic"
        && let Some(n) = cameras.iter().position(taken)
    {
        r.problem(
            item.map_or(s.at, |item| item.at),
            "metadata.exchange",
            format!(
                "\"{}\" is already used by cameras[{n}]; choose a different exchange",
                metadata.exchange
            ),
        );
    }
    metadata
}

fn http(r: &mut Reader<'_>, root: &Section<'_>) -> Http {
    let s = r.section(root, "http", HTTP_KEYS);
    let d = Http::default();
    Http {
        enabled: r.bool(s.get("enabled").as_ref(), d.enabled),
        listen: r.parsed(
            s.get("listen").as_ref(),
            |text| text.parse::<SocketAddr>().ok(),
            "write ADDRESS:PORT such as 127.0.0.1:2112 or [::1]:2112",
            d.listen,
        ),
        hosts: hosts(r, s.get("hosts").as_ref()),
        pictures: r.choice(
            s.get("pictures").as_ref(),
            &[
                ("never", Audience::Never),
                ("loopback", Audience::Loopback),
                ("always", Audience::Always),
            ],
            d.pictures,
        ),
    }
}

/// The names of `http.hosts`, as a Host header has them without its port.
fn hosts(r: &mut Reader<'_>, item: Option<&Item<'_>>) -> Vec<String> {
    let is_name = |text: &str| {
        // 253: the longest name that DNS has.
        (1..=253).contains(&text.len())
            && (text.parse::<IpAddr>().is_ok()
                || text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')))
    };
    let items = r.list(item, "names such as board.lan");
    let parsed = items.iter().filter_map(|item| {
        r.parsed(
            Some(item),
            |text| is_name(text).then(|| Some(text.to_owned())),
            "write a name or an address without scheme and port, such as board.lan",
            None,
        )
    });
    parsed.collect()
}

fn log(r: &mut Reader<'_>, root: &Section<'_>) -> Log {
    use log::LevelFilter;
    let s = r.section(root, "log", LOG_KEYS);
    let d = Log::default();
    Log {
        level: r.choice(
            s.get("level").as_ref(),
            &[
                ("off", LevelFilter::Off),
                ("error", LevelFilter::Error),
                ("warn", LevelFilter::Warn),
                ("info", LevelFilter::Info),
                ("debug", LevelFilter::Debug),
                ("trace", LevelFilter::Trace),
            ],
            d.level,
        ),
        format: r.choice(
            s.get("format").as_ref(),
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            d.format,
        ),
        summary: r.parsed(
            s.get("summary").as_ref(),
            |text| off_or(text, &(SECOND..=DAY)),
            "off or 1s to 24h is allowed",
            d.summary,
        ),
    }
}

/// `off`, or a duration within `range`.
fn off_or(text: &str, range: &RangeInclusive<Duration>) -> Option<Option<Duration>> {
    match text {
        "off" => Some(None),
        _ => parse_duration(text)
            .filter(|duration| range.contains(duration))
            .map(Some),
    }
}
