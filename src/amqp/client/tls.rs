//! The TLS session of a connection.

pub(super) mod words;

use super::for_amiquip;
use crate::amqp::error::{Error, ErrorKind, error_text};
use crate::amqp::socket::Socket;
use crate::config::tls::Unusable;
use crate::config::{self, Endpoint, Tls};
use native_tls::HandshakeError;
use rustix::event::{PollFd, PollFlags, poll};

/// Blocks until the handshake is done; woken by [`Socket::cut`].
pub(super) fn session(
    socket: &Socket,
    endpoint: &Endpoint,
    tls: &Tls,
) -> Result<native_tls::TlsStream<mio::net::TcpStream>, Error> {
    let refused = |text: String| Error::new(ErrorKind::Refused, text);
    let connector = connector(tls).map_err(refused)?;
    let mut shaken = connector.connect(&endpoint.host, for_amiquip(socket)?);
    loop {
        match shaken {
            Ok(session) => return Ok(session),
            Err(HandshakeError::Failure(error)) => {
                return Err(refused(words::explain(&error.to_string(), endpoint, tls)));
            }
            Err(HandshakeError::WouldBlock(half)) => {
                // Our own messages are short; the wait is for the broker's.
                let mut answer = [PollFd::new(&socket.0, PollFlags::IN)];
                match poll(&mut answer, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => {
                        return Err(Error::new(ErrorKind::Down, error_text(&error.into())));
                    }
                }
                shaken = half.handshake();
            }
        }
    }
}

fn connector(tls: &Tls) -> Result<native_tls::TlsConnector, String> {
    // Read at each connect, because certificates are renewed while we run.
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|error| format!("{}: {}", path.display(), error_text(&error)))
    };
    let mut builder = native_tls::TlsConnector::builder();
    builder.min_protocol_version(Some(native_tls::Protocol::Tlsv12));
    if let Some(path) = &tls.ca_file {
        // A private CA replaces the system's.
        builder.disable_built_in_roots(true);
        let certificates = config::tls::authorities(&read(path)?);
        for certificate in certificates.map_err(|why| format!("{}: {why}", path.display()))? {
            builder.add_root_certificate(certificate);
        }
    }
    if let (Some(cert), Some(key)) = (&tls.cert_file, &tls.key_file) {
        let identity = config::tls::identity(&read(cert)?, &read(key)?);
        let identity = identity.map_err(|unusable| match unusable {
            Unusable::Certificate(why) => format!("{}: {why}", cert.display()),
            Unusable::Key(why) => format!("{}: {why}", key.display()),
        })?;
        builder.identity(identity);
    }
    builder.build().map_err(|error| error.to_string())
}
