//! What agents report: hellos, answers and their logs, as events at their deployments and lines to keep.

use super::Runner;
use crate::clock::{self, UnixMs};
use crate::domain::boot_evidence::CardSighting;
use crate::domain::guard::{self, Action, Finding, Guards};
use crate::machine::event::{AgentSign, Sign};
use crate::store::{AgentWord, AgentWords};
use piseduce_protocol::id::{BootNumber, DeploymentId, Serial};
use piseduce_protocol::report::{Answer, Hello, Log, LogLine, Outcome, Report};

impl Runner {
    pub(super) fn reported(&mut self, id: DeploymentId, serial: Serial, boot: BootNumber, report: Report) {
        match report {
            Report::Hello(hello) => {
                if hello.serial != serial {
                    tracing::warn!(%serial, claimed = %hello.serial, "hello with another node's serial number dropped");
                    return;
                }
                self.hello_came(serial);
                let words = serde_json::to_string(&hello).expect("a hello has text keys only");
                self.keep_words(id, boot, Some(words), vec![]);
                let card = self.card_shown(id, boot, hello.card.clone());
                let findings = guard::examine(&hello.model, &hello.bootloader);
                let detail = described(&hello, &card, &findings, &self.policy.guards);
                let objection = self.policy.guards.objection(&findings);
                let sign = AgentSign::Hello { boot, kernel: hello.kernel, objection, card };
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
fn described(hello: &Hello, sighting: &CardSighting, findings: &[Finding], guards: &Guards) -> String {
    let mut card = hello.card.as_ref().map_or_else(
        || "no card".into(),
        |card| format!("card {} of {} bytes", card.cid.as_deref().unwrap_or(&card.device), card.bytes),
    );
    if let CardSighting::Changed { before, .. } = sighting {
        card += &format!(", before it was card {before}");
    }
    let warned = findings.iter().filter(|finding| guards.action(finding) == Action::Warn);
    let warnings: String = warned.map(|finding| format!("; {}: {}", finding.kind, finding.seen)).collect();
    format!("hello: {}, {}, agent {}, {card}{warnings}", hello.model, hello.mac, hello.agent)
}
