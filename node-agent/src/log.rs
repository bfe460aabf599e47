//! The last lines of the agent's own log, in memory, so that they can be told to the coordinator.
//!
//! Who writes here must not log secrets: what is kept leaves the node, sealed but readable. It does not
//! know when lines are told or to whom; see `runner.rs`.

use crate::clock;
use piseduce_protocol::report::LogLine;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing_subscriber::fmt::MakeWriter;

/// The most that is kept; older lines make room for newer ones.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// What is kept of one line.
const LINE_BYTES_MAX: usize = 2048;

/// A log that keeps its last lines; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<LogLine>,
    bytes: usize,
    /// When the last line was written, in microseconds since the kernel booted.
    last_us: u64,
}

impl Log {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a line.
    fn keep(&self, line: &str) {
        let fits = |end: &usize| line.is_char_boundary(*end);
        let end = (0..=line.len().min(LINE_BYTES_MAX)).rev().find(fits).unwrap_or_default();
        let mut kept = self.kept();
        let at_us = clock::since_boot_us().max(kept.last_us + 1);
        kept.last_us = at_us;
        let line = LogLine { at_us, text: line[..end].into() };
        kept.bytes += line.bytes();
        kept.lines.push_back(line);
        while kept.bytes > KEPT_BYTES_MAX {
            let oldest = kept.lines.pop_front().expect("bytes are those of lines");
            kept.bytes -= oldest.bytes();
        }
    }

    /// The oldest lines that are newer than `after_us`, as many as take at most `bytes_max` bytes.
    pub fn after(&self, after_us: u64, bytes_max: usize) -> Vec<LogLine> {
        let kept = self.kept();
        let newer = kept.lines.iter().skip_while(|line| line.at_us <= after_us);
        let fitting = newer.scan(0, |bytes, line| {
            *bytes += line.bytes();
            (*bytes <= bytes_max).then(|| line.clone())
        });
        fitting.collect()
    }
}

impl io::Write for &Log {
    /// Takes whole lines: `tracing_subscriber` writes an event at once.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        String::from_utf8_lossy(text).lines().for_each(|line| self.keep(line));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Log;

    fn make_writer(&'a self) -> &'a Log {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn lines_are_told_in_pieces_oldest_first_each_with_a_time_of_its_own() {
        let log = Log::default();
        (&log).write_all("one\ntwo\nthree\n".as_bytes()).unwrap();
        let first = log.after(0, 40);
        assert_eq!(texts(&first), ["one", "two"]);
        assert!(first[0].at_us < first[1].at_us);
        assert_eq!(texts(&log.after(first[1].at_us, 40)), ["three"]);
    }

    #[test]
    fn old_lines_make_room_and_long_ones_are_cut_between_characters() {
        let log = Log::default();
        let long = "ü".repeat(LINE_BYTES_MAX);
        for number in 0..100 {
            (&log).write_all(format!("{number} {long}\n").as_bytes()).unwrap();
        }
        let kept = log.after(0, usize::MAX);
        let bytes: usize = kept.iter().map(LogLine::bytes).sum();
        assert!((KEPT_BYTES_MAX - LINE_BYTES_MAX - 13..=KEPT_BYTES_MAX).contains(&bytes), "{bytes}");
        assert!(kept.last().unwrap().text.starts_with("99 ü"));
    }
}
