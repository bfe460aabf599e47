//! What a boot root is told on its kernel command line.

use crate::credentials::Credentials;
use piseduce_protocol::boot::{Account, BootParameters};
use piseduce_protocol::id::{BootNumber, Serial};
use piseduce_protocol::topic::Site;

/// What the words of all nodes have in common.
pub struct CommandLines {
    /// The site.
    pub site: Site,
    /// The broker's address as nodes reach it.
    pub broker: String,
    /// The nodes' listener's address as nodes reach it.
    pub head: String,
    /// The account that agents share at the broker; none at the coordinator's own.
    pub agents: Option<Account>,
    /// The secrets of the site.
    pub credentials: Credentials,
}

impl CommandLines {
    /// The head's address without a port, as nodes reach it.
    pub fn head_host(&self) -> &str {
        self.head.rsplit_once(':').map_or(self.head.as_str(), |(host, _)| host)
    }

    /// The words for one boot of one node, with its token.
    pub fn of(&self, serial: Serial, boot: BootNumber) -> String {
        let parameters = BootParameters {
            site: self.site.clone(),
            broker: self.broker.clone(),
            head: self.head.clone(),
            serial,
            boot,
            token: self.credentials.boot_token(serial, boot),
            account: self.agents.clone(),
        };
        parameters.render()
    }
}
