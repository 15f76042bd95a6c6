//! Checks a section `frozen`: that of all cameras, or of one.

use super::keys::FROZEN_KEYS;
use super::{DAY, off_or};
use crate::config::Frozen;
use crate::config::reader::{Reader, Section};
use std::ops::RangeInclusive;
use std::time::Duration;

/// FFmpeg tells that a picture has stood still for a second, so nothing shorter than two is exact.
const AFTER: RangeInclusive<Duration> = Duration::from_secs(2)..=DAY;

/// The section of `parent`; `default` in place of absent keys.
pub(super) fn frozen(r: &mut Reader<'_>, parent: &Section<'_>, default: Frozen) -> Frozen {
    let s = r.section(parent, "frozen", FROZEN_KEYS);
    Frozen {
        after: r.parsed(
            s.get("after").as_ref(),
            |text| off_or(text, &AFTER),
            "off or 2s to 24h is allowed",
            default.after,
        ),
        restart: r.bool(s.get("restart").as_ref(), default.restart),
    }
}
