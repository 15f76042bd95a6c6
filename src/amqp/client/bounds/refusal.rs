//! The reasons for which `bounds.rs` ends a connection, as text for the log.

use super::tables::{DEEPEST, MOST_VALUES};
use std::fmt::{self, Display};

/// Why a connection is ended: what the broker sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Another version of AMQP: its name.
    Version(String),
    /// Another protocol: its name.
    Protocol(&'static str),
    /// TLS, on a connection without.
    Tls,
    /// Something else: its first bytes, printable.
    Unknown(String),
    /// A frame that announces too many bytes: how many, and how many are allowed.
    Size(usize, usize),
    /// A frame whose last byte is not the end mark.
    End,
    /// A frame of a type that AMQP does not have, or not on this channel.
    Kind(u8, u16),
    /// A method, by class and number, that a broker does not send, or not on this channel or not
    /// now.
    Method(u16, u16, u16),
    /// Tables or arrays nested too deeply.
    Nesting,
    /// Too many values.
    Values,
    /// A table that is cut off or holds a value of an unknown type.
    Table,
    /// The end of the connection in the middle of a frame.
    Cut,
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(
                f,
                "the broker speaks AMQP {version}: AMQP 0-9-1 is needed; check the port"
            ),
            Self::Protocol(name) => write!(
                f,
                "no AMQP broker: an {name} server answers; check host and port"
            ),
            Self::Tls => {
                f.write_str("the broker requires TLS on this port: use amqps:// in the URL")
            }
            Self::Unknown(bytes) => write!(
                f,
                "no AMQP broker: the answer begins with \"{bytes}\"; check host and port"
            ),
            Self::Size(size, most) => write!(
                f,
                "the broker announced a frame of {size} bytes: at most {most} are allowed; \
                 connection closed"
            ),
            Self::End => f.write_str(
                "the broker sent a frame without an end mark: the data is damaged or not AMQP; \
                 connection closed",
            ),
            Self::Kind(kind, channel) => write!(
                f,
                "the broker sent a frame of type {kind} on channel {channel}: the data is damaged \
                 or not AMQP; connection closed"
            ),
            Self::Method(class, method, channel) => write!(
                f,
                "the broker sent method {class}.{method} on channel {channel}: it is not allowed \
                 there; connection closed"
            ),
            Self::Nesting => write!(
                f,
                "the broker's server properties are nested more than {DEEPEST} deep; \
                 connection closed"
            ),
            Self::Values => write!(
                f,
                "the broker's server properties contain more than {MOST_VALUES} values; \
                 connection closed"
            ),
            Self::Table => f.write_str(
                "the broker's server properties are cut off or of an unknown type; \
                 connection closed",
            ),
            Self::Cut => f.write_str("the connection was cut in the middle of a frame"),
        }
    }
}

impl std::error::Error for Refusal {}
