//! WS-Discovery: which ONVIF cameras answer on the local network. Addresses and names only; no
//! camera is logged in to.

use crate::os_error::error_text;
use crate::redact::percent_decode;
use crate::system::wait_until;
use rustix::event::{PollFd, PollFlags};
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

/// Where cameras listen (WS-Discovery 1.1, section 3.1.1).
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 255, 255, 250), 3702);

/// How long answers are waited for. Devices answer within 0.5 s (`APP_MAX_DELAY`).
pub const PATIENCE: Duration = Duration::from_secs(3);

/// The question is sent again after this time, since a datagram can be lost.
const AGAIN: Duration = Duration::from_secs(1);

/// Addresses of this machine from which it is sent: one for each interface, and no more on a
/// machine with many of containers.
const MOST_INTERFACES: usize = 32;

/// Cameras that are told: a whole network of 1022 hosts.
const MOST_DEVICES: usize = 1024;

/// Bytes of an answer that are read. They have 1 to 3 kB.
const MOST_BYTES: usize = 16 << 10;

/// Letters of a name that are told.
const LONGEST_NAME: usize = 64;

/// A camera that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// From where it answered.
    pub address: IpAddr,
    /// What it calls itself.
    pub name: Option<String>,
}

/// Asks once on each interface, and waits for [`PATIENCE`]. The devices come in the order of their
/// addresses.
///
/// # Errors
/// If the question can be sent on no interface.
pub fn discover() -> io::Result<Vec<Device>> {
    let id = uuid()?;
    let question = question(&id);
    let table = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let sockets = sockets(&table)?;
    let start = Instant::now();
    let end = start + PATIENCE;
    let mut found: BTreeMap<IpAddr, Option<String>> = BTreeMap::new();
    let mut send_at = Some(start);
    send(&sockets, &question)?;
    while Instant::now() < end {
        if send_at.is_some_and(|at| at + AGAIN <= Instant::now()) {
            send_at = None;
            let _ = send(&sockets, &question);
        }
        let poll = |socket| PollFd::from_borrowed_fd(socket, PollFlags::IN);
        let mut fds: Vec<_> = sockets.iter().map(as_fd).map(poll).collect();
        let until = send_at.map_or(end, |at| (at + AGAIN).min(end));
        wait_until(&mut fds, until)?;
        let mut bytes = [0; MOST_BYTES];
        for socket in &sockets {
            // One of each, so that none keeps the others waiting.
            let Ok((count, from)) = socket.recv_from(&mut bytes) else {
                continue;
            };
            let text = String::from_utf8_lossy(bytes.get(..count).unwrap_or_default());
            if found.len() < MOST_DEVICES
                && let Some(name) = answer(&text, &id)
            {
                let known = found.entry(from.ip()).or_default();
                *known = known.take().or(name);
            }
        }
    }
    let device = |(address, name)| Device { address, name };
    Ok(found.into_iter().map(device).collect())
}

fn as_fd(socket: &UdpSocket) -> std::os::fd::BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(socket)
}

/// A socket for each address of this machine: what is sent to a group leaves by the interface that
/// has the socket's address.
fn sockets(table: &str) -> io::Result<Vec<UdpSocket>> {
    let mut addresses = local_addresses(table);
    if addresses.is_empty() {
        addresses.push(Ipv4Addr::UNSPECIFIED);
    }
    let mut failure = io::Error::other("no network");
    let mut sockets = Vec::new();
    for address in addresses {
        let socket = UdpSocket::bind((address, 0))
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        match socket {
            Ok(socket) => sockets.push(socket),
            Err(error) => failure = error,
        }
    }
    match sockets.is_empty() {
        true => Err(failure),
        false => Ok(sockets),
    }
}

/// Sends on all; an error only if none takes it.
fn send(sockets: &[UdpSocket], question: &str) -> io::Result<()> {
    let mut outcome = Err(io::Error::other("no network"));
    for socket in sockets {
        match socket.send_to(question.as_bytes(), GROUP) {
            Ok(_) => outcome = Ok(()),
            Err(error) if outcome.is_err() => {
                let text = format!("cannot send to {}: {}", GROUP.0, error_text(&error));
                outcome = Err(io::Error::other(text));
            }
            Err(_) => {}
        }
    }
    outcome
}

/// This machine's IPv4 addresses, of the kernel's routing table.
fn local_addresses(table: &str) -> Vec<Ipv4Addr> {
    let mut addresses = BTreeSet::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            addresses.extend(last);
        }
    }
    addresses.into_iter().take(MOST_INTERFACES).collect()
}

/// A random UUID, in which version and variant are set.
fn uuid() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    let number = u128::from_be_bytes(bytes);
    let number = number & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    Ok(format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    ))
}

/// WS-Discovery's Probe for cameras, as ONVIF's core specification has it.
fn question(id: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <e:Envelope xmlns:e=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:w=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\" \
         xmlns:dn=\"http://www.onvif.org/ver10/network/wsdl\">\
         <e:Header><w:MessageID>uuid:{id}</w:MessageID>\
         <w:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</w:To>\
         <w:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</w:Action></e:Header>\
         <e:Body><d:Probe><d:Types>dn:NetworkVideoTransmitter</d:Types></d:Probe></e:Body>\
         </e:Envelope>"
    )
}

/// The name in an answer to the question `id`, if the text is one.
fn answer(text: &str, id: &str) -> Option<Option<String>> {
    let ours = text.to_ascii_lowercase().contains(id);
    if !ours || element(text, "ProbeMatches").is_none() {
        return None;
    }
    let scopes = element(text, "Scopes").unwrap_or_default();
    let of = |kind: &str| {
        let start = format!("onvif://www.onvif.org/{kind}/");
        let mut scopes = scopes.split_whitespace();
        let name = scopes.find_map(|scope| scope.strip_prefix(&*start))?;
        let name = percent_decode(name).unwrap_or_else(|| name.to_owned());
        let name = name.replace(char::is_control, " ");
        let name: String = name.trim().chars().take(LONGEST_NAME).collect();
        (!name.is_empty()).then_some(name)
    };
    Some(of("name").or_else(|| of("hardware")))
}

/// The text that follows the first start tag of this name, whatever its namespace is called there.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split('<').skip(1).find_map(|piece| {
        let (tag, content) = piece.split_once('>')?;
        let tag = tag.split(|c: char| c.is_whitespace() || c == '/').next()?;
        let local = tag.rsplit(':').next()?;
        (local == name).then_some(content)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0a1b2c3d-0000-4000-8000-000000000001";

    fn answered(scopes: &str) -> Option<Option<String>> {
        let text = format!(
            "<?xml version=\"1.0\"?><SOAP-ENV:Envelope xmlns:x=\"y\"><SOAP-ENV:Header>\
             <wsa:RelatesTo>urn:uuid:{}</wsa:RelatesTo></SOAP-ENV:Header><SOAP-ENV:Body>\
             <d:ProbeMatches>\n<d:ProbeMatch><d:Scopes MatchBy=\"z\">{scopes}</d:Scopes>\
             <d:XAddrs>http://192.0.2.7/onvif</d:XAddrs></d:ProbeMatch></d:ProbeMatches>",
            ID.to_ascii_uppercase()
        );
        answer(&text, ID)
    }

    #[test]
    fn an_answer_tells_a_name() {
        let name = |scopes: &str| answered(scopes).unwrap();
        let of = "onvif://www.onvif.org";
        assert_eq!(
            name(&format!(
                "{of}/type/video_encoder {of}/name/Front%20Door {of}/hardware/X1"
            )),
            Some("Front Door".to_owned())
        );
        assert_eq!(
            name(&format!("\n{of}/hardware/X1\n")),
            Some("X1".to_owned())
        );
        assert_eq!(name(""), None);
    }

    #[test]
    fn a_name_is_short_and_has_no_control_characters() {
        let long = format!("onvif://www.onvif.org/name/%1b[31m{}", "x".repeat(500));
        let name = answered(&long).unwrap().unwrap();
        assert_eq!(name, format!("[31m{}", "x".repeat(LONGEST_NAME - 4)));
    }

    #[test]
    fn what_is_no_answer_to_us_is_left_out() {
        let other = "uuid:0a1b2c3d-0000-4000-8000-000000000002 <d:ProbeMatches>";
        for text in ["", "<", "<>", "</", &question(ID), other] {
            assert_eq!(answer(text, ID), None, "{text}");
        }
    }

    #[test]
    fn addresses_of_this_machine_are_read_from_the_routing_table() {
        let table = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
           |-- 192.0.2.2
              /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
Local:
           |-- 192.0.2.2
              /32 host LOCAL
";
        let expected = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 0, 2, 2)];
        assert_eq!(local_addresses(table), expected);
        assert!(local_addresses("").is_empty());
    }

    #[test]
    fn each_question_has_an_id_of_its_own() {
        let (one, two) = (uuid().unwrap(), uuid().unwrap());
        assert_ne!(one, two);
        assert_eq!((one.len(), &one[14..15]), (36, "4"));
    }
}
