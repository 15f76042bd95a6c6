//! Checks the section `amqp`.

use super::keys::{AMQP_KEYS, TLS_KEYS};
use super::login::{Credentials, credentials, read};
use super::names::{LONGEST_NAME, exchange, prefix};
use super::{HOUR, MINUTE, MS, SECOND, TENTH};
use crate::config::reader::{Item, Reader, Section};
use crate::config::tls::{Unusable, authorities, identity};
use crate::config::{Amqp, Endpoint, MaxInFlight, Secret, Tls, address, defaults};
use crate::redact::percent_decode;
use std::time::Duration;

pub(super) fn amqp(r: &mut Reader<'_>, root: &Section<'_>) -> Amqp {
    let s = r.section(root, "amqp", AMQP_KEYS);
    let d = Amqp::default();
    if let Some(item) = s.get("prefetch_count") {
        r.int(Some(&item), 0..=u64::MAX, 0);
        r.warn(
            &item,
            "has no effect: it limits consumers, and this program only publishes; remove it",
        );
    }
    let endpoints = endpoints(r, &s);
    let tls = tls(r, &s, endpoints.as_deref());
    Amqp {
        endpoints: endpoints.unwrap_or(d.endpoints),
        tls,
        exchange: exchange(r, s.get("exchange").as_ref()).unwrap_or(d.exchange),
        routing_key_prefix: prefix(r, s.get("routing_key_prefix").as_ref())
            .unwrap_or(d.routing_key_prefix),
        connections: r.int(s.get("connections").as_ref(), 0..=64, d.connections),
        max_in_flight: r.parsed(
            s.get("max_in_flight").as_ref(),
            |text| match text {
                "auto" => Some(MaxInFlight::Auto),
                _ => text
                    .parse()
                    .ok()
                    .filter(|number| (1..=256).contains(number))
                    .map(MaxInFlight::Fixed),
            },
            "auto or 1 to 256 is allowed",
            d.max_in_flight,
        ),
        max_age: r.duration(s.get("max_age").as_ref(), 10 * MS..=HOUR, d.max_age),
        confirm_timeout: r.duration(
            s.get("confirm_timeout").as_ref(),
            TENTH..=10 * MINUTE,
            d.confirm_timeout,
        ),
        slow_publish: r.duration(s.get("slow_publish").as_ref(), MS..=HOUR, d.slow_publish),
        heartbeat: heartbeat(r, s.get("heartbeat").as_ref(), d.heartbeat),
        connect_timeout: r.duration(
            s.get("connect_timeout").as_ref(),
            TENTH..=10 * MINUTE,
            d.connect_timeout,
        ),
        mandatory: r.bool(s.get("mandatory").as_ref(), d.mandatory),
    }
}

/// AMQP negotiates whole seconds. 0 would mean none, and a dead link would never be noticed.
fn heartbeat(r: &mut Reader<'_>, item: Option<&Item<'_>>, default: Duration) -> Duration {
    let heartbeat = r.duration(item, SECOND..=10 * MINUTE, default);
    if let Some(item) = item
        && heartbeat.subsec_nanos() != 0
    {
        r.refuse(item, "not a number of whole seconds; 1s to 10m is allowed");
    }
    heartbeat
}

/// `None` if a URL has a problem.
fn endpoints(r: &mut Reader<'_>, s: &Section<'_>) -> Option<Vec<Endpoint>> {
    let before = r.problems.len();
    let credentials = credentials(r, s);
    if let (Some(item), None) = (&credentials.username_item, &credentials.password_item) {
        r.refuse(
            item,
            "the password is missing; set amqp.password or amqp.password_file",
        );
    }
    let (url, urls) = (s.get("url"), s.get("urls"));
    let items = match (&url, &urls) {
        (Some(_), Some(urls)) => {
            r.refuse(urls, "amqp.url is set too; remove one of the two");
            Vec::new()
        }
        (Some(url), None) => vec![url.clone()],
        (None, _) => {
            let items = r.list(urls.as_ref(), "URLs");
            if let (Some(urls), true) = (&urls, items.is_empty() && r.problems.len() == before) {
                r.refuse(urls, "empty; list at least one URL, or leave the key out");
            }
            items
        }
    };
    let mut endpoints: Vec<Endpoint> = items
        .iter()
        .filter_map(|item| endpoint(r, item, &credentials))
        .collect();
    if items.is_empty() {
        let endpoint = Endpoint::default();
        if let (Some(item), None) = (&credentials.password_item, &credentials.username) {
            r.refuse(item, "the user name is missing; set amqp.username");
        }
        endpoints.push(Endpoint {
            username: credentials.username.unwrap_or(endpoint.username),
            password: credentials.password.map_or(endpoint.password, Secret::new),
            ..endpoint
        });
    }
    (r.problems.len() == before).then_some(endpoints)
}

fn endpoint(r: &mut Reader<'_>, item: &Item<'_>, keys: &Credentials<'_>) -> Option<Endpoint> {
    let text = r.text(Some(item))?;
    r.hidden.hide_address(&text);
    let url = match address::split(&text) {
        Ok(url) => url,
        Err(message) => {
            r.refuse(item, message);
            return None;
        }
    };
    let tls = match url.scheme.to_ascii_lowercase().as_str() {
        "amqp" => false,
        "amqps" => true,
        _ => {
            r.refuse(
                item,
                "the scheme is unknown; allowed are amqp:// and amqps://",
            );
            return None;
        }
    };
    let vhost = vhost(r, item, url.rest)?;
    keys.conflict(r, &url, &item.key);
    let (mut username, mut password) = (None, None);
    if let Some(userinfo) = url.userinfo {
        username = Some(decoded(r, item, userinfo.username)?);
        if let Some(text) = userinfo.password {
            password = Some(decoded(r, item, text)?);
        }
    }
    if let (Some(key), None, None) = (&keys.password_item, &keys.username, &username) {
        r.refuse(key, "the user name is missing; set amqp.username");
    }
    if username.is_some() && password.is_none() && keys.password_item.is_none() {
        r.warn(
            item,
            "the URL has a user name but no password; the password \"guest\" is used",
        );
    }
    Some(Endpoint {
        tls,
        host: decoded(r, item, url.host)?,
        port: url.port.unwrap_or(if tls { 5671 } else { 5672 }),
        vhost,
        username: keys
            .username
            .clone()
            .or(username)
            .unwrap_or_else(|| defaults::GUEST.to_owned()),
        password: Secret::new(
            keys.password
                .clone()
                .or(password)
                .unwrap_or_else(|| defaults::GUEST.to_owned()),
        ),
    })
}

/// The virtual host in what follows the host of a URL. A parameter behind it is refused.
fn vhost(r: &mut Reader<'_>, item: &Item<'_>, rest: &str) -> Option<String> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let name = parameter.split('=').next().unwrap_or(parameter);
        r.refuse(item, query_message(name));
    }
    if path.contains('#') {
        r.refuse(item, "the virtual host contains a #; write it as %23");
    }
    let vhost = decoded(r, item, path.strip_prefix('/').unwrap_or(path))?;
    if vhost.len() > LONGEST_NAME {
        r.refuse(
            item,
            format!(
                "the virtual host has {} bytes; at most 255 are allowed",
                vhost.len()
            ),
        );
    }
    Some(match vhost.as_str() {
        "" => "/".to_owned(),
        _ => vhost,
    })
}

fn decoded(r: &mut Reader<'_>, item: &Item<'_>, text: &str) -> Option<String> {
    let decoded = percent_decode(text);
    if decoded.is_none() {
        r.refuse(
            item,
            "a % that is not followed by the two hexadecimal digits of a UTF-8 text; write a % \
             itself as %25",
        );
    }
    decoded
}

/// RabbitMQ's own clients take some settings in the URL. Here each has one place.
fn query_message(name: &str) -> String {
    let key = match name {
        "heartbeat" => "amqp.heartbeat",
        "connection_timeout" => "amqp.connect_timeout",
        "cacertfile" => "amqp.tls.ca_file",
        "certfile" => "amqp.tls.cert_file",
        "keyfile" => "amqp.tls.key_file",
        _ => {
            return "the URL has a parameter; remove the ? and what follows it".to_owned();
        }
    };
    format!("the URL has the parameter {name}; use the key {key} instead")
}

fn tls(r: &mut Reader<'_>, amqp: &Section<'_>, endpoints: Option<&[Endpoint]>) -> Tls {
    let s = r.section(amqp, "tls", TLS_KEYS);
    let mut file = |key| {
        let item = s.get(key)?;
        let path = r.text(Some(&item))?;
        let pem = read(r, &item, &path)?;
        Some((item, path, pem))
    };
    let [ca, cert, key] = ["ca_file", "cert_file", "key_file"].map(&mut file);
    // As a connection does it, or the first one would fail with all cameras on it.
    if let Some((item, path, pem)) = &ca
        && let Err(why) = authorities(pem.as_bytes())
    {
        r.refuse(item, format!("{path}: {why}"));
    }
    if let (Some(cert), Some(key)) = (&cert, &key)
        && let Err(unusable) = identity(cert.2.as_bytes(), key.2.as_bytes())
    {
        let ((item, path, _), why) = match unusable {
            Unusable::Certificate(why) => (cert, why),
            Unusable::Key(why) => (key, why),
        };
        r.refuse(item, format!("{path}: {why}"));
    }
    let path = |file: Option<(Item<'_>, String, String)>| file.map(|(_, path, _)| path.into());
    let tls = Tls {
        ca_file: path(ca),
        cert_file: path(cert),
        key_file: path(key),
    };
    match (s.get("cert_file"), s.get("key_file")) {
        (Some(item), None) => r.refuse(&item, "key_file is missing; set both or neither"),
        (None, Some(item)) => r.refuse(&item, "cert_file is missing; set both or neither"),
        _ => {}
    }
    let given = TLS_KEYS.iter().find_map(|key| s.get(key));
    if let (Some(item), Some(endpoints)) = (given, endpoints)
        && !endpoints.iter().any(|endpoint| endpoint.tls)
    {
        r.refuse(&item, "no broker's URL uses TLS; write amqps://");
    }
    tls
}
