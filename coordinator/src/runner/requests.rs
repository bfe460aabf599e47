//! What people ask of deployments, of one or of many at once: one message, one turn of the loop, one transaction. So
//! a coordinator that is killed meanwhile has done all of it or nothing.

use super::Runner;
use super::inbox::{Handle, Message, RequestError};
use crate::clock;
use crate::machine::event::{Event, Request};
use crate::machine::{Effect, Refusal, advance};
use crate::store::Actor;
use piseduce_protocol::id::DeploymentId;
use tokio::sync::oneshot;

/// What becomes of the others when some deployments refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRefusal {
    /// Nothing is done with any of them.
    DoNothing,
    /// They do what was asked.
    DoTheOthers,
}

/// What is asked of deployments, in whose name.
pub(super) struct Requests {
    asked: Vec<(DeploymentId, Request)>,
    user: String,
    on_refusal: OnRefusal,
    answer: oneshot::Sender<Result<Vec<Answer>, RequestError>>,
}

/// What a deployment says to a request.
pub type Answer = Result<(), Refusal>;

impl Handle {
    /// Asks the machine for something in a user's name. When this returns, the answer is on disk.
    ///
    /// # Errors
    /// [`RequestError::Refused`] with the machine's reason.
    pub async fn ask(
        &self,
        deployment: DeploymentId,
        request: Request,
        user: &str,
    ) -> Result<(), RequestError> {
        let answers = self.ask_all(vec![(deployment, request)], user, OnRefusal::DoNothing).await?;
        Ok(answers.into_iter().collect::<Result<(), Refusal>>()?)
    }

    /// Asks many deployments at once: what they do is saved in one transaction. Returns what each says, in their order;
    /// when this returns, that is on disk.
    ///
    /// # Errors
    /// [`RequestError::Ending`].
    pub async fn ask_all(
        &self,
        asked: Vec<(DeploymentId, Request)>,
        user: &str,
        on_refusal: OnRefusal,
    ) -> Result<Vec<Answer>, RequestError> {
        let user = user.to_owned();
        self.answered(|answer| Message::Ask(Requests { asked, user, on_refusal, answer })).await
    }
}

impl Runner {
    /// Takes requests; they are answered when their turn is on disk.
    pub(super) fn ask(&mut self, requests: Requests) {
        let Requests { asked, user, on_refusal, answer } = requests;
        let objects = |(id, request): &(DeploymentId, Request)| self.objection(*id, request).is_some();
        let stops = on_refusal == OnRefusal::DoNothing && asked.iter().any(objects);
        let answers: Vec<Answer> = asked
            .into_iter()
            .map(|(id, request)| {
                let refusal = if stops || self.deployment(id).is_none() {
                    self.objection(id, &request)
                } else {
                    self.step(id, &Event::Asked(request), &Actor::User(user.clone()), None)
                };
                refusal.map_or(Ok(()), Err)
            })
            .collect();
        // Whoever asked may be gone; what was asked is done all the same.
        self.turn.replies.push(Box::new(move || drop(answer.send(Ok(answers)))));
    }

    /// What the machine would say against a request now.
    fn objection(&self, id: DeploymentId, request: &Request) -> Option<Refusal> {
        let Some(held) = self.lives.get(&id) else { return Some(Refusal::Ended) };
        let moment = super::Moment { at: clock::now(), link_since: self.link_since };
        let (_, effects) = advance(held.live.clone(), &Event::Asked(request.clone()), moment, &self.policy);
        effects.into_iter().find_map(|effect| match effect {
            Effect::Refuse(refusal) => Some(refusal),
            _ => None,
        })
    }
}
