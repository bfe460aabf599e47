//! Who is at the gate, by which client id, and who decides that. Knows no socket and no packet.
//!
//! The gate reads a [`Login`] from the wire and asks the [`Doorkeeper`], which `app` supplies; everything that a
//! client may do later (`acl`) follows from the [`Identity`] that it answers.

use piseduce_protocol::boot::client_id;
use piseduce_protocol::id::{BootNumber, Serial};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

/// The client id of the coordinator's own client; no other identity may use it.
pub const COORDINATOR_CLIENT_ID: &str = "coordinator";

/// The longest client id, in characters. MQTT promises 23; Mosquitto's and rumqttc's own ids are shorter than this.
const CLIENT_ID_CHARACTERS_MAX: usize = 64;

/// The live boot of each node that has one; sessions of any other boot are closed.
pub type LiveBoots = Arc<HashMap<Serial, BootNumber>>;

/// What a client shows when it connects. The doorkeeper gets it when the client id was checked for its form.
#[derive(PartialEq, Eq)]
pub struct Login {
    /// The client id; empty when the broker shall choose one.
    pub client_id: String,
    /// The user name, never empty for the doorkeeper.
    pub user_name: String,
    /// The password; empty when there was none.
    pub password: String,
}

/// Without the password, which must not reach a log.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({:?} as {:?})", self.user_name, self.client_id)
    }
}

/// Somebody whom the doorkeeper let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The coordinator's own client.
    Coordinator,
    /// The agent of a node, in one boot of it.
    Agent {
        /// The node's serial number.
        serial: Serial,
        /// The boot whose password it showed.
        boot: BootNumber,
    },
    /// A person or a program that watches.
    Monitor {
        /// The user name.
        name: String,
    },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Coordinator => write!(f, "coordinator"),
            Identity::Agent { serial, boot } => write!(f, "agent {serial} in boot {boot}"),
            Identity::Monitor { name } => write!(f, "monitor {name}"),
        }
    }
}

/// Why the doorkeeper lets somebody not in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such user, a wrong password, or a boot that is not live.
    #[error("user name or password is wrong")]
    Credentials,
    /// The credentials are right, but this user may not use the broker.
    #[error("user may not use the broker")]
    NotAuthorised,
    /// Nothing can be said at the moment, the store does not answer for instance.
    #[error("credentials cannot be checked at the moment")]
    Unavailable,
}

/// What a doorkeeper answers, in its own time.
pub type Admission<'a> = Pin<Box<dyn Future<Output = Result<Identity, Refusal>> + Send + 'a>>;

/// Decides who may come in.
pub trait Doorkeeper: Send + Sync + 'static {
    /// Whose login this is that came from `address`.
    ///
    /// Runs in the client's own task, under the gate's time limit for a CONNECT, and must not block its thread: an
    /// agent's password is derived and compared on the spot, an argon2 hash belongs into `spawn_blocking`, behind
    /// a bound of the doorkeeper's own.
    fn admit<'a>(&'a self, login: &'a Login, address: IpAddr) -> Admission<'a>;
}

/// Whether `id` has a length and characters that a client id may have here.
///
/// The set is narrower than MQTT's: rumqttd takes no `+`, `$`, `#` and `/`, and logs should need no escapes.
pub(super) fn is_client_id(id: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=CLIENT_ID_CHARACTERS_MAX).contains(&id.len()) && id.bytes().all(fits)
}

impl Identity {
    /// Whether this identity may use `id`, which [`is_client_id`].
    pub(super) fn may_be_called(&self, id: &str) -> bool {
        match self {
            Identity::Coordinator => id == COORDINATOR_CLIENT_ID,
            Identity::Agent { serial, .. } => id == client_id(*serial),
            // Agents are called by their serial numbers.
            Identity::Monitor { .. } => id != COORDINATOR_CLIENT_ID && id.parse::<Serial>().is_err(),
        }
    }

    /// Whether `live` still allows this identity a session.
    pub(super) fn is_live(&self, live: &LiveBoots) -> bool {
        match self {
            Identity::Agent { serial, boot } => live.get(serial) == Some(boot),
            Identity::Coordinator | Identity::Monitor { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIAL: Serial = Serial(0x1000_0000_0000_00ab);

    #[test]
    fn a_client_id_is_short_and_plain() {
        for fine in ["a", "mosq-Xa0Zb1", "rumqtt_7", "host.example-1", &"x".repeat(64)] {
            assert!(is_client_id(fine), "{fine}");
        }
        for wrong in ["", "a/b", "a#", "+", "$SYS", "a b", "é", "a\n", "mosqsub|1-host", &"x".repeat(65)] {
            assert!(!is_client_id(wrong), "{wrong}");
        }
    }

    #[test]
    fn nobody_can_be_called_what_belongs_to_somebody_else() {
        let agent = Identity::Agent { serial: SERIAL, boot: BootNumber(1) };
        let monitor = Identity::Monitor { name: "alice".into() };
        assert!(agent.may_be_called("10000000000000ab"));
        assert!(Identity::Coordinator.may_be_called("coordinator"));
        assert!(monitor.may_be_called("mosq-1") && monitor.may_be_called("coordinator-2"));

        assert!(!agent.may_be_called("10000000000000AB") && !agent.may_be_called("10000000000000ac"));
        assert!(!agent.may_be_called("coordinator") && !Identity::Coordinator.may_be_called("coordinator-2"));
        assert!(!monitor.may_be_called("coordinator") && !monitor.may_be_called("10000000000000AC"));
    }

    #[test]
    fn only_the_live_boot_of_an_agent_is_live() {
        let live: LiveBoots = Arc::new(HashMap::from([(SERIAL, BootNumber(7))]));
        let agent = |serial, boot| Identity::Agent { serial, boot: BootNumber(boot) };
        assert!(agent(SERIAL, 7).is_live(&live) && Identity::Coordinator.is_live(&live));
        assert!(!agent(SERIAL, 6).is_live(&live) && !agent(SERIAL, 8).is_live(&live));
        assert!(!agent(Serial(1), 7).is_live(&live));
    }
}
