//! Shows what arrives from each camera and keeps the latest picture of each.
//!
//! ```text
//! cargo run --example consume -- amqp://user:password@broker.example/ pictures
//! ```
//!
//! In a project of your own: this file, and `amiquip = "0.4"` in Cargo.toml.

use amiquip::{
    AmqpValue, Connection, ConsumerMessage, ConsumerOptions, ExchangeDeclareOptions, ExchangeType,
    FieldTable, QueueDeclareOptions,
};
use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, url, folder] = args.as_slice() else {
        return Err("usage: consume URL FOLDER".into());
    };
    fs::create_dir_all(folder)?;
    // For amqps:// it is Connection::open(url).
    let mut connection = Connection::insecure_open(url)?;
    let channel = connection.open_channel(None)?;
    // Declared as the daemon does, so that either program may start first.
    let exchange = channel.exchange_declare(
        ExchangeType::Topic,
        "cameras",
        ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        },
    )?;
    // An exclusive queue, deleted with the connection. A slow consumer loses the oldest pictures.
    let queue = channel.queue_declare(
        "",
        QueueDeclareOptions {
            exclusive: true,
            arguments: FieldTable::from([("x-max-length".to_owned(), AmqpValue::LongInt(64))]),
            ..QueueDeclareOptions::default()
        },
    )?;
    queue.bind(&exchange, "#", FieldTable::new())?;
    let consumer = queue.consume(ConsumerOptions {
        no_ack: true,
        ..ConsumerOptions::default()
    })?;

    let mut last = HashMap::new();
    for message in consumer.receiver() {
        let delivery = match message {
            ConsumerMessage::Delivery(delivery) => delivery,
            ended => return Err(format!("{ended:?}").into()),
        };
        let Some(headers) = delivery.properties.headers() else {
            continue;
        };
        let number = |name: &str| match headers.get(name) {
            Some(AmqpValue::LongLongInt(number)) => *number,
            _ => 0,
        };
        let Some(AmqpValue::LongString(camera)) = headers.get("camera_id") else {
            continue;
        };
        let (epoch, seq) = (number("epoch"), number("seq"));
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
        let age_us = i64::try_from(now)? - number("captured_at_us");

        // Pictures of a camera come in order; a gap in seq means dropped pictures.
        let missed = match last.insert(camera.clone(), (epoch, seq)) {
            Some((same, before)) if same == epoch => seq - before - 1,
            _ => 0,
        };
        println!(
            "{camera} {} KB seq {seq} age {} ms missed {missed}",
            delivery.body.len() / 1000,
            age_us / 1000,
        );
        // Renamed when complete, so that other programs never read half a picture.
        let path = Path::new(folder).join(format!("{camera}.jpg"));
        let new = path.with_extension("new");
        fs::write(&new, &delivery.body)?;
        fs::rename(&new, &path)?;
    }
    Ok(())
}
