//! Reservations and deployments: who holds what, and the rows that the machine's decisions become.

use super::journal::{self, Actor, JournalId};
use super::schema::{Conflict, StoreError};
use super::{Store, TurnRecord, boot_evidence, inventory, lifecycle, rows};
use crate::clock::UnixMs;
use crate::domain::deployment::{Condition, Deployment};
use crate::domain::node::{Node, NodeId};
use crate::domain::reservation::{Reservation, ReservationId};
use piseduce_protocol::cause::CauseKind;
use piseduce_protocol::id::{BootNumber, DeploymentId};
use piseduce_protocol::state::State;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use std::collections::HashMap;
use std::sync::Arc;

/// A deployment with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDeployment {
    /// The deployment.
    pub deployment: Deployment,
    /// Its node.
    pub node: Node,
    /// The user who has it.
    pub owner: String,
    /// The reservation that it stands on.
    pub reservation: ReservationId,
    /// Until when its form may stay open.
    pub form_until: UnixMs,
    /// When the reservation ends.
    pub until: UnixMs,
    /// When the present state was entered.
    pub since: UnixMs,
    /// The last journal entry about it.
    pub journal: JournalId,
    /// The public SSH host key that its card has, or gets, as OpenSSH writes it; none before that is known.
    pub host_key: Option<String>,
}

/// What a reservation brought.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The reservation.
    pub reservation: Reservation,
    /// One deployment a node, form open.
    pub deployments: Vec<StoredDeployment>,
}

/// A deployment that the machine changed.
#[derive(Clone, Debug)]
pub struct Change {
    /// As it is now.
    pub deployment: Deployment,
    /// Its node.
    pub node: NodeId,
    /// Who changed it.
    pub actor: Actor,
    /// What else the journal should say.
    pub detail: Option<String>,
}

/// What saving a change brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The journal entry.
    pub journal: JournalId,
    /// When the present state was entered.
    pub since: UnixMs,
}

/// What a user asks to hold.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The user's name.
    pub owner: String,
    /// The nodes' names.
    pub nodes: Vec<String>,
    /// From when on.
    pub from: UnixMs,
    /// Until when.
    pub until: UnixMs,
    /// Until when the forms may stay open.
    pub form_until: UnixMs,
    /// Whether nodes that are out of service will do, as for a test.
    pub even_out: bool,
}

const STORED: &str = "SELECT deployments.*, reservations.owner, reservations.until_ms,
    (SELECT max(id) FROM journal WHERE deployment_id = deployments.id) AS journal,
    (SELECT host_key FROM card_proofs WHERE deployment_id = deployments.id AND card_proofs.run = deployments.run)
      AS host_key
  FROM deployments JOIN reservations ON reservations.id = reservation_id";

/// What follows `STORED`, with one parameter or none.
pub(super) fn select(
    connection: &Connection,
    which: &str,
    value: Option<u64>,
) -> Result<Vec<StoredDeployment>, StoreError> {
    let row = |row: &Row<'_>| {
        Ok(DeploymentRow {
            deployment: rows::deployment(row)?,
            node: NodeId(row.get("node_id")?),
            owner: row.get("owner")?,
            reservation: ReservationId(row.get("reservation_id")?),
            form_until: UnixMs(row.get("form_until_ms")?),
            until: UnixMs(row.get("until_ms")?),
            since: UnixMs(row.get("since_ms")?),
            journal: JournalId(row.get::<_, Option<u64>>("journal")?.unwrap_or_default()),
            host_key: row.get("host_key")?,
        })
    };
    let query = format!("{STORED} {which}");
    let found = rows::all(connection, &query, rusqlite::params_from_iter(value), row)?;
    let nodes = inventory::nodes_by_id(connection, found.iter().map(|row| row.node))?;
    found.into_iter().map(|row| row.with(&nodes)).collect()
}

/// A deployment whose node is still to be read.
struct DeploymentRow {
    deployment: Deployment,
    node: NodeId,
    owner: String,
    reservation: ReservationId,
    form_until: UnixMs,
    until: UnixMs,
    since: UnixMs,
    journal: JournalId,
    host_key: Option<String>,
}

impl DeploymentRow {
    fn with(self, nodes: &HashMap<NodeId, Node>) -> Result<StoredDeployment, StoreError> {
        let missing = || StoreError::Row { what: "node number", found: self.node.0.to_string() };
        Ok(StoredDeployment {
            node: nodes.get(&self.node).ok_or_else(missing)?.clone(),
            deployment: self.deployment,
            owner: self.owner,
            reservation: self.reservation,
            form_until: self.form_until,
            until: self.until,
            since: self.since,
            journal: self.journal,
            host_key: self.host_key,
        })
    }
}

/// Refuses when somebody holds the node in that time, or its last deployment is not over.
fn check_free(connection: &Connection, node: &Node, wanted: &Wanted) -> Result<(), StoreError> {
    let held = "SELECT owner, reservations.until_ms, state FROM deployments
        JOIN reservations ON reservations.id = reservation_id WHERE node_id = ?1 AND state <> 'ended'
      UNION ALL
      SELECT owner, holds.until_ms, '' FROM holds JOIN reservations ON reservations.id = reservation_id
        WHERE node_id = ?1 AND ended_ms IS NULL AND holds.from_ms < ?3 AND holds.until_ms > ?2";
    let holder: Option<(String, u64, String)> = connection
        .prepare_cached(held)?
        .query_row((node.id.0, wanted.from.0, wanted.until.0), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((owner, until_ms, state)) = holder else { return Ok(()) };
    let node = node.attributes.name.clone();
    // Nobody holds what is in quarantine: whoever had it last does not get it either.
    Err(if state == State::Quarantined.name() {
        Conflict::Quarantined { node }.into()
    } else if owner == wanted.owner {
        Conflict::Yours { node, until_ms }.into()
    } else {
        Conflict::Held { node, owner, until_ms }.into()
    })
}

/// The nodes that are wanted, if all of them can be had.
fn all_free(connection: &Connection, wanted: &Wanted) -> Result<Vec<Node>, StoreError> {
    let find = |name: &String| -> Result<Node, StoreError> {
        let node = inventory::node_by_name(connection, name)?
            .ok_or_else(|| Conflict::Missing { what: "node", name: name.clone() })?;
        check_free(connection, &node, wanted)?;
        if !wanted.even_out {
            lifecycle::check_in_service(&node)?;
        }
        Ok(node)
    };
    let (mut nodes, mut conflicts) = (Vec::new(), Vec::new());
    for name in &wanted.nodes {
        match find(name) {
            Ok(node) => nodes.push(node),
            Err(StoreError::Conflict(conflict)) => conflicts.push(conflict),
            Err(other) => return Err(other),
        }
    }
    match conflicts.len() {
        0 => Ok(nodes),
        1 => Err(conflicts.remove(0).into()),
        _ => Err(Conflict::Several(conflicts).into()),
    }
}

fn open(connection: &Connection, wanted: &Wanted) -> Result<Opened, StoreError> {
    let nodes = all_free(connection, wanted)?;
    let put = "INSERT INTO reservations (owner, from_ms, until_ms) VALUES (?, ?, ?)";
    connection.prepare_cached(put)?.execute((&wanted.owner, wanted.from.0, wanted.until.0))?;
    let reservation = ReservationId(connection.last_insert_rowid().unsigned_abs());
    let actor = Actor::User(wanted.owner.clone());
    let mut deployments = Vec::new();
    for node in nodes {
        let put = "INSERT INTO holds (reservation_id, node_id, from_ms, until_ms) VALUES (?, ?, ?, ?)";
        let row = (reservation.0, node.id.0, wanted.from.0, wanted.until.0);
        connection.prepare_cached(put)?.execute(row)?;
        let mut deployment = Deployment::open(DeploymentId(0), node.boot, node.owed(&wanted.owner));
        deployment.id = insert(connection, &deployment, node.id, reservation, wanted)?;
        let journal = journal::write(connection, wanted.from, &actor, node.id, &deployment, None)?;
        deployments.push(StoredDeployment {
            deployment,
            node,
            owner: wanted.owner.clone(),
            reservation,
            form_until: wanted.form_until,
            until: wanted.until,
            since: wanted.from,
            journal,
            host_key: None,
        });
    }
    let reservation = Reservation {
        id: reservation,
        owner: wanted.owner.clone(),
        from: wanted.from,
        until: wanted.until,
        nodes: wanted.nodes.clone(),
    };
    Ok(Opened { reservation, deployments })
}

fn insert(
    connection: &Connection,
    deployment: &Deployment,
    node: NodeId,
    reservation: ReservationId,
    wanted: &Wanted,
) -> Result<DeploymentId, StoreError> {
    let put =
        "INSERT INTO deployments (node_id, reservation_id, form_until_ms, run, seq, boot, registered, attempt,
           resumed, restarts, sent_back, script_started, owes, owes_now, process, state, since_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, ?, ?, ?, ?, ?)";
    connection.prepare_cached(put)?.execute((
        node.0,
        reservation.0,
        wanted.form_until.0,
        deployment.run.0,
        deployment.seq.0,
        deployment.boot.0,
        deployment.registered.name(),
        deployment.owes.map(|owed| owed.wipe.name()),
        deployment.owes.is_some_and(|owed| owed.due),
        deployment.process().name(),
        deployment.state().name(),
        wanted.from.0,
    ))?;
    Ok(DeploymentId(connection.last_insert_rowid().unsigned_abs()))
}

pub(super) fn save(connection: &Connection, change: &Change, at: UnixMs) -> Result<Saved, StoreError> {
    let deployment = &change.deployment;
    let columns = rows::condition_columns(deployment);
    let since: u64 = connection
        .prepare_cached(
            "UPDATE deployments SET form = :form, run = :run, seq = :seq, boot = :boot, registered = :registered,
               attempt = :attempt, resumed = :resumed, restarts = :restarts, sent_back = :sent_back,
               kernel = :kernel, script_started = :script_started, evidence = :evidence,
               token_boot = :token_boot, token_address = :token_address, boot_evidence = :boot_evidence, owes = :owes,
               owes_now = :owes_now, phase = :phase,
               cause_name = :cause_name, cause_seen = :cause_seen,
               since_ms = CASE WHEN state = :state AND process = :process THEN since_ms ELSE :at END,
               process = :process, state = :state
             WHERE id = :id RETURNING since_ms",
        )?
        .query_row(
            named_params! {
                ":form": deployment.form.as_deref().map(rows::form_column),
                ":run": deployment.run.0,
                ":seq": deployment.seq.0,
                ":boot": deployment.boot.0,
                ":registered": deployment.registered.name(),
                ":attempt": deployment.attempt,
                ":resumed": deployment.resumed,
                ":restarts": deployment.restarts,
                ":sent_back": deployment.sent_back,
                ":token_boot": deployment.token.map(|holder| holder.boot.0),
                ":token_address": deployment.token.map(|holder| holder.address.to_string()),
                ":boot_evidence": boot_evidence::column(&deployment.boot_evidence),
                ":kernel": deployment.kernel.as_ref().map(|kernel| &kernel.0),
                ":script_started": deployment.script_started,
                ":evidence": deployment.evidence.map(crate::domain::deployment::Evidence::name),
                ":owes": deployment.owes.map(|owed| owed.wipe.name()),
                ":owes_now": deployment.owes.is_some_and(|owed| owed.due),
                ":process": columns.process,
                ":state": columns.state,
                ":phase": columns.phase,
                ":cause_name": columns.cause_name,
                ":cause_seen": columns.cause_seen,
                ":at": at.0,
                ":id": deployment.id.0,
            },
            |row| row.get(0),
        )?;
    give_boot(connection, change.node, deployment.boot)?;
    if matches!(deployment.condition, Condition::Ended(_)) {
        free(connection, change, at)?;
    }
    let detail = change.detail.as_deref();
    let journal = journal::write(connection, at, &change.actor, change.node, deployment, detail)?;
    Ok(Saved { journal, since: UnixMs(since) })
}

/// A node, and its board, were given this boot number.
fn give_boot(connection: &Connection, node: NodeId, boot: BootNumber) -> Result<(), StoreError> {
    let update = "UPDATE nodes SET boot = ?1 WHERE id = ?2 AND boot < ?1";
    if connection.prepare_cached(update)?.execute((boot.0, node.0))? > 0 {
        let put = "INSERT INTO boards (serial, boot) SELECT serial, ?1 FROM nodes WHERE id = ?2
            ON CONFLICT DO UPDATE SET boot = max(boot, excluded.boot)";
        connection.prepare_cached(put)?.execute((boot.0, node.0))?;
    }
    Ok(())
}

/// The node of an ended deployment is nobody's any more, and owes what the deployment left undone.
fn free(connection: &Connection, change: &Change, at: UnixMs) -> Result<(), StoreError> {
    let Change { deployment, node, .. } = change;
    let owner = "SELECT owner FROM reservations JOIN deployments ON reservations.id = reservation_id
        WHERE deployments.id = ?";
    let owner: String = connection.prepare_cached(owner)?.query_row([deployment.id.0], |row| row.get(0))?;
    let owes = inventory::node_by_id(connection, *node)?.owes_after(deployment, &owner);
    inventory::set_owes(connection, *node, owes.as_ref())?;
    let end = "UPDATE holds SET ended_ms = ?1 FROM deployments
        WHERE deployments.id = ?2 AND holds.reservation_id = deployments.reservation_id
          AND holds.node_id = deployments.node_id AND holds.ended_ms IS NULL";
    connection.prepare_cached(end)?.execute((at.0, deployment.id.0))?;
    // In the same transaction, so that nobody gets a node that came out of its quarantine only to be retired.
    if deployment.cause().is_some_and(|cause| cause.is(CauseKind::Retired)) {
        lifecycle::end(connection, *node, at, &change.actor)?;
    }
    Ok(())
}

impl Store {
    /// Holds all the nodes for a user, or none, and opens a deployment on each.
    ///
    /// # Errors
    /// [`Conflict::Held`] naming who has a node until when, [`Conflict::Missing`].
    pub async fn reserve(&self, wanted: Wanted) -> Result<Opened, StoreError> {
        self.write(move |connection| open(connection, &wanted)).await
    }

    /// Saves what the machine changed, each with its journal entry, all in one transaction.
    ///
    /// # Errors
    /// When the store fails; then nothing is saved.
    pub async fn save(&self, changes: Vec<Change>, at: UnixMs) -> Result<Vec<Saved>, StoreError> {
        self.keep_turn(Arc::new(TurnRecord { at, changes, ..TurnRecord::default() })).await
    }

    /// Every deployment that has not ended.
    ///
    /// # Errors
    /// When the store fails or holds an impossible row.
    pub async fn live_deployments(&self) -> Result<Vec<StoredDeployment>, StoreError> {
        self.select("WHERE state <> 'ended' ORDER BY deployments.id", None).await
    }

    /// The latest deployments, ended ones included, newest first.
    ///
    /// # Errors
    /// When the store fails or holds an impossible row.
    pub async fn latest_deployments(&self, count: u32) -> Result<Vec<StoredDeployment>, StoreError> {
        self.select("ORDER BY deployments.id DESC LIMIT ?", Some(count.into())).await
    }

    /// One deployment, ended or not.
    ///
    /// # Errors
    /// When the store fails or holds an impossible row.
    pub async fn deployment(&self, id: DeploymentId) -> Result<Option<StoredDeployment>, StoreError> {
        Ok(self.select("WHERE deployments.id = ?", Some(id.0)).await?.pop())
    }

    async fn select(
        &self,
        which: &'static str,
        value: Option<u64>,
    ) -> Result<Vec<StoredDeployment>, StoreError> {
        self.read(move |connection| select(connection, which, value)).await
    }
}
