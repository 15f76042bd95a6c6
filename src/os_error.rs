//! The operating system's errors in words.

use std::io;

/// The system's text for an error, without Rust's `(os error 111)`, which does not help the user.
pub fn error_text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_without_its_number() {
        let refused = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        assert!(refused.to_string().contains("(os error "));
        assert_eq!(error_text(&refused), "Connection refused");
        assert_eq!(error_text(&io::Error::other("ours")), "ours");
    }
}
