//! Reads a scalar as the value that a key wants.
//!
//! Each function takes a key that may be absent, and returns its value. It returns the default if
//! the key is absent, and also if it is wrong: a configuration with a problem is never used.

use super::words::{kind, list, printable};
use super::{Item, Reader};
use crate::config::raw::Value;
use crate::config::substitute::substitute;
use crate::config::units::{duration_text, parse_duration, parse_size, size_text};
use crate::redact;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A scalar after substitution.
struct Scalar {
    value: ScalarValue,
    text: String,
    /// How a message may call it.
    shown: String,
    /// Whether a variable was filled in.
    replaced: bool,
}

#[derive(Clone, Copy)]
enum ScalarValue {
    Bool(bool),
    Int(i128),
    Float(f64),
    Text,
}

impl Reader<'_> {
    /// The scalar of `item`; `None` after complaining. `wanted` says what is allowed.
    fn scalar(&mut self, item: &Item<'_>, wanted: &str) -> Option<Scalar> {
        let node = item.node;
        let value = match node.value {
            Value::Bool(value) => ScalarValue::Bool(value),
            Value::Int(value) => ScalarValue::Int(value),
            Value::Float(value) => ScalarValue::Float(value),
            Value::Text => ScalarValue::Text,
            Value::Null | Value::List(_) | Value::Map(_) => {
                self.refuse(item, format!("{} is not a value; {wanted}", kind(node)));
                return None;
            }
        };
        if !matches!(value, ScalarValue::Text) {
            let text = node.text.clone();
            return Some(Scalar {
                value,
                shown: text.clone(),
                text,
                replaced: false,
            });
        }
        let substituted = match substitute(&node.text, self.lookup) {
            Ok(substituted) => substituted,
            Err(message) => {
                self.refuse(item, message);
                return None;
            }
        };
        if substituted.text.contains(char::is_control) {
            self.refuse(
                item,
                "a line break or another control character; only printable text is allowed",
            );
            return None;
        }
        let text = substituted.text;
        if substituted.replaced {
            // Never shown: it may be a secret that went to the wrong key.
            let shown = "the value of ${}".to_owned();
            return Some(Scalar {
                value: retyped(&text),
                text,
                shown,
                replaced: true,
            });
        }
        let shown = format!("\"{}\"", printable(&redact::address(&text)));
        Some(Scalar {
            value,
            text,
            shown,
            replaced: false,
        })
    }

    /// Text that is not empty. Numbers and the like are taken as written.
    pub(in crate::config) fn text(&mut self, item: Option<&Item<'_>>) -> Option<String> {
        let item = item?;
        let text = self.scalar(item, "write text")?.text;
        if text.is_empty() {
            self.refuse(item, "empty; write some text, or leave the key out");
            return None;
        }
        Some(text)
    }

    /// The same, but it may be empty.
    pub(in crate::config) fn text_or_empty(&mut self, item: Option<&Item<'_>>) -> Option<String> {
        Some(self.scalar(item?, "write text")?.text)
    }

    /// The value that `read` makes of a scalar, or `default` after complaining. `read` returns what
    /// is wrong; `wanted` says what is allowed.
    fn value<T>(
        &mut self,
        item: Option<&Item<'_>>,
        wanted: &str,
        default: T,
        read: impl FnOnce(&Scalar) -> Result<T, String>,
    ) -> T {
        let Some(item) = item else { return default };
        let Some(scalar) = self.scalar(item, wanted) else {
            return default;
        };
        read(&scalar).unwrap_or_else(|wrong| {
            self.refuse(item, format!("{wrong}; {wanted}"));
            default
        })
    }

    pub(in crate::config) fn bool(&mut self, item: Option<&Item<'_>>, default: bool) -> bool {
        self.value(item, "write true or false", default, |scalar| {
            // yes, no, on, off: YAML 1.1, which the files of version 2 were read as.
            match (scalar.value, scalar.text.to_ascii_lowercase().as_str()) {
                (ScalarValue::Bool(value), _) => Ok(value),
                (_, "yes" | "on") => Ok(true),
                (_, "no" | "off") => Ok(false),
                _ => Err(format!("{} is not valid", scalar.shown)),
            }
        })
    }

    pub(in crate::config) fn int<T>(
        &mut self,
        item: Option<&Item<'_>>,
        range: RangeInclusive<T>,
        default: T,
    ) -> T
    where
        T: Copy + Display + PartialOrd + TryFrom<i128>,
    {
        self.value(item, &allowed(&range, T::to_string), default, |scalar| {
            let number = match scalar.value {
                ScalarValue::Int(number) => T::try_from(number).ok(),
                // 15.0, as other programs write 15. A float beyond i128 becomes its end.
                ScalarValue::Float(number) if number.fract() == 0.0 => {
                    T::try_from(number as i128).ok()
                }
                _ => return Err(format!("{} is not a whole number", scalar.shown)),
            };
            within(&range, number, scalar)
        })
    }

    pub(in crate::config) fn float(
        &mut self,
        item: Option<&Item<'_>>,
        range: RangeInclusive<f64>,
        default: f64,
    ) -> f64 {
        self.value(item, &allowed(&range, f64::to_string), default, |scalar| {
            let number = match scalar.value {
                ScalarValue::Int(number) => number as f64,
                ScalarValue::Float(number) => number,
                _ => return Err(format!("{} is not a number", scalar.shown)),
            };
            within(&range, Some(number), scalar)
        })
    }

    pub(in crate::config) fn duration(
        &mut self,
        item: Option<&Item<'_>>,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        let wanted = allowed(&range, |duration| duration_text(*duration));
        self.value(item, &wanted, default, |scalar| {
            match parse_duration(&scalar.text) {
                Some(duration) => within(&range, Some(duration), scalar),
                None if parse_duration(&format!("{}s", scalar.text)).is_some() => {
                    let example = if scalar.replaced { "5" } else { &scalar.text };
                    Err(format!("a unit is missing: write {example}s"))
                }
                None => Err(format!(
                    "{} is not a duration such as 100ms, 5s, 5m, 1h",
                    scalar.shown
                )),
            }
        })
    }

    /// Bytes.
    pub(in crate::config) fn size(
        &mut self,
        item: Option<&Item<'_>>,
        range: RangeInclusive<usize>,
        default: usize,
    ) -> usize {
        let wanted = allowed(&range, |size| size_text(*size));
        self.value(item, &wanted, default, |scalar| {
            match parse_size(&scalar.text) {
                Some(bytes) => within(&range, usize::try_from(bytes).ok(), scalar),
                None => Err(format!(
                    "{} is not a size such as 8MiB, 512KiB, 1MB or a number of bytes",
                    scalar.shown
                )),
            }
        })
    }

    /// One of a few words.
    pub(in crate::config) fn choice<T: Copy>(
        &mut self,
        item: Option<&Item<'_>>,
        choices: &[(&str, T)],
        default: T,
    ) -> T {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let wanted = format!("allowed are {}", list(&names));
        self.value(item, &wanted, default, |scalar| {
            let choice = choices.iter().find(|(name, _)| scalar.text == *name);
            let value = choice.map(|(_, value)| *value);
            value.ok_or_else(|| format!("{} is unknown", scalar.shown))
        })
    }

    /// Text that `parse` understands; `wanted` says what is allowed.
    pub(in crate::config) fn parsed<T>(
        &mut self,
        item: Option<&Item<'_>>,
        parse: impl Fn(&str) -> Option<T>,
        wanted: &str,
        default: T,
    ) -> T {
        self.value(item, wanted, default, |scalar| {
            parse(&scalar.text).ok_or_else(|| format!("{} is not valid", scalar.shown))
        })
    }
}

/// `1 to 60 is allowed`
fn allowed<T>(range: &RangeInclusive<T>, text: impl Fn(&T) -> String) -> String {
    format!(
        "{} to {} is allowed",
        text(range.start()),
        text(range.end())
    )
}

/// `number`, unless it is out of range. `None` is beyond its type, and a NaN is in no range.
fn within<T: PartialOrd>(
    range: &RangeInclusive<T>,
    number: Option<T>,
    scalar: &Scalar,
) -> Result<T, String> {
    let number = number.filter(|number| range.contains(number));
    number.ok_or_else(|| format!("{} is out of range", scalar.shown))
}

/// What a variable stands for, as if it had been written in its place without quotes.
fn retyped(text: &str) -> ScalarValue {
    if let Ok(number) = text.parse() {
        ScalarValue::Int(number)
    } else if let Ok(number) = text.parse() {
        ScalarValue::Float(number)
    } else {
        match text.to_ascii_lowercase().as_str() {
            "true" => ScalarValue::Bool(true),
            "false" => ScalarValue::Bool(false),
            _ => ScalarValue::Text,
        }
    }
}
