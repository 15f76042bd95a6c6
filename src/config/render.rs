//! Writes the effective configuration as YAML.

mod paste;

pub use paste::Lines;

use super::raw::scalar;
use super::substitute::escape;
use super::units::{duration_text, size_text};
use super::{
    Audience, Camera, Config, Endpoint, Idle, LogFormat, MaxInFlight, Pictures, SourceKind,
    Transport,
};
use crate::redact::{self, percent_encode};
use std::fmt::Display;
use std::path::Path;

impl Config {
    /// The effective configuration, every default filled in, as YAML that loads again. Secrets are
    /// shown as `***`, and so is what follows the first path segment of an address and the value of
    /// an FFmpeg option that is not known to be harmless; without them it loads to an equal
    /// configuration.
    pub fn to_yaml(&self) -> String {
        let mut y = Yaml::default();
        self.amqp_yaml(&mut y);
        self.video_yaml(&mut y);
        self.idle.yaml(&mut y);

        y.section("adaptive_quality");
        y.entry("enabled", self.adaptive_quality.enabled);
        y.entry("max", self.adaptive_quality.max);
        y.end();

        let b = &self.circuit_breaker;
        y.section("circuit_breaker");
        y.entry("enabled", b.enabled);
        y.entry("max_failures", b.max_failures);
        y.entry("half_open_successes", b.half_open_successes);
        y.entry("initial_backoff", duration_text(b.initial_backoff));
        y.entry("max_backoff", duration_text(b.max_backoff));
        y.entry("backoff_multiplier", b.backoff_multiplier);
        y.entry("reset_timeout", duration_text(b.reset_timeout));
        y.end();

        let m = &self.memory_controller;
        y.section("memory_controller");
        y.entry("enabled", m.enabled);
        y.entry("max_memory_mb", m.max_memory_mb);
        y.entry("warning_percent", m.warning_percent);
        y.entry("critical_percent", m.critical_percent);
        y.entry("emergency_percent", m.emergency_percent);
        y.entry("gc_trigger_percent", m.gc_trigger_percent);
        y.entry("check_interval", duration_text(m.check_interval));
        y.end();

        y.section("metadata");
        y.entry("enabled", self.metadata.enabled);
        y.text("exchange", &self.metadata.exchange);
        y.entry("frames", self.metadata.frames);
        y.end();

        y.section("ffmpeg");
        y.path("path", &self.ffmpeg_path);
        y.end();
        y.entry("max_frame_bytes", size_text(self.max_frame_bytes));

        y.section("http");
        y.entry("enabled", self.http.enabled);
        y.text("listen", &self.http.listen.to_string());
        y.list("hosts", self.http.hosts.iter().cloned());
        let pictures = match self.http.pictures {
            Audience::Never => "never",
            Audience::Loopback => "loopback",
            Audience::Always => "always",
        };
        y.entry("pictures", pictures);
        y.end();

        y.section("log");
        y.text("level", &self.log.level.to_string().to_lowercase());
        let format = match self.log.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        y.entry("format", format);
        match self.log.summary {
            Some(every) => y.entry("summary", duration_text(every)),
            None => y.entry("summary", "off"),
        }
        y.end();

        y.section("cameras");
        for camera in &self.cameras {
            camera.yaml(&mut y);
        }
        y.out
    }

    fn amqp_yaml(&self, y: &mut Yaml) {
        let a = &self.amqp;
        y.section("amqp");
        match a.endpoints.as_slice() {
            [endpoint] => y.text("url", &endpoint.masked_url()),
            endpoints => y.list("urls", endpoints.iter().map(Endpoint::masked_url)),
        }
        let tls = [
            ("ca_file", &a.tls.ca_file),
            ("cert_file", &a.tls.cert_file),
            ("key_file", &a.tls.key_file),
        ];
        if tls.iter().any(|(_, file)| file.is_some()) {
            y.section("tls");
            for (key, file) in tls {
                if let Some(file) = file {
                    y.path(key, file);
                }
            }
            y.end();
        }
        y.text("exchange", &a.exchange);
        y.text("routing_key_prefix", &a.routing_key_prefix);
        y.entry("connections", a.connections);
        match a.max_in_flight {
            MaxInFlight::Auto => y.entry("max_in_flight", "auto"),
            MaxInFlight::Fixed(frames) => y.entry("max_in_flight", frames),
        }
        y.entry("max_age", duration_text(a.max_age));
        y.entry("confirm_timeout", duration_text(a.confirm_timeout));
        y.entry("slow_publish", duration_text(a.slow_publish));
        y.entry("heartbeat", duration_text(a.heartbeat));
        y.entry("connect_timeout", duration_text(a.connect_timeout));
        y.entry("mandatory", a.mandatory);
        y.end();
    }

    fn video_yaml(&self, y: &mut Yaml) {
        let v = &self.video;
        y.section("video");
        y.text("exchange", &v.exchange);
        y.text("routing_key_prefix", &v.routing_key_prefix);
        y.entry("max_bytes", size_text(v.max_bytes));
        y.entry("max_age", duration_text(v.max_age));
        y.end();
    }
}

impl Idle {
    fn yaml(&self, y: &mut Yaml) {
        y.section("idle");
        match self.after {
            Some(after) => y.entry("after", duration_text(after)),
            None => y.entry("after", "off"),
        }
        y.entry("every", duration_text(self.every));
        y.end();
    }
}

impl Camera {
    fn yaml(&self, y: &mut Yaml) {
        y.item();
        y.text("id", &self.id);
        let address = redact::address(self.source.address.expose());
        match self.source.kind {
            SourceKind::Lavfi => y.text("url", &format!("lavfi:{address}")),
            _ => y.text("url", &address),
        }
        self.settings(y);
        y.list("input_args", redact::arguments(&self.input_args));
        y.list("output_args", redact::arguments(&self.output_args));
        y.entry("enabled", self.enabled);
        y.end();
    }

    /// All keys that can hold no secret, but the id.
    fn settings(&self, y: &mut Yaml) {
        y.text("exchange", &self.exchange);
        y.text("routing_key", &self.routing_key);
        y.entry("passthrough", self.passthrough);
        let pictures = match self.pictures {
            Pictures::All => "all",
            Pictures::Keyframes => "keyframes",
            Pictures::None => "none",
        };
        y.entry("pictures", pictures);
        y.entry("decode", self.decode.name());
        y.section("frozen");
        match self.frozen.after {
            Some(after) => y.entry("after", duration_text(after)),
            None => y.entry("after", "off"),
        }
        y.entry("restart", self.frozen.restart);
        y.end();
        y.entry("fps", self.fps);
        // Absent, it means more than its default: see `Camera::may_be_copied`.
        if self.quality_is_chosen {
            y.entry("quality", self.quality);
        }
        if let Some(width) = self.width {
            y.entry("width", width);
        }
        if let Some(height) = self.height {
            y.entry("height", height);
        }
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Auto => "auto",
        };
        y.entry("transport", transport);
        y.entry("stale_timeout", duration_text(self.stale_timeout));
        y.entry(
            "first_frame_timeout",
            duration_text(self.first_frame_timeout),
        );
    }
}

impl Endpoint {
    /// Its URL; credentials are masked unless they are the ones of every new broker, which are left
    /// out as the default.
    fn masked_url(&self) -> String {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let default = Self::default();
        let is_default = self.username == default.username && self.password == default.password;
        let userinfo = if is_default {
            String::new()
        } else {
            format!("{}@", redact::MASK)
        };
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host.replace('%', "%25")),
            false => self.host.clone(),
        };
        let vhost = match self.vhost.as_str() {
            "/" => String::new(),
            vhost => percent_encode(vhost),
        };
        format!("{scheme}://{userinfo}{host}:{}/{vhost}", self.port)
    }
}

/// Block-style YAML, written top down: what this file needs and no more.
#[derive(Default)]
struct Yaml {
    out: String,
    depth: usize,
    /// The next entry begins an item of a list.
    dash: bool,
}

impl Yaml {
    fn section(&mut self, key: &str) {
        self.indent();
        self.out.push_str(key);
        self.out.push_str(":\n");
        self.depth += 1;
    }

    fn item(&mut self) {
        self.dash = true;
        self.depth += 1;
    }

    fn end(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn indent(&mut self) {
        let dash = std::mem::take(&mut self.dash);
        let blanks = self.depth.saturating_sub(usize::from(dash));
        self.out.push_str(&"  ".repeat(blanks));
        if dash {
            self.out.push_str("- ");
        }
    }

    /// A value that needs no quotes.
    fn entry(&mut self, key: &str, value: impl Display) {
        self.indent();
        self.out.push_str(&format!("{key}: {value}\n"));
    }

    fn text(&mut self, key: &str, text: &str) {
        self.entry(key, scalar(&escape(text)));
    }

    fn path(&mut self, key: &str, path: &Path) {
        // Paths come from YAML, which is UTF-8: nothing is lost.
        self.text(key, &path.to_string_lossy());
    }

    fn list(&mut self, key: &str, texts: impl IntoIterator<Item = String>) {
        self.escaped_list(key, texts.into_iter().map(|text| escape(&text)));
    }

    /// A list of texts in which `${` begins a variable.
    fn escaped_list(&mut self, key: &str, texts: impl IntoIterator<Item = String>) {
        let mut texts = texts.into_iter().peekable();
        if texts.peek().is_none() {
            return self.entry(key, "[]");
        }
        self.section(key);
        for text in texts {
            self.indent();
            self.out.push_str(&format!("- {}\n", scalar(&text)));
        }
        self.end();
    }
}
