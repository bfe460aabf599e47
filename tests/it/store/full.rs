//! A disk that is full refuses requests in words, and takes what must be written.

use super::{NOW, Shelf, conflict};
use crate::machine::{Bench, happy_path};
use piseduce_coordinator::store::{Actor, Opened};
use piseduce_coordinator::store::{
    BALLAST_BYTES, Change, DiskTrouble, Store, StoreError, TurnRecord, ballast_is_held,
};
use piseduce_tests::disk::SmallDisk;
use std::sync::Arc;

/// Twice what the ballast needs, and some room for the store.
const DISK_BYTES: u64 = 3 * BALLAST_BYTES;

fn full(result: Result<impl std::fmt::Debug, StoreError>) -> String {
    match result {
        Err(StoreError::Disk(trouble @ DiskTrouble::Full { .. })) => trouble.to_string(),
        other => panic!("the disk is full, but {other:?}"),
    }
}

/// A turn in which the machine took a step.
fn turn(opened: &Opened, detail: &str) -> Arc<TurnRecord> {
    let mut bench = Bench::open();
    bench.step(happy_path()[0]);
    let mut deployment = bench.live.deployment.clone();
    deployment.id = opened.deployments[0].deployment.id;
    let node = opened.deployments[0].node.id;
    let change = Change { deployment, node, actor: Actor::Machine, detail: Some(detail.into()) };
    Arc::new(TurnRecord { at: NOW, changes: vec![change], ..TurnRecord::default() })
}

#[tokio::test]
async fn a_full_disk_refuses_requests_in_words_and_takes_what_must_be_written() {
    let disk = SmallDisk::new(DISK_BYTES).unwrap();
    let file = disk.path().join("store.sqlite");
    let shelf = Shelf::in_store(Store::open_with_ballast(&file).unwrap(), 3).await;
    let opened = shelf.reserve("ann", &["pi-1"]).await.unwrap();
    assert!(ballast_is_held(disk.path()) && shelf.store.trouble().is_none());

    disk.fill().unwrap();
    let mut refused = None;
    // What the write-ahead log has room for is taken still.
    for number in 0..2000 {
        if let Err(error) = shelf.store.note(NOW, Actor::Machine, "test", format!("{number:02000}")).await {
            refused = Some(error);
            break;
        }
    }
    let said = full(Err::<(), _>(refused.expect("a disk has an end")));
    assert!(said.contains(&*disk.path().to_string_lossy()) && said.contains("KiB are needed"), "{said}");
    // The machine goes on, far beyond what had room.
    for _ in 0..20 {
        shelf.store.keep_turn(turn(&opened, &"x".repeat(20_000))).await.unwrap();
    }
    assert!(!ballast_is_held(disk.path()), "its room is in use");
    let said = full(shelf.reserve("bob", &["pi-2"]).await);
    assert!(shelf.store.trouble().is_some_and(|trouble| trouble.to_string() == said));
    assert_eq!(shelf.store.nodes().await.unwrap().len(), 3, "reading needs no room");

    // A coordinator starts there, too.
    shelf.store.close().await.unwrap();
    disk.fill().unwrap();
    let store = Store::open_with_ballast(&file).unwrap();
    assert_eq!(store.live_deployments().await.unwrap().len(), 1);
    let shelf = Shelf { store, ..shelf };

    disk.make_room();
    shelf.store.look_at_disk().await.unwrap();
    shelf.reserve("bob", &["pi-2"]).await.unwrap();
    assert!(ballast_is_held(disk.path()) && shelf.store.trouble().is_none());
    assert!(conflict(shelf.reserve("ann", &["pi-2"]).await).contains("is held by bob"));
}

#[tokio::test]
async fn a_turn_that_has_no_room_at_all_can_be_kept_when_there_is_some() {
    let disk = SmallDisk::new(DISK_BYTES).unwrap();
    let file = disk.path().join("store.sqlite");
    // A program beside the coordinator, which keeps no room back.
    let shelf = Shelf::in_store(Store::open(&file).unwrap(), 1).await;
    let opened = shelf.reserve("ann", &["pi-1"]).await.unwrap();
    disk.fill().unwrap();
    let large = turn(&opened, &"x".repeat(4 << 20));
    let entries = shelf.store.journal_of(opened.deployments[0].deployment.id).await.unwrap().len();
    full(shelf.store.keep_turn(large.clone()).await);
    full(shelf.store.keep_turn(large.clone()).await);
    disk.make_room();
    shelf.store.keep_turn(large).await.unwrap();
    let now = shelf.store.journal_of(opened.deployments[0].deployment.id).await.unwrap().len();
    assert_eq!(now, entries + 1, "once, and not in pieces");
}

#[tokio::test]
async fn one_large_request_on_a_nearly_full_disk_does_not_take_others_with_it() {
    let disk = SmallDisk::new(DISK_BYTES).unwrap();
    let shelf = Shelf::in_store(Store::open(&disk.path().join("store.sqlite")).unwrap(), 1).await;
    disk.fill_but(1 << 20).unwrap();
    let note = |length: usize| {
        let store = shelf.store.clone();
        tokio::spawn(async move { store.note(NOW, Actor::Machine, "test", "x".repeat(length)).await })
    };
    let notes: Vec<_> = [10, 8 << 20, 10, 10].into_iter().map(note).collect();
    let mut results = Vec::new();
    for note in notes {
        results.push(note.await.unwrap());
    }
    full(results.remove(1));
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}
