//! Reads keys of a [`Document`](super::raw::Document), collecting every problem. `values.rs` reads
//! a key as a checked value.

mod values;
mod words;

use super::raw::{Entry, Node, Value};
use crate::redact::Hidden;
use std::io;
use std::path::Path;
use words::{kind, list, nearest, shown};

/// A complaint about one key.
#[derive(Debug)]
pub(super) struct Remark {
    /// Number of the key or value in the document.
    pub(super) at: usize,
    /// Full path, such as `cameras[2].fps`.
    pub(super) key: String,
    pub(super) message: String,
}

/// A key that is there and not empty.
#[derive(Debug, Clone)]
pub(super) struct Item<'d> {
    pub(super) key: String,
    pub(super) at: usize,
    node: &'d Node,
}

/// A mapping with known keys, or none at all.
#[derive(Debug)]
pub(super) struct Section<'d> {
    /// Full path; empty for the whole file.
    pub(super) key: String,
    pub(super) at: usize,
    entries: &'d [Entry],
}

impl<'d> Section<'d> {
    /// The key, unless it is absent or empty: both mean the default.
    pub(super) fn get(&self, key: &str) -> Option<Item<'d>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        if matches!(entry.value.value, Value::Null) {
            return None;
        }
        Some(Item {
            key: self.path(key),
            at: entry.at,
            node: &entry.value,
        })
    }

    fn path(&self, key: &str) -> String {
        if self.key.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.key)
        }
    }
}

pub(super) struct Reader<'a> {
    pub(super) lookup: &'a dyn Fn(&str) -> Option<String>,
    pub(super) read_file: &'a dyn Fn(&Path) -> io::Result<String>,
    pub(super) exists: &'a dyn Fn(&Path) -> bool,
    pub(super) problems: Vec<Remark>,
    pub(super) warnings: Vec<Remark>,
    /// Passwords and addresses read so far, for messages about other keys.
    pub(super) hidden: Hidden,
}

impl Reader<'_> {
    pub(super) fn problem(&mut self, at: usize, key: &str, message: impl Into<String>) {
        self.problems.push(Remark {
            at,
            key: key.to_owned(),
            message: message.into(),
        });
    }

    /// A problem of `item`.
    pub(super) fn refuse(&mut self, item: &Item<'_>, message: impl Into<String>) {
        self.problem(item.at, &item.key, message);
    }

    pub(super) fn warn(&mut self, item: &Item<'_>, message: impl Into<String>) {
        let message = message.into();
        self.warnings.push(Remark {
            at: item.at,
            key: item.key.clone(),
            message,
        });
    }

    /// The whole file.
    pub(super) fn root<'d>(&mut self, node: &'d Node, known: &[&str]) -> Section<'d> {
        self.mapping(node, node.at, String::new(), known)
    }

    /// A section of `parent`; an absent one is without keys.
    pub(super) fn section<'d>(
        &mut self,
        parent: &Section<'d>,
        key: &str,
        known: &[&str],
    ) -> Section<'d> {
        match parent.get(key) {
            Some(item) => self.mapping(item.node, item.at, item.key, known),
            None => Section {
                key: parent.path(key),
                at: parent.at,
                entries: &[],
            },
        }
    }

    /// An item of a list as a section.
    pub(super) fn element<'d>(&mut self, item: &Item<'d>, known: &[&str]) -> Section<'d> {
        self.mapping(item.node, item.at, item.key.clone(), known)
    }

    fn mapping<'d>(
        &mut self,
        node: &'d Node,
        at: usize,
        key: String,
        known: &[&str],
    ) -> Section<'d> {
        let Value::Map(entries) = &node.value else {
            if !(matches!(node.value, Value::Null) && key.is_empty()) {
                let message = format!(
                    "{} is not a section; its keys are {}",
                    kind(node),
                    list(known)
                );
                self.problem(at, &key, message);
            }
            return Section {
                key,
                at,
                entries: &[],
            };
        };
        let section = Section { key, at, entries };
        for (index, entry) in entries.iter().enumerate() {
            let path = section.path(&shown(&entry.key));
            if entries[..index]
                .iter()
                .any(|earlier| earlier.key == entry.key)
            {
                self.problem(entry.at, &path, "set twice; remove one");
            } else if !known.contains(&entry.key.as_str()) {
                let message = match nearest(&entry.key, known) {
                    Some(near) => format!("unknown key; did you mean \"{near}\"?"),
                    None => format!("unknown key; known are {}", list(known)),
                };
                self.problem(entry.at, &path, message);
            }
        }
        section
    }

    /// The items of a list, empty ones too; `what` says what it holds.
    pub(super) fn list<'d>(&mut self, item: Option<&Item<'d>>, what: &str) -> Vec<Item<'d>> {
        let Some(item) = item else { return Vec::new() };
        let Value::List(list) = &item.node.value else {
            self.refuse(
                item,
                format!("{} is not a list; write a list of {what}", kind(item.node)),
            );
            return Vec::new();
        };
        list.iter()
            .enumerate()
            .map(|(index, node)| Item {
                key: format!("{}[{index}]", item.key),
                at: node.at,
                node,
            })
            .collect()
    }
}
