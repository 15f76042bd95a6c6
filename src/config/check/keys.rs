//! The keys that each section may have.

pub(in crate::config) const ROOT_KEYS: &[&str] = &[
    "fps",
    "quality",
    "passthrough",
    "pictures",
    "amqp",
    "video",
    "decode",
    "frozen",
    "adaptive_quality",
    "idle",
    "circuit_breaker",
    "memory_controller",
    "metadata",
    "cameras",
    "ffmpeg",
    "max_frame_bytes",
    "http",
    "log",
];
pub(in crate::config) const AMQP_KEYS: &[&str] = &[
    "url",
    "urls",
    "username",
    "password",
    "password_file",
    "tls",
    "exchange",
    "routing_key_prefix",
    "connections",
    "max_in_flight",
    "max_age",
    "confirm_timeout",
    "slow_publish",
    "heartbeat",
    "connect_timeout",
    "mandatory",
    "prefetch_count",
];
pub(in crate::config) const VIDEO_KEYS: &[&str] =
    &["exchange", "routing_key_prefix", "max_bytes", "max_age"];
pub(in crate::config) const FROZEN_KEYS: &[&str] = &["after", "restart"];
pub(in crate::config) const ADAPTIVE_QUALITY_KEYS: &[&str] = &["enabled", "max"];
pub(in crate::config) const IDLE_KEYS: &[&str] = &["after", "every"];
pub(in crate::config) const TLS_KEYS: &[&str] = &["ca_file", "cert_file", "key_file"];
pub(in crate::config) const CIRCUIT_BREAKER_KEYS: &[&str] = &[
    "enabled",
    "max_failures",
    "half_open_successes",
    "initial_backoff",
    "max_backoff",
    "backoff_multiplier",
    "reset_timeout",
];
pub(in crate::config) const MEMORY_CONTROLLER_KEYS: &[&str] = &[
    "enabled",
    "max_memory_mb",
    "warning_percent",
    "critical_percent",
    "emergency_percent",
    "gc_trigger_percent",
    "check_interval",
];
pub(in crate::config) const CAMERA_KEYS: &[&str] = &[
    "id",
    "url",
    "exchange",
    "routing_key",
    "passthrough",
    "pictures",
    "decode",
    "frozen",
    "fps",
    "quality",
    "width",
    "height",
    "transport",
    "stale_timeout",
    "first_frame_timeout",
    "username",
    "password",
    "password_file",
    "input_args",
    "output_args",
    "enabled",
];
pub(in crate::config) const METADATA_KEYS: &[&str] = &["enabled", "exchange", "frames"];
pub(in crate::config) const FFMPEG_KEYS: &[&str] = &["path"];
pub(in crate::config) const HTTP_KEYS: &[&str] = &["enabled", "listen", "hosts", "pictures"];
pub(in crate::config) const LOG_KEYS: &[&str] = &["level", "format", "summary"];
