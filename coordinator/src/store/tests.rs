//! No statement is compiled more than once, whatever its parameters are.
#![expect(
    unsafe_code,
    reason = "no library lists a connection's statements; each call states why it is right"
)]

use super::deployments::Change;
use super::journal::Actor;
use super::logs::{AgentWord, AgentWords, ConsoleEnd};
use super::people::pinned_images;
use super::turn::{self, TurnRecord};
use super::{deployments, inventory, logs, meta, schema, switches};
use crate::clock::UnixMs;
use crate::domain::card::{CardDid, CardNote};
use crate::domain::deployment::{Condition, Deployment, Rest, Resting};
use crate::domain::node::NodeId;
use piseduce_protocol::cause::{Cause, CauseKind};
use piseduce_protocol::id::{BootNumber, DeploymentId, Run, Seq, Ticket};
use rusqlite::{Connection, ffi};
use std::ffi::CStr;

const NODES: u64 = 40;

fn filled(connection: &Connection) {
    let fill = "INSERT INTO users (name, role, token_hash, created_ms) VALUES ('ann', 'user', x'00', 0);
        INSERT INTO switches (id, name, driver, off_time_ms, protected) VALUES (1, 'sw', '\"manual\"', 0, '[]');
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
          INSERT INTO nodes (id, name, serial, serial_short, mac, model, switch_id, port)
          SELECT i, 'pi-' || i, printf('%016x', i), printf('%08x', i), 'mac' || i, 'Raspberry Pi 4', 1, i FROM n;
        INSERT INTO reservations VALUES (1, 'ann', 0, 9);
        INSERT INTO deployments (id, node_id, reservation_id, form_until_ms, run, seq, boot, registered, attempt,
            resumed, restarts, sent_back, script_started, owes_now, process, state, since_ms)
          SELECT id, id, 1, 9, 1, 0, 0, 'initialized', 0, 0, 0, 0, 0, 0, 'deploy', 'initialized', 0 FROM nodes;";
    connection.execute_batch(fill).unwrap();
}

/// What a turn may bring for one deployment, with other values each time.
fn record(number: u64, state: Resting) -> TurnRecord {
    let (id, at) = (DeploymentId(number), UnixMs(number * 1000));
    let mut deployment = Deployment::open(id, BootNumber(u32::try_from(number).unwrap()), None);
    let cause = number.is_multiple_of(2).then(|| Cause::new(CauseKind::CardError, "at 7"));
    deployment.condition = Condition::Resting(Rest { state, cause });
    let ticket = Ticket { deployment: id, run: Run(1), seq: Seq(3) };
    let did = CardDid::Wrote { ticket, bytes: number, busy_ms: number };
    let lines = vec![AgentWord { boot_us: number, at, text: "x".repeat(1000) }];
    let detail = number.is_multiple_of(3).then(|| "detail".into());
    TurnRecord {
        at,
        changes: vec![Change { deployment, node: NodeId(number), actor: Actor::Machine, detail }],
        words: vec![AgentWords {
            deployment: id,
            run: Run(1),
            boot: BootNumber(1),
            at,
            hello: Some("{}".into()),
            lines,
        }],
        cards: vec![CardNote { cid: number.to_string(), bytes: number, node: "pi".into(), at, did }],
        consoles: vec![ConsoleEnd { deployment: id, run: Run(1), said: vec![1], at }],
        notes: vec![(Actor::Machine, "test", number.to_string())],
        clock: Some(meta::ClockKept { latest: at, ..meta::ClockKept::default() }),
        ..TurnRecord::default()
    }
}

/// Each statement that is kept, how often it ran and how often it was compiled again.
fn statements(connection: &Connection) -> Vec<(String, i32, i32)> {
    let mut found = Vec::new();
    // SAFETY: the connection is open and used by this thread alone; null asks for its first statement.
    let mut statement = unsafe { ffi::sqlite3_next_stmt(connection.handle(), std::ptr::null_mut()) };
    while !statement.is_null() {
        // SAFETY: the statement is one of an open connection, whose text lives as long as it.
        let (text, status) = unsafe {
            let text = CStr::from_ptr(ffi::sqlite3_sql(statement)).to_string_lossy().into_owned();
            (text, |what| ffi::sqlite3_stmt_status(statement, what, 0))
        };
        found.push((text, status(ffi::SQLITE_STMTSTATUS_RUN), status(ffi::SQLITE_STMTSTATUS_REPREPARE)));
        // SAFETY: as above.
        statement = unsafe { ffi::sqlite3_next_stmt(connection.handle(), statement) };
    }
    found
}

#[test]
fn no_statement_is_compiled_twice() {
    let directory = tempfile::tempdir().unwrap();
    let connection = schema::open(&directory.path().join("store.sqlite")).unwrap();
    filled(&connection);
    // What statistics say about a table would be looked up for each new value.
    connection.execute_batch("ANALYZE; BEGIN").unwrap();
    for (limit, state) in [(5, Resting::Failed), (6, Resting::Deployed), (7, Resting::Lost)] {
        for number in 1..=NODES {
            turn::keep(&connection, &record(number, state)).unwrap();
            deployments::select(&connection, "WHERE deployments.id = ?", Some(number)).unwrap();
        }
        deployments::select(&connection, "ORDER BY deployments.id DESC LIMIT ?", Some(limit)).unwrap();
        deployments::select(&connection, "WHERE state <> 'ended' ORDER BY deployments.id", None).unwrap();
        inventory::all_nodes(&connection).unwrap();
        switches::all(&connection).unwrap();
        pinned_images(&connection).unwrap();
        logs::last_hellos(&connection).unwrap();
    }
    let found = statements(&connection);
    assert!(found.len() > 15, "{found:#?}");
    let again: Vec<_> = found.iter().filter(|(_, _, compiled_again)| *compiled_again > 0).collect();
    assert!(again.is_empty(), "{again:#?}");
    // A statement that was compiled anew for each use would be here once, having run once.
    let busy = found.iter().filter(|(_, runs, _)| *runs >= 3 * i32::try_from(NODES).unwrap()).count();
    assert!(busy >= 8, "{found:#?}");
}
