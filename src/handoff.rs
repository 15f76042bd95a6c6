//! Between a camera's reader and its publisher: a ring of recycled buffers and a one-slot mailbox.

pub mod mailbox;
pub mod pool;
