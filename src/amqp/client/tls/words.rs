//! Why a TLS handshake with a broker failed, in words that say what to do. Pure.
//!
//! OpenSSL's own lines have codes, functions and line numbers of its source, and differ by release.
//! Only the part that 1.1.1 to 3.5 have in common is looked for.

use crate::amqp::error::ErrorKind;
use crate::config::{Endpoint, Tls};

/// How OpenSSL's line about a certificate that it does not accept goes on.
const VERIFY: &str = "certificate verify failed";

/// What `error` of OpenSSL, upon a handshake with `endpoint`, means.
pub(in crate::amqp::client) fn explain(error: &str, endpoint: &Endpoint, tls: &Tls) -> String {
    let has = |phrases: &[&str]| phrases.iter().any(|phrase| error.contains(phrase));
    let ended = || match alert(error) {
        Some(why) => why.to_owned(),
        None => format!("TLS handshake failed: {}", reason(error)),
    };
    if has(&[
        "wrong version number",
        "packet length too long",
        "http request",
    ]) {
        return "no TLS on this port; check the port (5671 is usual for TLS), or use amqp:// in the \
                URL"
        .to_owned();
    }
    if has(&["unexpected EOF", "unexpected eof"]) {
        return "the connection was closed during the TLS handshake; check the port (5671 is usual \
                for TLS)"
            .to_owned();
    }
    match error.contains(VERIFY) {
        true => certificate(error, endpoint, tls),
        false => ended(),
    }
}

/// Why an established session ended, from OpenSSL's error; `None` if it is not about TLS. With TLS
/// 1.3 the broker checks our certificate after the handshake, so a refusal comes as an alert here.
/// Any other end counts as a lost connection.
pub(in crate::amqp::client) fn later(error: &str) -> Option<(ErrorKind, String)> {
    if !error.contains("SSL routines") {
        return None;
    }
    Some(match alert(error) {
        Some(why) => (ErrorKind::Refused, why.to_owned()),
        None if error.contains("unexpected eof") => {
            (ErrorKind::Down, "the connection was cut".to_owned())
        }
        None => (
            ErrorKind::Down,
            format!("the TLS session ended: {}", reason(error)),
        ),
    })
}

/// The connection was reset right after the handshake. With TLS 1.3 that is how a broker ends it
/// that does not accept our certificate, when its alert is overtaken by the reset.
pub(in crate::amqp::client) fn reset(tls: &Tls) -> &'static str {
    match tls.cert_file {
        None => {
            "the broker reset the connection after the TLS handshake; it may require a client \
             certificate: set amqp.tls.cert_file and amqp.tls.key_file"
        }
        Some(_) => {
            "the broker reset the connection after the TLS handshake; it may not accept our client \
             certificate: check amqp.tls.cert_file"
        }
    }
}

/// The broker's certificate is not accepted.
fn certificate(error: &str, endpoint: &Endpoint, tls: &Tls) -> String {
    let has = |phrase: &str| error.contains(phrase);
    let named = tls.ca_file.as_ref().map(|file| file.display().to_string());
    if has("certificate has expired") {
        return "the broker's certificate, or its CA's, has expired; renew it, or correct this \
                machine's clock"
            .to_owned();
    }
    if has("not yet valid") {
        return "the broker's certificate is not valid yet; correct this machine's clock"
            .to_owned();
    }
    if has("address mismatch") || has("ostname mismatch") {
        return format!(
            "the broker's certificate is not for \"{}\"; write a host into the URL that the \
             certificate names, or add this one to its subjectAltName",
            endpoint.host
        );
    }
    // After a dash, or a blank before OpenSSL 3.
    let own = |text: &str| text.contains("self-signed") || text.contains("self signed");
    if own(error) && !has("in certificate chain") {
        return "the broker's certificate is self-signed and not trusted; set amqp.tls.ca_file to it"
            .to_owned();
    }
    if own(error) || has("issuer certificate") || has("first certificate") {
        return match named {
            Some(file) => format!(
                "the broker's certificate is not from the CA in {file}; set amqp.tls.ca_file to \
                 the right CA"
            ),
            None => "the broker's certificate is from a CA that this machine does not trust; set \
                     amqp.tls.ca_file to that CA, or install ca-certificates if it is a public one"
                .to_owned(),
        };
    }
    format!(
        "the broker's certificate is not accepted: {}",
        verdict(error)
    )
}

/// What the broker did not accept.
fn alert(error: &str) -> Option<&'static str> {
    let has = |phrases: &[&str]| phrases.iter().any(|phrase| error.contains(phrase));
    if has(&["alert certificate required"]) {
        return Some(
            "the broker requires a client certificate; set amqp.tls.cert_file and \
             amqp.tls.key_file",
        );
    }
    if has(&["alert handshake failure"]) {
        return Some(
            "the broker refuses the TLS handshake: it requires a client certificate \
             (amqp.tls.cert_file) or other ciphers; its log says which",
        );
    }
    if has(&[
        "alert unknown ca",
        "alert bad certificate",
        "alert certificate unknown",
        "alert unsupported certificate",
    ]) {
        return Some(
            "the broker does not accept our client certificate; check that amqp.tls.cert_file is \
             from a CA that the broker trusts",
        );
    }
    if has(&["alert certificate expired"]) {
        return Some(
            "the broker says that our client certificate has expired; renew amqp.tls.cert_file",
        );
    }
    has(&["alert protocol version", "unsupported protocol"])
        .then_some("the broker does not support TLS 1.2 or newer; enable it on the broker")
}

/// `unsafe legacy renegotiation` of `error:CODE:LIBRARY:FUNCTION:unsafe legacy
/// renegotiation:FILE:LINE:`.
fn reason(error: &str) -> &str {
    let Some((_, line)) = error.split_once("error:") else {
        return error;
    };
    line.split(':').nth(3).unwrap_or(error)
}

/// `CA cert does not match` of `... (CA cert does not match)`.
fn verdict(error: &str) -> &str {
    let inside = error
        .rsplit_once('(')
        .and_then(|(_, rest)| rest.split(')').next());
    inside.unwrap_or_else(|| reason(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn says(error: &str, ca_file: Option<&str>) -> String {
        let endpoint = Endpoint {
            tls: true,
            host: "broker.example".into(),
            port: 5671,
            vhost: "/".into(),
            username: "u".into(),
            password: Secret::new("p"),
        };
        let tls = Tls {
            ca_file: ca_file.map(Into::into),
            ..Tls::default()
        };
        explain(error, &endpoint, &tls)
    }

    /// As OpenSSL 3.0 prints it.
    fn refused(verdict: &str) -> String {
        format!(
            "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify \
             failed:../ssl/statem/statem_clnt.c:1889: ({verdict})"
        )
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_with_what_to_do() {
        let unknown = "the broker's certificate is from a CA that this machine does not trust; \
                       set amqp.tls.ca_file to that CA, or install ca-certificates if it is a \
                           public one";
        for (verdict, expected) in [
            ("unable to get local issuer certificate", unknown),
            ("self-signed certificate in certificate chain", unknown),
            ("self signed certificate in certificate chain", unknown),
            ("unable to verify the first certificate", unknown),
            (
                "self-signed certificate",
                "the broker's certificate is self-signed and not trusted; set amqp.tls.ca_file to \
                 it",
            ),
            (
                "certificate has expired",
                "the broker's certificate, or its CA's, has expired; renew it, or correct this \
                 machine's clock",
            ),
            (
                "certificate is not yet valid",
                "the broker's certificate is not valid yet; correct this machine's clock",
            ),
            (
                "hostname mismatch",
                "the broker's certificate is not for \"broker.example\"; write a host into the URL \
                 that the certificate names, or add this one to its subjectAltName",
            ),
            (
                "unsuitable certificate purpose",
                "the broker's certificate is not accepted: unsuitable certificate purpose",
            ),
        ] {
            assert_eq!(says(&refused(verdict), None), expected, "{verdict}");
        }
        assert_eq!(
            says(
                &refused("unable to get local issuer certificate"),
                Some("/etc/ca.pem")
            ),
            "the broker's certificate is not from the CA in /etc/ca.pem; set amqp.tls.ca_file to \
             the right CA"
        );
    }

    #[test]
    fn what_openssl_says_of_no_certificate_is_told_without_its_codes() {
        let line = |reason: &str| {
            format!(
                "error:0A00010B:SSL routines:ssl3_get_record:{reason}:../ssl/ssl3_record.c:354:"
            )
        };
        for (reason, expected) in [
            (
                "wrong version number",
                "no TLS on this port; check the port (5671 is usual for TLS), or use amqp:// in \
                 the URL",
            ),
            (
                "sslv3 alert handshake failure",
                "the broker refuses the TLS handshake: it requires a client certificate \
                 (amqp.tls.cert_file) or other ciphers; its log says which",
            ),
            (
                "tlsv1 alert unknown ca",
                "the broker does not accept our client certificate; check that amqp.tls.cert_file \
                 is from a CA that the broker trusts",
            ),
            (
                "sslv3 alert certificate expired",
                "the broker says that our client certificate has expired; renew amqp.tls.cert_file",
            ),
            (
                "tlsv1 alert protocol version",
                "the broker does not support TLS 1.2 or newer; enable it on the broker",
            ),
            (
                "unsafe legacy renegotiation disabled",
                "TLS handshake failed: unsafe legacy renegotiation disabled",
            ),
        ] {
            assert_eq!(says(&line(reason), None), expected);
        }
        assert_eq!(
            says("unexpected EOF", None),
            "the connection was closed during the TLS handshake; check the port (5671 is usual for \
             TLS)"
        );
        assert_eq!(later("connection reset by peer"), None);
        let wants = "the broker requires a client certificate; set amqp.tls.cert_file and \
                     amqp.tls.key_file";
        assert_eq!(
            later(&line("tlsv13 alert certificate required")),
            Some((ErrorKind::Refused, wants.to_owned()))
        );
        // A broker that was killed is no broker that refuses.
        assert_eq!(
            later(&line("unexpected eof while reading")),
            Some((ErrorKind::Down, "the connection was cut".to_owned()))
        );
    }
}
