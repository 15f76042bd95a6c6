//! Checks the key `decode`.

use crate::config::reader::{Item, Reader, Section};
use crate::config::{Camera, Decode, Pictures};

pub(super) fn decode(r: &mut Reader<'_>, item: Option<&Item<'_>>, default: Decode) -> Decode {
    r.choice(item, &Decode::ALL, default)
}

/// Refuses what cannot be done together.
pub(super) fn fits(r: &mut Reader<'_>, s: &Section<'_>, camera: &Camera) {
    if camera.decode == Decode::Software {
        return;
    }
    let at = s.get("decode").map_or(s.at, |item| item.at);
    let key = format!("{}.decode", s.key);
    let name = camera.decode.name();
    if let Some(arg) = camera.decoder_argument() {
        r.problem(
            at,
            &key,
            format!(
                "{name} and {arg} in input_args both choose the decoder; remove {arg}, or set \
                 decode: software"
            ),
        );
    }
    if let Decode::Only(hardware) = camera.decode
        && hardware.replaces_decoder()
        && camera.pictures == Pictures::Keyframes
    {
        r.problem(
            at,
            &key,
            format!(
                "{name} decodes every picture, and pictures: keyframes wants the keyframes only; \
                 set decode: software, which takes little for them"
            ),
        );
    }
}
