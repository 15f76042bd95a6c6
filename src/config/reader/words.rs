//! Words for keys and values of the file in error messages.

use crate::config::raw::{Node, Value};

/// What a value is, without showing it: where a section is wanted, anything may stand.
pub(super) fn kind(node: &Node) -> &'static str {
    match node.value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Int(_) | Value::Float(_) => "a number",
        Value::Text => "text",
        Value::List(_) => "a list",
        Value::Map(_) => "a section",
    }
}

/// `a, b, c`
pub(super) fn list(names: &[&str]) -> String {
    names.join(", ")
}

/// `key` up to where it stops being a name. `{password:secret}` without a blank is a key, all of
/// it.
pub(super) fn shown(key: &str) -> String {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    match key.find(|c| !is_name(c)) {
        Some(end) => format!("{}…", printable(&key[..end])),
        None => printable(key),
    }
}

/// `text` on one line, and not too long.
pub(super) fn printable(text: &str) -> String {
    const LONGEST: usize = 64;
    let mut out: String = text
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

/// The known key that `key` was probably meant to be.
pub(super) fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    // A longer one is no typing mistake, and would cost time.
    if key.len() > 64 {
        return None;
    }
    let key = key.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|known| (edit_distance(&key, known), *known))
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Insertions, deletions and replacements (Levenshtein), a swap of neighbours counting as one.
fn edit_distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_are_recognised() {
        let known = [
            "url",
            "urls",
            "transport",
            "password",
            "password_file",
            "fps",
        ];
        for (key, meant) in [
            ("transprot", Some("transport")),
            ("Transport", Some("transport")),
            ("password-file", Some("password_file")),
            ("uri", Some("url")),
            ("pfs", Some("fps")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(key, &known), meant, "{key}");
        }
    }

    #[test]
    fn long_and_strange_texts_stay_on_one_short_line() {
        assert_eq!(printable("a\nb\u{7}"), "a\\nb\\u{7}");
        assert_eq!(printable(&"é".repeat(100)).chars().count(), 65);
    }
}
