//! What was seen of the present boot of a node's boot root, beside what its agent says: a release rests on it.
//!
//! Plain facts; what follows from them is decided by the machine.

use piseduce_protocol::id::BootNumber;
use std::net::IpAddr;

/// Who fetched the token of a boot: the only address that may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenHolder {
    /// The boot.
    pub boot: BootNumber,
    /// The address.
    pub address: IpAddr,
}

/// How a port is known to be switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortWitness {
    /// The switch showed it.
    Switch,
    /// A person said so.
    Person,
    /// Nobody: the switch took the order and cannot be read.
    Nobody,
}

/// How the place of an agent is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentWitness {
    /// The broker let in nobody but the address that fetched the token.
    Broker,
    /// Nobody: an external broker shows no addresses.
    Nobody,
}

/// What a switch's table of addresses says of a node's place. Another port than its own is no evidence, but the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its hardware address is at its port.
    AtPort,
    /// Its hardware address is not in the table.
    NotInTable,
    /// The switch shows no such table.
    NoTable,
}

/// What power showed at a port, told before the job's own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortProof {
    /// Who says so.
    pub witness: PortWitness,
    /// Where the switch saw the node before it was cut off.
    pub place: Place,
}

/// The card that an agent showed, beside the one that was last seen in its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CardSighting {
    /// There is none.
    Absent,
    /// It shows no identification.
    Unidentified,
    /// The first that was seen there.
    First(String),
    /// The same as before.
    Same(String),
    /// Another one.
    Changed {
        /// The card before.
        before: String,
        /// The card now.
        now: String,
    },
}

impl CardSighting {
    /// What is to be thought of a card with the identification `now` in a node whose card was `before`.
    pub fn of(is_there: bool, now: Option<&str>, before: Option<&str>) -> CardSighting {
        match (now, before) {
            _ if !is_there => CardSighting::Absent,
            (None, _) => CardSighting::Unidentified,
            (Some(now), None) => CardSighting::First(now.into()),
            (Some(now), Some(before)) if now == before => CardSighting::Same(now.into()),
            (Some(now), Some(before)) => CardSighting::Changed { before: before.into(), now: now.into() },
        }
    }
}

/// Everything that was seen of a boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootEvidence {
    /// The port was off.
    pub off: Option<PortWitness>,
    /// The port was on after it.
    pub on: Option<PortWitness>,
    /// After that the node's own firmware fetched the boot's token.
    pub firmware: Option<IpAddr>,
    /// An agent spoke from there.
    pub agent: Option<AgentWitness>,
    /// The card that it showed.
    pub card: Option<CardSighting>,
    /// Where the switch saw the node at the end.
    pub place: Option<Place>,
}

/// How far a piece of evidence goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvidenceStanding {
    /// It was seen.
    Seen,
    /// It was not.
    Missing,
    /// It cannot be seen here.
    CannotTell,
    /// It was seen, and is not what was expected.
    Changed,
}

impl EvidenceStanding {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            EvidenceStanding::Seen => "seen",
            EvidenceStanding::Missing => "missing",
            EvidenceStanding::CannotTell => "cannot_tell",
            EvidenceStanding::Changed => "changed",
        }
    }
}

/// One piece of evidence, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its name.
    pub name: &'static str,
    /// How far it goes.
    pub standing: EvidenceStanding,
    /// What was seen, or was not.
    pub seen: String,
}

fn piece(name: &'static str, standing: EvidenceStanding, seen: impl Into<String>) -> Piece {
    Piece { name, standing, seen: seen.into() }
}

fn port(name: &'static str, power: &str, witness: Option<PortWitness>) -> Piece {
    match witness {
        Some(PortWitness::Switch) => {
            piece(name, EvidenceStanding::Seen, format!("the switch showed the port {power}"))
        }
        Some(PortWitness::Person) => {
            piece(name, EvidenceStanding::Seen, format!("a person said that the port is {power}"))
        }
        Some(PortWitness::Nobody) => {
            piece(name, EvidenceStanding::CannotTell, format!("switched {power}; this switch cannot be read"))
        }
        None => {
            piece(name, EvidenceStanding::Missing, format!("the port was not seen {power} before this boot"))
        }
    }
}

impl BootEvidence {
    /// Every piece, seen or not, in the order of a boot.
    pub fn pieces(&self) -> Vec<Piece> {
        let firmware = match self.firmware {
            Some(address) => piece(
                "firmware",
                EvidenceStanding::Seen,
                format!("the node's firmware fetched the token at {address}"),
            ),
            None => piece(
                "firmware",
                EvidenceStanding::Missing,
                "the node's firmware fetched no token in this boot",
            ),
        };
        let agent = match self.agent {
            Some(AgentWitness::Broker) => piece(
                "agent",
                EvidenceStanding::Seen,
                "the agent spoke from the address that fetched the token",
            ),
            Some(AgentWitness::Nobody) => piece(
                "agent",
                EvidenceStanding::CannotTell,
                "an agent spoke; an external broker does not show from which address",
            ),
            None => piece("agent", EvidenceStanding::Missing, "no agent spoke in this boot"),
        };
        vec![
            port("port_off", "off", self.off),
            port("port_on", "on", self.on),
            firmware,
            agent,
            card(self.card.as_ref()),
            place(self.place),
        ]
    }

    /// What a release needs and was not seen, in words; empty when nothing is missing. What cannot be seen here is
    /// shown, and no node is held back for it: its site has nothing better.
    pub fn missing_for_release(&self) -> String {
        let needed = ["port_off", "port_on", "firmware", "agent"];
        let is_missing =
            |piece: &Piece| needed.contains(&piece.name) && piece.standing == EvidenceStanding::Missing;
        let missing = self.pieces().into_iter().filter(is_missing);
        missing.map(|piece| piece.seen).collect::<Vec<_>>().join("; ")
    }
}

fn card(card: Option<&CardSighting>) -> Piece {
    match card {
        Some(CardSighting::Same(cid)) => {
            piece("card", EvidenceStanding::Seen, format!("card {cid}, the one that was there before"))
        }
        Some(CardSighting::First(cid)) => {
            piece("card", EvidenceStanding::Seen, format!("card {cid}, the first that was seen in this node"))
        }
        Some(CardSighting::Changed { before, now }) => {
            piece("card", EvidenceStanding::Changed, format!("card {now}; before it was {before}"))
        }
        Some(CardSighting::Unidentified) => {
            piece("card", EvidenceStanding::CannotTell, "a card that shows no identification")
        }
        Some(CardSighting::Absent) => piece("card", EvidenceStanding::Missing, "there was no card"),
        None => piece("card", EvidenceStanding::Missing, "no card was shown in this boot"),
    }
}

fn place(place: Option<Place>) -> Piece {
    match place {
        Some(Place::AtPort) => {
            piece("place", EvidenceStanding::Seen, "the switch saw the node's hardware address at its port")
        }
        Some(Place::NotInTable) => piece(
            "place",
            EvidenceStanding::CannotTell,
            "the node's hardware address is not in the switch's table of addresses",
        ),
        Some(Place::NoTable) => {
            piece("place", EvidenceStanding::CannotTell, "the switch shows no table of addresses")
        }
        None => piece(
            "place",
            EvidenceStanding::Missing,
            "looked at when the node is switched off in its release",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_lacks_what_was_not_seen_and_not_what_cannot_be_seen() {
        let whole = BootEvidence {
            off: Some(PortWitness::Switch),
            on: Some(PortWitness::Nobody),
            firmware: Some("10.0.0.11".parse().unwrap()),
            agent: Some(AgentWitness::Nobody),
            card: None,
            place: None,
        };
        assert_eq!(whole.missing_for_release(), "");
        let lacking = BootEvidence { firmware: None, off: None, ..whole };
        assert_eq!(
            lacking.missing_for_release(),
            "the port was not seen off before this boot; the node's firmware fetched no token in this boot"
        );
        assert_eq!(BootEvidence::default().pieces().len(), 6);
    }

    #[test]
    fn a_card_is_known_new_changed_or_tells_nothing() {
        let of = CardSighting::of;
        assert_eq!(of(true, Some("a"), Some("a")), CardSighting::Same("a".into()));
        assert_eq!(of(true, Some("a"), None), CardSighting::First("a".into()));
        let changed = CardSighting::Changed { before: "b".into(), now: "a".into() };
        assert_eq!(of(true, Some("a"), Some("b")), changed);
        assert_eq!(of(true, None, Some("b")), CardSighting::Unidentified);
        assert_eq!(of(false, None, Some("b")), CardSighting::Absent);
    }
}
