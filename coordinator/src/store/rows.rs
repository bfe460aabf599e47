//! A deployment as a row and back: by hand, once each way. State names and phases are text, so that a
//! person with `sqlite3` can read what happened.

use super::boot_evidence;
use super::schema::StoreError;
use crate::domain::deployment::{
    Active, Condition, Deployment, Evidence, Form, Owed, Phase, Purpose, Rest, Resting, Then,
};
use piseduce_protocol::cause::{Cause, CauseKind, CauseName};
use piseduce_protocol::command::PartSize;
use piseduce_protocol::id::{BootNumber, DeploymentId, Hash, Run, Seq};
use piseduce_protocol::report::KernelId;
use piseduce_protocol::state::{Process, State};
use rusqlite::{Connection, Params, Row};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Every row of a query, each made into a value.
pub(super) fn all<T>(
    connection: &Connection,
    query: &str,
    parameters: impl Params,
    make: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(query)?;
    let mut found = statement.query(parameters)?;
    let mut values = Vec::new();
    while let Some(row) = found.next()? {
        values.push(make(row)?);
    }
    Ok(values)
}

/// A column of JSON.
pub(super) fn json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    text: String,
) -> Result<T, StoreError> {
    serde_json::from_str(&text).map_err(|_| StoreError::Row { what, found: text })
}

/// The columns of a deployment's condition.
pub(super) struct ConditionColumns {
    pub(super) process: &'static str,
    pub(super) state: &'static str,
    pub(super) phase: Option<&'static str>,
    pub(super) cause_name: Option<String>,
    pub(super) cause_seen: Option<String>,
}

/// The phases by name; those that wait for the agent to stop say what follows.
const PHASES: [(&str, Phase); 5] = [
    ("work", Phase::Work),
    ("leaving", Phase::Leaving),
    ("off", Phase::Off),
    ("admission", Phase::Admission),
    ("on", Phase::On),
];
const STOPPING_RESUME: &str = "stopping, then resume";
const STOPPING_AGAIN: &str = "stopping, then deploy again";
const STOPPING_DESTROY: &str = "stopping, then destroy";

pub(super) fn condition_columns(deployment: &Deployment) -> ConditionColumns {
    let phase = deployment.active().map(|active| match &active.phase {
        Phase::Stopping(Then::Resume) => STOPPING_RESUME,
        Phase::Stopping(Then::Again) => STOPPING_AGAIN,
        Phase::Stopping(Then::Destroy(_)) => STOPPING_DESTROY,
        plain => {
            PHASES.iter().find_map(|(name, phase)| (phase == plain).then_some(*name)).expect("listed above")
        }
    });
    let stopping = deployment.active().and_then(|active| match &active.phase {
        Phase::Stopping(Then::Destroy(cause)) => Some(cause),
        _ => None,
    });
    let cause = stopping.or_else(|| deployment.cause());
    ConditionColumns {
        process: deployment.process().name(),
        state: deployment.state().name(),
        phase,
        cause_name: cause.map(|cause| cause.name.as_str().to_owned()),
        cause_seen: cause.map(|cause| cause.seen.clone()),
    }
}

fn impossible(what: &'static str, found: impl Into<String>) -> StoreError {
    StoreError::Row { what, found: found.into() }
}

/// A name that this program wrote.
pub(super) fn named<T: FromStr>(what: &'static str, text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| impossible(what, text))
}

/// A hash that this program wrote.
pub(super) fn hash(bytes: &[u8]) -> Result<Hash, StoreError> {
    bytes.try_into().map(Hash).map_err(|_| impossible("hash", format!("{} bytes", bytes.len())))
}

pub(super) fn cause(row: &Row<'_>) -> Result<Option<Cause>, StoreError> {
    let name: Option<String> = row.get("cause_name")?;
    let seen: Option<String> = row.get("cause_seen")?;
    Ok(name.map(|name| Cause { name: CauseName::from(name.as_str()), seen: seen.unwrap_or_default() }))
}

/// The deployment in a row of the table.
pub(super) fn deployment(row: &Row<'_>) -> Result<Deployment, StoreError> {
    let registered: String = row.get("registered")?;
    let evidence: Option<String> = row.get("evidence")?;
    let form: Option<String> = row.get("form")?;
    let kernel: Option<String> = row.get("kernel")?;
    Ok(Deployment {
        id: DeploymentId(row.get("id")?),
        run: Run(row.get("run")?),
        seq: Seq(row.get("seq")?),
        boot: BootNumber(row.get("boot")?),
        form: form.map(|text| form_from(&text).map(std::sync::Arc::new)).transpose()?,
        registered: named("state", &registered)?,
        attempt: row.get("attempt")?,
        resumed: row.get("resumed")?,
        restarts: row.get("restarts")?,
        sent_back: row.get("sent_back")?,
        kernel: kernel.map(KernelId),
        script_started: row.get("script_started")?,
        evidence: evidence.map(|name| evidence_from(&name)).transpose()?,
        token: boot_evidence::token(row)?,
        boot_evidence: boot_evidence::read(row)?,
        owes: owes(row)?,
        condition: condition(row)?,
    })
}

/// The wipe that a deployment's card owes.
fn owes(row: &Row<'_>) -> Result<Option<Owed>, StoreError> {
    let wipe: Option<String> = row.get("owes")?;
    let Some(wipe) = wipe else { return Ok(None) };
    Ok(Some(Owed { wipe: named("wipe", &wipe)?, due: row.get("owes_now")? }))
}

fn evidence_from(name: &str) -> Result<Evidence, StoreError> {
    let known = [Evidence::OwnWord, Evidence::Unproven].into_iter().find(|evidence| evidence.name() == name);
    known.ok_or_else(|| impossible("evidence", name))
}

fn condition(row: &Row<'_>) -> Result<Condition, StoreError> {
    let state: String = row.get("state")?;
    let state: State = named("state", &state)?;
    let cause = cause(row)?;
    let rest = |state| Ok(Condition::Resting(Rest { state, cause: cause.clone() }));
    let needed = || cause.clone().unwrap_or_else(|| Cause::new(CauseKind::Destroyed, ""));
    match state {
        State::Initialized => Ok(Condition::Open),
        State::Deployed => rest(Resting::Deployed),
        State::Lost => rest(Resting::Lost),
        State::Failed => rest(Resting::Failed),
        State::Quarantined => rest(Resting::Quarantined),
        State::Ended => Ok(Condition::Ended(needed())),
        state => {
            let process: String = row.get("process")?;
            let purpose = match named("process", &process)? {
                Process::Deploy => Purpose::Deploy,
                Process::Reboot => Purpose::Reboot,
                Process::Destroy => Purpose::Destroy(needed()),
                Process::Halt => Purpose::Halt(needed()),
                Process::Test => Purpose::Test,
                Process::Isolate => Purpose::Isolate(needed()),
            };
            let phase: Option<String> = row.get("phase")?;
            let phase = phase_from(&phase.unwrap_or_default(), needed)?;
            Ok(Condition::Active(Active { purpose, state, phase }))
        }
    }
}

fn phase_from(name: &str, cause: impl FnOnce() -> Cause) -> Result<Phase, StoreError> {
    match name {
        STOPPING_RESUME => Ok(Phase::Stopping(Then::Resume)),
        STOPPING_AGAIN => Ok(Phase::Stopping(Then::Again)),
        STOPPING_DESTROY => Ok(Phase::Stopping(Then::Destroy(cause()))),
        plain => {
            let known = PHASES.iter().find(|(known, _)| *known == plain);
            known.map(|(_, phase)| phase.clone()).ok_or_else(|| impossible("phase", plain))
        }
    }
}

/// A form in its column.
#[derive(Serialize, Deserialize)]
struct FormColumn {
    environment: String,
    manifest: Hash,
    reports: bool,
    part_size: PartSize,
    password_hash: Option<String>,
    ssh_keys: Vec<String>,
    script: Option<Vec<u8>>,
    rerun_script: bool,
    script_seconds: u32,
}

pub(super) fn form_column(form: &Form) -> String {
    let column = FormColumn {
        environment: form.environment.clone(),
        manifest: form.manifest,
        reports: form.reports,
        part_size: form.part_size,
        password_hash: form.password_hash.clone(),
        ssh_keys: form.ssh_keys.clone(),
        script: form.script.clone(),
        rerun_script: form.rerun_script,
        script_seconds: form.script_seconds,
    };
    serde_json::to_string(&column).expect("a form has text keys only")
}

fn form_from(text: &str) -> Result<Form, StoreError> {
    let column: FormColumn =
        serde_json::from_str(text).map_err(|error| impossible("form", error.to_string()))?;
    Ok(Form {
        environment: column.environment,
        manifest: column.manifest,
        reports: column.reports,
        part_size: column.part_size,
        password_hash: column.password_hash,
        ssh_keys: column.ssh_keys,
        script: column.script,
        rerun_script: column.rerun_script,
        script_seconds: column.script_seconds,
    })
}
