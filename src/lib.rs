//! Publishes live camera pictures from small boards to RabbitMQ.
//!
//! The path of a frame, in the order of the modules below:
//!
//! ```text
//! camera --> FFmpeg --mpjpeg--> capture --> handoff --> publish --> amqp --> RabbitMQ
//!                              (reader     (mailbox,   (publisher   (amiquip)
//!                               thread)     pool)       thread)
//! ```
//!
//! Each camera has two threads and nothing in common with another camera but its connection. The
//! reader never touches the network, the publisher never touches FFmpeg, and between them the
//! newest frame wins: a slow broker costs frames, never memory, never another camera.
//!
//! `ARCHITECTURE.md` has the threads with what wakes each, the invariants and the choices.

// The path of a frame.
pub mod capture;
pub mod frame;
pub mod handoff;
pub mod publish;
pub mod snapshot;

pub mod amqp;
pub mod message;

// What runs it, and what looks at it from the other end.
pub mod check;
pub mod config;
pub mod daemon;
pub mod probe;
pub mod quality;
pub mod uplink;
pub mod watch;

// What shows how it is.
pub mod events;
pub mod http;
pub mod overview;
pub mod summary;
pub mod systemd;

// When to try again, and when to do less.
pub mod backoff;
pub mod breaker;
pub mod idle;

// What all of them share.
pub mod clock;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod os_error;
pub mod redact;
pub mod repeat;
pub mod shutdown;
pub mod status;
pub mod system;
