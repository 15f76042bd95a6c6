//! Between a camera's reader and its publishers: for pictures a one-slot mailbox and a pool of
//! buffers, for video the queue in [`gops`]. [`peek`] copies a frame for the HTTP thread.

pub mod gops;
pub mod hurry;
pub mod mailbox;
pub mod peek;
pub mod pool;

/// The synchronisation that they use. In one place, because `races/loom.rs` compiles the same
/// source with a model of it, which tries every order in which threads can meet.
mod sync {
    pub(super) use crossbeam_utils::sync::Unparker;
    pub(super) use parking_lot::Mutex;
}
