//! Guards: a board whose bootloader would not bring it back is neither written nor freed.

use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::state::State;
use piseduce_tests::board::EEPROM;
use piseduce_tests::lab::{ADMIN, Lab, USER};
use std::fs;

fn set(lab: &Lab, settings: &str) {
    fs::write(lab.rack.place(0).join(EEPROM), settings).unwrap();
}

fn check(lab: &Lab) -> (i32, String) {
    let checked = lab.coordinator.cli_output(USER, &["node", "check"]).unwrap();
    (checked.status.code().unwrap(), String::from_utf8(checked.stdout).unwrap())
}

#[test]
fn a_board_that_would_not_come_back_is_not_written_and_is_deployed_when_it_is_mended() {
    let lab = Lab::new(1);
    let (code, said) = check(&lab);
    assert!(code == 0 && said.contains("pi-1: not seen in the boot root yet; `piseduce node test"), "{said}");
    set(&lab, "[all]\nBOOT_UART=1\nBOOT_ORDER=0xf41\n");
    let before = lab.rack.with_card(0, |card| card.read(0, 4 << 20).unwrap());
    lab.deploy(&[]);
    let failed = lab.wait_for(0, State::Failed, 60.0);
    let cause = failed.cause.unwrap();
    assert!(cause.is(CauseKind::BootOrderUnreachable), "{cause}");
    assert!(cause.seen.contains("BOOT_ORDER=0xf41 never asks the network; set BOOT_ORDER=0xf12"), "{cause}");
    assert!(lab.rack.with_card(0, |card| card.read(0, 4 << 20).unwrap()) == before, "the card was written");
    let (code, said) = check(&lab);
    assert!(code == 3 && said.contains("boot_order_unreachable (refuse): BOOT_ORDER=0xf41"), "{code} {said}");
    assert!(said.contains("to mend it: set BOOT_ORDER=0xf12"), "{said}");

    set(&lab, "[all]\nBOOT_ORDER=0xe12\n");
    lab.coordinator.cli(USER, &["reboot", "pi-1"]).unwrap();
    let deployed = lab.wait_for(0, State::Deployed, 60.0);
    let (code, said) = check(&lab);
    assert!(code == 0 && said.contains("gives_up (warn): BOOT_ORDER=0xe12"), "{code} {said}");
    let journal = lab.history(deployed.id).journal;
    let told = |entry: &piseduce_coordinator::api::JournalEntry| {
        entry.detail.as_deref().is_some_and(|detail| detail.contains("; gives_up: BOOT_ORDER=0xe12"))
    };
    assert!(journal.iter().any(told), "{journal:?}");
}

#[test]
fn a_user_who_breaks_the_boot_order_leaves_a_node_in_quarantine_until_it_is_mended() {
    let lab = Lab::new(1);
    set(&lab, "BOOT_ORDER=0xf12\n");
    lab.deploy(&[]);
    lab.wait_for(0, State::Deployed, 60.0);
    set(&lab, "BOOT_ORDER=0xf2\n");
    let ended = lab.coordinator.cli_output(USER, &["destroy", "pi-1", "--wait"]).unwrap();
    assert_eq!(ended.status.code(), Some(3), "{}", String::from_utf8_lossy(&ended.stderr));
    let cause = lab.wait_for(0, State::Quarantined, 60.0).cause.unwrap();
    assert!(cause.is(CauseKind::BootOrderNoCard), "{cause}");
    assert!(!lab.rack.is_on(0), "a node in quarantine is off");
    set(&lab, "BOOT_ORDER=0xf12\n");
    lab.coordinator.cli(ADMIN, &["node", "test", "pi-1", "--wait"]).unwrap();
    assert_eq!(lab.status(0), None);
}

#[test]
fn a_site_says_what_it_refuses() {
    let lab = Lab::with_limits(1, "[guards]\nboot_order_unreachable = \"ignore\"\n");
    set(&lab, "BOOT_ORDER=0xf41\n");
    lab.deploy(&[]);
    lab.wait_for(0, State::Deployed, 60.0);
    let (code, said) = check(&lab);
    assert!(code == 0 && said.contains("boot_order_unreachable (ignore)"), "{code} {said}");
}
