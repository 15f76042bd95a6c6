//! Translates amiquip's errors into messages that say what to do.

use super::bounds::Refusal;
use super::tls;
use crate::amqp::error::{Error, ErrorKind, error_text};

impl From<amiquip::Error> for Error {
    fn from(error: amiquip::Error) -> Self {
        use amiquip::Error as E;
        match &error {
            E::InvalidCredentials => Self::new(
                ErrorKind::Refused,
                "the broker closed the connection during the login: wrong user name or password",
            ),
            // 403 and 530: the user, the virtual host or a limit. RabbitMQ's words say which.
            E::ServerClosedConnection {
                code: 403 | 530,
                message,
            } => Self::new(
                ErrorKind::Refused,
                format!("the broker refused the connection: {message}"),
            ),
            E::ServerClosedConnection { message, .. } => {
                Self::new(ErrorKind::Down, format!("closed by the broker: {message}"))
            }
            E::ServerClosedChannel { code, message, .. } => {
                let kind = match (code, largest_message(message)) {
                    (406, Some(bytes)) => ErrorKind::TooLarge(bytes),
                    _ => ErrorKind::Channel,
                };
                Self::new(kind, message)
            }
            E::ExhaustedChannelIds => Self::new(
                ErrorKind::Full,
                "the broker allows no further channel on this connection",
            ),
            E::UnexpectedSocketClose => Self::new(ErrorKind::Down, "the connection was cut"),
            E::IoErrorReadingSocket { source } | E::IoErrorWritingSocket { source } => {
                let text = error_text(source);
                let (kind, text) = tls::words::later(&text).unwrap_or((ErrorKind::Down, text));
                Self::new(kind, text)
            }
            E::MissedServerHeartbeats => {
                Self::new(ErrorKind::Down, "no heartbeats from the broker")
            }
            E::ConnectionTimeout => Self::new(ErrorKind::Down, "no answer to the AMQP handshake"),
            other => Self::new(ErrorKind::Down, other.to_string()),
        }
    }
}

/// The limit in RabbitMQ's `PRECONDITION_FAILED - message size 300 is larger than configured max
/// size 200`. AMQP has no field for it.
fn largest_message(text: &str) -> Option<u64> {
    let (before, after) = text.split_once("max size ")?;
    let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
    before
        .contains("message size")
        .then(|| digits.parse().ok())?
}

impl From<&Refusal> for Error {
    fn from(refusal: &Refusal) -> Self {
        Self::new(ErrorKind::Down, refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::error::LONGEST_TEXT;

    #[test]
    fn the_words_of_a_broker_are_one_line_of_bounded_length() {
        let closed = amiquip::Error::ServerClosedConnection {
            code: 320,
            message: format!("bye\r\n\x1b[2J{}", "x".repeat(100_000)),
        };
        let text = Error::from(closed).text;
        assert!(
            text.starts_with("closed by the broker: bye???[2Jx"),
            "{text}"
        );
        assert_eq!(text.len(), LONGEST_TEXT);
    }

    #[test]
    fn the_largest_message_is_read_from_the_brokers_words() {
        let closed = |code, message: &str| {
            Error::from(amiquip::Error::ServerClosedChannel {
                channel_id: 1,
                code,
                message: message.to_owned(),
            })
            .kind
        };
        let text = "PRECONDITION_FAILED - message size 300 is larger than configured max size 200";
        assert_eq!(closed(406, text), ErrorKind::TooLarge(200));
        let old = "PRECONDITION_FAILED - message size 300 larger than max size 200";
        assert_eq!(closed(406, old), ErrorKind::TooLarge(200));
        assert_eq!(closed(403, text), ErrorKind::Channel);
        for other in [
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'max size 3'",
            "PRECONDITION_FAILED - message size 300 is larger than max size ",
            "PRECONDITION_FAILED - message size 300 is larger than max size 99999999999999999999",
        ] {
            assert_eq!(closed(406, other), ErrorKind::Channel, "{other}");
        }
    }
}
