//! Integration tests, one module per behaviour.

// A test says what it expects: a helper that cannot go on must fail the test at once. And a test
// binary exports nothing, so `pub` is the simpler word inside it.
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
mod corpus;
mod dashboards;
mod documents;
mod events;
mod frames;
mod guides;
mod hostile_broker;
mod http;
mod image;
mod layout;
mod log;
mod memory;
mod names;
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
mod watch;
