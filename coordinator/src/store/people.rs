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

fn user(row: &Row<'_>) -> Result<User, StoreError> {
    let role: String = row.get("role")?;
    let role = Role::from_name(&role).ok_or(StoreError::Row { what: "role", found: role })?;
    Ok(User { name: row.get("name")?, role })
}

impl Store {
    /// Adds a user who proves itself by the token with this hash.
    ///
    /// # Errors
    /// [`Conflict::Taken`] when there is such a user.
    pub async fn add_user(
        &self,
        user: User,
        token: Hash,
        at: UnixMs,
        actor: Actor,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            let added = connection.execute(
                "INSERT INTO users (name, role, token_hash, created_ms) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (&user.name, user.role.name(), token.0, at.0),
            )?;
            if added == 0 {
                return Err(Conflict::Taken { what: "user", name: user.name }.into());
            }
            journal::note(connection, at, &actor, "user", &format!("added {} as {}", user.name, user.role.name()))
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
            let query = "SELECT name, role FROM users WHERE token_hash = ?";
            Ok(rows::all(connection, query, [hash.0], user)?.pop())
        })
        .await
    }

    /// All users, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        self.read(|connection| rows::all(connection, "SELECT name, role FROM users ORDER BY name", [], user))
            .await
    }

    /// Begins the next epoch of the coordinator: its commands' counters start with it, so that they are
    /// higher than all before, and it is on disk before the first command goes out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin_epoch(&self) -> Result<u32, StoreError> {
        self.write(|connection| {
            let epoch = meta::get(connection, "epoch")?.unwrap_or(0) + 1;
            meta::set(connection, "epoch", Some(epoch))?;
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
