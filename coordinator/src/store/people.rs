//! Users, and the epoch: what is neither inventory nor deployment.

use super::journal::{self, Actor};
use super::schema::{Conflict, StoreError};
use super::{Store, rows};
use crate::clock::UnixMs;
use crate::domain::user::{Role, Token, User};
use piseduce_protocol::id::Hash;
use rusqlite::{Connection, OptionalExtension, Row};

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
            let mut statement =
                connection.prepare_cached("SELECT name, role FROM users WHERE token_hash = ?")?;
            let mut found = statement.query([hash.0])?;
            found.next()?.map(user).transpose()
        })
        .await
    }

    /// All users, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT name, role FROM users ORDER BY name")?;
            let mut found = statement.query([])?;
            let mut users = Vec::new();
            while let Some(row) = found.next()? {
                users.push(user(row)?);
            }
            Ok(users)
        })
        .await
    }

    /// Begins the next epoch of the coordinator: its commands' counters start with it, so that they are
    /// higher than all before, and it is on disk before the first command goes out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin_epoch(&self) -> Result<u32, StoreError> {
        self.write(|connection| {
            let epoch = meta(connection, "epoch")?.unwrap_or(0) + 1;
            connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('epoch', ?)", [epoch])?;
            Ok(epoch)
        })
        .await
    }

    /// The manifests that an environment or a live deployment names. Whatever else is on disk may be swept.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn pinned_images(&self) -> Result<std::collections::HashSet<Hash>, StoreError> {
        self.read(|connection| {
            let mut pinned = std::collections::HashSet::new();
            let mut statement = connection.prepare_cached("SELECT manifest FROM environments")?;
            let mut found = statement.query([])?;
            while let Some(row) = found.next()? {
                pinned.insert(rows::hash(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?);
            }
            let mut statement = connection
                .prepare_cached("SELECT * FROM deployments WHERE state <> 'ended' AND form IS NOT NULL")?;
            let mut found = statement.query([])?;
            while let Some(row) = found.next()? {
                pinned.extend(rows::deployment(row)?.form.map(|form| form.manifest));
            }
            Ok(pinned)
        })
        .await
    }
}

fn meta(connection: &Connection, name: &str) -> Result<Option<u32>, StoreError> {
    let value = connection.query_row("SELECT value FROM meta WHERE name = ?", [name], |row| row.get(0));
    Ok(value.optional()?)
}
