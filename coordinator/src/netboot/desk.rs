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
mod tests {
    use super::super::boot_root::Whom;
    use super::*;
    use crate::credentials::Credentials;
    use piseduce_protocol::boot_files::BootFile;
    use piseduce_protocol::id::{DeploymentId, Hash, Run};
    use piseduce_protocol::seal::SiteKey;
    use piseduce_protocol::topic::Site;
    use std::fs;
    use std::path::Path;
    use std::sync::Mutex;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 11));
    const MAC: &str = "dc:a6:32:00:00:01";

    #[derive(Clone, Default)]
    struct Nodes {
        known: Arc<Mutex<Vec<Known>>>,
        asked: Arc<Mutex<Vec<Asked>>>,
        token: Arc<Mutex<Option<TokenHolder>>>,
        refused: Arc<Mutex<Vec<(IpAddr, Wanted)>>>,
    }

    impl House for Nodes {
        fn nodes(&self, whose: &Whose) -> Vec<Known> {
            let is_meant = |known: &&Known| match whose {
                Whose::Serial(end) => known.serial.short() == *end,
                Whose::Mac(mac) => known.mac == *mac,
                Whose::Asker => false,
            };
            self.known.lock().unwrap().iter().filter(is_meant).cloned().collect()
        }
        fn asked(&self, _: Serial, asked: Asked) {
            self.asked.lock().unwrap().push(asked);
        }
        fn token_holder(&self, _: Serial) -> Option<TokenHolder> {
            *self.token.lock().unwrap()
        }
        fn token_asked(&self, _: Serial, holder: TokenHolder) {
            *self.token.lock().unwrap() = Some(holder);
        }
        fn refused(&self, _: &Known, address: IpAddr, _: Option<&str>, wanted: Wanted) {
            self.refused.lock().unwrap().push((address, wanted));
        }
    }

    struct Bench {
        nodes: Nodes,
        strangers: Strangers,
        roots: BootRoots,
        desk: Desk<Nodes>,
        _scratch: tempfile::TempDir,
    }

    fn bench(view: View) -> Bench {
        let scratch = tempfile::tempdir().unwrap();
        let roots = BootRoots::at(scratch.path().join("roots"), None);
        for version in ["one", "two"] {
            add_root(roots.directory(), version);
        }
        roots.choose("one", &Whom::All).unwrap();
        let nodes = Nodes::default();
        nodes.known.lock().unwrap().push(Known {
            name: "pi-1".into(),
            model: "Raspberry Pi 4 Model B".into(),
            serial: Serial(0x1000_0000_0000_00ab),
            mac: MAC.into(),
            boot: BootNumber(3),
            view,
            card: None,
        });
        let lines = CommandLines {
            site: Site::new("main").unwrap(),
            broker: "10.0.0.1:1883".into(),
            head: "10.0.0.1:8070".into(),
            agents: None,
            credentials: Credentials::new(SiteKey([7; 32])),
        };
        let strangers = Strangers::default();
        let cards = CardFiles::at(scratch.path().join("card-files"));
        let desk = Desk::new(nodes.clone(), roots.clone(), cards, strangers.clone(), Arc::new(lines));
        Bench { nodes, strangers, roots, desk, _scratch: scratch }
    }

    fn add_root(roots: &Path, version: &str) {
        let directory = roots.join(version);
        fs::create_dir_all(directory.join("files")).unwrap();
        let content = serde_json::json!({ "bytes": 1, "blake3": "" });
        let description = serde_json::json!({
            "schema": 1, "version": version, "kind": "ram", "command_line": "panic=10", "packages": {}, "agent": "1",
            "files": { "start4.elf": content, "kernel8.img": content, "bootcode.bin": content },
        });
        fs::write(directory.join("boot-root.json"), description.to_string()).unwrap();
    }

    impl Bench {
        fn ask(&self, name: &str) -> Answer {
            match self.desk.answer(ADDRESS, Some(MAC), name, Instant(1000)) {
                Answer::Later => self.desk.answer(ADDRESS, Some(MAC), name, Instant(1000)),
                answer => answer,
            }
        }
        fn change(&self, change: impl FnOnce(&mut Known)) {
            change(&mut self.nodes.known.lock().unwrap()[0]);
        }
    }

    fn path(answer: Answer) -> String {
        match answer {
            Answer::File(file) => file.path.to_string_lossy().into_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_boot_root_is_served_below_the_prefix_with_the_token_of_this_boot() {
        let bench = bench(View::BootRoot(BootNumber(3)));
        assert!(path(bench.ask("000000ab/start4.elf")).ends_with("one/files/start4.elf"));
        assert!(
            matches!(bench.ask("000000ab/kernel8.img"), Answer::File(file) if file.is_kernel && file.node.is_some())
        );
        let Answer::Text(line) = bench.ask("000000ab/cmdline.txt") else { panic!("no command line") };
        assert!(line.starts_with("panic=10 piseduce.site=main ") && line.ends_with('\n'), "{line}");
        assert!(line.contains("piseduce.boot=3 piseduce.token="), "{line}");
        assert!(matches!(bench.ask("000000ab/pieeprom.upd"), Answer::NotFound));
        assert!(matches!(bench.ask("start4.elf"), Answer::NotFound), "the root directory boots nobody");
        assert!(matches!(bench.ask("bootcode.bin"), Answer::File(..)), "but a Pi 3 begins there");
        assert!(matches!(bench.ask("000000ab/../one/boot-root.json"), Answer::Refused));
        // Five names, of which one was asked for twice.
        assert_eq!(*bench.nodes.asked.lock().unwrap(), [Asked::New; 5]);
    }

    #[test]
    fn nobody_but_the_node_itself_gets_its_token() {
        let bench = bench(View::BootRoot(BootNumber(3)));
        for mac in [None, Some("dc:a6:32:00:00:02")] {
            let answer = bench.desk.answer(ADDRESS, mac, "000000ab/cmdline.txt", Instant(0));
            assert!(matches!(answer, Answer::NotFound), "{answer:?}");
        }
        assert!(bench.nodes.asked.lock().unwrap().is_empty(), "a stranger is no sign of life");
        bench.change(|known| known.view = View::Hold);
        let Answer::Text(line) = bench.ask("000000ab/cmdline.txt") else { panic!("no command line") };
        assert_eq!(line, "panic=10\n");
    }

    #[test]
    fn a_token_is_given_once_to_one_address_and_only_when_that_is_saved() {
        const LINE: &str = "000000ab/cmdline.txt";
        let bench = bench(View::Starting);
        assert!(matches!(bench.ask(LINE), Answer::Later), "the port was not seen on yet");
        assert!(path(bench.ask("000000ab/start4.elf")).ends_with("one/files/start4.elf"));
        assert_eq!(*bench.nodes.token.lock().unwrap(), None);
        bench.change(|known| known.view = View::BootRoot(BootNumber(3)));
        *bench.nodes.token.lock().unwrap() = Some(TokenHolder { boot: BootNumber(2), address: ADDRESS });
        let first = bench.desk.answer(ADDRESS, Some(MAC), LINE, Instant(1));
        assert!(matches!(first, Answer::Later), "it is not saved yet: {first:?}");
        for _ in 0..2 {
            assert!(matches!(bench.ask(LINE), Answer::Text(_)), "a firmware may ask again");
        }
        let elsewhere = IpAddr::from([10, 0, 0, 12]);
        let second = bench.desk.answer(elsewhere, Some(MAC), LINE, Instant(2));
        assert!(matches!(second, Answer::NotFound), "{second:?}");
        let other = bench.desk.answer(elsewhere, Some("02:00:00:00:00:66"), LINE, Instant(2));
        assert!(matches!(other, Answer::NotFound), "{other:?}");
        assert_eq!(*bench.nodes.refused.lock().unwrap(), [(elsewhere, Wanted::CommandLine); 2]);
        assert_eq!(bench.nodes.token.lock().unwrap().unwrap().address, ADDRESS);
    }

    #[test]
    fn a_node_that_is_to_boot_its_card_finds_nothing() {
        let bench = bench(View::Card);
        for name in ["000000ab/start4.elf", "000000ab/cmdline.txt", "bootcode.bin"] {
            assert!(matches!(bench.ask(name), Answer::NotFound), "{name}");
        }
        assert_eq!(bench.nodes.asked.lock().unwrap().len(), 3, "and shows that it lives");
    }

    #[test]
    fn a_pi_3_gets_the_boot_files_of_its_card_and_nobody_elses() {
        let bench = bench(View::Card);
        let serial = Serial(0x1000_0000_0000_00ab);
        let owner = Owner { serial, deployment: DeploymentId(7), run: Run(1) };
        let mut list = Vec::new();
        for name in ["start.elf", "config.txt", "cmdline.txt"] {
            let part = bench.desk.cards.receive(owner, name, 0).unwrap();
            bench.desk.cards.received(owner, name, part).unwrap();
            list.push(BootFile { name: name.into(), bytes: 0, hash: Hash::of(b"") });
        }
        bench.desk.cards.complete(owner, "agent", &list).unwrap();
        assert!(
            matches!(bench.ask("000000ab/start.elf"), Answer::NotFound),
            "no run of this node's wrote it"
        );
        bench.change(|known| known.card = Some(owner));
        assert!(path(bench.ask("000000ab/start.elf")).contains("/card-files/"));
        assert!(matches!(bench.ask("000000ab/start4.elf"), Answer::NotFound), "and nothing of the boot root");
        assert!(
            path(bench.ask("bootcode.bin")).contains("/one/files/"),
            "but its second stage, if it has none"
        );
        assert!(matches!(bench.ask("start.elf"), Answer::NotFound));
        bench.change(|known| known.view = View::Hold);
        let Answer::Text(line) = bench.ask("000000ab/cmdline.txt") else { panic!("no command line") };
        assert_eq!(line, "panic=10\n", "held, it gets the boot root");
    }

    #[test]
    fn a_boot_that_began_with_one_boot_root_ends_with_it() {
        let bench = bench(View::Hold);
        assert!(path(bench.ask("000000ab/start4.elf")).contains("/one/"));
        bench.roots.choose("two", &Whom::All).unwrap();
        assert!(path(bench.ask("000000ab/kernel8.img")).contains("/one/"));
        let later = bench.desk.answer(ADDRESS, Some(MAC), "000000ab/start4.elf", Instant(60_000));
        assert!(path(later).contains("/two/"));
        bench.roots.choose("one", &Whom::Node("pi-1".into())).unwrap();
        let own = bench.desk.answer(ADDRESS, Some(MAC), "000000ab/start4.elf", Instant(120_000));
        assert!(path(own).contains("/one/"), "its own, not the current one");
    }

    #[test]
    fn a_new_boot_begins_with_the_boot_root_that_is_chosen_then() {
        let bench = bench(View::BootRoot(BootNumber(3)));
        assert!(path(bench.ask("000000ab/start4.elf")).contains("/one/"));
        bench.roots.choose("two", &Whom::All).unwrap();
        bench.change(|known| (known.boot, known.view) = (BootNumber(4), View::BootRoot(BootNumber(4))));
        assert!(path(bench.ask("000000ab/start4.elf")).contains("/two/"), "its first question is a new name");
        bench.roots.choose("one", &Whom::Node("pi-1".into())).unwrap();
        assert!(path(bench.ask("000000ab/kernel8.img")).contains("/two/"), "this boot goes on");
        bench.change(|known| (known.boot, known.view) = (BootNumber(5), View::BootRoot(BootNumber(5))));
        assert!(path(bench.ask("000000ab/kernel8.img")).contains("/one/"));
        bench.roots.choose_no_other(&Whom::Node("pi-1".into())).unwrap();
        bench.change(|known| (known.boot, known.view) = (BootNumber(6), View::BootRoot(BootNumber(6))));
        assert!(path(bench.ask("000000ab/kernel8.img")).contains("/two/"));
    }

    #[test]
    fn a_file_that_takes_long_is_no_new_boot() {
        let bench = bench(View::Hold);
        let at = |name: &str, at| bench.desk.answer(ADDRESS, Some(MAC), name, Instant(at));
        at("000000ab/config.txt", 0);
        let Answer::File(kernel) = at("000000ab/kernel8.img", 100) else { panic!("no kernel") };
        bench.roots.choose("two", &Whom::All).unwrap();
        bench.desk.sent(&kernel, Instant(20_000));
        assert!(path(at("000000ab/kernel8.img", 20_100)).contains("/one/"));
        assert!(path(at("000000ab/kernel8.img", 29_000)).contains("/two/"));
    }

    #[test]
    fn strangers_get_nothing_and_are_seen() {
        let bench = bench(View::Hold);
        let mac = "dc:a6:32:09:09:09";
        let answer = bench.desk.answer(ADDRESS, Some(mac), "00c0ffee/start4.elf", Instant(0));
        assert!(matches!(answer, Answer::NotFound));
        assert!(bench.strangers.invite(mac, "00ff", Instant(0)));
        let ask = |name: &str, at| bench.desk.answer(ADDRESS, Some(mac), name, Instant(at));
        let Answer::Text(line) = ask("00c0ffee/cmdline.txt", 1) else { panic!("no command line") };
        assert!(
            line.starts_with("panic=10 piseduce.head=") && line.ends_with(" piseduce.invitation=00ff\n"),
            "{line}"
        );
        assert!(!line.contains("token"), "{line}");
        assert!(path(ask("00c0ffee/start4.elf", 2)).contains("/one/files/"));
        assert!(matches!(ask("00c0ffee/start4.elf", 700_000), Answer::NotFound), "not for ever");
        let all = bench.strangers.all();
        assert_eq!((all[0].mac.as_deref(), all[0].serial_end), (Some(mac), Some(0x00c0_ffee)));
        assert_eq!(all[0].model, Some("Pi 4, Pi 400 or CM4"));
    }
}
