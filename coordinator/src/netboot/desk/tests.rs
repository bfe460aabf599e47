//! What each board gets, and what it does not.

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
    assert!(matches!(bench.ask("000000ab/start.elf"), Answer::NotFound), "no run of this node's wrote it");
    bench.change(|known| known.card = Some(owner));
    assert!(path(bench.ask("000000ab/start.elf")).contains("/card-files/"));
    assert!(matches!(bench.ask("000000ab/start4.elf"), Answer::NotFound), "and nothing of the boot root");
    assert!(path(bench.ask("bootcode.bin")).contains("/one/files/"), "but its second stage, if it has none");
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
