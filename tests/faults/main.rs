//! The fault laboratory: `make faults`. Each fault is one test; what all have in common is in
//! [`lab`], and what they found is written to `docs/faults.md`.

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

mod broker;
mod camera;
mod endurance;
mod lab;
mod machine;
mod table;
mod uplink;
mod video;
