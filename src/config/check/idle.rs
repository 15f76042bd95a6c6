//! Checks the section `idle`.

use super::keys::IDLE_KEYS;
use super::{DAY, SECOND};
use crate::config::Idle;
use crate::config::reader::{Reader, Section};
use crate::config::units::parse_duration;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The alert rule for a camera without frames waits for a minute, and two late pictures must not
/// raise it.
const EVERY: RangeInclusive<Duration> = SECOND..=Duration::from_secs(30);

pub(super) fn idle(r: &mut Reader<'_>, root: &Section<'_>) -> Idle {
    let s = r.section(root, "idle", IDLE_KEYS);
    let d = Idle::default();
    Idle {
        after: r.parsed(
            s.get("after").as_ref(),
            |text| match text {
                "off" => Some(None),
                _ => parse_duration(text)
                    .filter(|after| (SECOND..=DAY).contains(after))
                    .map(Some),
            },
            "off or 1s to 24h is allowed",
            d.after,
        ),
        every: r.duration(s.get("every").as_ref(), EVERY, d.every),
    }
}
