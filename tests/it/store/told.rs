//! What agents tell is kept for people, once and within bounds.

use super::{NOW, Shelf};
use piseduce_coordinator::clock::UnixMs;
use piseduce_coordinator::domain::card::{CardDid, CardNote};
use piseduce_coordinator::store::{AgentWord, AgentWords, Saved, StoreError, TurnRecord};
use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::id::{BootNumber, Run, Seq, Ticket};
use std::sync::Arc;

impl Shelf {
    async fn keep(&self, record: TurnRecord) -> Result<Vec<Saved>, StoreError> {
        self.store.keep_turn(Arc::new(record)).await
    }

    async fn keep_words(&self, words: Vec<AgentWords>) -> Result<Vec<Saved>, StoreError> {
        self.keep(TurnRecord { words, ..TurnRecord::default() }).await
    }
}

#[tokio::test]
async fn of_an_agents_log_a_bounded_end_is_kept_and_what_is_told_twice_is_kept_once() {
    let shelf = Shelf::with_nodes(1).await;
    let opened = shelf.reserve("ann", &["pi-1"]).await.unwrap();
    let (deployment, run) = (opened.deployments[0].deployment.id, Run(1));
    let told = |boot: u32, lines: std::ops::Range<u64>| {
        let line = |boot_us| AgentWord { boot_us, at: NOW, text: format!("{boot_us:01000}") };
        let lines = lines.map(line).collect();
        AgentWords { deployment, run, boot: BootNumber(boot), at: NOW, hello: Some(boot.to_string()), lines }
    };
    shelf.keep_words(vec![told(1, 0..100), told(1, 50..150), told(2, 0..100)]).await.unwrap();
    let lines = shelf.store.agent_lines(deployment, run, 0).await.unwrap();
    let boots = |boot| lines.iter().filter(|line| line.boot == BootNumber(boot)).count();
    // 246 lines of 1000 bytes have room: the oldest of the first boot are gone.
    assert_eq!((boots(1), boots(2)), (146, 100));
    shelf.keep_words(vec![told(2, 100..150)]).await.unwrap();
    // The oldest come again, and go again at once.
    shelf.keep_words(vec![told(1, 0..10)]).await.unwrap();
    let lines = shelf.store.agent_lines(deployment, run, 0).await.unwrap();
    assert_eq!((lines.len(), lines[0].text.trim_start_matches('0')), (246, "54"));
    assert!(lines.windows(2).all(|pair| (pair[0].boot, &pair[0].text) < (pair[1].boot, &pair[1].text)));
    shelf.keep_words(vec![told(2, u64::MAX - 1..u64::MAX)]).await.expect("an agent may say what it likes");
    let lines = shelf.store.agent_lines(deployment, run, 0).await.unwrap();
    let last = lines.iter().map(|line| line.id).max().unwrap();
    assert_eq!(shelf.store.agent_lines(deployment, run, last).await.unwrap(), []);
    assert_eq!(shelf.store.agent_lines(deployment, Run(2), 0).await.unwrap(), []);
    let hellos = shelf.store.agent_hellos(deployment).await.unwrap();
    assert_eq!(hellos.iter().map(|hello| hello.hello.as_str()).collect::<Vec<_>>(), ["1", "2"]);
}

#[tokio::test]
async fn what_is_told_of_a_card_twice_is_kept_once_and_it_outlives_its_deployments() {
    let shelf = Shelf::with_nodes(1).await;
    let opened = shelf.reserve("ann", &["pi-1"]).await.unwrap();
    let ticket = |seq| Ticket { deployment: opened.deployments[0].deployment.id, run: Run(1), seq: Seq(seq) };
    let note = |node: &str, at: u64, did| CardNote {
        cid: "03".into(),
        bytes: 9,
        node: node.into(),
        at: UnixMs(at),
        did,
    };
    let failed =
        |seq| CardDid::Failed { ticket: ticket(seq), kind: CauseKind::CardError, seen: "at 7".into() };
    let wrote = CardDid::Wrote { ticket: ticket(3), bytes: 5, busy_ms: u64::MAX };
    let notes = [
        note("pi-1", 1, CardDid::WasSeen),
        note("pi-1", 2, wrote.clone()),
        note("pi-1", 3, wrote),
        note("pi-2", 4, failed(3)),
        note("pi-2", 5, failed(3)),
    ];
    shelf.keep(TurnRecord { cards: notes.to_vec(), ..TurnRecord::default() }).await.unwrap();
    let cards = shelf.store.cards().await.unwrap();
    let [card] = &cards[..] else { panic!("one card: {cards:?}") };
    assert_eq!((card.first, card.last, card.node.as_str()), (UnixMs(1), UnixMs(5), "pi-2"));
    assert_eq!((card.copies.len(), card.failures.len(), card.written()), (1, 1, 5));
    assert_eq!((card.failures[0].node.as_str(), card.failures[0].at), ("pi-2", UnixMs(4)));
}
