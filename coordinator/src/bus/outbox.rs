//! What is to be said to the world: kept here, not in rumqttc, which forgets it with every connection.
//! Bounded by the number of nodes, and by [`EVENTS_HELD`].

use crate::clock::Instant;
use piseduce_protocol::command::Command;
use piseduce_protocol::id::{BootNumber, Serial, Ticket};
use piseduce_protocol::status::{NodeStatus, StateEvent};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// An unanswered command goes out again after this long.
const RESEND_AFTER: Duration = Duration::from_secs(5);
/// State events that wait for a connection; older ones are dropped, as QoS 0 says.
const EVENTS_HELD: usize = 1024;

/// What is to be said.
#[derive(Default)]
pub(super) struct Outbox {
    commands: HashMap<Serial, Waiting>,
    /// The retained status of each node by name, none to clear it, and whether it must be published.
    statuses: HashMap<String, (Option<NodeStatus>, bool)>,
    events: VecDeque<StateEvent>,
}

struct Waiting {
    boot: BootNumber,
    command: Command,
    sent: Option<Instant>,
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
        self.commands.insert(serial, Waiting { boot, command, sent: None });
    }

    pub(super) fn forget(&mut self, serial: Serial) {
        self.commands.remove(&serial);
    }

    /// The agent answered the command with this ticket.
    pub(super) fn answered(&mut self, serial: Serial, ticket: Ticket) {
        self.commands.retain(|known, waiting| *known != serial || waiting.command.ticket != ticket);
    }

    pub(super) fn status(&mut self, status: NodeStatus) {
        self.statuses.insert(status.node.clone(), (Some(status), true));
    }

    pub(super) fn no_status(&mut self, node: &str) {
        self.statuses.insert(node.into(), (None, true));
    }

    pub(super) fn event(&mut self, event: StateEvent) {
        if self.events.len() == EVENTS_HELD {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// A new connection knows nothing: everything that still holds is said again.
    pub(super) fn begin_anew(&mut self) {
        self.statuses.values_mut().for_each(|(_, publish)| *publish = true);
        self.commands.values_mut().for_each(|waiting| waiting.sent = None);
    }

    /// Says what is due through `say`, until that has no more room; the rest is due next time.
    pub(super) fn flush(&mut self, now: Instant, mut say: impl FnMut(Say<'_>) -> bool) {
        for (serial, waiting) in &mut self.commands {
            if waiting.sent.is_some_and(|sent| now.since(sent) < RESEND_AFTER) {
                continue;
            }
            if !say(Say::Command(*serial, waiting.boot, &waiting.command)) {
                return;
            }
            waiting.sent = Some(now);
        }
        for (node, (status, publish)) in self.statuses.iter_mut().filter(|(_, (_, publish))| *publish) {
            if !say(status.as_ref().map_or(Say::NoStatus(node), Say::Status)) {
                return;
            }
            *publish = false;
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
}
