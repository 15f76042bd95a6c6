//! The built-in defaults. The shipped `config.yaml` names them too; a test holds the two together.

use super::{
    Amqp, CircuitBreaker, Endpoint, Http, Log, LogFormat, MaxInFlight, MemoryController, Metadata,
    Pictures, Secret, Tls,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

pub(super) const FPS: u32 = 15;
pub(super) const QUALITY: u32 = 5;
pub(super) const FFMPEG_PATH: &str = "ffmpeg";
pub(super) const MAX_FRAME_BYTES: usize = 8 << 20;
pub(super) const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(20);

/// What a broker accepts from its own machine when it is newly installed; no secret.
pub(super) const GUEST: &str = "guest";

/// Ten frames late, but at least 5 s: slower cameras are no less alive.
pub(super) fn stale_timeout(fps: u32) -> Duration {
    (Duration::from_secs(10) / fps.max(1)).max(Duration::from_secs(5))
}

impl Default for Amqp {
    fn default() -> Self {
        Self {
            endpoints: vec![Endpoint::default()],
            tls: Tls::default(),
            exchange: "cameras".to_owned(),
            routing_key_prefix: "camera.".to_owned(),
            connections: 1,
            max_in_flight: MaxInFlight::Auto,
            max_age: Duration::from_secs(1),
            confirm_timeout: Duration::from_secs(5),
            slow_publish: Duration::from_millis(100),
            heartbeat: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            mandatory: false,
        }
    }
}

impl Default for Endpoint {
    /// `amqp://guest:guest@127.0.0.1:5672/`
    fn default() -> Self {
        Self {
            tls: false,
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: 5672,
            vhost: "/".to_owned(),
            username: GUEST.to_owned(),
            password: Secret::new(GUEST),
        }
    }
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            enabled: true,
            max_failures: 5,
            half_open_successes: 3,
            initial_backoff: Duration::from_secs(5),
            max_backoff: Duration::from_secs(5 * 60),
            backoff_multiplier: 2.0,
            reset_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for MemoryController {
    fn default() -> Self {
        Self {
            enabled: true,
            max_memory_mb: 0,
            warning_percent: 60.0,
            critical_percent: 75.0,
            emergency_percent: 85.0,
            gc_trigger_percent: 70.0,
            check_interval: Duration::from_secs(15),
        }
    }
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            enabled: false,
            exchange: "camera.metadata".to_owned(),
            frames: false,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 2112)),
            hosts: Vec::new(),
            pictures: Pictures::Loopback,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: log::LevelFilter::Info,
            format: LogFormat::Text,
            summary: Some(Duration::from_secs(30)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_camera_is_waited_for_longer() {
        assert_eq!(stale_timeout(1), Duration::from_secs(10));
        assert_eq!(stale_timeout(2), Duration::from_secs(5));
        assert_eq!(stale_timeout(15), Duration::from_secs(5));
    }
}
