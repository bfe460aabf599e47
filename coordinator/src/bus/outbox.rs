//! What is to be said to the world: kept here, not in rumqttc, which forgets it with every connection.
//! Bounded by the number of nodes, and by [`EVENTS_HELD`].

use crate::clock::Instant;
use piseduce_protocol::command::Command;
use piseduce_protocol::id::{BootNumber, Serial, Ticket};
use piseduce_protocol::status::{NodeStatus, StateEvent};
use std::collections::{BTreeSet, HashMap, VecDeque};

/// An unanswered command goes out again after this long.
const RESEND_AFTER_MS: u64 = 5_000;
/// When a command that was not said yet is due.
const AT_ONCE: Instant = Instant(0);
/// State events that wait for a connection; older ones are dropped, as QoS 0 says.
const EVENTS_HELD: usize = 1024;

/// What is to be said. What is due stands in queues of its own, so that looking for it costs nothing for all the rest.
#[derive(Default)]
pub(super) struct Outbox {
    commands: HashMap<Serial, Waiting>,
    /// Every command by the time when it is to be said, at first or again.
    due: BTreeSet<(Instant, Serial)>,
    statuses: HashMap<String, Status>,
    /// The names of those that must be published, in the order of their changes.
    unpublished: VecDeque<String>,
    events: VecDeque<StateEvent>,
}

struct Waiting {
    boot: BootNumber,
    command: Command,
    due: Instant,
}

/// What is retained of a node.
struct Status {
    /// None to clear it.
    status: Option<NodeStatus>,
    /// Whether its name stands among the unpublished.
    is_queued: bool,
}

/// One thing to say.
pub(super) enum Say<'a> {
    Command(Serial, BootNumber, &'a Command),
    Status(&'a NodeStatus),
    NoStatus(&'a str),
    Event(&'a StateEvent),
}

impl Outbox {
    /// Says `command` until it is answered, replaced or forgotten.
    pub(super) fn command(&mut self, serial: Serial, boot: BootNumber, command: Command) {
        self.forget(serial);
        self.due.insert((AT_ONCE, serial));
        self.commands.insert(serial, Waiting { boot, command, due: AT_ONCE });
    }

    pub(super) fn forget(&mut self, serial: Serial) {
        if let Some(waiting) = self.commands.remove(&serial) {
            self.due.remove(&(waiting.due, serial));
        }
    }

    /// The agent answered the command with this ticket.
    pub(super) fn answered(&mut self, serial: Serial, ticket: Ticket) {
        if self.commands.get(&serial).is_some_and(|waiting| waiting.command.ticket == ticket) {
            self.forget(serial);
        }
    }

    pub(super) fn status(&mut self, status: NodeStatus) {
        self.set(status.node.clone(), Some(status));
    }

    pub(super) fn no_status(&mut self, node: &str) {
        self.set(node.into(), None);
    }

    fn set(&mut self, node: String, status: Option<NodeStatus>) {
        let before = self.statuses.insert(node.clone(), Status { status, is_queued: true });
        if !before.is_some_and(|before| before.is_queued) {
            self.unpublished.push_back(node);
        }
    }

    pub(super) fn event(&mut self, event: StateEvent) {
        if self.events.len() == EVENTS_HELD {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// A new connection knows nothing: everything that still holds is said again.
    pub(super) fn begin_anew(&mut self) {
        self.unpublished = self.statuses.keys().cloned().collect();
        self.statuses.values_mut().for_each(|status| status.is_queued = true);
        self.commands.values_mut().for_each(|waiting| waiting.due = AT_ONCE);
        self.due = self.commands.keys().map(|serial| (AT_ONCE, *serial)).collect();
    }

    /// Says what is due through `say`, until that has no more room; the rest is due next time.
    pub(super) fn flush(&mut self, now: Instant, mut say: impl FnMut(Say<'_>) -> bool) {
        while let Some((due, serial)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            let waiting = self.commands.get_mut(&serial).expect("what is due is a command");
            if !say(Say::Command(serial, waiting.boot, &waiting.command)) {
                return;
            }
            waiting.due = Instant(now.0 + RESEND_AFTER_MS);
            self.due.remove(&(due, serial));
            self.due.insert((waiting.due, serial));
        }
        while let Some(node) = self.unpublished.front() {
            let known = self.statuses.get_mut(node).expect("only what is known is queued");
            if !say(known.status.as_ref().map_or(Say::NoStatus(node), Say::Status)) {
                return;
            }
            known.is_queued = false;
            self.unpublished.pop_front();
        }
        while let Some(event) = self.events.front() {
            if !say(Say::Event(event)) {
                return;
            }
            self.events.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piseduce_protocol::command::Order;
    use piseduce_protocol::id::{DeploymentId, Run, Seq};

    fn command(seq: u32) -> Command {
        let ticket = Ticket { deployment: DeploymentId(1), run: Run(1), seq: Seq(seq) };
        Command { ticket, unix_ms: 0, order: Order::Stop }
    }

    /// The sequence numbers of the commands that are said at `seconds`.
    fn said(outbox: &mut Outbox, seconds: u64) -> Vec<u32> {
        let mut said = Vec::new();
        outbox.flush(Instant(seconds * 1000), |say| {
            if let Say::Command(_, _, command) = say {
                said.push(command.ticket.seq.0);
            }
            true
        });
        said
    }

    #[test]
    fn a_command_is_said_again_until_it_is_answered_or_replaced() {
        let mut outbox = Outbox::default();
        outbox.command(Serial(1), BootNumber(1), command(1));
        assert_eq!(said(&mut outbox, 10), [1]);
        assert!(said(&mut outbox, 14).is_empty());
        assert_eq!(said(&mut outbox, 15), [1]);
        outbox.command(Serial(1), BootNumber(1), command(2));
        outbox.answered(Serial(1), command(1).ticket);
        assert_eq!(said(&mut outbox, 16), [2]);
        outbox.begin_anew();
        assert_eq!(said(&mut outbox, 17), [2]);
        outbox.answered(Serial(1), command(2).ticket);
        assert!(said(&mut outbox, 99).is_empty());
    }

    #[test]
    fn what_found_no_room_is_said_next_time() {
        let mut outbox = Outbox::default();
        outbox.command(Serial(1), BootNumber(1), command(1));
        outbox.flush(Instant(0), |_| false);
        assert_eq!(said(&mut outbox, 0), [1]);
    }

    #[test]
    fn only_what_changed_is_said_and_each_name_once() {
        let mut outbox = Outbox::default();
        let names = |outbox: &mut Outbox, room: usize| {
            let mut names = Vec::new();
            outbox.flush(Instant(0), |say| {
                let is_room = names.len() < room;
                if let (true, Say::NoStatus(name)) = (is_room, say) {
                    names.push(name.to_owned());
                }
                is_room
            });
            names
        };
        for name in ["pi-2", "pi-1", "pi-2"] {
            outbox.no_status(name);
        }
        assert_eq!(names(&mut outbox, 1), ["pi-2"]);
        outbox.no_status("pi-2");
        assert_eq!(names(&mut outbox, 9), ["pi-1", "pi-2"]);
        assert!(names(&mut outbox, 9).is_empty());
        outbox.begin_anew();
        assert_eq!(names(&mut outbox, 9).len(), 2);
    }

    /// Looking for what is due must not look at everything that is not: it is done after each packet.
    #[test]
    fn five_thousand_quiet_nodes_cost_nothing() {
        let mut outbox = Outbox::default();
        for serial in 0..5_000 {
            outbox.command(Serial(serial), BootNumber(1), command(1));
            outbox.no_status(&format!("pi-{serial}"));
        }
        said(&mut outbox, 10);
        assert_eq!(outbox.due.first().map(|(due, _)| *due), Some(Instant(15_000)));
        assert!(outbox.unpublished.is_empty());
        outbox.answered(Serial(7), command(1).ticket);
        assert_eq!((outbox.due.len(), said(&mut outbox, 15).len()), (4_999, 4_999));
    }
}
