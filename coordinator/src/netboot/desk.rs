//! What a firmware gets for its question: files of the boot root, the command line of its boot, or "not found", as the
//! node's boot view says. Whoever is not registered gets nothing.
//!
//! It knows no sockets: see `tftp.rs`.

use super::alarm::Wanted;
use super::begun::{BegunRoots, Boot};
use super::boot_root::{BootRoot, BootRoots};
use super::card_files::{CardFiles, Description, Owner};
use super::command_line::CommandLines;
use super::log_limit::LogLimit;
use super::question::{Novelty, Question, Questions, Whose, model_guess};
use super::read_once::ReadOnce;
use super::stranger::{Guest, Stranger, Strangers};
use super::token_holder::{COMMAND_LINE, wanted};
use super::view::View;
use crate::clock::{self, Instant};
use crate::domain::boot_evidence::TokenHolder;
use crate::machine::event::Asked;
use piseduce_protocol::enrolment::Invitation;
use piseduce_protocol::id::{BootNumber, Serial};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The one file that a boot ROM of a Pi 3 asks for without a prefix and needs.
const SECOND_STAGE: &str = "bootcode.bin";

/// A node as its firmware matters.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: Serial,
    /// Its hardware address, lower case with colons.
    pub mac: String,
    /// The last boot number given out.
    pub boot: BootNumber,
    /// What it gets.
    pub view: View,
    /// The run that wrote its card.
    pub card: Option<Owner>,
}

/// What the desk needs of the house.
pub trait House: Send + Sync + 'static {
    /// The registered nodes that `whose` may mean.
    fn nodes(&self, whose: &Whose) -> Vec<Known>;
    /// A node's firmware asked.
    fn asked(&self, serial: Serial, asked: Asked);
    /// Whether this is the address of a registered node.
    fn has_address(&self, _address: IpAddr) -> bool {
        false
    }
    /// Who fetched the last token that was given out for a node, once that is saved.
    fn token_holder(&self, serial: Serial) -> Option<TokenHolder>;
    /// A node's own board asks for its token there: it is to be saved who gets it.
    fn token_asked(&self, serial: Serial, holder: TokenHolder);
    /// A board at `address` asked for what is the node's, and was refused.
    fn refused(&self, known: &Known, address: IpAddr, mac: Option<&str>, wanted: Wanted);
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This file.
    File(ServedFile),
    /// These bytes.
    Text(String),
    /// What is asked for depends on what is not known or saved yet, for a moment: to be asked for again.
    Later,
    /// There is no such file.
    NotFound,
    /// No firmware asks for such a name.
    Refused,
}

/// A file that a firmware gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedFile {
    /// Where it is.
    pub path: PathBuf,
    /// The registered node that gets it; none: an invited board.
    pub node: Option<Serial>,
    /// It is the kernel of a boot root: once it was sent whole, the desk is told.
    pub is_kernel: bool,
}

/// Answers questions, many at once: what it reads from disk is read without a lock.
pub struct Desk<H> {
    house: H,
    cards: CardFiles,
    card_lists: ReadOnce<Description>,
    strangers: Strangers,
    lines: Arc<CommandLines>,
    questions: Mutex<Questions>,
    roots: BegunRoots,
    log: LogLimits,
}

/// Lines that a stranger can cause.
#[derive(Default)]
struct LogLimits {
    names: LogLimit,
    strangers: LogLimit,
}

impl<H: House> Desk<H> {
    /// A desk with these boot roots.
    pub fn new(
        house: H,
        roots: BootRoots,
        cards: CardFiles,
        strangers: Strangers,
        lines: Arc<CommandLines>,
    ) -> Self {
        Desk {
            house,
            cards,
            card_lists: ReadOnce::default(),
            strangers,
            lines,
            questions: Mutex::default(),
            roots: BegunRoots::new(roots),
            log: LogLimits::default(),
        }
    }

    fn questions(&self) -> MutexGuard<'_, Questions> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody registered is to have this address.
    pub fn expects(&self, address: IpAddr) -> bool {
        self.house.has_address(address)
    }

    /// A file was sent whole.
    pub fn sent(&self, file: &ServedFile, now: Instant) {
        let Some(serial) = file.node else { return };
        self.questions().sent(serial, now);
        if file.is_kernel {
            self.kernel_sent(serial);
        }
    }

    pub(super) fn house(&self) -> &H {
        &self.house
    }

    /// A kernel was sent whole.
    fn kernel_sent(&self, serial: Serial) {
        self.house.asked(serial, Asked::Kernel);
    }

    /// What the board at `address`, whose hardware address is `mac`, gets for `name`. May wait for a disk.
    pub fn answer(&self, address: IpAddr, mac: Option<&str>, name: &str, now: Instant) -> Answer {
        let Some(question) = Question::parse(name) else {
            if let Some(left_out) = self.log.names.admit(now) {
                tracing::warn!(%address, name, left_out, "refused: no firmware asks for such a name");
            }
            return Answer::Refused;
        };
        let whose = match (&question.whose, mac) {
            (Whose::Asker, Some(mac)) => Whose::Mac(mac.into()),
            (whose, _) => whose.clone(),
        };
        let nodes = self.house.nodes(&whose);
        let is_its_own = |known: &&Known| mac == Some(known.mac.as_str());
        let Some(known) = nodes.iter().find(is_its_own) else {
            self.stranger(address, mac, &question, &nodes);
            let guest = mac.and_then(|mac| self.strangers.guest(mac, now));
            return guest.map_or(Answer::NotFound, |guest| self.guest(&guest, &question));
        };
        self.strangers.forget(&known.mac);
        let novelty = self.questions().ask(known.serial, known.boot, &question.file, now);
        match novelty {
            Some(Novelty::Name) => self.house.asked(known.serial, Asked::New),
            Some(Novelty::Burst) => self.house.asked(known.serial, Asked::Again),
            None => {}
        }
        if novelty == Some(Novelty::Burst) {
            self.roots.forget(known.serial);
        }
        if let Some(withheld) = self.withheld(known, &question, address) {
            return withheld;
        }
        match known.view {
            View::Card => self.card(known, &question),
            View::BootRoot(boot) => {
                let words = self.lines.of(known.serial, boot);
                self.boot_root(known, &question, &words)
            }
            View::Hold | View::Starting => self.boot_root(known, &question, ""),
        }
    }

    /// A bootloader that finds nothing goes on to the card at once. A Pi 3 does not: it gets the boot files that its agent uploaded,
    /// with the words for this card.
    fn card(&self, known: &Known, question: &Question) -> Answer {
        let Some((owner, list)) = known.card.and_then(|owner| Some((owner, self.card_list(owner)?))) else {
            return Answer::NotFound;
        };
        let is_bare = question.whose == Whose::Asker;
        if is_bare && question.file != SECOND_STAGE {
            return Answer::NotFound;
        }
        let of_card = self.cards.file_in(&list, owner, &question.file);
        // An image without a second stage is begun by the boot root's.
        let of_root = || self.root(known)?.file(SECOND_STAGE);
        let path = of_card.or_else(|| (question.file == SECOND_STAGE).then(of_root).flatten());
        path.map_or(Answer::NotFound, |path| {
            Answer::File(ServedFile { path, node: Some(known.serial), is_kernel: false })
        })
    }

    /// The list of the boot files of this run, if they are complete.
    fn card_list(&self, owner: Owner) -> Option<Arc<Description>> {
        let path = self.cards.description_path(owner);
        self.card_lists.get(&path, || self.cards.description(owner).ok_or(())).ok()
    }

    /// An invited board gets the boot root without credentials, and tells there what it is.
    fn guest(&self, guest: &Guest, question: &Question) -> Answer {
        // A guess begins with the words that the device tree of such a board has, too.
        let model = guest.model.and_then(|guess| guess.get(..4)).map(|guess| format!("Raspberry {guess}"));
        let Ok(Some(root)) = self.roots.chosen_for("", &model.unwrap_or_default()) else {
            return Answer::NotFound;
        };
        let invitation = Invitation { head: self.lines.head.clone(), ticket: guest.ticket.clone() };
        self.of_root(&root, question, &invitation.render(), None)
    }

    fn boot_root(&self, known: &Known, question: &Question, words: &str) -> Answer {
        let Some(root) = self.root(known) else { return Answer::NotFound };
        self.of_root(&root, question, words, Some(known.serial))
    }

    /// A file of a boot root, or its command line with the words of this boot; who fetches the kernel is told if it has a name.
    fn of_root(&self, root: &BootRoot, question: &Question, words: &str, who: Option<Serial>) -> Answer {
        let is_bare = question.whose == Whose::Asker;
        // Without its prefix a node would take what is meant for none.
        if is_bare && question.file != SECOND_STAGE {
            return Answer::NotFound;
        }
        if question.file == COMMAND_LINE {
            let common = root.words(self.lines.head_host());
            return Answer::Text(format!("{common} {words}\n").replace(" \n", "\n"));
        }
        match root.file(&question.file) {
            Some(path) => {
                let is_kernel = is_kernel(&question.file);
                Answer::File(ServedFile { path, node: who, is_kernel })
            }
            None => Answer::NotFound,
        }
    }

    /// The boot root of this boot of a node.
    fn root(&self, known: &Known) -> Option<Arc<BootRoot>> {
        let Known { serial, boot: number, name, model, .. } = known;
        let boot = Boot { serial: *serial, number: *number, name, model };
        let root = self.roots.of(boot).unwrap_or_else(|error| {
            tracing::warn!(node = %serial, %error, "the boot root cannot be used");
            None
        });
        if root.is_none() {
            tracing::warn!(node = %serial, "asks for the boot root, and there is none in boot-roots/current of the data directory");
        }
        root
    }

    /// Whoever asks is not who it says, or nobody that is registered.
    fn stranger(&self, address: IpAddr, mac: Option<&str>, question: &Question, claimed: &[Known]) {
        let serial_end = match question.whose {
            Whose::Serial(end) => Some(end),
            Whose::Mac(_) | Whose::Asker => None,
        };
        let now = clock::unix_ms();
        let is_new = self.strangers.asked(Stranger {
            mac: mac.map(Into::into),
            serial_end,
            model: model_guess(&question.file),
            address,
            file: question.file.clone(),
            first: now,
            last: now,
            questions: 1,
            inventory: None,
            invited: None,
        });
        if is_new && let Some(left_out) = self.log.strangers.admit(clock::now()) {
            tracing::info!(%address, mac, file = question.file, left_out, "a board that is not registered asks");
        }
        for known in claimed {
            self.house.refused(known, address, mac, wanted(question));
        }
    }
}

fn is_kernel(file: &str) -> bool {
    file.starts_with("kernel")
}

#[cfg(test)]
mod tests;
