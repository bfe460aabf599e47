//! Text in columns: as wide as their widest cell, the last one folded at the terminal's edge, colours only
//! where they are shown. Knows nothing of what is in the cells.

use crate::print::Screen;
use std::borrow::Cow;

/// The last column is not folded to less than this many characters.
const LAST_WIDTH_MIN: usize = 24;

/// How far a last column that stands below the others is moved in.
const INDENT: usize = 6;

/// How a cell looks on a terminal with colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Look {
    #[default]
    Plain,
    Good,
    Bad,
    Moving,
    Heading,
}

impl Look {
    fn code(self) -> &'static str {
        match self {
            Look::Plain => "",
            Look::Good => "32",
            Look::Bad => "31",
            Look::Moving => "36",
            Look::Heading => "1",
        }
    }

    fn paint(self, text: &str, screen: Screen) -> String {
        match self.code() {
            code if screen.colours && !code.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.into(),
        }
    }
}

/// One cell.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    text: String,
    look: Look,
}

impl Cell {
    pub(super) fn looking(text: impl Into<String>, look: Look) -> Self {
        Cell { text: printable(&text.into()).replace(['\n', '\t'], " "), look }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell::looking(text, Look::Plain)
    }
}

/// `text` without the characters that would move a terminal's cursor or worse.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let shown =
        text.chars().map(|c| if harmless(c) { c.to_string() } else { c.escape_default().to_string() });
    Cow::Owned(shown.collect())
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// Rows under a heading, aligned.
pub(super) fn table(heading: &[&str], rows: Vec<Vec<Cell>>, screen: Screen) -> String {
    let heading = heading.iter().map(|text| Cell::looking(*text, Look::Heading)).collect();
    aligned(std::iter::once(heading).chain(rows).collect(), screen)
}

/// Names and what belongs to them, one a line.
pub(super) fn pairs(pairs: Vec<(&str, Cell)>, screen: Screen) -> String {
    aligned(
        pairs.into_iter().map(|(name, cell)| vec![Cell::looking(name, Look::Heading), cell]).collect(),
        screen,
    )
}

fn aligned(rows: Vec<Vec<Cell>>, screen: Screen) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| length(&cell.text)).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns.saturating_sub(1)).map(width).collect();
    let before: usize = widths.iter().map(|width| width + 2).sum();
    // Where the last column would be too narrow to be read, it stands below the others.
    let is_narrow = screen.width.is_some_and(|width| width < before + LAST_WIDTH_MIN);
    let indent = if is_narrow { INDENT } else { before };
    let room = screen.width.map(|width| width.saturating_sub(indent).max(LAST_WIDTH_MIN));
    let mut lines = Vec::new();
    for row in rows {
        let (last, first) = row.split_last().expect("a row has cells");
        let mut line = String::new();
        for (cell, width) in first.iter().zip(&widths) {
            line += &cell.look.paint(&cell.text, screen);
            line.extend(std::iter::repeat_n(' ', width + 2 - length(&cell.text)));
        }
        if is_narrow {
            lines.push(std::mem::take(&mut line).trim_end().to_owned());
        }
        for part in folded(&last.text, room).into_iter().filter(|part| !(is_narrow && part.is_empty())) {
            let start = if line.is_empty() { " ".repeat(indent) } else { std::mem::take(&mut line) };
            lines.push((start + &last.look.paint(part, screen)).trim_end().to_owned());
        }
    }
    lines.join("\n")
}

/// `text` in parts of at most `width` characters, cut at spaces where there are some.
fn folded(text: &str, width: Option<usize>) -> Vec<&str> {
    let Some(width) = width else { return vec![text] };
    let mut parts = Vec::new();
    let mut rest = text;
    while length(rest) > width {
        // A space just behind the edge is as good as one before it.
        let near = rest.char_indices().take(width + 1);
        let space = near.filter(|(at, c)| *c == ' ' && *at > 0).last();
        let cut = space.or_else(|| rest.char_indices().nth(width)).map_or(rest.len(), |(at, _)| at);
        parts.push(rest[..cut].trim_end());
        rest = rest[cut..].trim_start();
    }
    parts.push(rest);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrow(width: usize) -> Screen {
        Screen { width: Some(width), colours: false }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["pi-1".into(), "free".into()], vec!["a".into(), Cell::default()]];
        assert_eq!(table(&["NODE", "S"], rows, Screen::default()), "NODE  S\npi-1  free\na");
    }

    #[test]
    fn the_last_column_is_folded_at_spaces_under_itself() {
        let rows = vec![vec!["pi-1".into(), "the agent to write the image to the card".into()]];
        let text = table(&["NODE", "WHY"], rows, narrow(30));
        assert_eq!(text, "NODE  WHY\npi-1  the agent to write the\n      image to the card");
        let rows =
            vec![vec!["pi-1".into(), "the agent to write the image".into()], vec!["pi-2".into(), "".into()]];
        let text = table(&["A LONG HEADING", "WHY"], rows, narrow(36));
        assert_eq!(text, "A LONG HEADING\n      WHY\npi-1\n      the agent to write the image\npi-2");
        assert_eq!(folded("abcdefghij", Some(4)), ["abcd", "efgh", "ij"]);
        assert_eq!(folded("äöü äöü", Some(4)), ["äöü", "äöü"]);
    }

    #[test]
    fn colours_do_not_count_as_width_and_are_not_shown_elsewhere() {
        let rows = || vec![vec![Cell::looking("lost", Look::Bad), "x".into()]];
        let screen = Screen { width: None, colours: true };
        assert_eq!(aligned(rows(), screen), "\u{1b}[31mlost\u{1b}[0m  x");
        assert_eq!(aligned(rows(), Screen::default()), "lost  x");
    }

    #[test]
    fn what_a_node_says_cannot_move_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\r\u{9b}c\n"), "a\\u{1b}[2Jb\\r\\u{9b}c\n");
    }
}
