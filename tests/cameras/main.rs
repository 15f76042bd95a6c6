//! Every camera's pictures are right: real FFmpeg against played cameras whose pictures carry their
//! number. `cargo test` runs the essential cases, `make cameras` all of them, and writes
//! docs/cameras.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

#[path = ".."]
mod tests {
    pub mod support;
}
use tests::support;

mod changes;
mod clip;
mod colours;
mod endings;
mod http;
mod lab_works;
mod late;
mod loss;
mod outcome;
mod passthrough;
mod picture;
mod player;
mod rtp;
mod rtsp;
mod sdp;
mod snapshots;
mod stamps;
mod start;
mod table;
mod trial;
mod web;
