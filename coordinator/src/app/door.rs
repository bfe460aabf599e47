//! Who may come in at the embedded broker: an agent by its boot's password and from the address that fetched its token, our
//! own client, and people by their tokens.

use crate::bus::link::Heard;
use crate::bus::{Admission, COORDINATOR_CLIENT_ID, Doorkeeper, Identity, LiveBoots, Login, Refusal};
use crate::credentials::Credentials;
use crate::domain::boot_evidence::TokenHolder;
use crate::domain::user::Role;
use crate::netboot::alarm::Wanted;
use crate::netboot::refusals::Refusals;
use crate::runner::Board;
use crate::store::Store;
use piseduce_protocol::id::{BootNumber, Serial};
use std::net::IpAddr;
use tokio::sync::{mpsc, watch};

/// What the door needs to know.
pub(super) struct Door {
    pub(super) credentials: Credentials,
    pub(super) live: watch::Receiver<LiveBoots>,
    pub(super) board: Board,
    pub(super) store: Store,
    pub(super) refusals: Refusals,
    /// Hears of agents that should be without power, and of tokens in wrong hands.
    pub(super) heard: mpsc::Sender<Heard>,
}

impl Door {
    async fn identify(&self, login: &Login, address: IpAddr) -> Result<Identity, Refusal> {
        if login.user_name == COORDINATOR_CLIENT_ID {
            let expected = self.credentials.coordinator_password();
            return same(&login.password, &expected)
                .then_some(Identity::Coordinator)
                .ok_or(Refusal::Credentials);
        }
        if let Ok(serial) = login.user_name.parse() {
            return self.agent(serial, &login.password, address);
        }
        let user = self.store.user_of_token(&login.password).await.map_err(|_| Refusal::Unavailable)?;
        match user {
            Some(user) if user.name == login.user_name => match user.role {
                Role::Monitor | Role::Admin => Ok(Identity::Monitor { name: user.name }),
                Role::User => Err(Refusal::NotAuthorised),
            },
            _ => Err(Refusal::Credentials),
        }
    }

    /// The answer to whoever wants to be an agent is the same for a wrong password and for a wrong address.
    fn agent(&self, serial: Serial, password: &str, address: IpAddr) -> Result<Identity, Refusal> {
        let holder = self.board.token_holder(serial);
        let live = self.live.borrow().get(&serial).copied();
        let shows = |boot| same(password, &self.credentials.boot_keys(serial, boot).mqtt_password);
        let Some(boot) = live else {
            self.stranger(serial, holder, address);
            return Err(Refusal::Credentials);
        };
        if shows(boot) {
            if holder == Some(TokenHolder { boot, address }) {
                return Ok(Identity::Agent { serial, boot });
            }
            // What is not heard because the coordinator is busy is shown again.
            let _ = self.heard.try_send(Heard::TokenElsewhere(serial, boot, address));
            if let Some(node) = self.board.by_serial(serial) {
                self.refusals.leaked_token(&node.node.attributes.name, address);
            }
            return Err(Refusal::Credentials);
        }
        let before = BootNumber(boot.0.saturating_sub(1));
        if holder == Some(TokenHolder { boot: before, address }) && shows(before) {
            let _ = self.heard.try_send(Heard::Stale(serial));
        } else {
            self.stranger(serial, holder, address);
        }
        Err(Refusal::Credentials)
    }

    /// Somebody shows what is no password of a node's now. The node's own agent does so until its boot has ended.
    fn stranger(&self, serial: Serial, holder: Option<TokenHolder>, address: IpAddr) {
        if holder.is_some_and(|holder| holder.address == address) {
            return;
        }
        let Some(node) = self.board.by_serial(serial) else { return };
        let mac = self.refusals.mac_of(address);
        if mac.as_ref() != Some(&node.node.attributes.mac) {
            self.refusals.stranger(&node.node.attributes.name, Wanted::Broker, address, mac);
        }
    }
}

/// Compares hashes, which takes the same time wherever the texts differ.
fn same(shown: &str, expected: &str) -> bool {
    blake3::hash(shown.as_bytes()) == blake3::hash(expected.as_bytes())
}

impl Doorkeeper for Door {
    fn admit<'a>(&'a self, login: &'a Login, address: IpAddr) -> Admission<'a> {
        Box::pin(self.identify(login, address.to_canonical()))
    }
}
