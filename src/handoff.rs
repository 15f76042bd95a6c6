//! Between a camera's reader and its publisher: a ring of recycled buffers and a one-slot mailbox; and
//! beside them the peephole for those who look.

pub mod hurry;
pub mod mailbox;
pub mod peek;
pub mod pool;

/// What they are made of. Named in one place because `races/loom.rs` compiles the same source with a
/// model of these, which tries every order in which threads can meet there.
mod sync {
    pub(super) use crossbeam_utils::sync::Unparker;
    pub(super) use parking_lot::Mutex;
}
