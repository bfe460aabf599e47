//! Our client of one switch's SNMP agent: opened when it is needed, opened anew after silence, and with words for
//! whatever goes wrong. No secret is in any of them.

use super::super::PowerError;
use super::super::secrets::Secrets;
use crate::clock;
use crate::domain::driver::{SnmpSettings, SnmpVersion};
use async_snmp::client::WalkStream;
use async_snmp::transport::UdpHandle;
use async_snmp::{Auth, AuthProtocol, Client, Error, ErrorKind, Oid, PrivProtocol, Retry, UsmConfig, Value};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
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
/// How long the reading of one table may take; others wait for their turn meanwhile.
const TABLE_MAX: Duration = Duration::from_secs(20);
/// Objects of one request: their answer fits into one Ethernet frame, because many agents lose fragments.
const OBJECTS_MAX: usize = 32;

/// The way to one agent, or to what it shows of one VLAN.
pub(super) struct Agent {
    settings: SnmpSettings,
    vlan: Option<u16>,
    client: Mutex<Option<Client>>,
    /// It does not answer GETBULK: it is asked row by row.
    no_bulk: AtomicBool,
}

/// Rows of a table: the rest of each identifier, and its value.
pub(super) struct Rows {
    pub(super) rows: Vec<(Vec<u32>, Value)>,
    /// Why they are not all.
    pub(super) gap: Option<String>,
}

impl Agent {
    pub(super) fn new(settings: &SnmpSettings) -> Self {
        Agent {
            settings: settings.clone(),
            vlan: None,
            client: Mutex::default(),
            no_bulk: AtomicBool::default(),
        }
    }

    /// The same switch as it shows itself in one VLAN.
    pub(super) fn in_vlan(settings: &SnmpSettings, vlan: u16) -> Self {
        Agent { vlan: Some(vlan), ..Agent::new(settings) }
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
        let given: HashMap<Oid, Value> =
            answer.varbinds.into_iter().map(|bind| (bind.oid, bind.value)).collect();
        let value = |oid| given.get(oid).filter(|value| !value.is_exception()).cloned();
        Ok(oids.iter().map(value).collect())
    }

    async fn get_one_v1(&self, oid: &Oid) -> Result<Option<Value>, PowerError> {
        let client = self.client().await?;
        match client.get(oid).await {
            Err(error) if is_no_such_name(&error) => Ok(None),
            result => Ok(self.heard(result).await?.varbinds.into_iter().next().map(|bind| bind.value)),
        }
    }

    /// Sets an object; what the switch says against it is the error.
    pub(super) async fn set(&self, oid: &Oid, value: i32) -> Result<(), PowerError> {
        let client = self.client().await?;
        self.heard(client.set(oid, Value::Integer(value)).await).await.map(drop)
    }

    /// The rest of the identifier of the first row below `root` that comes after `after`.
    pub(super) async fn first_after(&self, root: &Oid, after: &Oid) -> Result<Option<Vec<u32>>, PowerError> {
        let client = self.client().await?;
        let bind = match client.get_next(after).await {
            Err(error) if is_no_such_name(&error) => return Ok(None),
            result => self.heard(result).await?.varbinds.into_iter().next(),
        };
        let bind = bind.filter(|bind| !bind.value.is_exception() && bind.oid > *after);
        Ok(bind.and_then(|bind| Some(bind.oid.strip_prefix(root)?.arcs().to_vec())))
    }

    /// Every row below `root`, by GETBULK, or row by row where the agent does not do that.
    pub(super) async fn table(&self, root: &Oid) -> Result<Rows, PowerError> {
        let is_v1 = self.settings.version == SnmpVersion::V1;
        if !is_v1 && !self.no_bulk.load(Ordering::Relaxed) {
            let client = self.client().await?;
            match self.heard(client.walk(root.clone())).await {
                Ok(walk) => match self.rows(root, walk).await {
                    Ok(rows) => return Ok(rows),
                    Err(error) => self.note_no_bulk(root, error).await?,
                },
                Err(error) => return Err(error),
            }
        }
        let client = self.client().await?;
        let walk = self.heard(client.walk_getnext(root.clone())).await?;
        self.rows(root, walk).await
    }

    /// An agent that answers GETNEXT where GETBULK failed is asked so from now on.
    async fn note_no_bulk(&self, root: &Oid, error: PowerError) -> Result<(), PowerError> {
        if self.first_after(root, root).await.is_err() {
            return Err(error);
        }
        tracing::info!(address = self.settings.address, %error, "no GETBULK: the switch is asked row by row");
        self.no_bulk.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn rows(&self, root: &Oid, mut walk: WalkStream<UdpHandle>) -> Result<Rows, PowerError> {
        let until = clock::now() + TABLE_MAX;
        let mut rows = Vec::new();
        while let Some(row) = walk.next().await {
            let bind = match row {
                Ok(bind) => bind,
                // The end of everything, in the words of version 1.
                Err(error) if is_no_such_name(&error) => break,
                Err(error) => return Err(self.said(&error).await),
            };
            if let Some(rest) = bind.oid.strip_prefix(root) {
                rows.push((rest.arcs().to_vec(), bind.value));
            }
            if rows.len() >= ROWS_MAX {
                let gap = format!("only the first {ROWS_MAX} rows of the switch's table were read");
                return Ok(Rows { rows, gap: Some(gap) });
            }
            if clock::now() >= until {
                let gap = format!("only {} rows were read in {} s", rows.len(), TABLE_MAX.as_secs());
                return Ok(Rows { rows, gap: Some(gap) });
            }
        }
        Ok(Rows { rows, gap: None })
    }

    async fn client(&self) -> Result<Client, PowerError> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let opened = open(&self.settings, self.vlan).await?;
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

/// Version 1's word for what is not there, and for the end.
fn is_no_such_name(error: &Error) -> bool {
    error.kind() == ErrorKind::Snmp && error.to_string().contains("noSuchName")
}

/// The switch's own reason.
fn reason(error: &Error) -> String {
    match error.exchange_source() {
        Error::Snmp { status, .. } => status.to_string(),
        other => other.to_string(),
    }
}

async fn open(settings: &SnmpSettings, vlan: Option<u16>) -> Result<Client, PowerError> {
    let auth = auth(settings, vlan)?;
    let address = &settings.address;
    let retry = Retry::fixed(TRIES_MORE, Duration::ZERO).expect("no pause is a valid pause");
    let client = Client::builder(address.as_str(), auth)
        .construction_timeout(OPEN_MAX)
        .request_timeout(ANSWER_MAX)
        .retry(retry)
        .max_oids_per_request(OBJECTS_MAX)
        .connect()
        .await;
    client.map_err(|error| match error.kind() {
        ErrorKind::Config => PowerError::Refused(format!("{address} cannot be asked: {error}")),
        _ => PowerError::Unreachable(format!("{address} cannot be asked: {error}")),
    })
}

/// Cisco's convention, which others follow: `community@VLAN`, and by version 3 the context `vlan-VLAN`.
fn auth(settings: &SnmpSettings, vlan: Option<u16>) -> Result<Auth, PowerError> {
    let file = &settings.secrets;
    let secrets = Secrets::read(file)?;
    let community = || {
        let community = secrets.need("community", file)?;
        Ok(vlan.map_or_else(|| community.to_owned(), |vlan| format!("{community}@{vlan}")))
    };
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
            let user = match vlan {
                Some(vlan) => user.context_name(format!("vlan-{vlan}")),
                None => user,
            };
            let user = user.auth_priv(auth, passwords.0, privacy, passwords.1);
            // Its words may speak of the passwords.
            user.map_err(|_| wrong("auth_password` or `privacy_password", "8 characters or longer"))?.into()
        }
    })
}
