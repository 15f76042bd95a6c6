//! Addresses of brokers and cameras: messages word for word, and what is read.

use super::*;

#[test]
fn camera_urls_are_checked() {
    for (url, message) in [
        ("rtsp:///x", "the host is missing; write SCHEME://HOST/"),
        (
            "rtsp://u:p-77-q@/x",
            "the host is missing; write SCHEME://HOST/",
        ),
        (
            "rtsp://h:x/",
            "the port is not a number from 1 to 65535; if this is part of a password that contains \
             a /, write the / as %2F",
        ),
        ("rtsp://::1/", "an IPv6 address needs brackets; write [::1]"),
        (
            "rtsp:/h/x",
            &format!("not a source; {SOURCES}; write file: before a file name with a colon"),
        ),
        (
            "concat:a|b",
            &format!("not a source; {SOURCES}; write file: before a file name with a colon"),
        ),
        (
            "gopher://u:p-78-q@h/",
            &format!("gopher:// is not a source; {SOURCES}"),
        ),
        ("file://host/x", "a file on another host; write file:/path"),
        ("file:", "the path is missing; write file:/path"),
        (
            "lavfi:",
            "the graph is missing; write lavfi:testsrc2 for example",
        ),
        (
            "-y",
            "begins with -, as an option of FFmpeg; write ./ before a file name",
        ),
        ("", "empty; write some text, or leave the key out"),
        ("a b://x", &format!("not a source; {SOURCES}")),
    ] {
        camera_refused(
            &format!("url: '{url}'"),
            &[&format!("3: cameras[0].url: {message}")],
        );
    }
    camera_refused(
        "url: rtsp://u:Gs2-url-60@h/\nusername: u\npassword: Gs2-key-61\npassword_file: /password",
        &[
            "4: cameras[0].username: cameras[0].url contains a user name too; remove one of the \
             two",
            "5: cameras[0].password: cameras[0].url contains a password too; remove one of the two",
            "6: cameras[0].password_file: password is set too; remove one of the two",
        ],
    );
    camera_refused(
        "url: rtsp://h/\npassword_file: /nowhere",
        &[
            "4: cameras[0].password_file: /nowhere: no such file; name a file that can be read",
            "4: cameras[0].password_file: the user name is missing; set username",
        ],
    );
    camera_refused(
        "url: rtsp://u@h/\npassword_file: /empty",
        &[
            "4: cameras[0].password_file: the file is not one line of text; write the password \
             into it",
        ],
    );
}

#[test]
fn broker_urls_are_checked() {
    for (url, message) in [
        (
            "http://h/",
            "the scheme is unknown; allowed are amqp:// and amqps://",
        ),
        ("h", "not a URL; write SCHEME://HOST/"),
        ("amqp:///v", "the host is missing; write SCHEME://HOST/"),
        (
            "amqp://h:99999/",
            "the port is not a number from 1 to 65535; if this is part of a password that contains \
             a /, write the / as %2F",
        ),
        (
            "amqp://h/?heartbeat=5",
            "the URL has the parameter heartbeat; use the key amqp.heartbeat instead",
        ),
        (
            "amqp://h?connection_timeout=5",
            "the URL has the parameter connection_timeout; use the key amqp.connect_timeout \
             instead",
        ),
        (
            "amqp://h/v?x=y",
            "the URL has a parameter; remove the ? and what follows it",
        ),
        (
            "amqp://h/a#b",
            "the virtual host contains a #; write it as %23",
        ),
        (
            "amqp://u:Fw%zz-9@h/",
            "a % that is not followed by the two hexadecimal digits of a UTF-8 text; write a % \
             itself as %25",
        ),
        ("", "empty; write some text, or leave the key out"),
    ] {
        section_refused(
            &format!("amqp: {{url: '{url}'}}"),
            &[&format!("2: amqp.url: {message}")],
        );
    }
}

#[test]
fn keys_beside_a_broker_url_are_checked() {
    section_refused(
        &format!("amqp: {{url: 'amqp://h/{}'}}", "x".repeat(256)),
        &["2: amqp.url: the virtual host has 256 bytes; at most 255 are allowed"],
    );
    section_refused(
        "amqp:\n  url: amqp://h/\n  urls: [amqp://h/]",
        &["4: amqp.urls: amqp.url is set too; remove one of the two"],
    );
    section_refused(
        "amqp: {urls: []}",
        &["2: amqp.urls: empty; list at least one URL, or leave the key out"],
    );
    section_refused(
        "amqp: {urls: amqp://h/}",
        &["2: amqp.urls: text is not a list; write a list of URLs"],
    );
    section_refused(
        "amqp:\n  urls:\n    - amqp://h/\n    - amqp://\n    - http://h/",
        &[
            "5: amqp.urls[1]: the host is missing; write SCHEME://HOST/",
            "6: amqp.urls[2]: the scheme is unknown; allowed are amqp:// and amqps://",
        ],
    );
    section_refused(
        "amqp:\n  url: amqp://u:Ev3-url-14@h/\n  username: u\n  password: Ev3-key-15",
        &[
            "4: amqp.username: amqp.url contains a user name too; remove one of the two",
            "5: amqp.password: amqp.url contains a password too; remove one of the two",
        ],
    );
    section_refused(
        "amqp: {username: u}",
        &["2: amqp.username: the password is missing; set amqp.password or amqp.password_file"],
    );
    for url in ["", "url: amqp://h/, "] {
        section_refused(
            &format!("amqp: {{{url}password: Ev3-key-16}}"),
            &["2: amqp.password: the user name is missing; set amqp.username"],
        );
    }
}

#[test]
fn tls_files_are_checked() {
    section_refused(
        "amqp:\n  tls:\n    ca_file: /pem",
        &["4: amqp.tls.ca_file: no broker's URL uses TLS; write amqps://"],
    );
    section_refused(
        "amqp:\n  url: amqps://h\n  tls:\n    ca_file: /nowhere/ca.pem\n    cert_file: /pem",
        &[
            "5: amqp.tls.ca_file: /nowhere/ca.pem: no such file; name a file that can be read",
            "6: amqp.tls.cert_file: key_file is missing; set both or neither",
        ],
    );
    section_refused(
        "amqp: {url: amqps://h, tls: {key_file: /pem}}",
        &["2: amqp.tls.key_file: cert_file is missing; set both or neither"],
    );
    section_refused(
        "amqp:\n  url: amqps://h\n  tls:\n    ca_file: /no-pem\n    cert_file: /no-pem\n    key_file: /pem",
        &[
            "5: amqp.tls.ca_file: /no-pem: no certificate in it; name a PEM file with the CA's \
             certificate",
            "6: amqp.tls.cert_file: /no-pem: no certificate in it; name a PEM file with the client's \
             certificate",
        ],
    );
}

#[test]
fn broker_urls_are_read() {
    let full = |tls, host: &str, port, vhost: &str, username: &str, password: &str| Endpoint {
        tls,
        host: host.to_owned(),
        port,
        vhost: vhost.to_owned(),
        username: username.to_owned(),
        password: Secret::new(password),
    };
    for (url, wanted) in [
        ("amqp://h", full(false, "h", 5672, "/", "guest", "guest")),
        ("amqp://h/", full(false, "h", 5672, "/", "guest", "guest")),
        (
            "amqps://h/%2F",
            full(true, "h", 5671, "/", "guest", "guest"),
        ),
        (
            "AMQP://h:1/%2Fa%20b",
            full(false, "h", 1, "/a b", "guest", "guest"),
        ),
        (
            "amqp://u%40d:Ct5%2F-25@[::1]:5/v",
            full(false, "::1", 5, "v", "u@d", "Ct5/-25"),
        ),
        (
            "amqp://u:Ct6@x:26@h/v",
            full(false, "h", 5672, "v", "u", "Ct6@x:26"),
        ),
        ("amqp://u:@h/", full(false, "h", 5672, "/", "u", "")),
        (
            "amqp://[fe80::1%25eth0]/",
            full(false, "fe80::1%eth0", 5672, "/", "guest", "guest"),
        ),
    ] {
        assert_eq!(endpoint(url), wanted, "{url}");
    }
    let user_only = format!("{CAMERA}amqp: {{url: amqp://u@h/, password: Ct7-27}}");
    assert_eq!(
        config(&user_only).amqp.endpoints[0],
        full(false, "h", 5672, "/", "u", "Ct7-27")
    );
    let keys = format!("{CAMERA}amqp: {{username: 'a:b', password: 'c/d'}}");
    assert_eq!(
        config(&keys).amqp.endpoints[0],
        full(false, "127.0.0.1", 5672, "/", "a:b", "c/d")
    );
}

#[test]
fn a_broker_user_without_password_is_warned_about() {
    let loaded = parse(&format!("{CAMERA}amqp: {{url: 'amqp://u@h/'}}")).unwrap();
    assert_eq!(
        loaded.warnings,
        [
            "c.yaml:2: amqp.url: the URL has a user name but no password; the password \"guest\" \
             is used"
        ]
    );
}

#[test]
fn a_camera_address_that_is_most_likely_not_meant_is_warned_about() {
    for (url, warning) in [
        (
            "'~/a.mp4'",
            Some("~ is not replaced by a home directory; write the whole path"),
        ),
        (
            "'rtsp://h/Streaming Channels'",
            Some(
                "the address contains a blank; FFmpeg sends it as it is, and many cameras refuse \
                 it: write %20",
            ),
        ),
        (
            "0",
            Some("0 is read as the name of a file; for the device write /dev/video0"),
        ),
        (
            "'12'",
            Some("12 is read as the name of a file; for the device write /dev/video12"),
        ),
        (
            "/dev/video9",
            Some("/dev/video9 does not exist; the camera fails until it does"),
        ),
        (
            "/missing/a.mp4",
            Some("/missing/a.mp4 does not exist; the camera fails until it does"),
        ),
        (
            "'file:/missing/a:b.mp4'",
            Some("/missing/a:b.mp4 does not exist; the camera fails until it does"),
        ),
        ("/missing/%03d.jpg", None),
        ("/missing/a.mp4, enabled: false", None),
        ("/dev/video0", None),
        ("/there/a.mp4", None),
        ("'lavfi:testsrc2, scale = 64:64'", None),
        ("'http://h/a b'", None),
    ] {
        let more = "{id: b, url: /b.mp4}";
        let loaded = parse(&format!("cameras: [{{id: a, url: {url}}}, {more}]\n")).unwrap();
        let expected: Vec<_> = warning
            .map(|warning| format!("c.yaml:1: cameras[0].url: {warning}"))
            .into_iter()
            .collect();
        assert_eq!(loaded.warnings, expected, "{url}");
    }
}

#[test]
fn an_at_sign_behind_the_host_of_a_camera_is_refused() {
    for url in [
        "rtsp://admin:12/34@h/x",
        "rtsp://u:p@ss/word@h/x",
        "http://h/@cam",
    ] {
        let says = "1: cameras[0].url: an @ after the first /; for a password that contains a /, \
                    use the keys username and password instead; in a path write %40";
        refused(&format!("cameras: [{{id: a, url: '{url}'}}]\n"), &[says]);
    }
    for url in ["rtsp://u:p@ss@h/x?to=a@b", "rtsp://h/x%40y"] {
        assert_eq!(
            camera(&format!("id: a, url: '{url}'"))
                .source
                .host
                .as_deref(),
            Some("h")
        );
    }
}

#[test]
fn camera_urls_are_read() {
    use SourceKind::{File, Http, Lavfi, Rtmp, Rtsp, V4l2};
    for (url, kind, address, host) in [
        // The only form of an interface that FFmpeg 5.1 and 7.1 take.
        (
            "rtsp://u:a%25b@[fe80::1%25eth0]:554/c%25d",
            Rtsp,
            "rtsp://u:a%25b@[fe80::1%eth0]:554/c%25d",
            Some("fe80::1%eth0"),
        ),
        (
            "rtsp://[fe80::1%eth0]/",
            Rtsp,
            "rtsp://[fe80::1%eth0]/",
            Some("fe80::1%eth0"),
        ),
        (
            "rtsp://h:554/a?b=c#d",
            Rtsp,
            "rtsp://h:554/a?b=c#d",
            Some("h"),
        ),
        (
            "RTSPS://Cam.Example.com",
            Rtsp,
            "rtsps://Cam.Example.com",
            Some("cam.example.com"),
        ),
        (
            "rtmp://[2001:db8::2]:1935/x",
            Rtmp,
            "rtmp://[2001:db8::2]:1935/x",
            Some("2001:db8::2"),
        ),
        ("rtmps://h/x", Rtmp, "rtmps://h/x", Some("h")),
        ("http://h/v.mjpg", Http, "http://h/v.mjpg", Some("h")),
        ("https://h", Http, "https://h", Some("h")),
        (
            "rtsp://u:Db8@x%40?#:-33@h/y",
            Rtsp,
            "rtsp://u:Db8@x%40%3F%23:-33@h/y",
            Some("h"),
        ),
        ("clips/a b.mp4", File, "clips/a b.mp4", None),
        ("clips/a:b.mp4", File, "clips/a:b.mp4", None),
        ("file:a:b.mp4", File, "file:a:b.mp4", None),
        ("file:-a.mp4", File, "file:-a.mp4", None),
        ("file:/a.mp4", File, "/a.mp4", None),
        ("file:///a.mp4", File, "/a.mp4", None),
        ("/dev/video12", V4l2, "/dev/video12", None),
        ("/dev/v4l/by-id/usb-x", V4l2, "/dev/v4l/by-id/usb-x", None),
        ("lavfi:movie=rtsp://h/", Lavfi, "movie=rtsp://h/", None),
    ] {
        let source = camera(&format!("id: a, url: '{url}'")).source;
        assert_eq!(
            (source.kind, source.address.expose(), source.host.as_deref()),
            (kind, address, host),
            "{url}"
        );
    }
}

#[test]
fn camera_credentials_are_put_into_the_url() {
    for (keys, address) in [
        (
            "url: 'rtsp://h/x', username: a@b, password: 'Lp9/:é-44'",
            "rtsp://a%40b:Lp9%2F%3A%C3%A9-44@h/x",
        ),
        ("url: 'rtsp://h/x', username: a", "rtsp://a@h/x"),
        (
            "url: 'rtsp://h/x', username: a, password: ''",
            "rtsp://a:@h/x",
        ),
        (
            "url: 'rtsp://h', username: a, password_file: /password-crlf",
            "rtsp://a:Jn2-crlf-32@h",
        ),
        (
            "url: 'rtsp://a%20b@h', password: 6183402957",
            "rtsp://a%20b:6183402957@h",
        ),
        ("url: 'rtsp://@h', username: a", "rtsp://a@h"),
    ] {
        let source = camera(&format!("id: a, {keys}")).source;
        assert_eq!(source.address.expose(), address);
    }
}

#[test]
fn two_cameras_with_one_route_are_warned_about() {
    let text = "
cameras:
  - {id: a, url: /a}
  - {id: b, url: /b, exchange: other, routing_key: camera.a}
  - {id: c, url: /c, routing_key: camera.a, enabled: false}
  - id: d
    url: /d
    routing_key: camera.a
";
    assert_eq!(
        parse(text).unwrap().warnings,
        [
            "c.yaml:8: cameras[3].routing_key: the same exchange and routing key as cameras[0]; \
          consumers can tell the two apart by the header camera_id only"
        ]
    );
}
