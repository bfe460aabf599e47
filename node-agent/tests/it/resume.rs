//! Steps that are asked of a fresh agent, repeated, or begun on a card that is further than they know.

use crate::card::LoopCard;
use crate::deploy::{assert_deployed, boot_file};
use crate::image::{self, BOOT_START, MIB, ROOT_START};
use crate::rig::{CARD_BYTES, Rig};
use piseduce_protocol::state::State;

#[test]
fn every_step_works_as_the_first_of_a_fresh_agent_and_may_be_repeated() {
    let mut rig = Rig::new();
    for state in State::AGENTS {
        rig.work.attempt = 1;
        rig.perform_all(&mut None, &[state]);
        // The node restarts: kernel and agent know nothing any more.
        rig.card.forget_partitions();
        rig.work.attempt = 2;
        rig.work.recopy_boot = true;
        rig.perform_all(&mut None, &[state]);
        rig.work.recopy_boot = false;
        rig.card.forget_partitions();
    }
    assert_deployed(&rig.card, CARD_BYTES - ROOT_START);
}

#[test]
fn a_user_conf_that_finds_a_committed_card_makes_it_unbootable_before_it_works() {
    let rig = Rig::new();
    rig.perform_all(&mut None, &State::AGENTS);
    assert!(rig.card.boots());
    rig.head
        .withdraw(&piseduce_protocol::path::bundle(crate::rig::TICKET.deployment, crate::rig::TICKET.run));
    rig.perform(&mut None, State::UserConf).unwrap_err();
    assert!(!rig.card.boots());
}

#[test]
fn a_boot_partition_that_was_cut_off_inside_an_edit_is_copied_again() {
    let mut rig = Rig::new();
    rig.perform_all(&mut None, &State::AGENTS[..8]);
    // The first FAT and the root directory are gone.
    rig.card.write(BOOT_START + 32 * 512, &[0; 64 * 1024]);
    rig.work.recopy_boot = true;
    rig.work.attempt = 2;
    rig.perform_all(&mut None, &[State::UserConf]);
    assert_deployed(&rig.card, CARD_BYTES - ROOT_START);
    assert!(boot_file(&rig.card, "config.txt").contains("arm_64bit"));
}

#[test]
fn a_copy_that_was_stopped_is_taken_up_where_it_was() {
    use piseduce_agent::cancel::Cancel;
    use piseduce_agent::step::{self, Task};
    use piseduce_protocol::command::Work;

    let rig = Rig::with(image::get(), LoopCard::dirty(CARD_BYTES, image::IMAGE_BYTES));
    let cancel = Cancel::new();
    let half = image::get().manifest.defined_bytes() / 2;
    let work = Work { state: State::EnvCopy, ..rig.work.clone() };
    let task = Task {
        node: &rig.node,
        ticket: crate::rig::TICKET,
        work: &work,
        unix_ms: 0,
        cancel: &cancel,
        wrote: &|_, _| {},
        advance: &|done, _| {
            if done >= half {
                cancel.cancel();
            }
        },
    };
    let result = step::perform(&mut None, task);
    assert!(matches!(result, Err(step::cause::StepError::Cancelled)), "{result:?}");
    let done = rig.perform(&mut None, State::EnvCopy).unwrap();
    let written: u64 = done.split(' ').next().unwrap().parse().unwrap();
    assert!(written <= half + 4 * MIB, "{done}");
    image::get().assert_on(&rig.card.read(0, image::get().bytes.len()));
}
