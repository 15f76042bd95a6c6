//! Formats numbers with their units, for the page.

/// `98 KB`, `1.2 MB`: powers of 1000, as networks and disks are sold.
pub(in crate::http) fn bytes_text(bytes: f64) -> String {
    for (unit, size) in [("GB", 1e9), ("MB", 1e6), ("KB", 1e3)] {
        // What would be rounded to 1000 KB is 1.0 MB.
        if bytes >= size * 0.9995 {
            let value = bytes / size;
            return match value < 9.95 {
                true => format!("{value:.1} {unit}"),
                false => format!("{value:.0} {unit}"),
            };
        }
    }
    format!("{bytes:.0} B")
}

/// `0.4 ms`, `12 ms`, `1.3 s`
pub(in crate::http) fn ms_text(ms: f64) -> String {
    match ms {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

/// `0.4 / 12 ms`: a common unit is said once.
pub(in crate::http) fn range_text(low: f64, high: f64) -> String {
    let (low, high) = (ms_text(low), ms_text(high));
    match low.strip_suffix(" ms") {
        Some(number) if high.ends_with(" ms") => format!("{number} / {high}"),
        _ => format!("{low} / {high}"),
    }
}

/// `1 234 567`, with narrow blanks.
pub(in crate::http) fn count_text(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_units() {
        for (bytes, text) in [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (98_123.0, "98 KB"),
            (999_800.0, "1.0 MB"),
            (8.06e9, "8.1 GB"),
        ] {
            assert_eq!(bytes_text(bytes), text);
        }
        assert_eq!(
            [ms_text(0.42), ms_text(12.3), ms_text(1300.0)],
            ["0.4 ms", "12 ms", "1.3 s"]
        );
        assert_eq!(range_text(0.42, 12.3), "0.4 / 12 ms");
        assert_eq!(range_text(42.0, 1200.0), "42 ms / 1.2 s");
        assert_eq!(count_text(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
