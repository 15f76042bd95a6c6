//! Checks names in AMQP: exchanges, routing keys, virtual hosts.

use crate::config::reader::{Item, Reader};

/// AMQP counts the bytes of a name in one byte. The AMQP library does not check it, and a longer
/// name silently corrupts the whole connection.
pub(super) const LONGEST_NAME: usize = 255;

/// Whether `text` fits into an AMQP name.
pub(super) fn name_fits(r: &mut Reader<'_>, item: &Item<'_>, text: &str) -> bool {
    let fits = text.len() <= LONGEST_NAME;
    if !fits {
        r.refuse(
            item,
            format!(
                "has {} bytes; at most {LONGEST_NAME} are allowed",
                text.len()
            ),
        );
    }
    fits
}

/// What is put before a camera's id to make a routing key.
pub(super) fn prefix(r: &mut Reader<'_>, item: Option<&Item<'_>>) -> Option<String> {
    let item = item?;
    r.text_or_empty(Some(item))
        .filter(|text| name_fits(r, item, text))
}

pub(super) fn exchange(r: &mut Reader<'_>, item: Option<&Item<'_>>) -> Option<String> {
    let item = item?;
    let name = r.text(Some(item)).filter(|name| name_fits(r, item, name))?;
    if name.starts_with("amq.") && name != "amq.topic" {
        r.refuse(
            item,
            "names that begin with amq. are the broker's own; of these only amq.topic is allowed",
        );
        return None;
    }
    Some(name)
}
