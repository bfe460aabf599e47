//! One table of the settings: keys are taken from it with their checks; what is left in the end is a typing error, and the error lists
//! the keys that were asked for, so that the list cannot differ from the parser.

use super::ConfigError;
use crate::machine::Policy;
use crate::store::Retention;
use piseduce_protocol::command::Wipe;
use piseduce_protocol::topic::Site;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use toml::{Table, Value};

const DAY_S: u64 = 24 * 3600;

/// One table of the file, from which keys are taken until none is left.
pub(super) struct Section<'a> {
    pub(super) file: &'a Path,
    name: &'static str,
    table: Table,
    /// Every key that was asked for: what an error lists as allowed.
    keys: Vec<String>,
}

impl<'a> Section<'a> {
    pub(super) fn new(file: &'a Path, name: &'static str, table: Table) -> Section<'a> {
        Section { file, name, table, keys: Vec::new() }
    }

    /// The value of a key, which is none of those that nobody takes then.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.take_as(key, key)
    }

    /// The same for one that errors write in another way, such as `[nodes]`.
    pub(super) fn take_as(&mut self, key: &str, written: &str) -> Option<Value> {
        self.keys.push(written.into());
        self.table.remove(key)
    }

    pub(super) fn wrong(&self, key: &str, found: impl AsRef<str>, allowed: impl Into<String>) -> ConfigError {
        let key = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        ConfigError::Value {
            file: self.file.into(),
            key,
            found: found.as_ref().into(),
            allowed: allowed.into(),
        }
    }

    pub(super) fn section(&mut self, name: &'static str) -> Result<Section<'a>, ConfigError> {
        match self.take_as(name, &format!("[{name}]")) {
            None => Ok(Section::new(self.file, name, Table::new())),
            Some(Value::Table(table)) => Ok(Section::new(self.file, name, table)),
            Some(other) => Err(self.wrong(name, other.to_string(), format!("a section [{name}]"))),
        }
    }

    pub(super) fn text(&mut self, key: &str, allowed: &str) -> Result<Option<String>, ConfigError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, other.to_string(), format!("text: {allowed}"))),
        }
    }

    pub(super) fn number(
        &mut self,
        key: &str,
        default: u64,
        allowed: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let found = match self.take(key) {
            None => return Ok(default),
            Some(found) => found,
        };
        let number = found.as_integer().and_then(|number| u64::try_from(number).ok());
        number.filter(|number| allowed.contains(number)).ok_or_else(|| {
            self.wrong(
                key,
                found.to_string(),
                format!("a whole number from {} to {}", allowed.start(), allowed.end()),
            )
        })
    }

    pub(super) fn site(&mut self) -> Result<Site, ConfigError> {
        let allowed = "1 to 63 characters of a-z, 0-9, `-` and `_`";
        let name = self.text("site", allowed)?.unwrap_or("main".into());
        Site::new(&name).map_err(|_| self.wrong("site", format!("\"{name}\""), allowed))
    }

    pub(super) fn address(&mut self, key: &str) -> Result<Option<SocketAddr>, ConfigError> {
        let allowed = "IP address and TCP port such as \"10.0.0.1:8070\"";
        let Some(text) = self.text(key, allowed)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| self.wrong(key, format!("\"{text}\""), allowed))
    }

    pub(super) fn clock(mut self) -> Result<bool, ConfigError> {
        let trust = match self.take("trust_unsynchronised") {
            None => false,
            Some(Value::Boolean(trust)) => trust,
            Some(other) => {
                return Err(self.wrong("trust_unsynchronised", other.to_string(), "true or false"));
            }
        };
        self.finish()?;
        Ok(trust)
    }

    /// What is done with a card whose user has gone, and whether that waits for another user.
    pub(super) fn release(mut self) -> Result<(Wipe, bool), ConfigError> {
        let defaults = Policy::default();
        let wipe = match self.text("wipe", &one_of(Wipe::ALL.iter().map(|wipe| wipe.name())))? {
            None => defaults.wipe,
            Some(text) => text.parse().map_err(|_| {
                let allowed = one_of(Wipe::ALL.iter().map(|wipe| wipe.name()));
                self.wrong("wipe", format!("\"{text}\""), allowed)
            })?,
        };
        const WHEN: [&str; 2] = ["release", "next_use"];
        let later = match self.text("wipe_when", &one_of(WHEN.into_iter()))?.as_deref() {
            None => defaults.wipe_later,
            Some("release") => false,
            Some("next_use") => true,
            Some(other) => {
                return Err(self.wrong("wipe_when", format!("\"{other}\""), one_of(WHEN.into_iter())));
            }
        };
        self.finish()?;
        Ok((wipe, later))
    }

    pub(super) fn retention(mut self) -> Result<Retention, ConfigError> {
        let defaults = Retention::default();
        let mut days = |key: &str, default: Duration| {
            let found = self.number(key, default.as_secs() / DAY_S, 1..=36_500);
            found.map(|days| Duration::from_secs(days * DAY_S))
        };
        let retention = Retention {
            journal: days("journal_days", defaults.journal)?,
            output: days("output_days", defaults.output)?,
        };
        self.finish()?;
        Ok(retention)
    }

    /// Nothing may be left: a key that nobody takes is a typing error.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(key) => Err(self.wrong(key, "not a setting", self.keys.join(", "))),
        }
    }
}

pub(super) fn one_of(names: impl Iterator<Item = &'static str>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    quoted.join(" or ")
}
