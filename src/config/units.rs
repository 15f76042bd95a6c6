//! Parses and formats durations (`1m30s`) and sizes (`8MiB`).

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 4] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
];

const SIZE_UNITS: [(&str, u64); 6] = [
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
];

/// `100ms`, `5s`, `1.5s`, `1m30s`; `None` for anything else and for more than 584 years.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut nanos = 0_u64;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, unit) = DURATION_UNITS.into_iter().find(|(name, _)| *name == unit)?;
        nanos = nanos.checked_add(times(number, unit)?)?;
        rest = tail;
    }
    Some(Duration::from_nanos(nanos))
}

/// `number`, decimals allowed, times `unit`; what is below 1 is cut off.
fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && decimals.is_empty()) {
        return None;
    }
    let mut total = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let mut place = unit;
    for digit in decimals.chars() {
        place /= 10;
        total = total.checked_add(place * u64::from(digit.to_digit(10)?))?;
    }
    Some(total)
}

/// The shortest way to write `duration` that [`parse_duration`] reads.
pub(super) fn duration_text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    for (name, unit) in DURATION_UNITS {
        let unit = u128::from(unit);
        if nanos >= unit && nanos.is_multiple_of(unit) {
            return format!("{}{name}", nanos / unit);
        }
    }
    if nanos.is_multiple_of(1_000_000) {
        return format!("{}ms", nanos / 1_000_000);
    }
    let text = format!("{}.{:06}", nanos / 1_000_000, nanos % 1_000_000);
    format!("{}ms", text.trim_end_matches('0'))
}

/// `8MiB`, `512 KiB`, `1MB`, `65536`. Bytes; `None` for anything else.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let unit_start = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_start);
    let unit = match unit.trim() {
        "" => 1,
        unit => SIZE_UNITS.into_iter().find(|(name, _)| *name == unit)?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// The shortest exact way to write this number of bytes in binary units.
pub(super) fn size_text(bytes: usize) -> String {
    for (name, unit) in [("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("100ms", 100),
            ("5s", 5000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1.5s", 1500),
            ("0.25m", 15_000),
            ("1m30s", 90_000),
            ("1h0m0.5s", 3_600_500),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        assert_eq!(parse_duration("0.5ms"), Some(Duration::from_micros(500)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "+5s",
            "5d",
            "5sec",
            "1..5s",
            ".5s",
            "5.s",
            "1m30",
            "5S",
            "99999999999999999999s",
            "9999999999h",
            "5s ",
            "٥s",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_written_duration_is_read_again() {
        for (nanos, text) in [
            (0, "0ms"),
            (1, "0.000001ms"),
            (1_500_000, "1.5ms"),
            (100_000_000, "100ms"),
            (1_500_000_000, "1500ms"),
            (90_000_000_000, "90s"),
            (300_000_000_000, "5m"),
            (7_200_000_000_000, "2h"),
        ] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(duration_text(duration), text);
            assert_eq!(parse_duration(text), Some(duration));
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [
            ("8MiB", 8 << 20),
            ("512KiB", 512 << 10),
            ("512 KiB", 512 << 10),
            ("1MB", 1_000_000),
            ("64kB", 64_000),
            ("70000", 70_000),
            ("70000B", 70_000),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "MiB",
            "-1",
            "1.5MiB",
            "8mib",
            "8Mi",
            "99999999999999MiB",
            "1e6",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        assert_eq!(size_text(8 << 20), "8MiB");
        assert_eq!(size_text(96 << 10), "96KiB");
        assert_eq!(size_text(1_000_000), "1000000");
    }
}
