//! One attempt to connect: to each broker in turn, to each address of its name, with the whole
//! handshake.

use super::{Named, Owner, OwnerReport};
use crate::amqp::client::Connection;
use crate::amqp::dial::{addresses, dial_address, share_of_time};
use crate::amqp::error::{Error, ErrorKind};
use crate::config::Endpoint;
use crate::repeat::Repeat;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long to wait for a name lookup while another broker could be tried: a working name server
/// answers within milliseconds. The lookup continues, and its answer serves the next attempt.
const NAME_PATIENCE: Duration = Duration::from_secs(1);

impl Owner {
    /// Tries each broker once: first the preferred one, then the others in turn.
    pub(super) fn connect(&mut self, said: &mut Repeat) -> Result<Named, Error> {
        let count = self.amqp.endpoints.len();
        let mut failures: Vec<Error> = Vec::new();
        for n in (0..count).map(|n| (self.preferred + n) % count) {
            let Some(endpoint) = self.amqp.endpoints.get(n) else {
                continue;
            };
            match self.reach(endpoint) {
                Ok(inner) => {
                    self.link.connected_with(inner.events().clone());
                    let name = format!("{endpoint} ({})", inner.broker_version());
                    for failed in failures {
                        if let Some(again) = said.say(&failed.text, Instant::now()) {
                            let prefix = self.carries.prefix();
                            log::warn!("{prefix}{failed}{again}; using {endpoint} instead");
                        }
                    }
                    self.preferred = n;
                    let vhost = endpoint.vhost.clone();
                    return Ok(Named { name, vhost, inner });
                }
                Err(error) if error.kind == ErrorKind::Stopped => return Err(error),
                Err(error) => failures.push(error.named(&endpoint.to_string())),
            }
        }
        let texts: Vec<_> = failures.iter().map(|error| error.text.as_str()).collect();
        Err(Error {
            kind: kind(failures.iter()),
            text: texts.join("; "),
        })
    }

    /// Connects once, and looks which of `exchanges` do not exist; declares nothing. Returns the
    /// broker's name and those exchanges. Another thread has to check the link's deadlines
    /// meanwhile.
    ///
    /// # Errors
    /// Why no broker lets us in, or does not answer.
    pub fn try_once(&mut self, exchanges: &[String]) -> Result<(String, Vec<String>), Error> {
        let mut broker = self.connect(&mut Repeat::default())?;
        self.link.owner_waits_since(Some(Instant::now()));
        let looked = absent(&mut broker.inner, exchanges);
        let closed = broker.inner.close();
        self.link.owner_waits_since(None);
        match (looked, self.link.forget_socket(), closed) {
            (Ok(absent), None, _) => Ok((broker.name, absent)),
            (Err(error), None, Ok(())) | (_, None, Err(error)) => Err(error.named(&broker.name)),
            (_, Some(text), _) => Err(Error {
                kind: ErrorKind::Down,
                text,
            }
            .named(&broker.name)),
        }
    }

    /// Tries each address of a broker, all of them within `amqp.connect_timeout`.
    fn reach(&self, endpoint: &Endpoint) -> Result<Connection, Error> {
        let (now, timeout) = (Instant::now(), self.amqp.connect_timeout);
        let patience = match self.amqp.endpoints.len() {
            1 => timeout,
            _ => timeout.min(NAME_PATIENCE),
        };
        let addresses = addresses(endpoint, now + patience, &self.stop)?;
        let mut failures = vec![];
        for (n, address) in addresses.iter().enumerate() {
            let until = share_of_time(Instant::now(), now + timeout, addresses.len() - n);
            match self.open(endpoint, *address, until) {
                Err(error) if error.kind != ErrorKind::Stopped => failures.push((*address, error)),
                done => return done,
            }
        }
        Err(in_one(failures))
    }

    /// TCP, TLS and the AMQP handshake with one address. Woken by the order to stop, and at
    /// `until`.
    fn open(
        &self,
        endpoint: &Endpoint,
        address: SocketAddr,
        until: Instant,
    ) -> Result<Connection, Error> {
        let socket = dial_address(address, until, &self.stop)?;
        self.link.use_socket(socket.clone());
        self.link.owner_opens_until(Some(until));
        (self.main_thread.0)(OwnerReport::Look);
        let opened = match self.stop.requested() {
            // The threads that could cut it may have ended.
            true => Err(stopped()),
            false => Connection::open(&socket, endpoint, &self.amqp),
        };
        self.link.owner_opens_until(None);
        opened.map_err(|error| match self.link.forget_socket() {
            _ if self.stop.requested() => stopped(),
            // amiquip reports any end during the login as a refusal.
            Some(text) => Error {
                text,
                kind: ErrorKind::Down,
            },
            None => error,
        })
    }
}

/// Those of `exchanges` that the broker does not have.
fn absent(broker: &mut Connection, exchanges: &[String]) -> Result<Vec<String>, Error> {
    let mut absent = vec![];
    for exchange in exchanges {
        // The broker closes the channel if the exchange does not exist, so each gets a new one.
        match broker.open_channel()?.find_exchange(exchange) {
            Ok(()) => {}
            Err(error) if error.kind == ErrorKind::Absent => absent.push(exchange.clone()),
            Err(error) => return Err(error),
        }
    }
    Ok(absent)
}

fn stopped() -> Error {
    Error {
        kind: ErrorKind::Stopped,
        text: "stopping".to_owned(),
    }
}

/// Retry slowly only if all brokers refuse us.
fn kind<'a>(mut failures: impl Iterator<Item = &'a Error>) -> ErrorKind {
    match failures.all(|error| error.kind == ErrorKind::Refused) {
        true => ErrorKind::Refused,
        false => ErrorKind::Down,
    }
}

/// The failures of all addresses in one. Addresses are named where the failures differ.
fn in_one(failures: Vec<(SocketAddr, Error)>) -> Error {
    let kind = kind(failures.iter().map(|(_, error)| error));
    let mut texts: Vec<_> = failures
        .iter()
        .map(|(_, error)| error.text.clone())
        .collect();
    texts.dedup();
    if texts.len() > 1 {
        let each = failures
            .iter()
            .map(|(at, error)| format!("{}: {error}", at.ip()));
        texts = each.collect();
    }
    Error {
        kind,
        text: texts.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(address: &str, kind: ErrorKind, text: &str) -> (SocketAddr, Error) {
        let text = text.to_owned();
        (address.parse().unwrap(), Error { kind, text })
    }

    #[test]
    fn addresses_that_fail_alike_are_one_failure_and_others_are_named() {
        let [v6, v4] = ["[::1]:5672", "127.0.0.1:5672"];
        let refused = "connection refused";
        let same = in_one(vec![
            failure(v6, ErrorKind::Down, refused),
            failure(v4, ErrorKind::Down, refused),
        ]);
        assert_eq!((same.kind, &*same.text), (ErrorKind::Down, refused));
        let other = in_one(vec![
            failure(v6, ErrorKind::Down, "no answer from the broker"),
            failure(
                v4,
                ErrorKind::Refused,
                "the broker refused the connection: no",
            ),
        ]);
        assert_eq!(other.kind, ErrorKind::Down, "one may come back soon");
        assert_eq!(
            other.text,
            "::1: no answer from the broker, 127.0.0.1: the broker refused the connection: no"
        );
        let both = in_one(vec![
            failure(v6, ErrorKind::Refused, "no"),
            failure(v4, ErrorKind::Refused, "no"),
        ]);
        assert_eq!((both.kind, &*both.text), (ErrorKind::Refused, "no"));
    }
}
