//! The one place that writes to the terminal: text for eyes, JSON for programs. A reader who went away is
//! no error.

use serde::ser::{Serialize, SerializeMap, Serializer};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;

/// The version of the JSON that is printed; fields are only ever added.
pub const SCHEMA: u32 = 1;

/// For whom results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Text, for eyes.
    #[default]
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// `{"schema": 1, NAME: VALUE}`.
struct Document<'a, T: ?Sized> {
    name: &'a str,
    value: &'a T,
}

impl<T: Serialize + ?Sized> Serialize for Document<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("schema", &SCHEMA)?;
        map.serialize_entry(self.name, self.value)?;
        map.end()
    }
}

impl Output {
    /// Tells one thing: programs get it under `name`, eyes get `text`.
    pub fn tell<T: Serialize + ?Sized>(self, name: &str, value: &T, text: impl FnOnce(&T) -> String) {
        match self {
            Output::Text => line(text(value)),
            Output::Json => line(json(name, value)),
        }
    }

    /// The same for what is shown once.
    ///
    /// # Errors
    /// When it cannot be written, or nobody reads it.
    pub fn tell_now<T: Serialize + ?Sized>(
        self,
        name: &str,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> io::Result<()> {
        match self {
            Output::Text => line_now(text(value)),
            Output::Json => line_now(json(name, value)),
        }
    }

    /// Tells what went wrong, and what to do about it if that is known.
    pub fn fail(self, code: &str, message: &str, hint: &str) {
        match self {
            Output::Text => error(message, hint),
            Output::Json => {
                let told = serde_json::json!({
                    "schema": SCHEMA, "code": code, "message": message, "hint": hint
                });
                aside(told);
            }
        }
    }
}

fn json<T: Serialize + ?Sized>(name: &str, value: &T) -> String {
    serde_json::to_string(&Document { name, value }).expect("views have text keys only")
}

/// The first result that could not be written.
static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// Why a result could not be written, if one could not: a full disk, not a reader who went away.
pub fn failure() -> Option<&'static io::Error> {
    FAILURE.get()
}

fn keep_failure(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        // The first one is told.
        let _ = FAILURE.set(error);
    }
}

/// A line for the user's eyes or pipe. One that cannot be written is a [`failure`] of the program.
pub fn line(text: impl std::fmt::Display) {
    keep_failure(line_now(text));
}

/// The same for a line that is shown once.
///
/// # Errors
/// When it cannot be written, or nobody reads it.
pub fn line_now(text: impl std::fmt::Display) -> io::Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Bytes of somebody else's, as they are and at once.
///
/// # Errors
/// When they cannot be written, or nobody reads them any more.
pub fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Text for the user's eyes that is no result.
pub fn aside(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// What went wrong, and what to do about it if that is known. Names in it may be anybody's, and a terminal would obey them.
pub fn error(text: impl std::fmt::Display, hint: &str) {
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    let text = text.to_string().replace(obeyed, "\u{fffd}");
    aside(format_args!("error: {text}"));
    if !hint.is_empty() {
        aside(format_args!("hint: {hint}"));
    }
}

/// What standard output can show.
#[derive(Clone, Copy, Debug, Default)]
pub struct Screen {
    /// Characters in a line; none when it is no terminal.
    pub width: Option<usize>,
    /// Whether it shows colours.
    pub colours: bool,
}

impl Screen {
    /// Standard output as it is. `NO_COLOR` switches colours off, see <https://no-color.org>.
    pub fn of_stdout() -> Self {
        let stdout = io::stdout();
        if !stdout.is_terminal() {
            return Screen::default();
        }
        let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let size = rustix::termios::tcgetwinsize(&stdout).ok();
        let width = size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
        Screen { width, colours: unset("NO_COLOR") && !dumb }
    }
}
