//! The agent on a real broker that comes and goes.

use crate::image;
use crate::site::{EPOCH, SERIAL, Site, ticket, topic};
use piseduce_agent::runner::End;
use piseduce_protocol::command::Order;
use piseduce_protocol::report::{Outcome, Report, Standing};
use piseduce_protocol::state::State;
use piseduce_protocol::topic::Topic;
use std::io::Write as _;
use std::time::Duration;

#[test]
fn an_agent_says_hello_works_and_repeats_its_answers() {
    let mut site = Site::new();
    let hello = site.look(|heard| heard.reports[0].clone());
    let Report::Hello(hello) = hello else { panic!("{hello:?}") };
    assert_eq!((hello.serial, hello.mac.as_str()), (SERIAL, "dc:a6:32:01:02:03"));
    assert_eq!(hello.card.unwrap().bytes, crate::rig::CARD_BYTES);
    assert_eq!(hello.doing, None);

    site.perform(1, State::EnvCopy);
    let end = site.end_of(1);
    assert!(matches!(end, Outcome::Done(_)), "{end:?}");
    let first = site.look(|heard| heard.outcomes(1)[0].clone());
    assert_eq!(first, Outcome::Started);
    site.perform(1, State::EnvCopy);
    site.until("the same answer", |heard| heard.ends_of(1).len() == 2);
    assert_eq!(site.look(|heard| heard.ends_of(1)[1].clone()), end);
    site.until("a beat that knows", |heard| {
        let last = heard.beats.last();
        last.is_some_and(|beat| {
            beat.last == Some((ticket(1), Standing::Done)) && u64::from(beat.epoch) == EPOCH
        })
    });

    site.perform(3, State::EnvCheck);
    assert!(matches!(site.end_of(3), Outcome::Done(_)));
    site.perform(2, State::EnvCheck);
    assert!(matches!(site.end_of(2), Outcome::Refused(_)));
    assert_eq!(site.end_agent(true), End::Terminated);
    assert_eq!(site.look(|heard| heard.wills), 0, "an agent that ends well has no last will");
}

#[test]
fn beats_go_on_while_the_agent_works_and_a_stop_ends_the_work() {
    let mut site = Site::new();
    site.rig.head.delay(Duration::from_millis(300));
    site.perform(1, State::EnvCopy);
    site.until("beats with progress", |heard| {
        let working = heard.beats.iter().filter(|beat| beat.last == Some((ticket(1), Standing::Working)));
        working.filter(|beat| beat.progress.is_some_and(|progress| progress.done > 0)).count() >= 3
    });
    assert!(site.look(|heard| heard.beats.iter().any(|beat| beat.card_busy)), "the card moved");
    site.perform(2, State::EnvCheck);
    assert!(matches!(site.end_of(2), Outcome::Refused(_)));
    site.order(3, Order::Stop);
    let end = site.end_of(3);
    assert!(matches!(&end, Outcome::Done(text) if text.contains("7.2.1")), "{end:?}");
    site.rig.head.delay(Duration::ZERO);
    site.perform(4, State::EnvCopy);
    assert!(matches!(site.end_of(4), Outcome::Done(_)));
    assert!(site.look(|heard| heard.ends_of(1).is_empty()), "stopped work has no answer of its own");
    image::get().assert_on(&site.rig.card.read(0, image::get().bytes.len()));
}

#[test]
fn an_answer_is_not_lost_with_its_broker() {
    let mut site = Site::new();
    site.rig.head.delay(Duration::from_millis(20));
    site.perform(1, State::EnvCopy);
    site.until("the beginning", |heard| !heard.outcomes(1).is_empty());
    site.broker.kill();
    site.forget();
    let chunks = site.rig.head.requests().len();
    crate::wait::until("progress without a broker", || match site.rig.head.requests().len() {
        now if now > chunks => Ok(()),
        now => Err(now),
    });
    crate::wait::pause(Duration::from_millis(1500));
    site.broker.start();
    let end = site.end_of(1);
    assert!(matches!(end, Outcome::Done(_)), "{end:?}");
    site.until("a hello after the reconnection", |heard| heard.hellos() >= 1);
    let doing = site.look(|heard| match &heard.reports[0] {
        Report::Hello(hello) => hello.doing,
        other => panic!("{other:?} came before the hello"),
    });
    assert_eq!(doing, Some(ticket(1)));
    site.perform(2, State::EnvCheck);
    assert!(matches!(site.end_of(2), Outcome::Done(_)));
}

#[test]
fn the_log_is_told_before_an_answer_and_again_after_a_lost_link() {
    let mut site = Site::new();
    writeln!(&site.log, "before the work").unwrap();
    site.perform(1, State::EnvCopy);
    assert!(matches!(site.end_of(1), Outcome::Done(_)));
    let (told, answered) = site.look(|heard| {
        let ends = |report: &Report| matches!(report, Report::Answer(answer) if matches!(answer.outcome, Outcome::Done(_)));
        (heard.told("before the work"), heard.reports.iter().position(ends))
    });
    assert!(told.is_some() && told < answered, "{told:?} {answered:?}");
    site.broker.kill();
    site.forget();
    writeln!(&site.log, "while nobody heard").unwrap();
    site.broker.start();
    // As the coordinator does when it is back: whoever came first spoke to nobody.
    site.until("the coordinator's subscription", |heard| !heard.beats.is_empty());
    site.publish(&topic(&Topic::Announce), b"hello?".to_vec());
    site.until("the log", |heard| heard.told("while nobody heard").is_some());
    assert!(site.look(|heard| heard.told("before the work").is_some()), "what may be lost is told again");
    assert!(site.look(|heard| heard.hellos() >= 1));
}

#[test]
fn an_announcement_is_answered_and_what_is_not_sealed_is_not() {
    let mut site = Site::new();
    site.forget();
    site.publish(&topic(&Topic::Announce), b"anything".to_vec());
    site.until("another hello", |heard| heard.hellos() == 1);
    let command = topic(&Topic::Command(SERIAL));
    site.publish(&command, b"no seal at all".to_vec());
    site.publish(&command, vec![1; 500]);
    site.order(1, Order::Stop);
    assert!(matches!(site.end_of(1), Outcome::Done(_)));
    assert_eq!(site.look(|heard| heard.reports.len()), 2);
}

#[test]
fn a_reboot_is_answered_before_the_agent_leaves() {
    let mut site = Site::new();
    site.rig.head.delay(Duration::from_millis(300));
    site.perform(1, State::EnvCopy);
    site.until("the beginning", |heard| !heard.outcomes(1).is_empty());
    site.order(2, Order::Reboot);
    assert_eq!(site.end_agent(false), End::Reboot);
    assert!(matches!(site.end_of(2), Outcome::Done(_)));
    assert!(!site.rig.card.boots());
    assert_eq!(site.look(|heard| heard.wills), 0);
}
