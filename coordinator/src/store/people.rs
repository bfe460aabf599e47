//! Users, and the epoch: what is neither inventory nor deployment.

use super::inventory::live_forms;
use super::journal::{self, Actor};
use super::schema::{Conflict, StoreError};
use super::{Store, meta, rows};
use crate::clock::UnixMs;
use crate::domain::user::{Role, Token, User};
use piseduce_protocol::id::Hash;
use rusqlite::{Connection, Row};
use std::collections::HashSet;
use std::io;

fn user(row: &Row<'_>) -> Result<User, StoreError> {
    let role: String = row.get("role")?;
    let role = Role::from_name(&role).ok_or(StoreError::Row { what: "role", found: role })?;
    Ok(User { name: row.get("name")?, role })
}

fn set_token(connection: &Connection, name: &str, token: Hash) -> Result<(), StoreError> {
    let query = "UPDATE users SET token_hash = ? WHERE name = ? AND removed_ms IS NULL";
    match connection.prepare_cached(query)?.execute((token.0, name))? {
        0 => Err(Conflict::Missing { what: "user", name: name.into() }.into()),
        _ => Ok(()),
    }
}

/// Hands a token over; once, even if the transaction is tried again.
fn show_once(show: &mut Option<impl FnOnce() -> io::Result<()>>) -> Result<(), StoreError> {
    show.take().map_or(Ok(()), |show| show()).map_err(StoreError::NotShown)
}

impl Store {
    /// Adds a user who proves itself by the token with this hash. `show` hands the token over: when it fails, there is no user.
    ///
    /// # Errors
    /// [`Conflict::Taken`] when there is such a user; [`StoreError::NotShown`].
    pub async fn add_user(
        &self,
        user: User,
        token: Hash,
        at: UnixMs,
        actor: Actor,
        show: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        let mut show = Some(show);
        self.write(move |connection| {
            let put = "INSERT INTO users (name, role, token_hash, created_ms) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (name) DO UPDATE SET role = ?2, token_hash = ?3, created_ms = ?4, removed_ms = NULL
                 WHERE removed_ms IS NOT NULL";
            let row = (&user.name, user.role.name(), token.0, at.0);
            if connection.prepare_cached(put)?.execute(row)? == 0 {
                return Err(Conflict::Taken { what: "user", name: user.name.clone() }.into());
            }
            let detail = format!("added {} as {}", user.name, user.role.name());
            journal::note(connection, at, &actor, "user", &detail)?;
            show_once(&mut show)
        })
        .await
    }

    /// Gives a user another token, by which the old one is void. `show` hands it over: when it fails, the old one stays.
    ///
    /// # Errors
    /// [`Conflict::Missing`] when there is no such user; [`StoreError::NotShown`].
    pub async fn renew_token(
        &self,
        name: String,
        token: Hash,
        at: UnixMs,
        actor: Actor,
        show: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        let mut show = Some(show);
        self.write(move |connection| {
            set_token(connection, &name, token)?;
            journal::note(connection, at, &actor, "user", &format!("renewed the token of {name}"))?;
            show_once(&mut show)
        })
        .await
    }

    /// Makes a user's token void; `token` is the hash of one that nobody has.
    ///
    /// # Errors
    /// [`Conflict::Missing`] when there is no such user.
    pub async fn revoke_token(
        &self,
        name: String,
        token: Hash,
        at: UnixMs,
        actor: Actor,
    ) -> Result<(), StoreError> {
        // On a full disk as well: a token that somebody found does not wait for room.
        self.record(move |connection| {
            set_token(connection, &name, token)?;
            journal::note(connection, at, &actor, "user", &format!("revoked the token of {name}"))
        })
        .await
    }

    /// Removes a user who holds no node. Reservations and journal go on naming it.
    ///
    /// # Errors
    /// [`Conflict::Missing`] when there is no such user, [`Conflict::InUse`] when it holds nodes.
    pub async fn remove_user(
        &self,
        name: String,
        token: Hash,
        at: UnixMs,
        actor: Actor,
    ) -> Result<(), StoreError> {
        self.record(move |connection| {
            set_token(connection, &name, token)?;
            let query = "SELECT nodes.name FROM holds JOIN reservations ON reservations.id = reservation_id
                         JOIN nodes ON nodes.id = node_id WHERE owner = ? AND ended_ms IS NULL ORDER BY nodes.name";
            let held: Vec<String> = rows::all(connection, query, [&name], |row| Ok(row.get(0)?))?;
            if !held.is_empty() {
                let by = format!("it holds {}; destroy or cancel these first", held.join(", "));
                return Err(Conflict::InUse { what: "user", name: name.clone(), by }.into());
            }
            let update = "UPDATE users SET removed_ms = ? WHERE name = ?";
            connection.prepare_cached(update)?.execute((at.0, &name))?;
            journal::note(connection, at, &actor, "user", &format!("removed {name}"))
        })
        .await
    }

    /// The user who has this token.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn user_of_token(&self, token: &str) -> Result<Option<User>, StoreError> {
        let hash = Token::hash(token);
        self.read(move |connection| {
            let query = "SELECT name, role FROM users WHERE token_hash = ? AND removed_ms IS NULL";
            Ok(rows::all(connection, query, [hash.0], user)?.pop())
        })
        .await
    }

    /// All users, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        let query = "SELECT name, role FROM users WHERE removed_ms IS NULL ORDER BY name";
        self.read(|connection| rows::all(connection, query, [], user)).await
    }

    /// Begins the next epoch of the coordinator: its commands' counters start with it, so that they are
    /// higher than all before, and it is on disk before the first command goes out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin_epoch(&self) -> Result<u32, StoreError> {
        self.record(|connection| {
            let epoch = meta::get(connection, meta::EPOCH)?.unwrap_or(0) + 1;
            meta::set(connection, meta::EPOCH, Some(epoch))?;
            u32::try_from(epoch).map_err(|_| StoreError::Row { what: "epoch", found: epoch.to_string() })
        })
        .await
    }

    /// The manifests that an environment or a live deployment names. Whatever else is on disk may be swept.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn pinned_images(&self) -> Result<HashSet<Hash>, StoreError> {
        self.read(pinned_images).await
    }
}

pub(super) fn pinned_images(connection: &Connection) -> Result<HashSet<Hash>, StoreError> {
    let manifest = |row: &Row<'_>| rows::hash(&row.get::<_, Vec<u8>>(0)?);
    let environments = rows::all(connection, "SELECT manifest FROM environments", [], manifest)?;
    let forms = live_forms(connection)?;
    Ok(environments.into_iter().chain(forms.iter().map(|form| form.manifest)).collect())
}
