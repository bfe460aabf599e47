//! What is done about those who ask for what is a node's: they are counted, with the hardware address that the kernel knows
//! of them, and told of. Nothing of it reaches the node's deployment.

use super::alarm::{Alarm, Alarms, Trouble, Wanted};
use crate::clock;
use std::net::IpAddr;
use std::sync::Arc;

/// Tells people of an alarm.
type Tell = Arc<dyn Fn(&Alarm) + Send + Sync>;

/// Takes refusals down.
#[derive(Clone)]
pub struct Refusals {
    alarms: Alarms,
    tell: Tell,
    mac_of: fn(IpAddr) -> Option<String>,
}

impl Refusals {
    /// New alarms go to `alarms` and are told by `tell`; `mac_of` knows the hardware addresses of neighbours.
    pub fn new(
        alarms: Alarms,
        mac_of: fn(IpAddr) -> Option<String>,
        tell: impl Fn(&Alarm) + Send + Sync + 'static,
    ) -> Refusals {
        Refusals { alarms, tell: Arc::new(tell), mac_of }
    }

    /// The hardware address of a neighbour, if it is known.
    pub fn mac_of(&self, address: IpAddr) -> Option<String> {
        (self.mac_of)(address)
    }

    /// Tells of an alarm that is new.
    pub fn tell(&self, alarm: &Alarm) {
        (self.tell)(alarm);
    }

    /// Somebody at `address` was refused what is for `node` only.
    pub fn stranger(&self, node: &str, wanted: Wanted, address: IpAddr, mac: Option<String>) {
        self.raise(Trouble::Stranger { node: node.into(), wanted }, address, mac);
    }

    /// Somebody at `address` showed a token of `node`'s that others fetched.
    pub fn leaked_token(&self, node: &str, address: IpAddr) {
        self.raise(Trouble::LeakedToken { node: node.into() }, address, self.mac_of(address));
    }

    fn raise(&self, trouble: Trouble, address: IpAddr, mac: Option<String>) {
        let alarm = Alarm { trouble, interface: None, address, mac };
        if self.alarms.raise(alarm.clone(), clock::unix_ms()) {
            self.tell(&alarm);
        }
    }
}
