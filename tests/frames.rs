//! What arrives is what was captured: whole, in order, of the right camera, and counted.

use crate::support::consumer::{Consumer, Delivery};
use crate::support::daemon::Daemon;
use crate::support::http::ON;
use crate::support::jpeg::watermark;
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, TempDir, fake_config, patient, unix_us, wait_until};
use amiquip::AmqpValue;
use std::time::Duration;

const CAMERAS: [&str; 6] = ["cam1", "cam2", "cam3", "cam4", "cam5", "cam6"];

/// Seq counts up in each epoch, epochs follow each other; returns how many numbers are missing.
#[track_caller]
fn missing(deliveries: &[std::sync::Arc<Delivery>]) -> u64 {
    let mut missing = 0;
    let mut last = (0, 0);
    for delivery in deliveries {
        let now = (delivery.epoch(), delivery.seq());
        assert!(now > last, "{now:?} comes after {last:?}");
        let expected = if now.0 == last.0 { last.1 + 1 } else { 1 };
        missing += u64::try_from(now.1 - expected).unwrap();
        last = now;
    }
    missing
}

#[test]
fn pictures_of_six_cameras_never_mix_and_every_gap_is_in_the_books() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "frames.six");
    let dir = TempDir::new("frames-six");
    let control = dir.path().join("control");
    let cameras: Vec<_> = CAMERAS
        .iter()
        // Different sizes, so that a mix-up of buffers would show.
        .zip([5_000, 20_000, 33_000, 60_000, 100_000, 140_000])
        .map(|(id, size)| {
            let control = control.display();
            let play = format!("stream,tag={id},fps=60,size={size},control={control}");
            (*id, play)
        })
        .collect();
    let more = format!("fps: 60\n{ON}");
    let config = patient(&fake_config(&rabbit.url(), "frames.six", &more, &cameras));
    let mut daemon = Daemon::start(&config);
    consumer.wait_until(Duration::from_secs(120), "5,000 frames", |arrived| {
        arrived.len() >= 5_000
    });
    // With a frozen broker at the end, the last frames would be `unknown`.
    std::fs::write(&control, "silent").unwrap();
    daemon.wait_until_all_is_answered();
    let exit = daemon.terminate();
    assert_eq!(exit.code(), Some(0));
    let report = exit.report();
    report.check_accounting();
    // Every frame that is counted as published arrives, since the broker has it.
    consumer.wait_until(SOON, "all that was published", |arrived| {
        arrived.len() as u64 == report.total.published
    });
    for id in CAMERAS {
        let deliveries = consumer.of(id);
        let account = report.camera(id);
        assert_eq!(deliveries.len() as u64, account.published);
        // A consumer cannot see frames that are missing at the end.
        let last = deliveries.last().unwrap().seq().cast_unsigned();
        let gap = missing(&deliveries);
        assert_eq!(
            gap + (account.captured - last),
            account.dropped_in_all(),
            "{account:?}"
        );
        let mut number = None;
        for delivery in &deliveries {
            let mark = watermark(delivery.jpeg()).unwrap();
            assert_eq!(mark.camera, id);
            // The source numbers its frames too: both numbers must agree.
            let offset = i64::from(mark.number) - delivery.seq();
            assert_eq!(
                *number.get_or_insert(offset),
                offset,
                "frame {} of {id}",
                delivery.seq()
            );
        }
        let bytes: usize = deliveries.iter().map(|delivery| delivery.len).sum();
        assert_eq!(bytes as u64, account.bytes);
    }
}

#[test]
fn a_message_has_the_properties_and_headers_of_the_contract() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "frames.contract");
    let before = unix_us();
    let cameras = [(
        "door-1",
        "stream,tag=door-1,width=320,height=240".to_owned(),
    )];
    let mut daemon = Daemon::start(&fake_config(&rabbit.url(), "frames.contract", "", &cameras));
    let delivery = consumer.wait_for("door-1", 3, SOON)[2].clone();
    let after = unix_us();
    assert_eq!(delivery.exchange, "frames.contract");
    assert_eq!(delivery.routing_key, "camera.door-1");
    let properties = &delivery.properties;
    // Not exactly 3: if the broker was slow, a newer frame may have replaced one that waited.
    let (epoch, seq) = (delivery.epoch(), delivery.seq());
    assert_eq!(properties.content_type().as_deref(), Some("image/jpeg"));
    assert_eq!(*properties.delivery_mode(), Some(1));
    assert_eq!(properties.app_id().as_deref(), Some("edge-video"));
    assert_eq!(properties.type_().as_deref(), Some("frame"));
    assert_eq!(
        properties.message_id().as_ref().unwrap(),
        &format!("door-1/{epoch}/{seq}")
    );
    let captured = delivery.captured_at_us();
    assert_eq!(
        properties.timestamp().unwrap(),
        captured.cast_unsigned() / 1_000_000
    );
    assert!(before <= epoch * 1000 + 999 && epoch * 1000 <= captured && captured <= after);
    let headers = delivery.headers();
    let names: Vec<_> = headers.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "camera_id",
            "captured_at_us",
            "epoch",
            "height",
            "seq",
            "width"
        ]
    );
    assert_eq!(headers["camera_id"], AmqpValue::LongString("door-1".into()));
    assert_eq!(headers["seq"], AmqpValue::LongLongInt(seq));
    let mark = watermark(delivery.jpeg()).unwrap();
    assert_eq!(i64::from(mark.number), seq);
    assert!(matches!(headers["epoch"], AmqpValue::LongLongInt(_)));
    assert!(matches!(
        headers["captured_at_us"],
        AmqpValue::LongLongInt(_)
    ));
    assert_eq!(headers["width"], AmqpValue::LongInt(320));
    assert_eq!(headers["height"], AmqpValue::LongInt(240));
    daemon.terminate().report().check_accounting();
}

#[test]
fn damaged_parts_are_counted_and_skipped_and_never_published() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "frames.damaged");
    let cameras = [
        (
            "truncate",
            "truncate,traps=0,tag=truncate,fps=60,k=5".to_owned(),
        ),
        ("lie", "lie,traps=0,tag=lie,fps=60,k=5,by=7".to_owned()),
        (
            "lie-less",
            "lie,traps=0,tag=lie-less,fps=60,k=5,by=-7".to_owned(),
        ),
        (
            "huge",
            "huge,traps=0,tag=huge,fps=60,k=20,huge=2000000".to_owned(),
        ),
        (
            "no-length",
            "no_length,traps=0,tag=no-length,fps=60".to_owned(),
        ),
    ];
    let more = "fps: 60\nmax_frame_bytes: 1MiB";
    let mut daemon = Daemon::start(&fake_config(
        &rabbit.url(),
        "frames.damaged",
        more,
        &cameras,
    ));
    for (id, _) in &cameras {
        consumer.wait_for(id, 200, Duration::from_secs(60));
    }
    let exit = daemon.terminate();
    let report = exit.report();
    report.check_accounting();
    for (id, _) in &cameras {
        for delivery in consumer.of(id) {
            let mark = watermark(delivery.jpeg()).unwrap();
            assert_eq!(mark.camera, *id);
        }
    }
    for id in ["truncate", "lie", "lie-less"] {
        let account = report.camera(id);
        let share = account.dropped("corrupt") as f64 / account.captured as f64;
        assert!((0.15..0.25).contains(&share), "every fifth: {account:?}");
    }
    assert!(
        report.camera("huge").dropped("oversize") >= 9,
        "{:?}",
        report.camera("huge")
    );
    assert_eq!(report.camera("no-length").dropped("corrupt"), 0);
    assert_eq!(
        report.total.restarts_in_all(),
        0,
        "none of this needs a restart: {report:?}"
    );
}

#[test]
fn confirms_that_come_fast_are_read_together() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start_with(rabbit.port(), "frames.fast", "#", false);
    let cameras = CAMERAS.map(|id| (id, format!("stream,tag={id},fps=60,size=5000")));
    let config = fake_config(&rabbit.url(), "frames.fast", "fps: 60", &cameras);
    let mut daemon = Daemon::start(&patient(&config));
    // 360 a second, and fewer while the machine is slow.
    wait_until(Duration::from_secs(60), "two confirms a wake-up", || {
        let (arrived, slept) = (consumer.count(), daemon.sleeps_of("amiquip-io"));
        consumer.wait_until(SOON, "500 more", |now| now.len() >= arrived + 500);
        let arrived = (consumer.count() - arrived) as u64;
        let slept = daemon.sleeps_of("amiquip-io") - slept;
        slept > 0 && arrived >= 2 * slept
    });
    let exit = daemon.terminate();
    exit.report().check_accounting();
}
