//! Who is at a port before it is cut: what the switch has seen there is held against the register. Unknown is not
//! "right": where the switch has shown addresses before, nothing is cut that it cannot tell of.

use super::{AddressTable, Line, Port, PowerError, Station};
use crate::clock::{self, Instant};
use crate::domain::boot_evidence::Place;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Mutex;

/// Which node belongs at which outlet of a switch, by network address.
pub type Places = HashMap<String, Port>;

/// For so long what the switch has seen is not asked again: many ports are cut in one go.
const FRESH: std::time::Duration = std::time::Duration::from_secs(5);
/// So often a switch that answers is asked for addresses that it does not tell: datagrams get lost.
const TRIES: usize = 3;

/// What a switch told last, and when; none before. Its inner error is why it did not.
type Told = Option<(Instant, Result<Option<AddressTable>, String>)>;

/// What the queue of one switch knows of who is where.
#[derive(Clone, Default)]
pub(super) struct PlaceCheck {
    places: Arc<Places>,
    told: Arc<Mutex<Told>>,
    /// Whether the switch has told of addresses since its queue was opened.
    has_told: Arc<AtomicBool>,
}

/// What is known of the node at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is there.
    Right,
    /// Nobody is registered there, or the switch shows no addresses or is not to be asked for them.
    Unasked,
    /// It is elsewhere, or another one is here.
    Wrong(String),
    /// The switch shows addresses, but not the node's: it has been silent for long, or speaks where the switch does
    /// not show it.
    Unseen(String),
    /// The switch cannot tell, which it could before.
    Lost(String),
    /// The switch cannot tell, and never could.
    Untold(String),
}

impl Verdict {
    /// What this is worth as evidence of where the node was.
    pub(super) fn place(&self) -> Place {
        match self {
            Verdict::Right => Place::AtPort,
            Verdict::Unseen(_) | Verdict::Wrong(_) => Place::NotInTable,
            Verdict::Unasked | Verdict::Lost(_) | Verdict::Untold(_) => Place::NoTable,
        }
    }
}

impl PlaceCheck {
    pub(super) fn set_places(&mut self, places: Places) {
        // Another register asks for other addresses.
        if *self.places != places {
            (self.places, self.told) = (Arc::new(places), Arc::default());
        }
    }

    /// Asks the switch who is at `own`.
    ///
    /// # Errors
    /// When the switch answers nothing at all.
    pub(super) async fn verdict(&self, line: &Line, own: &Port) -> Result<Verdict, PowerError> {
        if !self.places.values().any(|place| place == own) {
            return Ok(Verdict::Unasked);
        }
        let mut told = self.told.lock().await;
        if told.as_ref().is_none_or(|(at, _)| clock::now() >= *at + FRESH) {
            let answer = self.ask(line, own).await?;
            *told = Some((clock::now(), answer));
        }
        let answer = told.as_ref().map(|(_, answer)| answer).expect("it was just asked");
        let had_told = self.has_told.load(Ordering::Relaxed);
        Ok(judge(own, &self.places, answer, had_told))
    }

    /// The places of all nodes of the switch in one go; the inner error: the switch answers, but not this.
    async fn ask(&self, line: &Line, own: &Port) -> Result<Result<Option<AddressTable>, String>, PowerError> {
        let macs: Vec<String> = self.places.keys().cloned().collect();
        let mut why = String::new();
        for _ in 0..TRIES {
            match line.ask(|switch| switch.locate(&macs)).await {
                Ok(table) => {
                    if table.as_ref().is_some_and(|table| table.gap.is_none()) {
                        self.has_told.store(true, Ordering::Relaxed);
                    }
                    return Ok(Ok(table));
                }
                Err(PowerError::Refused(refused)) => return Ok(Err(refused)),
                Err(PowerError::Unreachable(silence)) => why = silence,
            }
            // A switch that is away altogether is waited for by the queue.
            if let Err(error @ PowerError::Unreachable(_)) = line.ask(|switch| switch.read(own)).await {
                return Err(error);
            }
        }
        Ok(Err(why))
    }
}

/// What an answer means for `own`, at which a node is registered.
fn judge(
    own: &Port,
    places: &Places,
    answer: &Result<Option<AddressTable>, String>,
    had_told: bool,
) -> Verdict {
    let table = match answer {
        Ok(None) => return Verdict::Unasked,
        Ok(Some(table)) => table,
        Err(why) => &AddressTable { stations: vec![], gap: Some(why.clone()) },
    };
    let Some((mac, _)) = places.iter().find(|(_, place)| *place == own) else { return Verdict::Unasked };
    let mut of_node = table.stations.iter().filter(|station| station.mac == *mac);
    if of_node.clone().any(|station| station.port == own.port) {
        return Verdict::Right;
    }
    let Port { port, node } = own;
    if let Some(Station { port: other, .. }) = of_node.next() {
        return Verdict::Wrong(format!("the switch sees {mac} of {node} at port {other}, not at {port}"));
    }
    let here = table.stations.iter().filter(|station| station.port == *port);
    if let Some(stranger) =
        here.filter_map(|station| places.get(&station.mac)).find(|place| place.port != *port)
    {
        let stranger = &stranger.node;
        return Verdict::Wrong(format!(
            "the switch sees {stranger} at port {port}, which is registered for {node}"
        ));
    }
    match &table.gap {
        None => Verdict::Unseen(format!("the switch does not show {mac} of {node} at any port now")),
        Some(gap) => {
            let unknown = format!("whether {node} is at port {port} is not known: {gap}");
            if had_told { Verdict::Lost(unknown) } else { Verdict::Untold(unknown) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: usize) -> Port {
        Port { port: number.to_string(), node: format!("pi-{number}") }
    }

    fn check(seen: &[(&str, usize)], gap: Option<&str>, had_told: bool) -> Verdict {
        let places: Places = (1..=3).map(|number| (format!("mac-{number}"), port(number))).collect();
        let station = |(mac, at): &(&str, usize)| Station { mac: (*mac).into(), port: at.to_string() };
        let stations = seen.iter().map(station).collect();
        let table = AddressTable { stations, gap: gap.map(Into::into) };
        judge(&port(1), &places, &Ok(Some(table)), had_told)
    }

    #[test]
    fn what_contradicts_the_register_stands_against_a_cut() {
        assert_eq!(check(&[("mac-1", 1), ("mac-2", 2)], None, true), Verdict::Right);
        let seen = |seen: &[(&str, usize)], gap| check(seen, gap, true).place();
        assert_eq!(seen(&[("mac-1", 1)], None), Place::AtPort);
        assert_eq!(seen(&[("mac-2", 2)], None), Place::NotInTable);
        assert_eq!(seen(&[], Some("the table is cut short")), Place::NoTable, "unknown is no evidence");
        assert_eq!(check(&[("mac-1", 24), ("mac-1", 1)], None, true), Verdict::Right, "seen in two VLANs");
        let wrong = |seen: &[(&str, usize)], words: &str| match check(seen, None, true) {
            Verdict::Wrong(why) => assert!(why.contains(words), "{why}"),
            other => panic!("{other:?}"),
        };
        wrong(&[("mac-1", 2)], "at port 2, not at 1");
        wrong(&[("mac-3", 1)], "sees pi-3 at port 1");
        let container = check(&[("a container of the node", 1)], None, true);
        assert!(matches!(container, Verdict::Unseen(_)), "users' own addresses say nothing: {container:?}");
    }

    #[test]
    fn a_table_with_a_gap_is_no_proof_and_what_it_does_show_counts() {
        let gap = Some("the table is cut short");
        assert_eq!(check(&[("mac-1", 1)], gap, true), Verdict::Right);
        assert!(matches!(check(&[("mac-1", 2)], gap, true), Verdict::Wrong(_)));
        assert!(matches!(check(&[], gap, true), Verdict::Lost(why) if why.contains("cut short")));
        assert!(matches!(check(&[("mac-2", 2)], gap, false), Verdict::Untold(_)));
        assert!(matches!(check(&[("mac-2", 2)], None, false), Verdict::Unseen(_)));
    }

    #[test]
    fn where_nobody_is_to_be_asked_nothing_is_held_against_a_cut() {
        assert_eq!(judge(&port(1), &Places::new(), &Err("silence".into()), true), Verdict::Unasked);
        let places = Places::from([("mac-1".to_owned(), port(1))]);
        assert_eq!(judge(&port(1), &places, &Ok(None), true), Verdict::Unasked);
        assert!(matches!(judge(&port(1), &places, &Err("silence".into()), true), Verdict::Lost(_)));
    }
}
