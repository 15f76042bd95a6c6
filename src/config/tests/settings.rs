//! Tests that each setting takes effect, and that an absent one has its default.

use super::*;

#[test]
fn without_any_setting_all_is_default() {
    for text in [
        CAMERA.to_owned(),
        format!(
            "---\n{CAMERA}amqp:\ncircuit_breaker:\nmemory_controller: {{}}\nhttp: ~\nlog:\nfps:\n"
        ),
    ] {
        let config = config(&text);
        assert_eq!(config.amqp, Amqp::default());
        assert_eq!(config.video, Video::default());
        assert_eq!(config.adaptive_quality, AdaptiveQuality::default());
        assert_eq!(config.circuit_breaker, CircuitBreaker::default());
        assert_eq!(config.memory_controller, MemoryController::default());
        assert_eq!(config.metadata, Metadata::default());
        assert_eq!(config.http, Http::default());
        assert_eq!(config.log, Log::default());
        assert_eq!(config.ffmpeg_path, Path::new("ffmpeg"));
        assert_eq!(config.max_frame_bytes, 8 << 20);
        assert_eq!(
            config.cameras,
            [Camera {
                id: "a".into(),
                source: Source {
                    kind: SourceKind::File,
                    address: Secret::new("/a.mp4"),
                    host: None
                },
                exchange: "cameras".to_owned(),
                routing_key: "camera.a".to_owned(),
                passthrough: false,
                pictures: Pictures::All,
                video_routing_key: "video.a".to_owned(),
                decode: Decode::Software,
                frozen: Frozen::default(),
                idle: Idle::default(),
                one_every: None,
                fps: 15,
                quality: 5,
                quality_is_chosen: false,
                width: None,
                height: None,
                transport: Transport::Tcp,
                stale_timeout: Duration::from_secs(5),
                first_frame_timeout: Duration::from_secs(20),
                input_args: Vec::new(),
                output_args: Vec::new(),
                enabled: true,
            }]
        );
    }
}

#[test]
fn pictures_and_events_may_share_amq_topic() {
    let config = config(
        "
amqp: {exchange: amq.topic}
metadata: {enabled: true, exchange: amq.topic}
cameras: [{id: a, url: 'lavfi:testsrc'}]
",
    );
    assert_eq!(&*config.cameras[0].exchange, "amq.topic");
    assert_eq!(&*config.metadata.exchange, "amq.topic");
}

#[test]
fn a_camera_takes_over_what_is_published_unless_it_says_otherwise() {
    let config = config(
        "
passthrough: true
pictures: keyframes
cameras:
  - {id: a, url: /a}
  - {id: b, url: /b, passthrough: false}
  - {id: c, url: /c, pictures: none}
",
    );
    let published = config.cameras.iter().map(|it| {
        let stale = it.stale_timeout.as_secs();
        (it.passthrough, it.pictures, stale)
    });
    assert_eq!(
        published.collect::<Vec<_>>(),
        [
            (true, Pictures::Keyframes, 5),
            (false, Pictures::Keyframes, 45),
            (true, Pictures::None, 5),
        ],
        "the stale_timeout of b is as long as keyframes may be apart"
    );
}

#[test]
fn a_camera_takes_over_the_decoder_unless_it_says_otherwise() {
    let config = config(
        "
decode: auto
cameras:
  - {id: a, url: /a}
  - {id: b, url: /b, decode: software, input_args: [-hwaccel, vaapi]}
  - {id: c, url: /c, decode: v4l2m2m}
  - {id: d, url: /d, pictures: keyframes}
",
    );
    let decode = config.cameras.iter().map(|it| it.decode.name());
    assert_eq!(
        decode.collect::<Vec<_>>(),
        ["auto", "software", "v4l2m2m", "auto"]
    );
}

#[test]
fn without_video_its_exchange_is_not_used_and_may_be_another_one() {
    for text in [
        "amqp: {exchange: cameras.video}\ncameras: [{id: a, url: /a}]",
        "cameras: [{id: a, url: /a, exchange: cameras.video}]",
        "metadata: {enabled: true, exchange: cameras.video}\ncameras: [{id: a, url: /a}]",
        "amqp: {exchange: cameras.video}\ncameras: [{id: a, url: /a}, {id: b, url: /b, passthrough: true, enabled: false}]",
        "passthrough: true\ncameras: [{id: a, url: /a}, {id: b, url: /b, exchange: cameras.video, enabled: false}]",
        "passthrough: true\nmetadata: {exchange: cameras.video}\ncameras: [{id: a, url: /a}]",
    ] {
        config(text);
    }
}

/// Every key with a value that is not its default.
const EVERY_SETTING: &str = "
fps: 20
quality: 3
passthrough: true
pictures: none
amqp:
  urls: ['amqps://b1.example.com', 'amqp://[2001:db8::1]:5673/v%2Fh']
  username: edge
  password_file: /password
  tls: {ca_file: /pem, cert_file: /pem, key_file: /pem}
  exchange: amq.topic
  routing_key_prefix: ''
  connections: 0
  max_in_flight: 8
  max_age: 2s
  confirm_timeout: 3s
  slow_publish: 1.5s
  heartbeat: 1m
  connect_timeout: 4s
  mandatory: yes
video: {exchange: v, routing_key_prefix: 'v.', max_bytes: 8MiB, max_age: 6s}
frozen: {after: 40s}
adaptive_quality: {enabled: true, max: 20}
circuit_breaker:
  enabled: false
  max_failures: 6
  half_open_successes: 4
  initial_backoff: 1s
  max_backoff: 1m30s
  backoff_multiplier: 1
  reset_timeout: 1m
memory_controller:
  enabled: off
  max_memory_mb: 512
  warning_percent: 50
  critical_percent: 60.5
  emergency_percent: 100
  gc_trigger_percent: 55
  check_interval: 1s
cameras:
  - id: a
    url: rtsp://cam.example.com/s
    exchange: x
    routing_key: k
    passthrough: no
    pictures: keyframes
    decode: vaapi
    frozen: {restart: true}
    fps: 1
    quality: 31
    width: 640
    height: 360
    transport: auto
    stale_timeout: 2s
    first_frame_timeout: 3s
    username: u
    password: Hq1-plain-08
    input_args: [-an, -analyzeduration, 1000]
    output_args: [-vf, 'scale=640:-2']
    enabled: true
  - {id: b, url: /dev/video0, fps: 1, enabled: no, transport: udp}
ffmpeg: {path: /opt/ffmpeg}
max_frame_bytes: 1MB
idle: {after: 5m, every: 20s}
metadata: {enabled: true, exchange: plant.events, frames: yes}
http: {enabled: false, listen: '[::1]:80', hosts: [board.lan, '::1'], pictures: never}
log: {level: off, format: json, summary: 1m30s}
";

#[test]
fn every_setting_of_the_broker_arrives() {
    let config = config(EVERY_SETTING);
    assert_eq!(
        config.amqp,
        Amqp {
            endpoints: vec![
                Endpoint {
                    tls: true,
                    host: "b1.example.com".to_owned(),
                    port: 5671,
                    vhost: "/".to_owned(),
                    username: "edge".to_owned(),
                    password: Secret::new("Jn2-file-31"),
                },
                Endpoint {
                    tls: false,
                    host: "2001:db8::1".to_owned(),
                    port: 5673,
                    vhost: "v/h".to_owned(),
                    username: "edge".to_owned(),
                    password: Secret::new("Jn2-file-31"),
                },
            ],
            tls: Tls {
                ca_file: Some("/pem".into()),
                cert_file: Some("/pem".into()),
                key_file: Some("/pem".into()),
            },
            exchange: "amq.topic".to_owned(),
            routing_key_prefix: String::new(),
            connections: 0,
            max_in_flight: MaxInFlight::Fixed(8),
            max_age: Duration::from_secs(2),
            confirm_timeout: Duration::from_secs(3),
            slow_publish: Duration::from_millis(1500),
            heartbeat: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(4),
            mandatory: true,
        }
    );
}

#[test]
fn every_setting_of_breaker_and_memory_arrives() {
    let config = config(EVERY_SETTING);
    assert_eq!(
        config.circuit_breaker,
        CircuitBreaker {
            enabled: false,
            max_failures: 6,
            half_open_successes: 4,
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(90),
            backoff_multiplier: 1.0,
            reset_timeout: Duration::from_secs(60),
        }
    );
    assert_eq!(
        config.memory_controller,
        MemoryController {
            enabled: false,
            max_memory_mb: 512,
            warning_percent: 50.0,
            critical_percent: 60.5,
            emergency_percent: 100.0,
            gc_trigger_percent: 55.0,
            check_interval: Duration::from_secs(1),
        }
    );
}

#[test]
fn every_setting_of_a_camera_arrives() {
    let config = config(EVERY_SETTING);
    assert_eq!(
        config.cameras[0],
        Camera {
            id: "a".into(),
            source: Source {
                kind: SourceKind::Rtsp,
                address: Secret::new("rtsp://u:Hq1-plain-08@cam.example.com/s"),
                host: Some("cam.example.com".to_owned()),
            },
            exchange: "x".to_owned(),
            routing_key: "k".to_owned(),
            passthrough: false,
            pictures: Pictures::Keyframes,
            video_routing_key: "v.a".to_owned(),
            decode: Decode::Only(Hardware::Vaapi),
            frozen: Frozen {
                after: Some(Duration::from_secs(40)),
                restart: true,
            },
            idle: IDLE,
            one_every: None,
            fps: 1,
            quality: 31,
            quality_is_chosen: true,
            width: Some(640),
            height: Some(360),
            transport: Transport::Auto,
            stale_timeout: Duration::from_secs(2),
            first_frame_timeout: Duration::from_secs(3),
            input_args: ["-an", "-analyzeduration", "1000"]
                .map(str::to_owned)
                .to_vec(),
            output_args: ["-vf", "scale=640:-2"].map(str::to_owned).to_vec(),
            enabled: true,
        }
    );
    let b = &config.cameras[1];
    assert_eq!(
        (b.source.kind, b.transport, b.enabled),
        (SourceKind::V4l2, Transport::Udp, false)
    );
    assert_eq!((b.quality, b.routing_key.as_str()), (3, "b"));
    assert_eq!(
        (b.passthrough, b.pictures, b.video_routing_key.as_str()),
        (true, Pictures::None, "v.b")
    );
    assert_eq!(
        b.stale_timeout,
        Duration::from_secs(10),
        "ten frames at 1 fps"
    );
}

const IDLE: Idle = Idle {
    after: Some(Duration::from_secs(300)),
    every: Duration::from_secs(20),
};

#[test]
fn of_an_idle_camera_only_keyframes_are_captured_and_its_watchdog_waits_for_them() {
    let text = "idle: {after: 5m}\npassthrough: true\ncameras: [{id: a, url: /a}, \
                {id: b, url: /b, pictures: none}, {id: c, url: /c, stale_timeout: 80s}]";
    let config = config(text);
    let idle = |n: usize| {
        let camera = &config.cameras[n];
        (
            camera.while_idle().pictures,
            camera.stale_timeout_if(true).as_secs(),
        )
    };
    assert_eq!(idle(0), (Pictures::Keyframes, 75));
    assert_eq!(idle(1), (Pictures::None, 5), "its video comes as ever");
    assert_eq!(idle(2), (Pictures::Keyframes, 80));
    let ten = Some(Duration::from_secs(10));
    assert_eq!(config.cameras[0].while_idle().one_every, ten);
    assert_eq!(config.cameras[0].stale_timeout_if(false).as_secs(), 5);
}

#[test]
fn every_other_setting_arrives() {
    let config = config(EVERY_SETTING);
    assert_eq!(config.idle, IDLE);
    assert_eq!(config.ffmpeg_path, Path::new("/opt/ffmpeg"));
    assert_eq!(config.max_frame_bytes, 1_000_000);
    let (enabled, max) = (true, 20);
    assert_eq!(config.adaptive_quality, AdaptiveQuality { enabled, max });
    assert_eq!(
        config.video,
        Video {
            exchange: "v".to_owned(),
            routing_key_prefix: "v.".to_owned(),
            max_bytes: 8 << 20,
            max_age: Duration::from_secs(6),
        }
    );
    assert_eq!(
        config.metadata,
        Metadata {
            enabled: true,
            exchange: "plant.events".to_owned(),
            frames: true,
        }
    );
    assert_eq!(
        config.http,
        Http {
            enabled: false,
            listen: "[::1]:80".parse().unwrap(),
            hosts: vec!["board.lan".to_owned(), "::1".to_owned()],
            pictures: Audience::Never
        }
    );
    assert_eq!(
        config.log,
        Log {
            level: log::LevelFilter::Off,
            format: LogFormat::Json,
            summary: Some(Duration::from_secs(90)),
        }
    );
}

#[test]
fn a_version_2_file_works_unchanged() {
    let Loaded { config, warnings } = parse(V2).unwrap();
    assert_eq!(
        warnings,
        [
            "c.yaml:9: amqp.prefetch_count: has no effect: it limits consumers, and this program \
             only publishes; remove it"
        ]
    );
    assert_eq!(
        config.amqp.endpoints,
        [Endpoint {
            tls: false,
            host: "broker.example.com".to_owned(),
            port: 5672,
            vhost: "plant".to_owned(),
            username: "edge".to_owned(),
            password: Secret::new("Zr4-dock-warden"),
        }]
    );
    assert_eq!(config.amqp.exchange, "plant.cameras");
    assert_eq!(
        config.circuit_breaker.reset_timeout,
        Duration::from_secs(60)
    );
    assert_eq!(config.memory_controller.max_memory_mb, 2048);
    let cameras: Vec<_> = config
        .cameras
        .iter()
        .map(|c| {
            (
                &*c.id,
                c.source.kind,
                c.exchange.as_str(),
                c.routing_key.as_str(),
            )
        })
        .collect();
    assert_eq!(
        cameras,
        [
            ("cam1", SourceKind::Rtsp, "yard", "yard.north"),
            ("cam2", SourceKind::Rtsp, "yard", "yard.south"),
            ("cam3", SourceKind::Rtsp, "gates", "gate.main"),
            ("cam4", SourceKind::Rtsp, "gates", "gate.ramp"),
            ("cam5", SourceKind::Rtmp, "hall", "hall.stage"),
            ("cam6", SourceKind::Rtsp, "hall", "hall.door"),
        ]
    );
    assert_eq!(
        config.cameras[0].source.address.expose(),
        "rtsp://admin:Vq8-yard-41@192.0.2.11:554/cam/realmonitor?channel=1&subtype=0"
    );
    assert_eq!(
        config.cameras[2].source.address.expose(),
        "rtsp://viewer:Mt5@gate%2377@gate.example.com/cam/realmonitor?channel=1&subtype=1",
        "only the #, which would end the host for FFmpeg, is encoded"
    );
    assert_eq!(
        config.cameras[2].source.host.as_deref(),
        Some("gate.example.com")
    );
}
