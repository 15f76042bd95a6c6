//! The built-in defaults. The shipped `config.yaml` names them too; a test holds the two together.

use super::{
    AdaptiveQuality, Amqp, Audience, CircuitBreaker, Decode, Endpoint, Http, Idle, Log, LogFormat,
    MaxInFlight, MemoryController, Metadata, Pictures, Secret, Tls, Video,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

pub(super) const FPS: u32 = 15;
pub(super) const QUALITY: u32 = 5;
pub(super) const PASSTHROUGH: bool = false;
pub(super) const PICTURES: Pictures = Pictures::All;
/// Until the hardware decoders have run on real hardware.
pub(super) const DECODE: Decode = Decode::Software;
pub(super) const FFMPEG_PATH: &str = "ffmpeg";
pub(super) const MAX_FRAME_BYTES: usize = 8 << 20;
pub(super) const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(20);

/// What a broker accepts from its own machine when it is newly installed; no secret.
pub(super) const GUEST: &str = "guest";

/// Ten frames late, but at least 5 s: slower cameras are no less alive. With keyframes only and no
/// video beside them, nothing is seen from one keyframe to the next: cameras with a "smart codec"
/// send one every 30 s at the most.
pub(super) fn stale_timeout(fps: u32, passthrough: bool, pictures: Pictures) -> Duration {
    match (passthrough, pictures) {
        (false, Pictures::Keyframes) => Duration::from_secs(45),
        _ => (Duration::from_secs(10) / fps.max(1)).max(Duration::from_secs(5)),
    }
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

impl Default for Video {
    fn default() -> Self {
        Self {
            exchange: "cameras.video".to_owned(),
            routing_key_prefix: "video.".to_owned(),
            max_bytes: 4 << 20,
            max_age: Duration::from_secs(4),
        }
    }
}

impl Default for AdaptiveQuality {
    fn default() -> Self {
        Self {
            enabled: false,
            max: 15,
        }
    }
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            after: None,
            every: Duration::from_secs(10),
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
            pictures: Audience::Loopback,
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
        let seconds =
            |fps, passthrough, pictures| stale_timeout(fps, passthrough, pictures).as_secs_f64();
        assert_eq!(seconds(1, false, Pictures::All), 10.0);
        assert_eq!(seconds(2, false, Pictures::All), 5.0);
        assert_eq!(seconds(15, false, Pictures::All), 5.0);
        assert_eq!(seconds(15, false, Pictures::Keyframes), 45.0);
        assert_eq!(seconds(15, true, Pictures::Keyframes), 5.0, "its video");
        assert_eq!(seconds(1, true, Pictures::None), 10.0);
    }
}
