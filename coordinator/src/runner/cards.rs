//! Writes the passports of cards: which card an agent showed, what it wrote, how it failed.

use super::Runner;
use crate::clock;
use crate::domain::boot_evidence::CardSighting;
use crate::domain::card::{CardDid, CardNote, is_the_cards};
use piseduce_protocol::cause::{Cause, CauseName};
use piseduce_protocol::id::{BootNumber, DeploymentId, Ticket};
use piseduce_protocol::report::{CardInfo, Written};

impl Runner {
    /// The agent of `boot` said hello with this card. What is to be thought of it, beside the one before.
    pub(super) fn card_shown(
        &mut self,
        id: DeploymentId,
        boot: BootNumber,
        card: Option<CardInfo>,
    ) -> CardSighting {
        let cid = card.as_ref().and_then(|card| card.cid.clone());
        let Some(held) = self.lives.get_mut(&id) else {
            return CardSighting::of(card.is_some(), cid.as_deref(), None);
        };
        let is_present = held.live.deployment.boot == boot;
        let known = self.nodes.get_mut(&held.node);
        let before = known.as_ref().and_then(|known| known.card.as_deref());
        let sighting = CardSighting::of(card.is_some(), cid.as_deref(), before);
        if is_present {
            held.card = card;
            if let (Some(known), Some(cid)) = (known, cid) {
                known.card = Some(cid);
            }
            self.note_card(id, CardDid::WasSeen);
        }
        sighting
    }

    /// A copy wrote to the card.
    pub(super) fn card_wrote(&mut self, id: DeploymentId, written: Written) {
        let Written { ticket, bytes, busy_ms } = written;
        if self.is_current(id, ticket) {
            self.note_card(id, CardDid::Wrote { ticket, bytes, busy_ms });
        }
    }

    /// Work failed; maybe by the card.
    pub(super) fn card_failed(&mut self, id: DeploymentId, ticket: Ticket, cause: &Cause) {
        let CauseName::Known(kind) = cause.name else { return };
        if self.is_current(id, ticket) && is_the_cards(kind) {
            self.note_card(id, CardDid::Failed { ticket, kind, seen: cause.seen.clone() });
        }
    }

    fn is_current(&self, id: DeploymentId, ticket: Ticket) -> bool {
        self.deployment(id).is_some_and(|now| now.ticket() == ticket)
    }

    /// A card that shows no identification has no passport.
    fn note_card(&mut self, id: DeploymentId, did: CardDid) {
        let Some(held) = self.lives.get(&id) else { return };
        let Some(CardInfo { bytes, cid: Some(cid), .. }) = held.card.clone() else { return };
        let Some(known) = self.nodes.get(&held.node) else { return };
        let node = known.node.attributes.name.clone();
        self.turn.cards.push(CardNote { cid, bytes, node, at: clock::unix_ms(), did });
    }
}
