//! Between a camera's reader and its publisher: a ring of recycled buffers and a one-slot mailbox; and
//! beside them the peephole for those who look.

pub mod mailbox;
pub mod peek;
pub mod pool;
