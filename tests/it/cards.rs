//! Cards and what happens to them: other partition tables, power cuts inside the grow, bytes that change
//! between the copy and the check.

use piseduce_coordinator::api::PassportView;
use piseduce_protocol::state::State;
use piseduce_tests::board::CID;
use piseduce_tests::cards::{Card, show_partitions};
use piseduce_tests::images;
use piseduce_tests::lab::{ADMIN, Lab, SSH_KEY, USER};
use piseduce_tests::monitor::Monitor;
use piseduce_tests::process::run;
use piseduce_tests::wait::seconds;

/// The identification of a card, as its kernel shows it.
const SANDISK: &str = "035344534433324780d1b2c3a4010a00";

/// The node's root partition: checked as it is, its size in bytes, and the keys of its user.
fn look_at_root(lab: &Lab) -> (u64, String) {
    lab.rack.crash(0);
    let look = |card: &Card| -> anyhow::Result<(u64, String)> {
        show_partitions(card.device())?;
        let root = format!("{}p2", card.device().display());
        // The system was killed while it was mounted: its journal is replayed, and nothing else is to repair.
        run("e2fsck", &["-p", &root])?;
        run("e2fsck", &["-f", "-n", &root])?;
        let bytes = run("blockdev", &["--getsize64", &root])?.trim().parse()?;
        card.look(|root| Ok((bytes, std::fs::read_to_string(root.join("home/pi/.ssh/authorized_keys"))?)))
    };
    lab.rack.with_card(0, look).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn an_image_with_a_gpt_is_imported_deployed_and_boots() {
    let lab = Lab::new(1);
    lab.add_environment("gpt", &images::story_with_gpt().unwrap()).unwrap();
    let key = lab.directory.path().join("key.pub").to_string_lossy().into_owned();
    lab.coordinator.cli(USER, &["reserve", "pi-1", "--for", "1h"]).unwrap();
    let form = ["deploy", "pi-1", "--environment", "gpt", "--ssh-key", &key, "--part-size", "whole"];
    lab.coordinator.cli(USER, &form).unwrap();
    lab.wait_for(0, State::Deployed, 60.0);
    let (bytes, keys) = look_at_root(&lab);
    assert_eq!(keys.trim(), SSH_KEY);
    // The card has 1 GiB, the root begins at 68 MiB, and the last MiB is the backup's.
    assert_eq!(bytes, (1024 - 68 - 1) << 20);
    let device = lab.rack.with_card(0, |card| card.device().display().to_string());
    let verified = run("sgdisk", &["--verify", &device]).unwrap();
    assert!(verified.contains("No problems found."), "{verified}");
    assert!(run("sfdisk", &["--verify", &device]).unwrap().contains("No errors detected."));
}

/// Cuts the board's power `milliseconds` after it was told to grow; says whether it was at it.
fn cut_inside_the_grow(lab: &Lab, milliseconds: u32) -> bool {
    Monitor::connect(&lab.coordinator).wait_for(lab.run_of(0), State::WaitResizing, 60.0);
    let until = seconds() + f64::from(milliseconds) / 1000.0;
    while seconds() < until {
        std::thread::yield_now();
    }
    lab.rack.cut_power(0);
    let log = std::fs::read_to_string(lab.rack.place(0).join("kernel.log")).unwrap();
    let last = log.lines().rfind(|line| line.contains(" work ")).unwrap_or_default();
    last.contains("work begins") && last.contains("wait_resizing")
}

#[test]
fn a_board_that_is_cut_off_inside_the_grow_again_and_again_is_deployed_with_a_sound_file_system() {
    let lab = Lab::new(1);
    lab.deploy(&["--part-size", "whole"]);
    lab.wait_for(0, State::Deployed, 60.0);
    let mut cuts = 0;
    // The grow is often quicker than the cut: what counts are cuts that came in time.
    for round in 0..20 {
        lab.deploy_again_on_blank_card(0);
        for milliseconds in [round, 3 * round] {
            let is_inside = cut_inside_the_grow(&lab, milliseconds);
            let monitor = Monitor::connect(&lab.coordinator);
            lab.coordinator.cli(USER, &["reboot", "pi-1"]).unwrap();
            if !is_inside {
                break;
            }
            cuts += 1;
            monitor.wait_for(lab.run_of(0), State::NfsBootOn, 60.0);
        }
        lab.wait_for(0, State::Deployed, 90.0);
        let (bytes, keys) = look_at_root(&lab);
        assert_eq!((bytes, keys.trim()), ((1024 - 68) << 20, SSH_KEY), "round {round}");
        if cuts >= 6 {
            return;
        }
    }
    panic!("only {cuts} cuts came inside the grow");
}

#[test]
fn a_byte_that_changes_between_copy_and_check_is_found_named_and_repaired() {
    const BYTE: u64 = (4 << 20) + 3;
    let lab = Lab::new(1);
    let image = std::fs::read(images::story().unwrap()).unwrap();
    let right = image[usize::try_from(BYTE).unwrap()];
    assert_ne!(right, 0, "a blank card must not have it already");
    std::fs::write(lab.rack.place(0).join(CID), format!("{SANDISK}\n")).unwrap();
    assert!(lab.coordinator.cli(ADMIN, &["card", "list"]).unwrap().contains("no card that shows"));
    let file = lab.rack.place(0).join("card.img");
    let flipped = std::thread::spawn(move || Card::flip(&file, BYTE, right, 60.0));
    lab.deploy(&[]);
    flipped.join().unwrap().unwrap();
    let status = lab.wait_for(0, State::Deployed, 60.0);
    let history = lab.history(status.id);
    assert_eq!(history.deployment.restarts, 1, "it was sent back once");
    let sent_back = history.journal.iter().filter(|entry| entry.state == State::EnvCopy);
    let details: Vec<&str> = sent_back.filter_map(|entry| entry.detail.as_deref()).collect();
    let words = "hash_mismatch: chunk 4, bytes 4194304 to 5242880 of /dev/loop";
    assert!(details.iter().any(|detail| detail.starts_with(words)), "{details:?}");
    lab.rack.crash(0);
    assert_eq!(lab.rack.with_card(0, |card| card.read(BYTE, 1)).unwrap(), [right]);
    let card: PassportView = lab.coordinator.get(ADMIN, &format!("cards/{}", &SANDISK[..6])).unwrap();
    assert_eq!((card.verdict.as_str(), card.node.as_str(), card.bytes), ("suspect", "pi-1", 1 << 30));
    let [copy, repair] = &card.copies[..] else { panic!("two copies: {card:?}") };
    // Parts of the image are zeros, which a blank card has: how much of it is written depends on what is compared.
    assert!(copy.bytes > 4 << 20 && copy.bytes <= 22 << 20 && copy.rate > 0, "{card:?}");
    assert!((1..=4 << 20).contains(&repair.bytes), "{card:?}");
    assert_eq!(card.written, copy.bytes + repair.bytes);
    let [failure] = &card.failures[..] else { panic!("one failure: {card:?}") };
    assert!(failure.cause == "hash_mismatch" && failure.seen.starts_with("chunk 4"), "{card:?}");
    let shown = lab.coordinator.cli(ADMIN, &["card", "show", &SANDISK[20..]]).unwrap();
    assert!(shown.contains("suspect") && shown.contains("put it into another board"), "{shown}");
    assert!(lab.coordinator.cli(USER, &["card", "list"]).is_err(), "for administrators");
    let error = lab.coordinator.cli(ADMIN, &["card", "show", "ffff"]).unwrap_err().to_string();
    assert!(error.contains("there is no card `ffff`"), "{error}");
}
