//! Decides what to do about each command: start it, repeat its answer, refuse it. Pure.
//!
//! One command at a time, newer ones only, the same answer to the same ticket. `Stop` and `Reboot` are
//! taken while work goes on; they end it and are answered in its stead. It does not know how work is
//! done (`worker.rs`) or how words travel (`link.rs`).

use piseduce_protocol::command::{Command, Order, Wipe, Work};
use piseduce_protocol::id::Ticket;
use piseduce_protocol::report::{Answer, Outcome, Progress, Standing};
use piseduce_protocol::state::State;
use std::fmt;

/// What the runner does, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Say who is here.
    Hello,
    /// Publish this answer.
    Say(Answer),
    /// Give this work to the worker, which is idle.
    Begin {
        /// Whose it is.
        ticket: Ticket,
        /// What it is.
        job: Job,
        /// The head node's calendar time.
        unix_ms: u64,
    },
    /// Make the worker end early.
    Cancel,
    /// Leave the boot root; the answer before this effect is the last one.
    Reboot,
}

/// What can be given to the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// The work of a state of a deployment.
    Perform(Work),
    /// The old content of the card goes.
    Wipe(Wipe),
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Job::Perform(work) => write!(f, "{}, attempt {}", work.state, work.attempt),
            Job::Wipe(wipe) => write!(f, "wipe {wipe}"),
        }
    }
}

/// What the agent was asked and how that stands.
#[derive(Debug, Default)]
pub struct Agent {
    /// The answer to the newest command that was not refused.
    last: Option<Answer>,
    /// The answer to a command that was refused after that one.
    refused: Option<Answer>,
    /// Whose work the worker does; an older ticket than `last` while it is being stopped.
    worker: Option<Ticket>,
    /// The last command is `Reboot`.
    is_leaving: bool,
}

impl Agent {
    /// A command was opened.
    pub fn command(&mut self, command: Command) -> Vec<Effect> {
        let Command { ticket, unix_ms, order } = command;
        let last = self.last.as_ref().map(|answer| answer.ticket);
        match (last, order, self.worker) {
            (Some(last), _, _) if ticket == last => self.repeat(),
            (Some(last), _, _) if ticket < last => {
                self.refuse(ticket, format!("{ticket} is older than {last}"))
            }
            _ if self.is_leaving => self.refuse(ticket, "the node is about to reboot".into()),
            (_, Order::Perform(_) | Order::Wipe(_), Some(busy)) => {
                self.refuse(ticket, format!("busy with {busy}"))
            }
            (_, Order::Perform(work), None) if !State::AGENTS.contains(&work.state) => {
                self.refuse(ticket, format!("{} is no work of an agent", work.state))
            }
            (_, Order::Perform(work), None) => self.begin(ticket, Job::Perform(work), unix_ms),
            (_, Order::Wipe(wipe), None) => self.begin(ticket, Job::Wipe(wipe), unix_ms),
            (_, Order::Stop, Some(_)) => vec![self.answer(ticket, Outcome::Started), Effect::Cancel],
            (_, Order::Stop, None) => vec![self.answer(ticket, done("nothing was being done"))],
            (_, Order::Reboot, Some(_)) => {
                self.is_leaving = true;
                vec![self.answer(ticket, Outcome::Started), Effect::Cancel]
            }
            (_, Order::Reboot, None) => {
                self.is_leaving = true;
                vec![self.answer(ticket, done("the node reboots")), Effect::Reboot]
            }
        }
    }

    fn begin(&mut self, ticket: Ticket, job: Job, unix_ms: u64) -> Vec<Effect> {
        self.worker = Some(ticket);
        let said = self.answer(ticket, Outcome::Started);
        vec![said, Effect::Begin { ticket, job, unix_ms }]
    }

    /// The worker moved.
    pub fn progress(&mut self, ticket: Ticket, progress: Progress) -> Vec<Effect> {
        match self.is_last(ticket) {
            true => vec![self.answer(ticket, Outcome::Progress(progress))],
            false => vec![],
        }
    }

    /// The worker is idle again; `outcome` is none when it was made to end early.
    pub fn ended(&mut self, ticket: Ticket, outcome: Option<Outcome>) -> Vec<Effect> {
        self.worker = None;
        match (self.is_last(ticket), &self.last) {
            (true, _) => outcome.map(|outcome| self.answer(ticket, outcome)).into_iter().collect(),
            (false, None) => vec![],
            (false, Some(last)) => {
                // A stop or reboot waits for this; the work's own answer is not said any more.
                let said = self.answer(last.ticket, done(&format!("ended the work of {ticket}")));
                if self.is_leaving { vec![said, Effect::Reboot] } else { vec![said] }
            }
        }
    }

    /// The link came up, or the coordinator asks who is there: everything that counts is said again.
    pub fn introduce(&self) -> Vec<Effect> {
        let mut effects = vec![Effect::Hello];
        effects.extend(self.repeat());
        effects.extend(self.refused.clone().map(Effect::Say));
        effects
    }

    /// The newest command that was not refused.
    pub fn doing(&self) -> Option<Ticket> {
        self.last.as_ref().map(|answer| answer.ticket)
    }

    /// Whose work the worker does.
    pub fn worker(&self) -> Option<Ticket> {
        self.worker
    }

    /// How that command stands, and how far it is.
    pub fn standing(&self) -> Option<(Ticket, Standing, Option<Progress>)> {
        let Answer { ticket, outcome } = self.last.as_ref()?;
        Some(match outcome {
            Outcome::Started => (*ticket, Standing::Working, None),
            Outcome::Progress(progress) => (*ticket, Standing::Working, Some(*progress)),
            Outcome::Done(_) => (*ticket, Standing::Done, None),
            Outcome::Failed(_) | Outcome::Refused(_) => (*ticket, Standing::Failed, None),
        })
    }

    fn is_last(&self, ticket: Ticket) -> bool {
        self.doing() == Some(ticket)
    }

    fn answer(&mut self, ticket: Ticket, outcome: Outcome) -> Effect {
        let answer = Answer { ticket, outcome };
        if self.refused.as_ref().is_some_and(|refused| refused.ticket <= ticket) {
            self.refused = None;
        }
        self.last = Some(answer.clone());
        Effect::Say(answer)
    }

    fn refuse(&mut self, ticket: Ticket, why: String) -> Vec<Effect> {
        let answer = Answer { ticket, outcome: Outcome::Refused(why) };
        if self.doing().is_none_or(|last| ticket > last) {
            self.refused = Some(answer.clone());
        }
        vec![Effect::Say(answer)]
    }

    fn repeat(&self) -> Vec<Effect> {
        let Some(last) = &self.last else { return vec![] };
        let started = matches!(last.outcome, Outcome::Progress(_))
            .then(|| Answer { ticket: last.ticket, outcome: Outcome::Started });
        started.into_iter().chain([last.clone()]).map(Effect::Say).collect()
    }
}

fn done(text: &str) -> Outcome {
    Outcome::Done(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use piseduce_protocol::cause::{Cause, CauseKind};
    use piseduce_protocol::command::{PartSize, Verify};
    use piseduce_protocol::id::{DeploymentId, Hash, Run, Seq};

    fn ticket(seq: u32) -> Ticket {
        Ticket { deployment: DeploymentId(1), run: Run(1), seq: Seq(seq) }
    }

    fn work(state: State) -> Work {
        Work {
            state,
            attempt: 1,
            manifest: Hash([0; 32]),
            bundle: Hash([0; 32]),
            part_size: PartSize::Whole,
            verify: Verify::Written,
            recopy_boot: false,
        }
    }

    fn perform(seq: u32) -> Command {
        command(seq, Order::Perform(work(State::EnvCopy)))
    }

    fn command(seq: u32, order: Order) -> Command {
        Command { ticket: ticket(seq), unix_ms: 5, order }
    }

    fn say(seq: u32, outcome: Outcome) -> Effect {
        Effect::Say(Answer { ticket: ticket(seq), outcome })
    }

    /// What was answered last to each effect list, in short.
    fn said(effects: &[Effect]) -> Vec<(u32, &'static str)> {
        let short = |effect: &Effect| match effect {
            Effect::Say(Answer { ticket, outcome }) => {
                let name = match outcome {
                    Outcome::Started => "started",
                    Outcome::Progress(_) => "progress",
                    Outcome::Done(_) => "done",
                    Outcome::Failed(_) => "failed",
                    Outcome::Refused(_) => "refused",
                };
                Some((ticket.seq.0, name))
            }
            _ => None,
        };
        effects.iter().filter_map(short).collect()
    }

    #[test]
    fn work_is_begun_answered_and_the_same_ticket_gets_the_same_answer() {
        let mut agent = Agent::default();
        let begun = agent.command(perform(1));
        let job = Job::Perform(work(State::EnvCopy));
        let begin = Effect::Begin { ticket: ticket(1), job, unix_ms: 5 };
        assert_eq!(begun, [say(1, Outcome::Started), begin]);
        assert_eq!(agent.command(perform(1)), [say(1, Outcome::Started)]);
        agent.progress(ticket(1), Progress::default());
        assert_eq!(said(&agent.command(perform(1))), [(1, "started"), (1, "progress")]);
        let failed = Outcome::Failed(Cause::new(CauseKind::CardError, "at byte 5"));
        assert_eq!(agent.ended(ticket(1), Some(failed.clone())), [say(1, failed.clone())]);
        assert_eq!(agent.command(perform(1)), [say(1, failed)]);
    }

    #[test]
    fn a_second_work_an_older_ticket_and_a_foreign_state_are_refused() {
        let mut agent = Agent::default();
        agent.command(perform(5));
        assert_eq!(said(&agent.command(perform(6))), [(6, "refused")]);
        assert_eq!(said(&agent.command(perform(4))), [(4, "refused")]);
        agent.ended(ticket(5), Some(done("")));
        let foreign = command(7, Order::Perform(work(State::Deployed)));
        assert_eq!(said(&agent.command(foreign)), [(7, "refused")]);
        assert_eq!(said(&agent.command(perform(8))), [(8, "started")]);
    }

    #[test]
    fn a_stop_is_answered_in_the_stead_of_the_work() {
        let mut agent = Agent::default();
        agent.command(perform(1));
        let stop = command(2, Order::Stop);
        assert_eq!(agent.command(stop), [say(2, Outcome::Started), Effect::Cancel]);
        assert_eq!(agent.progress(ticket(1), Progress::default()), []);
        assert_eq!(said(&agent.ended(ticket(1), Some(done("too late")))), [(2, "done")]);
        assert_eq!(said(&agent.command(command(3, Order::Stop))), [(3, "done")]);
    }

    #[test]
    fn a_reboot_comes_after_its_answer_and_nothing_comes_after_it() {
        let mut agent = Agent::default();
        agent.command(perform(1));
        assert_eq!(said(&agent.command(command(2, Order::Reboot))), [(2, "started")]);
        let effects = agent.ended(ticket(1), None);
        assert_eq!((said(&effects), effects.last()), (vec![(2, "done")], Some(&Effect::Reboot)));
        assert_eq!(said(&agent.command(perform(3))), [(3, "refused")]);
        let idle = Agent::default().command(command(1, Order::Reboot));
        assert_eq!((said(&idle), idle.last()), (vec![(1, "done")], Some(&Effect::Reboot)));
    }

    #[test]
    fn an_introduction_repeats_the_last_answer_and_a_refusal_after_it() {
        let mut agent = Agent::default();
        assert_eq!(agent.introduce(), [Effect::Hello]);
        agent.command(perform(1));
        agent.command(perform(2));
        let effects = agent.introduce();
        assert_eq!(effects[0], Effect::Hello);
        assert_eq!(said(&effects), [(1, "started"), (2, "refused")]);
        agent.ended(ticket(1), Some(done("")));
        agent.command(perform(3));
        assert_eq!(said(&agent.introduce()), [(3, "started")]);
        assert_eq!(agent.standing(), Some((ticket(3), Standing::Working, None)));
    }

    #[derive(Clone, Copy, Debug)]
    enum Letter {
        Perform(u32),
        Stop(u32),
        Reboot(u32),
        Moved,
        Ended,
        EndedEarly,
        Connected,
    }

    const ALPHABET: [Letter; 13] = [
        Letter::Perform(1),
        Letter::Perform(2),
        Letter::Perform(3),
        Letter::Stop(1),
        Letter::Stop(2),
        Letter::Stop(3),
        Letter::Reboot(1),
        Letter::Reboot(2),
        Letter::Reboot(3),
        Letter::Moved,
        Letter::Ended,
        Letter::EndedEarly,
        Letter::Connected,
    ];

    /// What the world outside sees of an agent, with the rules that must hold after every letter.
    #[derive(Default)]
    struct World {
        agent: Agent,
        /// Whose work the worker does.
        working: Option<Ticket>,
        cancelled: bool,
        rebooting: bool,
        /// The final answer that each ticket got.
        final_answers: Vec<Answer>,
    }

    impl World {
        fn letter(&mut self, letter: Letter) {
            let (asked, effects) = match letter {
                Letter::Perform(seq) => (Some(ticket(seq)), self.agent.command(perform(seq))),
                Letter::Stop(seq) => (Some(ticket(seq)), self.agent.command(command(seq, Order::Stop))),
                Letter::Reboot(seq) => (Some(ticket(seq)), self.agent.command(command(seq, Order::Reboot))),
                Letter::Moved => {
                    let Some(working) = self.working else { return };
                    (None, self.agent.progress(working, Progress::default()))
                }
                Letter::Ended | Letter::EndedEarly => {
                    let is_early = matches!(letter, Letter::EndedEarly);
                    // A worker ends early only when it was told to, but may be done before it hears that.
                    let Some(working) = self.working.filter(|_| !is_early || self.cancelled) else { return };
                    self.working = None;
                    self.cancelled = false;
                    (None, self.agent.ended(working, (!is_early).then(|| done("work"))))
                }
                Letter::Connected => (None, self.agent.introduce()),
            };
            if let Some(asked) = asked {
                let answered =
                    |effect: &Effect| matches!(effect, Effect::Say(answer) if answer.ticket == asked);
                assert!(effects.iter().any(answered), "every command is answered at once");
            }
            effects.into_iter().for_each(|effect| self.effect(effect));
            assert_eq!(self.agent.worker(), self.working, "agent and worker agree on who works");
        }

        fn effect(&mut self, effect: Effect) {
            match effect {
                Effect::Begin { ticket, .. } => {
                    assert!(self.working.is_none() && !self.rebooting, "one work at a time, none at the end");
                    assert!(
                        !self.final_answers.iter().any(|answer| answer.ticket == ticket),
                        "no work twice"
                    );
                    self.working = Some(ticket);
                }
                Effect::Cancel => self.cancelled = true,
                Effect::Reboot => {
                    assert!(self.working.is_none() && !self.rebooting, "idle, and once");
                    self.rebooting = true;
                }
                Effect::Say(answer) if matches!(answer.outcome, Outcome::Done(_) | Outcome::Failed(_)) => {
                    let before = self.final_answers.iter().find(|known| known.ticket == answer.ticket);
                    assert!(before.is_none_or(|known| *known == answer), "one final answer a ticket");
                    assert!(self.working != Some(answer.ticket), "no end before the end");
                    self.final_answers.push(answer);
                }
                Effect::Say(_) | Effect::Hello => {}
            }
        }
    }

    #[test]
    fn every_word_of_five_events_keeps_the_rules() {
        let letters = ALPHABET.len();
        for number in 0..letters.pow(5) {
            let word: Vec<Letter> =
                (0..5).map(|place| ALPHABET[number / letters.pow(place) % letters]).collect();
            let outcome = std::panic::catch_unwind(|| {
                let mut world = World::default();
                word.iter().for_each(|letter| world.letter(*letter));
            });
            assert!(outcome.is_ok(), "{word:?}");
        }
    }
}
