//! Once buffers have grown, a frame costs no allocation in our code, from FFmpeg's bytes to the
//! broker's confirm.

use crate::support::rabbit::Rabbit;
use crate::support::tls::Tls;
use crate::support::{SOON, TempDir, fake_config, free_port, listening, wait_until};
use crossbeam_channel::{Receiver, unbounded};
use crossbeam_utils::sync::Parker;
use edge_video::amqp::{Channel, Confirm, Connection, dial};
use edge_video::capture::pipe::Arrival;
use edge_video::capture::splitter::{Part, Splitter};
use edge_video::config::Config;
use edge_video::frame::Frame;
use edge_video::handoff::mailbox::{MailboxReceiver, MailboxSender, mailbox};
use edge_video::handoff::pool::{BUFFERS_PER_CAMERA, Pool};
use edge_video::message::Headers;
use edge_video::metrics::CameraMetrics;
use edge_video::shutdown::Stop;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// FFmpeg's stream of one picture without end, in pieces as FFmpeg writes them.
struct Stream {
    bytes: Vec<u8>,
    at: usize,
}

impl Stream {
    fn new() -> Self {
        // SOI, a frame header of 16 x 16 pixels, a scan, EOI. Larger than one AMQP frame.
        let mut jpeg = b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x10\x00\x10\x01\x01\x11\x00".to_vec();
        jpeg.extend(b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00");
        jpeg.resize(300_000, 0x55);
        jpeg.extend(b"\xff\xd9");
        let length = jpeg.len();
        let head = format!("Content-type: image/jpeg\r\nContent-length: {length}\r\n\r\n");
        let bytes = [b"--ffmpeg\r\n", head.as_bytes(), &jpeg, b"\r\n"].concat();
        Self { bytes, at: 0 }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let rest = &self.bytes[self.at..];
        let count = rest.len().min(buf.len()).min(32 * 1024);
        buf[..count].copy_from_slice(&rest[..count]);
        self.at = (self.at + count) % self.bytes.len();
        Ok(count)
    }
}

/// One frame all the way, as reader and publisher do it.
fn carry(
    splitter: &mut Splitter<Stream>,
    pool: &Pool,
    (tx, rx): &(MailboxSender<Frame>, MailboxReceiver<Frame>),
    metrics: &CameraMetrics,
    channel: &Channel,
    confirms: &Receiver<Confirm>,
) {
    let mut buffer = pool.take();
    let Part::Frame { first_byte, size } = splitter.next(&mut buffer).unwrap() else {
        panic!("a frame was skipped");
    };
    metrics.reader.captured.increment();
    let put = Frame {
        epoch: 1,
        seq: metrics.reader.captured.get(),
        captured: first_byte.read,
        width: size.width,
        height: size.height,
        jpeg: buffer,
    };
    assert!(tx.put(put).is_none());
    let frame = rx.take().unwrap();
    metrics.publisher.taken.increment();
    let headers = Headers::of("cam1", &frame);
    let jpeg = frame.jpeg.picture();
    channel
        .publish("allocations", "cam1", false, &headers, jpeg, || true)
        .unwrap();
    drop(frame);
    assert!(confirms.recv_timeout(SOON).unwrap().acked);
    metrics.publisher.published.increment();
    let age = first_byte.read.age(Instant::now());
    metrics.publisher.capture_to_confirm.observe_duration(age);
}

const FRAMES: u64 = 100;

#[test]
fn a_frame_costs_no_allocation_on_our_side() {
    let costs = costs(&Rabbit::shared().url());
    assert_eq!(
        costs.iter().min(),
        Some(&0),
        "in {FRAMES} frames: {costs:?}"
    );
}

/// Of a message with three body frames: each text of the properties is a string of its own and
/// their table a map, and amiquip copies all into buffers that grow. Measured; it does not vary.
const UNDER_TLS: u64 = 50;

/// Under TLS amiquip sends the frame.
#[test]
fn under_tls_a_frame_costs_what_amiquip_allocates() {
    let dir = TempDir::new("allocations-tls");
    let certificates = Tls::new(dir.path());
    let port = free_port();
    let _rabbit = Rabbit::start_with(&certificates.rabbit_config(port));
    // RabbitMQ 4 opens this port last.
    wait_until(SOON, "the TLS port", || listening(port));
    let ca = certificates.path("ca.pem");
    let costs = costs(&format!(
        "amqps://127.0.0.1:{port}/\n  tls: {{ca_file: {ca}}}"
    ));
    let least = costs.iter().min().unwrap() / FRAMES;
    assert!(least <= UNDER_TLS, "in {FRAMES} frames: {costs:?}");
}

/// How many allocations the thread that reads and publishes makes in [`FRAMES`] frames, three
/// times: the first wait for a lock allocates, whenever it happens.
fn costs(url: &str) -> [u64; 3] {
    let cameras = [("cam1", "stream".to_owned())];
    let config = fake_config(url, "allocations", "", &cameras);
    let amqp = Config::parse(&config, "test.yaml", &|_| None)
        .unwrap()
        .config
        .amqp;
    let endpoint = amqp.endpoints.first().unwrap();
    let socket = dial(endpoint, SOON, &Stop::new().unwrap()).unwrap();
    let mut connection = Connection::open(&socket, endpoint, &amqp).unwrap();
    let channel = connection.open_channel().unwrap();
    let (hear, confirms) = unbounded();
    channel.listen(Arc::new(hear));
    channel.declare_exchange("allocations").unwrap();

    let mut splitter = Splitter::new(Stream::new(), 8 << 20, |_| Arrival::now());
    let (pool, mailbox, metrics) = (
        Pool::new(),
        mailbox(Parker::new().unparker().clone()),
        CameraMetrics::default(),
    );
    let mut one = || {
        carry(
            &mut splitter,
            &pool,
            &mailbox,
            &metrics,
            &channel,
            &confirms,
        )
    };
    // Each buffer grows once, and so does the list of publishers that wait for a channel.
    let nothing = confirms.recv_timeout(Duration::from_millis(1));
    assert!(nothing.is_err());
    for _ in 0..2 * BUFFERS_PER_CAMERA {
        one();
    }
    [(); 3].map(|()| allocation_counter::measure(|| (0..FRAMES).for_each(|_| one())).count_total)
}
