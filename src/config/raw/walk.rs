//! A walk over the YAML text, which numbers each key and value in the order in which it visits
//! them.

use super::{Entry, Node, Value};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, Visitor,
};
use std::convert::Infallible;
use std::fmt;

/// The complaint about a tag.
pub(super) const TAG: &str = "tags such as !name are not allowed";

/// What a walk over the text is for.
pub(super) enum Goal {
    /// The tree, scalars as YAML takes them.
    Types,
    /// The tree again, scalars as written.
    Texts { is_scalar: Vec<bool> },
    /// The lines of all keys and scalars.
    Lines { is_scalar: Vec<bool> },
    /// Failing at one key or value.
    Stop { at: usize },
}

/// One walk over the text, by serde's traits.
pub(super) struct Walk {
    goal: Goal,
    next: usize,
    /// Filled by [`Goal::Types`]: of each number, whether it is a scalar value.
    pub(super) is_scalar: Vec<bool>,
    /// Filled by [`Goal::Lines`]: of each number its line, 0 for lists and sections.
    pub(super) lines: Vec<usize>,
}

impl Walk {
    pub(super) fn new(goal: Goal) -> Self {
        Self {
            goal,
            next: 0,
            is_scalar: Vec::new(),
            lines: Vec::new(),
        }
    }

    fn number(&mut self) -> usize {
        let at = self.next;
        self.next += 1;
        self.is_scalar.push(false);
        self.lines.push(0);
        at
    }

    fn stops_at(&self, number: usize) -> bool {
        matches!(self.goal, Goal::Stop { at } if at == number)
    }

    fn wants_text(&self, number: usize) -> bool {
        match &self.goal {
            Goal::Texts { is_scalar } => is_scalar.get(number).copied().unwrap_or(false),
            Goal::Types | Goal::Lines { .. } | Goal::Stop { .. } => false,
        }
    }

    fn wants_line(&self, number: usize, is_key: bool) -> bool {
        match &self.goal {
            Goal::Lines { is_scalar } => is_key || is_scalar.get(number).copied().unwrap_or(false),
            Goal::Types | Goal::Texts { .. } | Goal::Stop { .. } => false,
        }
    }

    /// Takes the line of the scalar that comes next out of the error about it. A scalar is one
    /// event of the parser, so that the walk can go on behind it.
    fn take_line<'de, D: Deserializer<'de>>(&mut self, number: usize, deserializer: D) {
        let Err(error) = deserializer.deserialize_any(StopVisitor);
        let text = error.to_string();
        let line = text.rsplit_once(" at line ").and_then(|(_, place)| {
            let digits = place.split(' ').next()?;
            digits.parse().ok()
        });
        if let (Some(slot), Some(line)) = (self.lines.get_mut(number), line) {
            *slot = line;
        }
    }
}

/// Reads the next value of a walk.
pub(super) struct ValueSeed<'w>(pub(super) &'w mut Walk);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let at = self.0.number();
        if self.0.stops_at(at) {
            let Err(error) = deserializer.deserialize_any(StopVisitor);
            return Err(error);
        }
        if self.0.wants_line(at, false) {
            self.0.take_line(at, deserializer);
            return Ok(Node {
                at,
                value: Value::Null,
                text: String::new(),
            });
        }
        if self.0.wants_text(at) {
            return deserializer.deserialize_str(ValueVisitor { walk: self.0, at });
        }
        deserializer.deserialize_any(ValueVisitor { walk: self.0, at })
    }
}

struct ValueVisitor<'w> {
    walk: &'w mut Walk,
    at: usize,
}

impl ValueVisitor<'_> {
    fn scalar<E>(self, value: Value, text: &str) -> Result<Node, E> {
        if let Some(is_scalar) = self.walk.is_scalar.get_mut(self.at) {
            *is_scalar = true;
        }
        Ok(Node {
            at: self.at,
            value,
            text: text.to_owned(),
        })
    }

    fn collection<E>(self, value: Value) -> Result<Node, E> {
        Ok(Node {
            at: self.at,
            value,
            text: String::new(),
        })
    }
}

impl<'de> Visitor<'de> for ValueVisitor<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, a list or a section")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        self.scalar(Value::Null, "")
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        self.collection(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        self.scalar(Value::Bool(value), "")
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        self.scalar(Value::Int(value.into()), "")
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        self.scalar(Value::Int(value.into()), "")
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        self.scalar(Value::Int(value), "")
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        // Far outside every range that a key allows, which is all that matters.
        self.scalar(Value::Int(i128::try_from(value).unwrap_or(i128::MAX)), "")
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        self.scalar(Value::Float(value), "")
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        self.scalar(Value::Text, text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(ValueSeed(self.walk))? {
            list.push(item);
        }
        self.collection(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some((at, key)) = entries.next_key_seed(KeySeed(self.walk))? {
            let value = entries.next_value_seed(ValueSeed(self.walk))?;
            map.push(Entry { key, at, value });
        }
        self.collection(Value::Map(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(A::Error::custom(TAG))
    }
}

struct KeySeed<'w>(&'w mut Walk);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = (usize, String);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let at = self.0.number();
        if self.0.stops_at(at) {
            let Err(error) = deserializer.deserialize_any(StopVisitor);
            return Err(error);
        }
        if self.0.wants_line(at, true) {
            self.0.take_line(at, deserializer);
            return Ok((at, String::new()));
        }
        Ok((at, deserializer.deserialize_str(KeyVisitor)?))
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name as key")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// Takes nothing: whatever it is offered is an error, which then carries the line.
struct StopVisitor;

impl Visitor<'_> for StopVisitor {
    type Value = Infallible;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}
