//! Tests of the limits of what a broker may send.

use super::super::frame::write_frame;
use super::*;

fn method(channel: u16, class: u8, method: u8, args: &[u8]) -> Vec<u8> {
    let mut bytes = vec![];
    write_frame(&mut bytes, METHOD, channel, |out| {
        out.extend([0, class, 0, method]);
        out.extend(args);
    });
    bytes
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}

/// `connection.start` with this table.
fn start(table: &[u8]) -> Vec<u8> {
    let args = [&[0, 9], &long(table)[..], &long(b"PLAIN"), &long(b"en_US")].concat();
    method(0, 10, 10, &args)
}

/// A table with arrays nested to this depth.
fn arrays(depth: usize) -> Vec<u8> {
    let nested = (0..depth).fold(b"V".to_vec(), |inner, _| [b"A", &long(&inner)[..]].concat());
    [b"\x01a", &nested[..]].concat()
}

/// A table with tables nested to this depth.
fn tables(depth: usize) -> Vec<u8> {
    let innermost = b"\x01vV".to_vec();
    (0..depth).fold(innermost, |inner, _| {
        [b"\x01tF", &long(&inner)[..]].concat()
    })
}

fn refused(bytes: &[u8]) -> Option<Refusal> {
    Bounds::default().first(bytes).err()
}

/// After a broker's first frame.
fn started() -> Bounds {
    let mut bounds = Bounds::default();
    assert!(bounds.first(&start(b"")).unwrap().is_some());
    bounds
}

#[test]
fn a_peer_that_is_no_broker_is_named_by_its_first_bytes() {
    for (bytes, says) in [
        (
            &b"AMQP\0\0\x09\0"[..],
            "the broker speaks AMQP 0-9-0: AMQP 0-9-1 is needed; check the port",
        ),
        (
            b"AMQP\x01\x01\x08\0",
            "the broker speaks AMQP 8-0: AMQP 0-9-1 is needed; check the port",
        ),
        (
            b"AMQP\x03\x01\0\0",
            "the broker speaks AMQP 1.0: AMQP 0-9-1 is needed; check the port",
        ),
        (
            b"AMQP\0\x01\0\0",
            "the broker speaks AMQP 1.0: AMQP 0-9-1 is needed; check the port",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n",
            "no AMQP broker: an HTTP server answers; check host and port",
        ),
        (
            b"SSH-2.0-OpenSSH_9.2\r\n",
            "no AMQP broker: an SSH server answers; check host and port",
        ),
        (
            b"\x15\x03\x03\0\x02\x02\x46",
            "the broker requires TLS on this port: use amqps:// in the URL",
        ),
        (
            b"220 \x1b[31m mail ESMTP\r\n",
            "no AMQP broker: the answer begins with \"220 \\x1b[31\"; check host and port",
        ),
        (
            b"-ERR",
            "no AMQP broker: the answer begins with \"-ERR\"; check host and port",
        ),
    ] {
        // Fewer bytes tell at the connection's end.
        let told = refused(bytes).or_else(|| Bounds::default().at_end(bytes));
        assert_eq!(told.unwrap().to_string(), says);
        if bytes.len() >= TELLING {
            assert!(refused(bytes).is_some(), "told at once: {says}");
        }
        assert_eq!(refused(&bytes[..3]), None, "could still be anything");
    }
}

#[test]
fn the_size_of_a_frame_is_refused_before_its_bytes_are_there() {
    let announced = |size: u32| [&[1, 0, 0], &size.to_be_bytes()[..]].concat();
    assert_eq!(refused(&announced(131_064)), None);
    let refusal = refused(&announced(0xffff_fff0)).unwrap();
    assert_eq!(
        refusal.to_string(),
        "the broker announced a frame of 4294967280 bytes: at most 131064 are allowed; connection \
         closed"
    );
    let mut bounds = started();
    bounds.agree(4096);
    assert_eq!(bounds.first(&announced(4088)), Ok(None));
    assert_eq!(
        bounds.first(&announced(4089)),
        Err(Refusal::Size(4089, 4088))
    );
    // Neither side can agree to less or more than the bounds.
    for (agreed, most) in [(0, FRAME_MIN), (usize::MAX, FRAME_MAX)] {
        bounds.agree(agreed);
        assert_eq!(bounds.frame_max(), most);
    }
}

#[test]
fn server_properties_are_held_to_depth_number_and_form() {
    let says = |table: &[u8]| refused(&start(table)).map(|refusal| refusal.to_string());
    let nested = "the broker's server properties are nested more than 8 deep; connection closed";
    let many = "the broker's server properties contain more than 256 values; connection closed";
    let form = "the broker's server properties are cut off or of an unknown type; \
                connection closed";
    let values = |count: usize| [b"\x01aA", &long(&vec![b'V'; count])[..]].concat();
    for (table, expected) in [
        (arrays(7), None),
        (arrays(8), Some(nested)),
        (arrays(20_000), Some(nested)),
        (tables(7), None),
        (tables(8), Some(nested)),
        (tables(15_000), Some(nested)),
        (values(255), None),
        (values(256), Some(many)),
        (b"\x01vV".repeat(257), Some(many)),
        (b"\x01sS\0\0\0\x05four".to_vec(), Some(form)),
        (b"\x01z?".to_vec(), Some(form)),
        (b"\x09short".to_vec(), Some(form)),
    ] {
        assert_eq!(says(&table).as_deref(), expected, "{} bytes", table.len());
    }
    // A table that claims to be longer than its frame.
    let beyond = method(0, 10, 10, b"\0\x09\0\0\x10\0\x01vV");
    assert_eq!(refused(&beyond), Some(Refusal::Table));
    // Every type that amiquip knows.
    let every = b"\x01at\x01\x01bb\0\x01cB\0\x01ds\0\0\x01eU\0\0\x01fu\0\0\x01gI\0\0\0\0\
        \x01hi\0\0\0\0\x01jf\0\0\0\0\x01kl\0\0\0\0\0\0\0\0\x01lL\0\0\0\0\0\0\0\0\x01md\0\0\0\0\0\0\0\0\
        \x01nT\0\0\0\0\0\0\0\0\x01oD\0\0\0\0\0\x01pS\0\0\0\x01x\x01qx\0\0\0\x01x\x01rA\0\0\0\x01V\
        \x01sF\0\0\0\x03\x01vV\x01tV";
    assert_eq!(says(every), None);
}

#[test]
fn only_what_a_broker_may_send_at_that_point_passes() {
    let close = method(0, 10, 50, b"");
    assert_eq!(refused(&close), Some(Refusal::Method(10, 50, 0)));
    let says = Refusal::Method(50, 10, 3).to_string();
    assert_eq!(
        says,
        "the broker sent method 50.10 on channel 3: it is not allowed there; connection closed"
    );
    let mut bounds = started();
    for (class, id, channel, passes) in [
        (10, 30, 0, true),
        (10, 50, 0, true),
        (10, 50, 1, false),
        (10, 60, 0, true),
        // A second connection.start, connection.secure, and a client's connection.start-ok.
        (10, 10, 0, false),
        (10, 20, 0, false),
        (10, 11, 0, false),
        (20, 11, 1, true),
        (20, 11, 0, false),
        (20, 40, 1, true),
        // A client's queue.declare, exchange.declare and basic.consume hold tables.
        (50, 10, 1, false),
        (40, 10, 1, false),
        (60, 20, 1, false),
        (60, 80, 1, true),
        (60, 80, 0, false),
        (85, 11, 1, true),
        (0, 0, 0, false),
    ] {
        let bytes = method(channel, class, id, &tables(2000));
        let passed = bounds.first(&bytes).is_ok();
        assert_eq!(passed, passes, "{class}.{id} on {channel}");
    }
    let mut empty = vec![];
    write_frame(&mut empty, METHOD, 0, |out| out.extend([0, 10]));
    assert_eq!(bounds.first(&empty), Err(Refusal::Method(0, 0, 0)));
}

#[test]
fn a_frame_has_an_end_mark_and_a_type_and_is_whole() {
    let mut bounds = started();
    let mut broken = method(0, 10, 50, b"");
    *broken.last_mut().unwrap() = 0;
    let end = bounds.first(&broken).unwrap_err().to_string();
    assert_eq!(
        end,
        "the broker sent a frame without an end mark: the data is damaged or not AMQP; \
         connection closed"
    );
    for (kind, channel, passes) in [
        (HEARTBEAT, 0, true),
        (HEARTBEAT, 1, false),
        (BODY, 0, false),
        (HEADER, 1, true),
        (0, 0, false),
        (9, 1, false),
    ] {
        let mut bytes = vec![];
        write_frame(&mut bytes, kind, channel, |_| {});
        assert_eq!(bounds.first(&bytes).is_ok(), passes, "{kind} on {channel}");
    }
    assert_eq!(
        bounds
            .first(&[9, 0, 0, 0, 0, 0, 0])
            .unwrap_err()
            .to_string(),
        "the broker sent a frame of type 9 on channel 0: the data is damaged or not AMQP; \
         connection closed"
    );
    assert_eq!(bounds.at_end(b""), None);
    assert_eq!(
        bounds.at_end(&[1, 0, 0]).unwrap().to_string(),
        "the connection was cut in the middle of a frame"
    );
}
