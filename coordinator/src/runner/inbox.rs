//! What reaches the runner, from whom, and how a message becomes an event at a deployment.

use super::orders::{PortOrder, SwitchedPort};
use super::requests::Requests;
use super::site::Readings;
use super::{Distrust, Runner};
use crate::bus::link::Heard;
use crate::clock::{self, Instant};
use crate::domain::boot_evidence::TokenHolder;
use crate::domain::node::{NodeId, SwitchId};
use crate::domain::reservation::Reservation;
use crate::machine::Refusal;
use crate::machine::event::{AgentSign, Asked, Event, FirstBootSign, Powered, Sign};
use crate::power::Station;
use crate::store::{Actor, Conflict, DiskTrouble, Opened, StoreError, Wanted};
use piseduce_protocol::id::{DeploymentId, Run, Seq, Serial};
use tokio::sync::{mpsc, oneshot, watch};

/// To the runner.
pub(super) enum Message {
    Heard(Heard),
    Reserve(Wanted, oneshot::Sender<Result<Opened, RequestError>>),
    ConfirmClock(String, Reply),
    Ask(Requests),
    Powered(DeploymentId, Seq, Powered),
    ViewServed(DeploymentId, Seq),
    BootAsked(Serial, Asked, Instant),
    TokenFetched(Serial, TokenHolder),
    CardAnswers(Serial),
    FirstBoot(DeploymentId, Run, FirstBootSign),
    InventoryChanged(Reply),
    AreYouAlive(Reply),
    SwitchFound { switch: SwitchId, restarted: bool },
    Surveyed(SwitchId, Option<Readings>),
    PortsRead(SwitchId, Readings),
    SwitchedOff(NodeId, Powered),
    Looked { switch: SwitchId, node: NodeId, asked: Asked, restarted: bool },
    Stations(SwitchId, Vec<Station>),
    Order(PortOrder, Powering),
    Ordered(u64, Powered),
}

/// Whom to tell how a port was switched.
pub(super) type Powering = oneshot::Sender<Result<SwitchedPort, RequestError>>;

/// Whom to tell how a request went.
pub(super) type Reply = oneshot::Sender<Result<(), RequestError>>;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The machine says no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// It contradicts what is there.
    #[error("{0}")]
    Conflict(#[from] Conflict),
    /// Nobody knows when a reservation of now would end.
    #[error("{0}")]
    Clock(#[from] Distrust),
    /// It could not be saved, so it was not done.
    #[error("{0}")]
    Disk(#[from] DiskTrouble),
    /// The coordinator is ending.
    #[error("the coordinator is ending; try again when it runs")]
    Ending,
}

/// How others reach the runner.
#[derive(Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Message>,
    unsaved: watch::Receiver<Option<DiskTrouble>>,
}

impl Handle {
    pub(super) fn new(inbox: mpsc::Sender<Message>, unsaved: watch::Receiver<Option<DiskTrouble>>) -> Self {
        Handle { inbox, unsaved }
    }

    /// Returns when the runner waits for the disk, with the reason.
    async fn disk_trouble(&self) -> DiskTrouble {
        let mut unsaved = self.unsaved.clone();
        match unsaved.wait_for(Option::is_some).await.map(|found| found.clone()) {
            Ok(Some(trouble)) => trouble,
            // The runner is gone, which whoever waits is told otherwise.
            _ => std::future::pending().await,
        }
    }

    async fn send(&self, message: Message) -> Result<(), RequestError> {
        self.inbox.send(message).await.map_err(|_| RequestError::Ending)
    }

    pub(super) async fn answered<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, RequestError>>) -> Message,
    ) -> Result<T, RequestError> {
        let (reply, answer) = oneshot::channel();
        let ask = async {
            self.send(message(reply)).await?;
            answer.await.map_err(|_| RequestError::Ending)?
        };
        tokio::select! {
            // Nobody waits for a disk: what cannot be saved now is refused.
            biased;
            trouble = self.disk_trouble() => Err(trouble.into()),
            answer = ask => answer,
        }
    }

    /// Holds nodes for a user.
    ///
    /// # Errors
    /// [`RequestError::Conflict`] naming who holds a node until when.
    pub async fn reserve(&self, wanted: Wanted) -> Result<Reservation, RequestError> {
        self.answered(|reply| Message::Reserve(wanted, reply)).await.map(|opened| opened.reservation)
    }

    /// An administrator says that the head's clock is right as it is.
    ///
    /// # Errors
    /// [`RequestError::Clock`] when it is still not believed, because nothing keeps it right.
    pub async fn confirm_clock(&self, user: &str) -> Result<(), RequestError> {
        self.answered(|reply| Message::ConfirmClock(user.into(), reply)).await
    }

    /// Has a port switched in an administrator's name, and says how that ended.
    ///
    /// # Errors
    /// [`RequestError::Conflict`] when it must not be switched.
    pub async fn switch_port(&self, order: PortOrder) -> Result<SwitchedPort, RequestError> {
        self.answered(|reply| Message::Order(order, reply)).await
    }

    /// The inventory in the store changed.
    ///
    /// # Errors
    /// [`RequestError::Ending`].
    pub async fn inventory_changed(&self) -> Result<(), RequestError> {
        self.answered(Message::InventoryChanged).await
    }

    /// Whether the runner takes its turns: answered when one is over and what it changed is on disk. One that waits
    /// for the disk lives, too.
    ///
    /// # Errors
    /// [`RequestError::Ending`].
    pub async fn are_you_alive(&self) -> Result<(), RequestError> {
        match self.answered(Message::AreYouAlive).await {
            Err(RequestError::Disk(_)) => Ok(()),
            other => other,
        }
    }

    /// A node's firmware asked for its boot view, at this time.
    ///
    /// # Errors
    /// [`RequestError::Ending`].
    pub async fn boot_asked(&self, serial: Serial, asked: Asked, at: Instant) -> Result<(), RequestError> {
        self.send(Message::BootAsked(serial, asked, at)).await
    }

    /// A node's own firmware asks for the token of its boot, which is served once this is saved: the board shows it then.
    ///
    /// # Errors
    /// [`RequestError::Ending`].
    pub async fn token_fetched(&self, serial: Serial, holder: TokenHolder) -> Result<(), RequestError> {
        self.send(Message::TokenFetched(serial, holder)).await
    }

    /// The system on a node's card answers, although its firmware asked for nothing.
    ///
    /// # Errors
    /// [`RequestError::Ending`].
    pub async fn card_answers(&self, serial: Serial) -> Result<(), RequestError> {
        self.send(Message::CardAnswers(serial)).await
    }

    /// The card of a run reported. Whoever calls has checked its proof.
    ///
    /// # Errors
    /// [`RequestError::Ending`].
    pub async fn first_boot(
        &self,
        deployment: DeploymentId,
        run: Run,
        sign: FirstBootSign,
    ) -> Result<(), RequestError> {
        self.send(Message::FirstBoot(deployment, run, sign)).await
    }

    /// What the broker link heard.
    ///
    /// # Errors
    /// [`RequestError::Ending`].
    pub async fn heard(&self, heard: Heard) -> Result<(), RequestError> {
        self.send(Message::Heard(heard)).await
    }
}

impl Runner {
    pub(super) async fn receive(&mut self, message: Message) -> Result<(), StoreError> {
        match message {
            Message::Heard(heard) => self.heard(heard),
            Message::ConfirmClock(user, reply) => {
                let distrust = self.confirm_clock(user);
                let answer = distrust.map_or(Ok(()), |why| Err(why.into()));
                self.turn.replies.push(Box::new(move || drop(reply.send(answer))));
            }
            Message::Reserve(wanted, reply) => {
                // The clock may have made its step just now.
                self.read_calendar();
                if let Some(why) = self.distrust {
                    let _ = reply.send(Err(why.into()));
                    return Ok(());
                }
                let result = answer_of(self.store.reserve(wanted).await)?;
                for stored in result.iter().flat_map(|opened| &opened.deployments) {
                    let node = stored.node.id;
                    self.take_up(stored.clone());
                    self.show(node);
                }
                let _ = reply.send(result);
            }
            Message::Ask(requests) => self.ask(requests),
            Message::Powered(id, seq, powered) => self.powered(id, seq, powered),
            Message::ViewServed(id, seq) => self.seen(id, Sign::ViewServed(seq), None),
            Message::BootAsked(serial, asked, at) => self.boot_asked(serial, asked, at),
            Message::TokenFetched(serial, holder) => self.token_fetched(serial, holder),
            Message::CardAnswers(serial) => self.card_answers(serial),
            Message::FirstBoot(id, run, sign) => {
                if let Some(node) = self.lives.get(&id).map(|held| held.node) {
                    self.shows_life(node);
                }
                self.seen(id, Sign::FirstBoot(run, sign), None);
            }
            Message::SwitchFound { switch, restarted } => self.switch_found(switch, restarted),
            Message::Surveyed(switch, readings) => self.surveyed(switch, readings),
            Message::PortsRead(switch, readings) => self.ports_read(switch, &readings),
            Message::SwitchedOff(node, powered) => self.switched_off(node, &powered),
            Message::Looked { switch, node, asked, restarted } => self.looked(switch, node, asked, restarted),
            Message::Order(order, reply) => self.order(order, reply).await?,
            Message::Ordered(number, powered) => self.ordered_ended(number, powered),
            Message::Stations(switch, stations) => self.stations(switch, &stations),
            Message::InventoryChanged(reply) => {
                let result = answer_of(self.load_inventory().await)?;
                self.watch_switches(false);
                self.read_unknown_ports();
                self.show_all();
                let _ = reply.send(result);
            }
            Message::AreYouAlive(reply) => self.turn.replies.push(Box::new(move || drop(reply.send(Ok(()))))),
        }
        Ok(())
    }

    pub(super) fn deployment_of(&self, serial: Serial) -> Option<DeploymentId> {
        self.nodes.get(self.serials.get(&serial)?)?.deployment
    }

    pub(super) fn seen(&mut self, id: DeploymentId, sign: Sign, detail: Option<String>) {
        self.step(id, &Event::Seen(sign), &Actor::Machine, detail);
    }

    fn powered(&mut self, id: DeploymentId, seq: Seq, powered: Powered) {
        if let Some(node) = self.lives.get(&id).map(|held| held.node) {
            self.set_powered(node, powered.is_on());
            if let Some(known) = self.nodes.get(&node) {
                let (switch, port) = (known.node.switch, known.node.attributes.port.clone());
                self.note_remark(switch, &port);
            }
            if let (Some(_), Some(known)) = (powered.is_on(), self.nodes.get(&node)) {
                let proof = self.outside.port_proof(&known.node);
                self.seen(id, Sign::PortShown(seq, proof), None);
            }
        }
        self.seen(id, Sign::Power(seq, powered), None);
    }

    fn heard(&mut self, heard: Heard) {
        // What every deployment waits for depends on our own link.
        self.turn.show_all |= matches!(heard, Heard::Up | Heard::Down);
        match heard {
            Heard::Up | Heard::Down => self.board.set_link(heard == Heard::Up),
            _ => {}
        }
        match heard {
            Heard::Up => self.set_link_since(Some(clock::now())),
            Heard::Down => {
                // What silence there was until now is counted before the clocks stand still.
                let ids: Vec<DeploymentId> = self.lives.keys().copied().collect();
                for id in ids {
                    self.step(id, &Event::Tick, &Actor::Machine, None);
                }
                self.set_link_since(None);
            }
            Heard::Report(serial, boot, report) => {
                if let Some(id) = self.deployment_of(serial) {
                    self.reported(id, serial, boot, report);
                }
            }
            Heard::Beat(serial, boot, beat) => {
                if let Some(id) = self.deployment_of(serial) {
                    if let Some(node) = self.serials.get(&serial).copied() {
                        self.shows_life(node);
                    }
                    let sign = AgentSign::Beat { boot, last: beat.last, card_busy: beat.card_busy };
                    self.seen(id, Sign::Agent(sign), None);
                }
            }
            Heard::Stale(serial) => {
                if let Some(id) = self.deployment_of(serial) {
                    self.seen(id, Sign::StaleAgent, None);
                }
            }
            Heard::TokenElsewhere(serial, boot, address) => {
                if let Some(id) = self.deployment_of(serial) {
                    self.seen(id, Sign::TokenElsewhere(boot, address), None);
                }
            }
            Heard::Lost(serial, boot) => {
                tracing::debug!(%serial, %boot, "the broker lost the agent's connection")
            }
        }
    }
}

/// What whoever asked is told of the store's answer. What is neither their mistake nor the disk's ends the runner.
pub(super) fn answer_of<T>(answer: Result<T, StoreError>) -> Result<Result<T, RequestError>, StoreError> {
    match answer {
        Ok(value) => Ok(Ok(value)),
        Err(StoreError::Conflict(conflict)) => Ok(Err(conflict.into())),
        Err(StoreError::Disk(trouble)) => Ok(Err(trouble.into())),
        Err(other) => Err(other),
    }
}
