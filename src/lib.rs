//! Carries live camera pictures from small edge boards into RabbitMQ.

pub mod backoff;
pub mod breaker;
pub mod capture;
pub mod clock;
pub mod config;
pub mod frame;
pub mod handoff;
pub mod logging;
pub mod metrics;
pub mod redact;
pub mod repeat;
pub mod shutdown;
