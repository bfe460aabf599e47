//! What belongs to the site key: which one the store was used with, how far its numbers have come, and what the cards of
//! runs know by it. See `data_directory.rs` for how a store that went back is noticed.

use super::schema::StoreError;
use super::{Store, meta, rows};
use piseduce_protocol::id::{DeploymentId, Hash, Run};
use rusqlite::{Connection, OptionalExtension as _, Row};

/// What the card of a run knows. Public, or hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardProofs {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The run.
    pub run: Run,
    /// The public SSH host key, as OpenSSH writes it.
    pub host_key: String,
    /// The hash of the token that proves a boot.
    pub booted: Hash,
    /// The hash of the token that proves how the user's script went.
    pub first_boot: Hash,
}

/// How far the numbers of a store have come; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HighWater {
    /// The starts of coordinators.
    pub epoch: u64,
    /// The last journal entry. Each boot number that is given out has one.
    pub journal: u64,
}

/// A store as its site key sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// The site key it was last served with, as a hash.
    pub fingerprint: Option<Hash>,
    /// How far its numbers have come.
    pub high_water: HighWater,
}

pub(super) fn keep_proofs(connection: &Connection, proofs: &CardProofs) -> Result<(), StoreError> {
    let put = "INSERT INTO card_proofs (deployment_id, run, host_key, booted_hash, first_boot_hash)
        VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET host_key = excluded.host_key,
          booted_hash = excluded.booted_hash, first_boot_hash = excluded.first_boot_hash";
    let CardProofs { deployment, run, host_key, booted, first_boot } = proofs;
    let row = (deployment.0, run.0, host_key, booted.0, first_boot.0);
    connection.prepare_cached(put)?.execute(row)?;
    Ok(())
}

fn proofs(row: &Row<'_>) -> Result<CardProofs, StoreError> {
    let hash = |column| rows::hash(&row.get::<_, Vec<u8>>(column)?);
    Ok(CardProofs {
        deployment: DeploymentId(row.get("deployment_id")?),
        run: Run(row.get("run")?),
        host_key: row.get("host_key")?,
        booted: hash("booted_hash")?,
        first_boot: hash("first_boot_hash")?,
    })
}

fn high_water(connection: &Connection) -> Result<HighWater, StoreError> {
    // Entries are forgotten in time; what counts them is not.
    let journal = "SELECT seq FROM sqlite_sequence WHERE name = 'journal'";
    let journal = connection.prepare_cached(journal)?.query_row([], |row| row.get(0)).optional()?;
    Ok(HighWater { epoch: meta::get(connection, meta::EPOCH)?.unwrap_or(0), journal: journal.unwrap_or(0) })
}

fn key_state(connection: &Connection) -> Result<KeyState, StoreError> {
    let query = "SELECT fingerprint FROM site_keys";
    let found = rows::all(connection, query, [], |row| rows::hash(&row.get::<_, Vec<u8>>(0)?))?;
    Ok(KeyState { fingerprint: found.first().copied(), high_water: high_water(connection)? })
}

impl Store {
    /// Which site key the store was served with, and how far its numbers have come.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn key_state(&self) -> Result<KeyState, StoreError> {
        self.read(key_state).await
    }

    /// The store is served with this site key from now on. With another key than before, nothing that was given out
    /// under that one means anything any more but what is in the cards' proofs.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn set_key(&self, fingerprint: Hash) -> Result<(), StoreError> {
        self.record(move |connection| {
            let put = "INSERT OR REPLACE INTO site_keys (id, fingerprint) VALUES (1, ?)";
            connection.prepare_cached(put)?.execute([fingerprint.0])?;
            Ok(())
        })
        .await
    }

    /// What the card of a run knows; none before its configuration is made.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn card_proofs(
        &self,
        deployment: DeploymentId,
        run: Run,
    ) -> Result<Option<CardProofs>, StoreError> {
        let query = "SELECT * FROM card_proofs WHERE deployment_id = ? AND run = ?";
        self.read(move |connection| Ok(rows::all(connection, query, (deployment.0, run.0), proofs)?.pop()))
            .await
    }

    /// Keeps what the cards of these runs know; what is known already stays.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn add_card_proofs(&self, all: Vec<CardProofs>) -> Result<(), StoreError> {
        self.record(move |connection| {
            let known = "SELECT 1 FROM card_proofs WHERE deployment_id = ? AND run = ?";
            for proofs in &all {
                let run = (proofs.deployment.0, proofs.run.0);
                if !connection.prepare_cached(known)?.exists(run)? {
                    keep_proofs(connection, proofs)?;
                }
            }
            Ok(())
        })
        .await
    }
}
