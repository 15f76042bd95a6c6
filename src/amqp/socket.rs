//! The socket of a connection, for those who may have to end it from outside.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

/// The way to free whoever is blocked in a connection: abort it from outside.
#[derive(Debug, Clone)]
pub struct Socket(pub(super) Arc<TcpStream>);

impl Socket {
    /// Ends the connection at once, for both sides and every thread, and takes back what has not left
    /// this machine.
    pub fn cut(&self) {
        // After shutdown(2) alone the kernel goes on sending what it holds: over a slow link these old
        // frames would arrive after newer ones. So the connection is reset first; the shutdown then
        // wakes who waits to read. Each fails only when it is down already.
        let _ = rustix::net::connect_unspec(&self.0);
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
