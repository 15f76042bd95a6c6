//! Integration tests, one module per behaviour.

// A helper that cannot continue must fail the test at once. A test binary exports nothing, so `pub`
// is enough inside it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod allocations;
mod broker_faults;
mod broker_limits;
mod browser;
mod camera_faults;
mod command_line;
mod connect;
mod consumers;
mod corpus;
mod dashboards;
mod decode;
mod documents;
mod events;
mod frames;
mod frozen;
mod guides;
mod hostile_broker;
mod http;
mod idle;
mod image;
mod layout;
mod log;
mod memory;
mod names;
mod probe;
mod quality;
mod reload;
mod secrets;
mod shutdown;
mod soak;
mod sources;
mod support;

mod support_works;
mod systemd;
mod tls;
mod uplink;
mod video;
mod video_view;
mod watch;
mod watch_video;
