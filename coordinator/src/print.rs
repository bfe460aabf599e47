//! The one place that writes to the terminal. A reader who went away is no error.

use std::io::Write as _;

/// A line for the user's eyes or pipe.
pub fn line(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// What went wrong, and what to do about it if that is known.
pub fn error(text: impl std::fmt::Display, hint: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "error: {text}");
    if !hint.is_empty() {
        let _ = writeln!(stderr, "hint: {hint}");
    }
}
