//! Who is being answered: bounds for questions and transfers of one client and of all, and which question of a client counts.
//!
//! A firmware has one question at a time and may ask from one port for ever: its newest question ends what it asked before. When
//! there is no room, the client with the most transfers gives one up, the oldest that was never acknowledged first.

use super::super::desk::Answer;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Questions that have no answer yet, in all and of one address.
const QUESTIONS_MAX: usize = 2048;
const QUESTIONS_OF_ONE_MAX: usize = 256;
/// Transfers that are under way, in all and of one client. Each holds at most 100 kB and a descriptor, of those that the coordinator
/// keeps for its own work.
const TRANSFERS_MAX: usize = 384;
const TRANSFERS_OF_ONE_MAX: usize = 256;

/// A client's socket, and ours that it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    /// The address that was asked.
    pub(super) local: IpAddr,
    /// Who asked.
    pub(super) client: SocketAddr,
}

/// How others speak to a running transfer.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// The client asked the same again: it waits for its first packet.
    pub(super) repeat: Notify,
    /// The transfer is over.
    pub(super) end: Notify,
    /// The client acknowledged something.
    pub(super) is_confirmed: AtomicBool,
}

/// Questions and transfers.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    questions: usize,
    questions_of: HashMap<IpAddr, usize>,
    /// The newest question of each peer that has questions, and how many it has.
    newest: HashMap<Peer, (u64, usize)>,
    transfers: HashMap<Peer, Transfer>,
    /// How many transfers each client has, by hardware address.
    transfers_of: HashMap<String, usize>,
}

#[derive(Debug)]
struct Transfer {
    number: u64,
    client: String,
    answer: Answer,
    control: Arc<Control>,
}

/// A question without an answer yet.
#[derive(Debug)]
pub(super) struct Question {
    seats: Seats,
    peer: Peer,
    number: u64,
}

/// Room for a transfer, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    peer: Peer,
    number: u64,
    /// What others want of it.
    pub(super) control: Arc<Control>,
}

impl Seats {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a question; none: there are too many.
    pub(super) fn ask(&self, peer: Peer) -> Option<Question> {
        let mut inner = self.lock();
        let of_one = inner.questions_of.get(&peer.client.ip()).copied().unwrap_or_default();
        if inner.questions >= QUESTIONS_MAX || of_one >= QUESTIONS_OF_ONE_MAX {
            return None;
        }
        inner.next += 1;
        let number = inner.next;
        inner.questions += 1;
        inner.questions_of.insert(peer.client.ip(), of_one + 1);
        let newest = inner.newest.entry(peer).or_default();
        *newest = (number, newest.1 + 1);
        drop(inner);
        Some(Question { seats: self.clone(), peer, number })
    }

    /// How many transfers are under way.
    #[cfg(test)]
    fn transfers(&self) -> usize {
        self.lock().transfers.len()
    }
}

impl Question {
    /// Whether the client has asked nothing else since.
    pub(super) fn is_newest(&self) -> bool {
        self.seats.lock().newest.get(&self.peer).is_some_and(|(number, _)| *number == self.number)
    }

    /// The client gets nothing, and what it was sent before is over.
    pub(super) fn refuse(&self) {
        if self.is_newest() {
            self.seats.lock().end(&self.peer);
        }
    }

    /// Room to send `answer` to `client`, whose transfer before is over. None: the client has asked something else since, or
    /// its transfer of the same is repeated.
    pub(super) fn seat(&self, client: &str, answer: &Answer) -> Option<Seat> {
        if !self.is_newest() {
            return None;
        }
        let mut inner = self.seats.lock();
        if let Some(running) = inner.transfers.get(&self.peer)
            && running.answer == *answer
            && !running.control.is_confirmed.load(Ordering::Relaxed)
        {
            running.control.repeat.notify_one();
            return None;
        }
        inner.end(&self.peer);
        if inner.transfers_of.get(client).copied().unwrap_or_default() >= TRANSFERS_OF_ONE_MAX {
            inner.end_one_of(client);
        }
        if inner.transfers.len() >= TRANSFERS_MAX {
            let most = inner.transfers_of.iter().max_by_key(|(_, count)| **count);
            let most = most.map(|(client, _)| client.clone()).unwrap_or_default();
            inner.end_one_of(&most);
        }
        let (client, control) = (client.to_owned(), Arc::<Control>::default());
        *inner.transfers_of.entry(client.clone()).or_default() += 1;
        let transfer =
            Transfer { number: self.number, client, answer: answer.clone(), control: control.clone() };
        inner.transfers.insert(self.peer, transfer);
        drop(inner);
        Some(Seat { seats: self.seats.clone(), peer: self.peer, number: self.number, control })
    }
}

impl Inner {
    /// Ends the transfer of this peer, if it has one.
    fn end(&mut self, peer: &Peer) {
        let Some(transfer) = self.transfers.remove(peer) else { return };
        transfer.control.end.notify_one();
        if let Some(count) = self.transfers_of.get_mut(&transfer.client) {
            *count -= 1;
            if *count == 0 {
                self.transfers_of.remove(&transfer.client);
            }
        }
    }

    /// Ends the transfer of a client that matters least.
    fn end_one_of(&mut self, client: &str) {
        let its = self.transfers.iter().filter(|(_, transfer)| transfer.client == client);
        let least = its.min_by_key(|(_, transfer)| {
            (transfer.control.is_confirmed.load(Ordering::Relaxed), transfer.number)
        });
        if let Some(peer) = least.map(|(peer, _)| *peer) {
            self.end(&peer);
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let mut inner = self.seats.lock();
        inner.questions -= 1;
        if let Some(of_one) = inner.questions_of.get_mut(&self.peer.client.ip()) {
            *of_one -= 1;
            if *of_one == 0 {
                inner.questions_of.remove(&self.peer.client.ip());
            }
        }
        if let Some((_, count)) = inner.newest.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                inner.newest.remove(&self.peer);
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.seats.lock();
        if inner.transfers.get(&self.peer).is_some_and(|transfer| transfer.number == self.number) {
            inner.end(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(client: u16, port: u16) -> Peer {
        let [high, low] = client.to_be_bytes();
        let local = [10, 0, 0, 1].into();
        Peer { local, client: ([10, 1, high, low], port).into() }
    }

    fn text(name: &str) -> Answer {
        Answer::Text(name.into())
    }

    fn sit(seats: &Seats, client: u16, port: u16) -> Seat {
        seats.ask(peer(client, port)).unwrap().seat(&client.to_string(), &text("x")).unwrap()
    }

    fn is_over(seat: &Seat) -> bool {
        let notified = std::pin::pin!(seat.control.end.notified());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        notified.poll(&mut context).is_ready()
    }

    #[test]
    fn a_new_question_ends_the_transfer_before_and_the_same_question_repeats_it() {
        let seats = Seats::default();
        let ask = |name: &str| seats.ask(peer(1, 49153)).unwrap().seat("mac", &text(name));
        let first = ask("start.elf").unwrap();
        assert!(ask("start.elf").is_none() && !is_over(&first));
        first.control.is_confirmed.store(true, Ordering::Relaxed);
        let again = ask("start.elf").unwrap();
        assert!(is_over(&first), "the board began anew");
        let other = ask("bootcode.bin").unwrap();
        assert!(is_over(&again));
        drop((first, again));
        assert_eq!(seats.transfers(), 1, "who is over takes no seat away");
        drop(other);
        assert_eq!(seats.transfers(), 0);
        let inner = seats.lock();
        assert!(inner.newest.is_empty() && inner.questions_of.is_empty() && inner.transfers_of.is_empty());
    }

    #[test]
    fn the_newest_question_counts_whichever_is_answered_first() {
        let seats = Seats::default();
        let (slow, quick) = (seats.ask(peer(1, 49153)).unwrap(), seats.ask(peer(1, 49153)).unwrap());
        let seat = quick.seat("mac", &text("bootcode.bin")).unwrap();
        assert!(slow.seat("mac", &text("start.elf")).is_none());
        slow.refuse();
        assert!(!is_over(&seat));
        quick.refuse();
        assert!(is_over(&seat), "a file that is not there ends the one before, too");
    }

    #[test]
    fn questions_are_bounded_for_one_and_for_all() {
        let seats = Seats::default();
        let of_one: Vec<Question> = (0..300).filter_map(|port| seats.ask(peer(1, port))).collect();
        assert_eq!(of_one.len(), QUESTIONS_OF_ONE_MAX);
        let of_all: Vec<Question> = (2..5000).filter_map(|client| seats.ask(peer(client, 1))).collect();
        assert_eq!(of_all.len(), QUESTIONS_MAX - QUESTIONS_OF_ONE_MAX);
        drop((of_one, of_all));
        assert!(seats.ask(peer(1, 1)).is_some());
    }

    #[test]
    fn transfers_are_bounded_and_whoever_has_most_gives_one_up() {
        let seats = Seats::default();
        let honest = sit(&seats, 1, 1);
        let greedy: Vec<Seat> = (10..14)
            .flat_map(|client| (0..250).map(move |port| (client, port)))
            .map(|(c, p)| sit(&seats, c, p))
            .collect();
        assert_eq!(seats.transfers(), TRANSFERS_MAX);
        assert!(!is_over(&honest));
        let another = sit(&seats, 2, 1);
        assert!(!is_over(&another) && seats.transfers() == TRANSFERS_MAX);
        drop(greedy);
        assert_eq!(seats.transfers(), 2);
        let mine: Vec<Seat> = (0..300).map(|port| sit(&seats, 3, port)).collect();
        assert_eq!(seats.transfers(), 2 + TRANSFERS_OF_ONE_MAX);
        assert!(is_over(&mine[0]) && !is_over(&mine[299]));
    }
}
