//! Carries live camera pictures from small edge boards into RabbitMQ.

pub mod backoff;
pub mod breaker;
pub mod broker;
pub mod capture;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod frame;
pub mod handoff;
pub mod logging;
pub mod message;
pub mod metrics;
pub mod publish;
pub mod redact;
pub mod repeat;
pub mod shutdown;
pub mod status;
pub mod watch;
