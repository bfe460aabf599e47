//! What the name of a file that a firmware asks for says: for whom, and what. And how far each node is with its
//! questions, of which every one is a sign of life. What a firmware asks for, in which order, is in firmware-notes.

use crate::clock::Instant;
use piseduce_protocol::id::{BootNumber, Serial};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// After so long a pause a question is the first of a boot.
const PAUSE: Duration = Duration::from_secs(2);
/// So many different names are remembered of one boot. A firmware asks for some twenty.
const NAMES_MAX: usize = 200;

/// What a firmware asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// For which node, as far as the name says.
    pub whose: Whose,
    /// The file below the node's prefix.
    pub file: String,
}

/// The node that a name is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// The one whose serial number ends so: firmware shows its last 8 hex digits only.
    Serial(u32),
    /// The one with this address, lower case with colons.
    Mac(String),
    /// The one that asks.
    Asker,
}

impl Question {
    /// What `name` asks for; none: it is no name that a firmware would ask for, such as one that leads out of a directory.
    pub fn parse(name: &str) -> Option<Question> {
        let name = name.strip_prefix('/').unwrap_or(name);
        let is_sound = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
        };
        if name.len() > 200 || !name.split('/').all(is_sound) {
            return None;
        }
        let (whose, file) = match name.split_once('/') {
            Some((prefix, file)) => match whose(prefix) {
                Some(whose) => (whose, file),
                None => (Whose::Asker, name),
            },
            None => (Whose::Asker, name),
        };
        Some(Question { whose, file: file.into() })
    }
}

fn whose(prefix: &str) -> Option<Whose> {
    if prefix.len() == 8 && prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
        return u32::from_str_radix(prefix, 16).ok().map(Whose::Serial);
    }
    let pairs: Vec<&str> = prefix.split('-').collect();
    let is_pair = |pair: &&str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    (pairs.len() == 6 && pairs.iter().all(is_pair)).then(|| Whose::Mac(pairs.join(":").to_ascii_lowercase()))
}

/// What kind of board asks for `file`, for people; a guess.
pub fn model_guess(file: &str) -> Option<&'static str> {
    match file {
        "bootcode.bin" | "bootsig.bin" => Some("Pi 3 or older"),
        "start4.elf" | "start4x.elf" | "recover4.elf" => Some("Pi 4, Pi 400 or CM4"),
        // Others ask for a start file first; see firmware-notes/boot-order.md.
        "config.txt" | "kernel_2712.img" | "bcm2712-rpi-5-b.dtb" => Some("Pi 5 or CM5"),
        _ => None,
    }
}

/// What is new in a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Novelty {
    /// The name was not asked for in this boot.
    Name,
    /// It was, but not for a while: the firmware began anew.
    Burst,
}

/// How far nodes are with their questions.
#[derive(Debug, Default)]
pub struct Questions {
    boots: BTreeMap<Serial, Asked>,
}

#[derive(Debug)]
struct Asked {
    boot: BootNumber,
    names: BTreeSet<String>,
    last: Instant,
}

impl Questions {
    /// Takes a question for `file` down; what is new in it, if anything is.
    pub fn ask(&mut self, serial: Serial, boot: BootNumber, file: &str, now: Instant) -> Option<Novelty> {
        let fresh = || Asked { boot, names: BTreeSet::new(), last: Instant::default() };
        let asked = self.boots.entry(serial).or_insert_with(fresh);
        if asked.boot != boot {
            *asked = fresh();
        }
        let is_burst = now.since(asked.last) > PAUSE;
        asked.last = now;
        if asked.names.len() < NAMES_MAX && asked.names.insert(file.into()) {
            return Some(Novelty::Name);
        }
        is_burst.then_some(Novelty::Burst)
    }

    /// A node got a file whole: its firmware did not pause while it was sent, however long that took.
    pub fn sent(&mut self, serial: Serial, now: Instant) {
        if let Some(asked) = self.boots.get_mut(&serial) {
            asked.last = asked.last.max(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str) -> Option<(Whose, String)> {
        Question::parse(name).map(|question| (question.whose, question.file))
    }

    #[test]
    fn a_prefix_says_for_whom_and_the_rest_what() {
        let expected = Some((Whose::Serial(0xdead_beef), "overlays/x.dtbo".into()));
        assert_eq!(parsed("deadbeef/overlays/x.dtbo"), expected);
        assert_eq!(parsed("/DEADBEEF/start4.elf"), Some((Whose::Serial(0xdead_beef), "start4.elf".into())));
        let mac = Whose::Mac("dc:a6:32:01:36:c2".into());
        assert_eq!(parsed("DC-a6-32-01-36-c2/config.txt"), Some((mac, "config.txt".into())));
        assert_eq!(parsed("bootcode.bin"), Some((Whose::Asker, "bootcode.bin".into())));
        assert_eq!(parsed("overlays/x.dtbo"), Some((Whose::Asker, "overlays/x.dtbo".into())));
    }

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        let long = "x".repeat(201);
        for name in [
            "",
            "/",
            "..",
            "deadbeef/../site.key",
            "deadbeef//etc/passwd",
            "a\\b",
            ".ssh/x",
            "a/./b",
            &long,
            "a b",
            "a\nb",
        ] {
            assert_eq!(parsed(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_name_is_new_once_a_boot_and_a_question_after_a_pause_begins_anew() {
        let mut questions = Questions::default();
        let at = |seconds: u64| Instant(1_000_000_000 + seconds * 1_000);
        let mut ask = |boot, file, seconds| questions.ask(Serial(1), BootNumber(boot), file, at(seconds));
        assert_eq!(ask(1, "a", 0), Some(Novelty::Name));
        assert_eq!(ask(1, "a", 1), None);
        assert_eq!(ask(1, "b", 2), Some(Novelty::Name));
        assert_eq!(ask(1, "b", 9), Some(Novelty::Burst));
        assert_eq!(ask(1, "a", 9), None);
        assert_eq!(ask(2, "a", 10), Some(Novelty::Name));
        questions.sent(Serial(1), at(20));
        assert_eq!(questions.ask(Serial(1), BootNumber(2), "a", at(21)), None, "a large file took 10 s");
    }
}
