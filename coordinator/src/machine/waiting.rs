//! What an active deployment waits for, in a clause that follows "waiting for". For people only.

use super::live::{Live, Moment};
use super::policy::Policy;
use crate::domain::deployment::{Phase, Then};
use piseduce_protocol::state::State;

/// What `live` waits for; none when nothing is under way.
pub fn waiting(live: &Live, moment: Moment, policy: &Policy) -> Option<String> {
    let active = live.deployment.active()?;
    let state = active.state;
    let text = match &active.phase {
        Phase::Stopping(Then::Resume) => "the agent to stop writing before the hard reboot".into(),
        Phase::Stopping(Then::Again) => "the agent to stop writing before the next run".into(),
        Phase::Stopping(Then::Destroy(_)) => "the agent to stop writing before the node is released".into(),
        Phase::Leaving => "the agent to leave the boot root".into(),
        Phase::Off => "the switch to show that the port delivers nothing".into(),
        Phase::On => "the switch to show that the port delivers power".into(),
        Phase::Admission => {
            format!("a place among the {} nodes that its switch may boot at once", policy.boots_in_flight)
        }
        Phase::Work => match state {
            State::NfsBootOn if live.clocks.asked => {
                "the agent's hello; the firmware fetched the boot root".into()
            }
            State::NfsBootOn => "the firmware's first request after power-on".into(),
            State::EnvBoot | State::TurnOn if live.clocks.asked => {
                "the first report of the card's system; the firmware asked for its boot view".into()
            }
            State::EnvBoot | State::TurnOn => "the first report of the card's system".into(),
            State::UserScript => "the end of the user's script".into(),
            state if state.is_agents() && moment.link_since.is_none() => {
                "our own link to the broker; the node is not blamed".into()
            }
            state
                if state.is_agents() && live.clocks.last_beat.is_some() && !live.beats(moment.at, policy) =>
            {
                "a heartbeat of the agent".into()
            }
            State::Wipe => "the agent to wipe the card".into(),
            state => format!("the end of {state}"),
        },
    };
    Some(text)
}
