//! What survives: every deployment comes back as it was saved, and nobody holds what another holds.

mod full;
mod told;

use crate::machine::{Bench, happy_path};
use piseduce_coordinator::clock::UnixMs;
use piseduce_coordinator::domain::deployment::{Condition, Deployment};
use piseduce_coordinator::domain::driver::{CommandSettings, Driver};
use piseduce_coordinator::domain::environment::Environment;
use piseduce_coordinator::domain::node::NodeAttributes;
use piseduce_coordinator::domain::switch::SwitchAttributes;
use piseduce_coordinator::domain::user::{Role, Token, User};
use piseduce_coordinator::image::{Library, Limits};
use piseduce_coordinator::machine::event::{Event, Powered, Request, Sign};
use piseduce_coordinator::runner::housekeeping;
use piseduce_coordinator::store::{
    Actor, Change, Conflict, ImageUsers, Opened, Pruned, Retention, Store, StoreError, Wanted,
};
use piseduce_protocol::cause::{Cause, CauseKind};
use piseduce_protocol::id::{DeploymentId, Run, Serial};
use std::time::Duration;

const NOW: UnixMs = UnixMs(1_795_000_000_000);

struct Shelf {
    store: Store,
    directory: tempfile::TempDir,
}

impl Shelf {
    async fn with_nodes(count: u64) -> Shelf {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store.sqlite")).unwrap();
        Shelf { directory, ..Shelf::in_store(store, count).await }
    }

    async fn in_store(store: Store, count: u64) -> Shelf {
        let directory = tempfile::tempdir().unwrap();
        for name in ["ann", "bob"] {
            let user = User { name: name.into(), role: Role::User };
            store.add_user(user, Token::hash(name), NOW, Actor::Machine, || Ok(())).await.unwrap();
        }
        let shelf = Shelf { store, directory };
        let nodes = (1..=count).map(|number| node(number, number)).collect();
        shelf.import(nodes).await.unwrap();
        shelf
    }

    async fn import(&self, nodes: Vec<NodeAttributes>) -> Result<(), StoreError> {
        let switch = SwitchAttributes {
            name: "sw".into(),
            driver: Driver::Command(CommandSettings {
                argv: vec!["poe".into(), "{action}".into(), "{port}".into()],
            }),
            off_time: Duration::from_secs(5),
            protected: vec![],
            budget_watts: None,
        };
        self.store.import(vec![switch], nodes, NOW, Actor::Machine).await.map(drop)
    }

    async fn reserve(&self, owner: &str, nodes: &[&str]) -> Result<Opened, StoreError> {
        let until = NOW + Duration::from_secs(3600);
        let nodes = nodes.iter().map(|name| (*name).to_owned()).collect();
        let wanted =
            Wanted { owner: owner.into(), nodes, from: NOW, until, form_until: until, even_out: false };
        self.store.reserve(wanted).await
    }

    async fn save(&self, opened: &Opened, deployment: Deployment) -> Deployment {
        let id = opened.deployments[0].deployment.id;
        let deployment = Deployment { id, ..deployment };
        let node = opened.deployments[0].node.id;
        let change = Change { deployment: deployment.clone(), node, actor: Actor::Machine, detail: None };
        self.store.save(vec![change], NOW).await.unwrap();
        deployment
    }
}

fn node(number: u64, serial: u64) -> NodeAttributes {
    NodeAttributes {
        name: format!("pi-{number}"),
        serial: Serial(serial),
        mac: format!("dc:a6:32:00:00:{number:02x}"),
        model: "Raspberry Pi 4".into(),
        switch: "sw".into(),
        port: number.to_string(),
        watts: None,
        ip: None,
        console: None,
        labels: vec![],
    }
}

fn conflict(result: Result<impl std::fmt::Debug, StoreError>) -> String {
    match result {
        Err(StoreError::Conflict(conflict)) => conflict.to_string(),
        other => panic!("no conflict, but {other:?}"),
    }
}

/// The normal course, and every way out of it that leaves something to remember.
fn all_kinds_of_deployments() -> Vec<Deployment> {
    let mut found = Vec::new();
    let mut bench = Bench::open();
    for event in happy_path() {
        bench.step(event);
        found.push(bench.live.deployment.clone());
        for request in [Request::HardReboot, Request::DeployAgain, Request::Destroy, Request::Cancel] {
            let mut branch = bench.clone();
            branch.event(&Event::Asked(request));
            found.push(branch.live.deployment.clone());
            let failed = Powered::Failed(Cause::new(CauseKind::PortNotOff, "port 3 is on"));
            for powered in [failed, Powered::Off] {
                let mut end = branch.clone();
                end.see(Sign::Power(end.live.deployment.seq, powered));
                found.push(end.live.deployment.clone());
            }
        }
    }
    found
}

#[tokio::test]
async fn every_kind_of_deployment_comes_back_as_it_was_saved() {
    let shelf = Shelf::with_nodes(1).await;
    let opened = shelf.reserve("ann", &["pi-1"]).await.unwrap();
    let kinds = all_kinds_of_deployments();
    assert!(kinds.len() > 200);
    for deployment in kinds {
        let saved = shelf.save(&opened, deployment).await;
        let found = shelf.store.deployment(saved.id).await.unwrap().unwrap();
        assert_eq!(found.deployment, saved);
    }
}

#[tokio::test]
async fn what_was_saved_is_there_after_the_store_was_opened_anew() {
    let shelf = Shelf::with_nodes(1).await;
    let opened = shelf.reserve("ann", &["pi-1"]).await.unwrap();
    let mut bench = Bench::open();
    bench.step(happy_path()[0]);
    let saved = shelf.save(&opened, bench.live.deployment.clone()).await;
    let again = Store::open(&shelf.directory.path().join("store.sqlite")).unwrap();
    let live = again.live_deployments().await.unwrap();
    assert_eq!(live.len(), 1);
    assert_eq!((live[0].deployment.clone(), live[0].owner.as_str()), (saved.clone(), "ann"));
    assert_eq!(live[0].node.boot, saved.boot, "the node's boot number is saved with it");
    assert_eq!(again.journal_of(saved.id).await.unwrap().len(), 2);
}

#[tokio::test]
async fn of_many_who_reserve_the_same_nodes_at_once_one_gets_them_all() {
    let shelf = Shelf::with_nodes(3).await;
    let tries = (0..40).map(|index| {
        let (owner, nodes) =
            if index % 2 == 0 { ("ann", ["pi-1", "pi-2"]) } else { ("bob", ["pi-2", "pi-3"]) };
        let until = NOW + Duration::from_secs(60);
        let nodes = nodes.map(String::from).into();
        let wanted =
            Wanted { owner: owner.into(), nodes, from: NOW, until, form_until: until, even_out: false };
        let store = shelf.store.clone();
        tokio::spawn(async move { store.reserve(wanted).await })
    });
    let mut won = 0;
    for tried in tries.collect::<Vec<_>>() {
        match tried.await.unwrap() {
            Ok(_) => won += 1,
            other => {
                let why = conflict(other);
                assert!(why.contains("is held by") || why.contains("you hold"), "{why}");
            }
        }
    }
    assert_eq!(won, 1);
    assert_eq!(shelf.store.live_deployments().await.unwrap().len(), 2, "all nodes of a request, or none");
}

#[tokio::test]
async fn a_node_is_free_again_when_its_deployment_has_ended_and_not_before() {
    let shelf = Shelf::with_nodes(1).await;
    let opened = shelf.reserve("ann", &["pi-1"]).await.unwrap();
    let held = conflict(shelf.reserve("bob", &["pi-1"]).await);
    assert_eq!(held, "node `pi-1` is held by ann until 2026-11-18T12:06:40Z");
    let mut bench = Bench::open();
    bench.event(&Event::Asked(Request::Cancel));
    shelf.save(&opened, bench.live.deployment.clone()).await;
    shelf.reserve("bob", &["pi-1"]).await.unwrap();
}

#[tokio::test]
async fn the_database_itself_refuses_overlapping_holds() {
    let shelf = Shelf::with_nodes(1).await;
    shelf.reserve("ann", &["pi-1"]).await.unwrap();
    // As a bug in the program above would do it.
    let file = shelf.directory.path().join("store.sqlite");
    let insert =
        "INSERT INTO holds (reservation_id, node_id, from_ms, until_ms) VALUES (1, 1, 0, 9999999999999)";
    let refused = piseduce_tests::process::run("sqlite3", &[&file.to_string_lossy(), insert]).unwrap_err();
    assert!(refused.to_string().contains("holds overlap"), "{refused:#}");
}

#[tokio::test]
async fn an_import_that_contradicts_the_rack_changes_nothing() {
    let shelf = Shelf::with_nodes(2).await;
    let same_short = NodeAttributes { serial: Serial(0x9000_0000_0000_0001), ..node(3, 0) };
    let same_mac = NodeAttributes { mac: node(1, 0).mac, ..node(3, 33) };
    let same_port = NodeAttributes { port: "1".into(), ..node(3, 33) };
    let no_switch = NodeAttributes { switch: "sw9".into(), ..node(3, 33) };
    for (wrong, expected) in [
        (same_short, "serial number `9000000000000001` is in use: node pi-1 has the same last 8 digits"),
        (same_mac, "MAC address `dc:a6:32:00:00:01` is in use: node pi-1 has it"),
        (same_port, "port `1 of switch sw` is in use: node pi-1 is plugged there"),
        (no_switch, "there is no switch `sw9`"),
    ] {
        assert_eq!(conflict(shelf.import(vec![node(4, 44), wrong]).await), expected);
        assert_eq!(shelf.store.nodes().await.unwrap().len(), 2);
    }
    shelf.reserve("ann", &["pi-1"]).await.unwrap();
    let moved = NodeAttributes { port: "9".into(), ..node(1, 1) };
    assert!(conflict(shelf.import(vec![moved]).await).contains("deployment 1; destroy it"));
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_left_alone() {
    let shelf = Shelf::with_nodes(1).await;
    let file = shelf.directory.path().join("store.sqlite");
    piseduce_tests::process::run("sqlite3", &[&file.to_string_lossy(), "PRAGMA user_version = 99"]).unwrap();
    let error = Store::open(&file).err().unwrap().to_string();
    assert!(error.contains("has version 99, this program knows "), "{error}");
    std::fs::write(&file, "not a database, but long enough to look like one").unwrap();
    assert!(Store::open(&file).is_err());
}

#[tokio::test]
async fn users_are_known_by_their_tokens_and_epochs_only_grow() {
    let shelf = Shelf::with_nodes(0).await;
    assert_eq!(shelf.store.user_of_token("ann").await.unwrap().unwrap().name, "ann");
    assert_eq!(shelf.store.user_of_token("eve").await.unwrap(), None);
    let again = User { name: "ann".into(), role: Role::Admin };
    let taken = shelf.store.add_user(again, Token::hash("x"), NOW, Actor::Machine, || Ok(())).await;
    assert!(matches!(taken, Err(StoreError::Conflict(Conflict::Taken { .. }))));
    assert_eq!(shelf.store.begin_epoch().await.unwrap(), 1);
    assert_eq!(shelf.store.begin_epoch().await.unwrap(), 2);
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Shelf {
    /// A deployment of ann's on `node` that has printed something, and is over when `ends` says so.
    async fn deployed(&self, node: &str, ends: bool) -> DeploymentId {
        let opened = self.reserve("ann", &[node]).await.unwrap();
        let id = opened.deployments[0].deployment.id;
        self.store.keep_output(id, Run(1), 0, b"done".into(), NOW).await.unwrap();
        if ends {
            let mut bench = Bench::open();
            bench.event(&Event::Asked(Request::Cancel));
            self.save(&opened, bench.live.deployment.clone()).await;
        }
        id
    }

    async fn prune(&self, days: u32) -> Pruned {
        self.store.prune(Retention::default(), NOW + DAY * days).await.unwrap()
    }

    fn count(&self, table: &str) -> String {
        let file = self.directory.path().join("store.sqlite");
        let query = format!("SELECT count(*) FROM {table}");
        piseduce_tests::process::run("sqlite3", &[&file.to_string_lossy(), &query]).unwrap().trim().to_owned()
    }
}

#[tokio::test]
async fn what_is_over_for_long_is_forgotten_and_nothing_that_lives() {
    let shelf = Shelf::with_nodes(2).await;
    let live = shelf.deployed("pi-2", false).await;
    for _ in 0..50 {
        shelf.deployed("pi-1", true).await;
    }
    assert_eq!(shelf.prune(89).await, Pruned::default());
    assert_eq!(shelf.prune(91).await, Pruned { outputs: 50, ..Pruned::default() });
    assert_eq!(shelf.prune(364).await, Pruned::default());
    let pruned = shelf.prune(366).await;
    assert_eq!((pruned.deployments, pruned.reservations), (50, 50));
    assert!(pruned.notes > 0, "users added and racks imported a year ago");
    // What ann still holds is whole, however old.
    assert_eq!(shelf.store.journal_of(live).await.unwrap().len(), 1);
    assert!(shelf.store.output(live, Run(1)).await.unwrap().is_some());
    assert_eq!(shelf.store.live_deployments().await.unwrap().len(), 1);
    for table in ["deployments", "journal", "script_outputs", "holds", "reservations"] {
        assert_eq!(shelf.count(table), "1", "{table}");
    }
    assert_eq!(shelf.prune(3660).await, Pruned::default());
}

#[tokio::test]
async fn the_file_becomes_shorter_when_much_is_forgotten_and_keeps_room_for_what_comes() {
    let shelf = Shelf::with_nodes(1).await;
    let id = shelf.deployed("pi-1", true).await;
    for run in 2..=300 {
        shelf.store.keep_output(id, Run(run), 0, vec![7; 64 << 10], NOW).await.unwrap();
    }
    let pruned = shelf.prune(91).await;
    assert_eq!(pruned.outputs, 300);
    let file = shelf.directory.path().join("store.sqlite");
    drop(shelf.store);
    // Who closes the store last brings what stands in its log into the file, and removes the log.
    let log = file.with_extension("sqlite-wal");
    piseduce_tests::wait::wait_for("the store to close", 20.0, || log.exists(), |exists| !exists);
    // It is gone a moment before the file's lock is.
    let question = ["-cmd", ".timeout 20000", &file.to_string_lossy(), "PRAGMA quick_check"];
    assert_eq!(piseduce_tests::process::run("sqlite3", &question).unwrap().trim(), "ok");
    let short = file.metadata().unwrap().len();
    assert!(short < 8 << 20, "{short} bytes");
    assert!(short >= 4 << 20, "{short} bytes: free pages are kept for what comes next");
    assert!(pruned.pages > 3000, "{pruned:?}");
}

#[tokio::test]
async fn the_house_is_kept_when_the_calendar_is_trusted_and_only_then() {
    let shelf = Shelf::with_nodes(1).await;
    let id = shelf.deployed("pi-1", true).await;
    let library = std::sync::Arc::new(
        Library::open(&shelf.directory.path().join("images"), Limits::default()).unwrap(),
    );
    let soon = Retention { journal: Duration::from_secs(1), output: Duration::from_secs(1) };
    for trust in [false, true] {
        let asked = std::cell::Cell::new(false);
        let is_trusted = || {
            asked.set(true);
            trust
        };
        let looked = async {
            while !asked.get() {
                tokio::task::yield_now().await;
            }
            // What the keeper asked of the store stands before this question.
            while trust && shelf.store.deployment(id).await.unwrap().is_some() {}
        };
        tokio::select! {
            () = housekeeping::keep(shelf.store.clone(), library.clone(), soon, is_trusted) => {}
            () = looked => {}
        }
        assert_eq!(shelf.store.deployment(id).await.unwrap().is_none(), trust);
    }
}

#[tokio::test]
async fn an_image_is_pinned_by_environments_and_live_deployments_and_a_removal_says_by_whom() {
    let shelf = Shelf::with_nodes(1).await;
    let opened = shelf.reserve("ann", &["pi-1"]).await.unwrap();
    let mut bench = Bench::open();
    bench.step(happy_path()[0]);
    let saved = shelf.save(&opened, bench.live.deployment.clone()).await;
    let image = saved.form.as_ref().unwrap().manifest;
    for name in ["lab-1", "lab-2"] {
        let environment = Environment {
            name: name.into(),
            manifest: image,
            image_bytes: 4096,
            family: "debian".into(),
            family_evidence: String::new(),
            architecture: None,
            added: NOW,
        };
        shelf.store.add_environment(environment, Actor::Machine).await.unwrap();
    }
    let remove = |name: &str| shelf.store.remove_environment(name.into(), NOW, Actor::Machine);
    let both = ImageUsers { deployments: 1, environments: vec!["lab-2".into()] };
    assert_eq!(remove("lab-1").await.unwrap(), both);
    assert_eq!(conflict(remove("lab-1").await), "there is no environment `lab-1`");
    assert_eq!(remove("lab-2").await.unwrap(), ImageUsers { deployments: 1, environments: vec![] });
    assert_eq!(shelf.store.pinned_images().await.unwrap(), [image].into());
    let ended =
        Deployment { condition: Condition::Ended(Cause::new(CauseKind::Cancelled, "by ann")), ..saved };
    shelf.save(&opened, ended).await;
    assert!(shelf.store.pinned_images().await.unwrap().is_empty());
}
