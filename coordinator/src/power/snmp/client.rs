//! Our client of one switch's SNMP agent: opened when it is needed, opened anew after silence, and with words for
//! whatever goes wrong. No secret is in any of them.

use super::super::PowerError;
use super::super::secrets::Secrets;
use crate::domain::driver::{SnmpSettings, SnmpVersion};
use async_snmp::{Auth, AuthProtocol, Client, Error, ErrorKind, Oid, PrivProtocol, Retry, UsmConfig, Value};
use std::time::Duration;
use tokio::sync::Mutex;

/// How long one try waits for its answer. Management processors of switches are slow, but not that slow.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Tries after the first, because datagrams get lost.
const TRIES_MORE: u32 = 2;
/// How long name and first contact may take.
const OPEN_MAX: Duration = Duration::from_secs(6);
/// Rows that are read of one table at most: a hundred ports, some thousand stations.
const ROWS_MAX: usize = 16_384;

/// The way to one agent.
pub(super) struct Agent {
    settings: SnmpSettings,
    client: Mutex<Option<Client>>,
}

impl Agent {
    pub(super) fn new(settings: &SnmpSettings) -> Self {
        Agent { settings: settings.clone(), client: Mutex::default() }
    }

    /// Values of these objects; none for one that the switch does not have.
    pub(super) async fn get(&self, oids: &[Oid]) -> Result<Vec<Option<Value>>, PowerError> {
        // Version 1 answers a list with one unknown object by nothing at all.
        if self.settings.version == SnmpVersion::V1 {
            let mut values = Vec::new();
            for oid in oids {
                values.push(self.get_one_v1(oid).await?);
            }
            return Ok(values);
        }
        let client = self.client().await?;
        let answer = self.heard(client.get_many(oids).await).await?;
        Ok(answer
            .varbinds
            .into_iter()
            .map(|bind| Some(bind.value).filter(|value| !value.is_exception()))
            .collect())
    }

    async fn get_one_v1(&self, oid: &Oid) -> Result<Option<Value>, PowerError> {
        let client = self.client().await?;
        match client.get(oid).await {
            Err(error) if error.kind() == ErrorKind::Snmp && error.to_string().contains("noSuchName") => {
                Ok(None)
            }
            result => Ok(self.heard(result).await?.varbinds.into_iter().next().map(|bind| bind.value)),
        }
    }

    /// Sets an object; what the switch says against it is the error.
    pub(super) async fn set(&self, oid: &Oid, value: i32) -> Result<(), PowerError> {
        let client = self.client().await?;
        self.heard(client.set(oid, Value::Integer(value)).await).await.map(drop)
    }

    /// Every row below `root`: the rest of its identifier, and its value.
    pub(super) async fn table(&self, root: &Oid) -> Result<Vec<(Vec<u32>, Value)>, PowerError> {
        let client = self.client().await?;
        let mut walk = self.heard(client.walk(root.clone())).await?;
        let mut rows = Vec::new();
        while let Some(row) = walk.next().await {
            let bind = match row {
                Ok(bind) => bind,
                // The end of everything, in the words of version 1.
                Err(error) if error.kind() == ErrorKind::Snmp && error.to_string().contains("noSuchName") => {
                    break;
                }
                Err(error) => return Err(self.said(&error).await),
            };
            if let Some(rest) = bind.oid.strip_prefix(root) {
                rows.push((rest.arcs().to_vec(), bind.value));
            }
            if rows.len() >= ROWS_MAX {
                break;
            }
        }
        Ok(rows)
    }

    async fn client(&self) -> Result<Client, PowerError> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let opened = open(&self.settings).await?;
        Ok(client.insert(opened).clone())
    }

    async fn heard<T>(&self, result: Result<T, Box<Error>>) -> Result<T, PowerError> {
        match result {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.said(&error).await),
        }
    }

    /// The error in our words.
    async fn said(&self, error: &Error) -> PowerError {
        let address = &self.settings.address;
        let kind = error.kind();
        if kind != ErrorKind::Snmp {
            // Another address, another engine, new secrets: whatever it is, the next request begins afresh.
            *self.client.lock().await = None;
        }
        match kind {
            ErrorKind::Timeout | ErrorKind::ConstructionTimeout | ErrorKind::Closed => {
                let credentials = match self.settings.version {
                    SnmpVersion::V3 => "wrong credentials",
                    SnmpVersion::V1 | SnmpVersion::V2c => "a community that it does not know",
                };
                PowerError::Unreachable(format!("nothing from {address}: unreachable, or {credentials}"))
            }
            ErrorKind::Network => PowerError::Unreachable(format!("nothing from {address}: {error}")),
            ErrorKind::Auth | ErrorKind::Report => {
                PowerError::Refused(format!("{address} does not accept the credentials: {error}"))
            }
            ErrorKind::Snmp => PowerError::Refused(format!("{address} says {}", reason(error))),
            _ => PowerError::Unreachable(format!("{address} does not make sense: {error}")),
        }
    }
}

/// The switch's own reason.
fn reason(error: &Error) -> String {
    match error.exchange_source() {
        Error::Snmp { status, .. } => status.to_string(),
        other => other.to_string(),
    }
}

async fn open(settings: &SnmpSettings) -> Result<Client, PowerError> {
    let auth = auth(settings)?;
    let address = &settings.address;
    let retry = Retry::fixed(TRIES_MORE, Duration::ZERO).expect("no pause is a valid pause");
    let client = Client::builder(address.as_str(), auth)
        .construction_timeout(OPEN_MAX)
        .request_timeout(ANSWER_MAX)
        .retry(retry)
        .connect()
        .await;
    client.map_err(|error| match error.kind() {
        ErrorKind::Config => PowerError::Refused(format!("{address} cannot be asked: {error}")),
        _ => PowerError::Unreachable(format!("{address} cannot be asked: {error}")),
    })
}

fn auth(settings: &SnmpSettings) -> Result<Auth, PowerError> {
    let file = &settings.secrets;
    let secrets = Secrets::read(file)?;
    let community = || secrets.need("community", file);
    Ok(match settings.version {
        SnmpVersion::V1 => Auth::v1(community()?),
        SnmpVersion::V2c => Auth::v2c(community()?),
        SnmpVersion::V3 => {
            let wrong = |key: &str, allowed: &str| {
                PowerError::Refused(format!(
                    "`{key}` in the secrets file {} must be {allowed}",
                    file.display()
                ))
            };
            let auth = match secrets.get("auth").unwrap_or("sha256") {
                "sha1" => AuthProtocol::Sha1,
                "sha256" => AuthProtocol::Sha256,
                "sha512" => AuthProtocol::Sha512,
                _ => return Err(wrong("auth", "sha1, sha256 or sha512")),
            };
            let privacy = match secrets.get("privacy").unwrap_or("aes128") {
                "aes128" => PrivProtocol::Aes128,
                "aes256" => PrivProtocol::Aes256Blumenthal,
                _ => return Err(wrong("privacy", "aes128 or aes256")),
            };
            let user = UsmConfig::new(secrets.need("user", file)?.to_owned());
            let passwords = (secrets.need("auth_password", file)?, secrets.need("privacy_password", file)?);
            let user = user.auth_priv(auth, passwords.0, privacy, passwords.1);
            // Its words may speak of the passwords.
            user.map_err(|_| wrong("auth_password` or `privacy_password", "8 characters or longer"))?.into()
        }
    })
}
