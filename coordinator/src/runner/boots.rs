//! What nodes' firmware says: signs of life, and an alarm when one speaks that should be without power.

use super::Runner;
use crate::clock::{self, Instant};
use crate::domain::boot_evidence::TokenHolder;
use crate::domain::node::NodeId;
use crate::machine::event::{Asked, Sign};
use crate::store::Actor;
use piseduce_protocol::id::Serial;

impl Runner {
    /// A node's firmware asked for something. What it asked before its agent said hello was of that agent's own boot, however late
    /// it is told here: many nodes at once ask faster than turns are taken.
    pub(super) fn boot_asked(&mut self, serial: Serial, asked: Asked, at: Instant) {
        let Some(node) = self.serials.get(&serial).copied() else { return };
        if self.nodes.get(&node).and_then(|known| known.hello).is_some_and(|hello| at < hello) {
            return;
        }
        if self.is_dark(node) {
            self.raise_alarm(node);
        }
        if let Some(id) = self.deployment_of(serial)
            && self.is_explained(node, asked)
        {
            self.seen(id, Sign::BootAsked(asked), None);
        }
    }

    /// A node's agent said hello, after all that its firmware asked for.
    pub(super) fn hello_came(&mut self, serial: Serial) {
        let known = self.serials.get(&serial).and_then(|node| self.nodes.get_mut(node));
        if let Some(known) = known {
            known.hello = Some(clock::now());
        }
    }

    /// A node's own firmware asks for its token.
    pub(super) fn token_fetched(&mut self, serial: Serial, holder: TokenHolder) {
        if let Some(id) = self.deployment_of(serial) {
            let TokenHolder { boot, address } = holder;
            let detail = format!("its firmware fetches the token of boot {boot} at {address}");
            self.seen(id, Sign::TokenFetched(holder), Some(detail));
        }
    }

    /// The system on a node's card answers, although it should boot the boot root.
    pub(super) fn card_answers(&mut self, serial: Serial) {
        if let Some(id) = self.deployment_of(serial) {
            self.seen(id, Sign::CardAnswers, None);
        }
    }

    /// Whether a node's port was read off, and nobody is switching it on.
    fn is_dark(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|known| known.powered == Some(false))
    }

    /// The node hangs on another port than the one registered for it, or somebody else speaks in its name.
    fn raise_alarm(&mut self, node: NodeId) {
        let Some(known) = self.nodes.get_mut(&node) else { return };
        if known.alarm.is_some() {
            return;
        }
        let attributes = &known.node.attributes;
        let text = format!(
            "wrong_port_or_spoofed: the firmware of {} asked what to boot while port {} of {} is off",
            attributes.name, attributes.port, attributes.switch
        );
        tracing::warn!("{text}");
        known.alarm = Some(text.clone());
        self.turn.notes.push((Actor::Machine, "alarm", text));
        self.show(node);
    }
}
