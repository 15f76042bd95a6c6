//! Reads credentials, and files that a key names, for several sections.

use crate::config::address::Url;
use crate::config::reader::{Item, Reader, Section};
use crate::config::substitute::without_newline;
use crate::os_error::error_text;
use std::path::Path;

/// The text of the file `path`, named by `item`.
pub(super) fn read(r: &mut Reader<'_>, item: &Item<'_>, path: &str) -> Option<String> {
    match (r.read_file)(Path::new(path)) {
        Ok(text) => Some(text),
        Err(error) => {
            r.refuse(
                item,
                format!(
                    "{path}: {}; name a file that can be read",
                    error_text(&error)
                ),
            );
            None
        }
    }
}

/// `username`, `password`, `password_file` of a section. The items are there also if their values
/// have problems.
pub(super) struct Credentials<'d> {
    pub(super) username_item: Option<Item<'d>>,
    pub(super) username: Option<String>,
    pub(super) password_item: Option<Item<'d>>,
    pub(super) password: Option<String>,
}

pub(super) fn credentials<'d>(r: &mut Reader<'_>, s: &Section<'d>) -> Credentials<'d> {
    let username_item = s.get("username");
    let (inline, file) = (s.get("password"), s.get("password_file"));
    let username = r.text(username_item.as_ref());
    let mut password = r.text_or_empty(inline.as_ref());
    if let Some(password) = &password {
        r.hidden.hide(password);
    }
    if let Some(file) = &file {
        let path = r.text(Some(file));
        let text = path.and_then(|path| read(r, file, &path));
        if let Some(text) = text.as_deref().map(without_newline) {
            r.hidden.hide(text);
            if text.is_empty() || text.contains(char::is_control) {
                r.refuse(
                    file,
                    "the file is not one line of text; write the password into it",
                );
            }
            password = Some(text.to_owned());
        }
        if inline.is_some() {
            r.refuse(file, "password is set too; remove one of the two");
        }
    }
    Credentials {
        username_item,
        username,
        password_item: inline.or(file),
        password,
    }
}

impl Credentials<'_> {
    /// Complains if `url`, the value of `url_key`, holds the same thing.
    pub(super) fn conflict(&self, r: &mut Reader<'_>, url: &Url<'_>, url_key: &str) {
        let Some(userinfo) = url.userinfo else { return };
        let has_password = userinfo.password.is_some();
        if let Some(item) = &self.username_item {
            r.refuse(
                item,
                format!("{url_key} contains a user name too; remove one of the two"),
            );
        }
        if let (Some(item), true) = (&self.password_item, has_password) {
            r.refuse(
                item,
                format!("{url_key} contains a password too; remove one of the two"),
            );
        }
    }
}
