//! What reaches the runner, from whom, and how a message becomes an event at a deployment.

use super::orders::{PortOrder, SwitchedPort};
use super::requests::Requests;
use super::site::Readings;
use super::{Distrust, Runner};
use crate::bus::link::Heard;
use crate::clock::{self, UnixMs};
use crate::domain::guard::{self, Action, Finding, Guards};
use crate::domain::node::{NodeId, SwitchId};
use crate::domain::reservation::Reservation;
use crate::machine::Refusal;
use crate::machine::event::{AgentSign, Asked, Event, FirstBootSign, Powered, Sign};
use crate::power::Station;
use crate::store::{Actor, AgentWord, AgentWords, Conflict, Opened, StoreError, Wanted};
use piseduce_protocol::id::{BootNumber, DeploymentId, Run, Seq, Serial};
use piseduce_protocol::report::{Answer, Hello, Log, LogLine, Outcome, Report};
use tokio::sync::{mpsc, oneshot};

/// To the runner.
pub(super) enum Message {
    Heard(Heard),
    Reserve(Wanted, oneshot::Sender<Result<Opened, RequestError>>),
    ConfirmClock(String, Reply),
    Ask(Requests),
    Powered(DeploymentId, Seq, Powered),
    ViewServed(DeploymentId, Seq),
    BootAsked(Serial, Asked),
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
    /// The coordinator is ending.
    #[error("the coordinator is ending; try again when it runs")]
    Ending,
}

/// How others reach the runner.
#[derive(Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Message>,
}

impl Handle {
    pub(super) fn new(inbox: mpsc::Sender<Message>) -> Self {
        Handle { inbox }
    }

    async fn send(&self, message: Message) -> Result<(), RequestError> {
        self.inbox.send(message).await.map_err(|_| RequestError::Ending)
    }

    pub(super) async fn answered<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, RequestError>>) -> Message,
    ) -> Result<T, RequestError> {
        let (reply, answer) = oneshot::channel();
        self.send(message(reply)).await?;
        answer.await.map_err(|_| RequestError::Ending)?
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

    /// Whether the runner takes its turns: answered when one is over and what it changed is on disk.
    ///
    /// # Errors
    /// [`RequestError::Ending`].
    pub async fn are_you_alive(&self) -> Result<(), RequestError> {
        self.answered(Message::AreYouAlive).await
    }

    /// A node's firmware asked for its boot view.
    ///
    /// # Errors
    /// [`RequestError::Ending`].
    pub async fn boot_asked(&self, serial: Serial, asked: Asked) -> Result<(), RequestError> {
        self.send(Message::BootAsked(serial, asked)).await
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
                let distrust = self.confirm_clock(user).await?;
                let _ = reply.send(distrust.map_or(Ok(()), |why| Err(why.into())));
            }
            Message::Reserve(_, reply) if self.distrust.is_some() => {
                let why = self.distrust.expect("just looked");
                let _ = reply.send(Err(why.into()));
            }
            Message::Reserve(wanted, reply) => {
                // The answer may be a conflict; a store that fails is another matter and ends the runner.
                let result = match self.store.reserve(wanted).await {
                    Ok(opened) => {
                        for stored in &opened.deployments {
                            let node = stored.node.id;
                            self.take_up(stored.clone());
                            self.show(node);
                        }
                        Ok(opened)
                    }
                    Err(StoreError::Conflict(conflict)) => Err(conflict.into()),
                    Err(other) => return Err(other),
                };
                let _ = reply.send(result);
            }
            Message::Ask(requests) => self.ask(requests),
            Message::Powered(id, seq, powered) => self.powered(id, seq, powered).await?,
            Message::ViewServed(id, seq) => self.seen(id, Sign::ViewServed(seq), None),
            Message::BootAsked(serial, asked) => self.boot_asked(serial, asked).await?,
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
            Message::Ordered(number, powered) => self.ordered_ended(number, powered).await?,
            Message::Stations(switch, stations) => self.stations(switch, &stations),
            Message::InventoryChanged(reply) => {
                self.load_inventory().await?;
                self.watch_switches(false);
                self.read_unknown_ports();
                self.show_all();
                let _ = reply.send(Ok(()));
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

    async fn powered(&mut self, id: DeploymentId, seq: Seq, powered: Powered) -> Result<(), StoreError> {
        if let Some(node) = self.lives.get(&id).map(|held| held.node) {
            self.set_powered(node, powered.is_on());
            if let Some(known) = self.nodes.get(&node) {
                let (switch, port) = (known.node.switch, known.node.attributes.port.clone());
                self.note_remark(switch, &port).await?;
            }
        }
        self.seen(id, Sign::Power(seq, powered), None);
        Ok(())
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
            Heard::Lost(serial, boot) => {
                tracing::debug!(%serial, %boot, "the broker lost the agent's connection")
            }
        }
    }

    fn reported(&mut self, id: DeploymentId, serial: Serial, boot: BootNumber, report: Report) {
        match report {
            Report::Hello(hello) => {
                if hello.serial != serial {
                    tracing::warn!(%serial, claimed = %hello.serial, "hello with another node's serial number dropped");
                    return;
                }
                let words = serde_json::to_string(&hello).expect("a hello has text keys only");
                self.keep_words(id, boot, Some(words), vec![]);
                self.card_shown(id, hello.card.clone());
                let findings = guard::examine(&hello.model, &hello.bootloader);
                let detail = described(&hello, &findings, &self.policy.guards);
                let objection = self.policy.guards.objection(&findings);
                let sign = AgentSign::Hello { boot, kernel: hello.kernel, objection };
                self.seen(id, Sign::Agent(sign), Some(detail));
            }
            Report::Answer(answer) => self.answered(id, answer),
            Report::Log(log) => self.keep_words(id, boot, None, dated(log)),
            Report::Written(written) => self.card_wrote(id, written),
        }
    }

    /// Keeps what the agent of the present boot told, with the rest of this turn.
    fn keep_words(
        &mut self,
        id: DeploymentId,
        boot: BootNumber,
        hello: Option<String>,
        lines: Vec<AgentWord>,
    ) {
        let Some(now) = self.deployment(id).filter(|now| now.boot == boot) else { return };
        let run = now.run;
        self.turn.words.push(AgentWords { deployment: id, run, boot, at: clock::unix_ms(), hello, lines });
    }

    /// Keeps what agents told in this turn.
    pub(super) async fn keep_told(&mut self) -> Result<(), StoreError> {
        let (words, cards) = (std::mem::take(&mut self.turn.words), std::mem::take(&mut self.turn.cards));
        if !words.is_empty() {
            self.store.keep_words(words).await?;
        }
        if !cards.is_empty() {
            self.store.keep_cards(cards).await?;
        }
        Ok(())
    }

    fn answered(&mut self, id: DeploymentId, answer: Answer) {
        let current = self.deployment(id).is_some_and(|now| now.ticket() == answer.ticket);
        let detail = match &answer.outcome {
            Outcome::Done(said) if !said.is_empty() => Some(said.clone()),
            Outcome::Refused(why) => {
                tracing::warn!(ticket = %answer.ticket, why, "agent refuses");
                None
            }
            Outcome::Failed(cause) => Some(cause.to_string()),
            _ => None,
        };
        if let Outcome::Failed(cause) = &answer.outcome {
            self.card_failed(id, answer.ticket, cause);
        }
        if let (true, Outcome::Progress(progress), Some(held)) =
            (current, &answer.outcome, self.lives.get_mut(&id))
        {
            held.progress = Some(*progress);
        }
        self.seen(id, Sign::Agent(AgentSign::Answer(answer)), detail);
        if let Some(node) = self.lives.get(&id).map(|held| held.node) {
            self.show(node);
        }
    }
}

/// Lines of an agent, whose calendar may be wrong, with the head node's time.
fn dated(log: Log) -> Vec<AgentWord> {
    let heard = clock::unix_ms().0;
    let date = |line: LogLine| {
        let ago_ms = log.now_us.saturating_sub(line.at_us) / 1000;
        AgentWord { boot_us: line.at_us, at: UnixMs(heard.saturating_sub(ago_ms)), text: line.text }
    };
    log.lines.into_iter().map(date).collect()
}

/// A hello, for the journal.
fn described(hello: &Hello, findings: &[Finding], guards: &Guards) -> String {
    let card = hello.card.as_ref().map_or_else(
        || "no card".into(),
        |card| format!("card {} of {} bytes", card.cid.as_deref().unwrap_or(&card.device), card.bytes),
    );
    let warned = findings.iter().filter(|finding| guards.action(finding) == Action::Warn);
    let warnings: String = warned.map(|finding| format!("; {}: {}", finding.kind, finding.seen)).collect();
    format!("hello: {}, {}, agent {}, {card}{warnings}", hello.model, hello.mac, hello.agent)
}
