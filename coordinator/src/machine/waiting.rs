//! What a deployment waits for, in a clause that follows "waiting for". For people only: every wait has
//! words of its own, which say who acts next, or what to do when nobody does.
//!
//! The words hold no running times, so that they change only when the wait does.

use super::admission::Lack;
use super::event::Asked;
use super::live::{Live, Moment};
use super::policy::Policy;
use crate::clock::UnixMs;
use crate::domain::deployment::{Active, Condition, Deployment, Phase, Purpose, Resting, Then};
use crate::domain::reservation::utc;
use piseduce_protocol::state::State;
use std::time::Duration;

/// A switch that has not proven a port after this long is called silent: the queue waits 5 s for a board to
/// lose its charge and up to 20 s for a port to deliver.
const SWITCH_SILENT: Duration = Duration::from_secs(30);

/// Work without progress is called so after this long.
const STILL: Duration = Duration::from_secs(20);

/// At most so many neighbours are named.
const NAMES_MAX: usize = 8;

/// What is around a deployment that people want named.
#[derive(Clone, Debug)]
pub struct Around<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Its switch's name.
    pub switch: &'a str,
    /// Its outlet there.
    pub port: &'a str,
    /// Whether a person switches that outlet.
    pub by_hand: bool,
    /// Why its switch does not answer now, if it does not.
    pub trouble: Option<&'a str>,
    /// Until when its form may stay open.
    pub form_until: UnixMs,
    /// For a node that may not be powered on yet: what its switch has not got.
    pub lack: Lack,
    /// And the nodes that take up its switch's places.
    pub booting: Vec<&'a str>,
}

/// What `live` waits for; none when its user has the node, or nobody has.
pub fn waiting(live: &Live, moment: Moment, policy: &Policy, around: &Around<'_>) -> Option<String> {
    let node = around.node;
    match &live.deployment.condition {
        Condition::Open => Some(format!(
            "its form: `piseduce deploy {node}` sends it; without one the node is freed at {}",
            utc(around.form_until.0)
        )),
        Condition::Active(active) => {
            let next = match &active.phase {
                Phase::Stopping(then) => stopping(active.state, then, policy),
                Phase::Leaving => {
                    "the agent to leave the boot root, so that the node boots its card; after a while power does it"
                        .into()
                }
                Phase::Off | Phase::On => power(live, active, moment, around),
                Phase::Admission => admission(active, around),
                Phase::Work => work(live, active.state, moment, policy),
            };
            Some(match &active.purpose {
                Purpose::Destroy(_) => format!("{next}; the node is being given back"),
                Purpose::Test => format!("{next}; the node is being tested"),
                Purpose::Deploy | Purpose::Reboot | Purpose::Halt(_) | Purpose::Isolate(_) => next,
            })
        }
        Condition::Resting(rest) => resting(&live.deployment, rest.state, node),
        Condition::Ended(_) => None,
    }
}

fn stopping(state: State, then: &Then, policy: &Policy) -> String {
    let next = match then {
        Then::Resume => "the node is powered off and on",
        Then::Again => "the next run begins",
        Then::Destroy(_) => "the card is wiped and the node freed",
    };
    let seconds = policy.stop_max.as_secs();
    format!("the agent to end its work of {state} in order, for {seconds} s at most; then {next}")
}

fn power(live: &Live, active: &Active, moment: Moment, around: &Around<'_>) -> String {
    let Around { switch, port, .. } = around;
    let (wanted, next) = match (&active.phase, &active.purpose) {
        (Phase::On, _) => ("delivers power", after_power_on(active.state)),
        (_, Purpose::Deploy) if active.state == State::EnvBoot => {
            ("is off", "so that the node boots its card: its agent did not leave the boot root".into())
        }
        (_, Purpose::Deploy | Purpose::Destroy(_) | Purpose::Test) if active.state == State::NfsBootOff => {
            ("is off", "so that the node starts afresh in the boot root".into())
        }
        (_, Purpose::Deploy) => ("is off", format!("as {} wants it", active.state)),
        (_, Purpose::Reboot) => ("is off", "before the node is powered on again".into()),
        (_, Purpose::Destroy(_) | Purpose::Test) => ("is off", "as its card is wiped".into()),
        (_, Purpose::Halt(cause)) => ("is off", format!("because of {}", cause.name.as_str())),
        (_, Purpose::Isolate(cause)) => {
            ("is off", format!("because of {}, before the node is quarantined", cause.name.as_str()))
        }
    };
    if around.by_hand {
        let turn = if active.phase == Phase::On { "on" } else { "off" };
        return format!(
            "somebody to switch port {port} of {switch} {turn} by hand, then `piseduce switch done {switch} {port}`, {next}"
        );
    }
    // Nothing happens while a switch is silent, so nothing has counted that time yet.
    let in_phase = live.clocks.in_phase + moment.at.since(live.clocks.counted_to);
    let silent = match (around.trouble, in_phase >= SWITCH_SILENT) {
        (Some(why), _) => format!("; it is asked again and again: {why}"),
        (None, true) => "; it has not shown it for long and is asked again and again".into(),
        (None, false) => String::new(),
    };
    format!("switch {switch} to show that port {port} {wanted}, {next}{silent}")
}

fn after_power_on(state: State) -> String {
    match state {
        State::NfsBootOn => "so that the node boots the boot root".into(),
        State::EnvBoot => "so that the node boots its new card".into(),
        State::TurnOn => "so that the node boots its card again".into(),
        state => format!("as {state} wants it"),
    }
}

fn admission(active: &Active, around: &Around<'_>) -> String {
    let (switch, next) = (around.switch, after_power_on(active.state));
    match around.lack {
        Lack::Turn => {
            format!("its turn to be powered on by switch {switch}, one node after the other, {next}")
        }
        Lack::Watts { budget, drawn, needed } => format!(
            "power of switch {switch}, {next}: it may deliver {budget} W, the nodes that are on may draw {drawn} W of \
             it, this one {needed} W"
        ),
        Lack::Places(most, is_slow) => {
            let count = around.booting.len();
            let mut names = around.booting[..count.min(NAMES_MAX)].join(", ");
            if count > NAMES_MAX {
                names += ", …";
            }
            let whose = if is_slow { " of Pi 3s" } else { "" };
            format!(
                "one of the {most} places{whose} to boot at switch {switch}, {next}; booting now: {names}"
            )
        }
    }
}

fn work(live: &Live, state: State, moment: Moment, policy: &Policy) -> String {
    let clocks = &live.clocks;
    if (state.is_agents() || state == State::NfsBootOn) && moment.link_since.is_none() {
        return format!("our own link to the broker, to go on with {state}; the node is not blamed");
    }
    if state.is_agents() {
        let beats = clocks.last_beat.is_none() || live.beats(moment.at, policy);
        let young = moment.link_since.is_some_and(|since| moment.at < since + policy.link_settle);
        if !beats && young {
            return format!("the agent to find our new link to the broker, to go on with {state}");
        }
        if !beats {
            return format!("a heartbeat of the agent in {state}, which has been silent for long");
        }
        // Only a busy card resets the one of these clocks and not the other.
        if clocks.blocked >= STILL && clocks.idle < clocks.blocked {
            return format!("the card, which is busy without a measure of progress, to end {state}");
        }
        if clocks.blocked >= STILL {
            return format!("progress of {state}: the agent lives, but its work does not move");
        }
    }
    let asked = clocks.asked;
    match state {
        State::NfsBootConf => "the coordinator to serve the boot root to the node".into(),
        State::NfsBootOn if asked == Some(Asked::Kernel) => {
            "the agent's hello; the firmware has fetched the boot root".into()
        }
        State::NfsBootOn if asked == Some(Asked::Address) => {
            "somebody to offer the node's firmware an address, which it has asked for".into()
        }
        State::NfsBootOn if matches!(asked, Some(Asked::Offered(_))) => {
            "the node's firmware to ask for the boot root; it was offered an address".into()
        }
        State::NfsBootOn if asked.is_some() => {
            "the node's firmware to fetch the kernel of the boot root; it has asked for files".into()
        }
        State::NfsBootOn => "the node's firmware to ask for the boot root; its port delivers power".into(),
        State::EnvCopy => "the agent to write the image to the card".into(),
        State::EnvCheck => "the agent to read the card back and compare it with the image".into(),
        State::DeletePartition => "the agent to take the entry of the root partition out of the table".into(),
        State::CreatePartition => "the agent to enter the root partition with its new size".into(),
        State::MountPartition => {
            "the agent to check the card's file systems and to recognise its system".into()
        }
        State::ResizePartition => "the agent to plan the growth of the root file system".into(),
        State::WaitResizing => "the root file system to grow".into(),
        State::SystemConf => "the agent to set host name, host keys and boot configuration".into(),
        State::UserConf => "the agent to set password, keys and script, and to make the card bootable".into(),
        State::Wipe => "the agent to make the card unbootable and to wipe it".into(),
        State::EnvBootConf => "the coordinator to serve the card to the node".into(),
        State::EnvBoot => first_sign(live, "its new card"),
        State::TurnOn => first_sign(live, "its card after the reboot"),
        State::UserScript if live.deployment.script_started => "the user's script to end".into(),
        State::UserScript => "the node to start the user's script; it has booted its card".into(),
        // Never seen: these rest, or are left by the power queue.
        State::Initialized
        | State::NfsBootOff
        | State::TurnOff
        | State::Deployed
        | State::Lost
        | State::Failed
        | State::Quarantined
        | State::Ended => format!("the end of {state}"),
    }
}

fn first_sign(live: &Live, card: &str) -> String {
    let reports = live.deployment.form.as_ref().is_none_or(|form| form.reports);
    match (reports, live.clocks.asked_for_files()) {
        (true, true) => {
            format!("the first report of the system on {card}; the firmware has asked what to boot")
        }
        (true, false) => format!("the first report of the system on {card}"),
        (false, _) => format!("the node's firmware to ask what to boot, which is {card}"),
    }
}

fn resting(deployment: &Deployment, state: Resting, node: &str) -> Option<String> {
    let ways = format!(
        "`piseduce reboot {node}` goes on from {}, `piseduce deploy-again {node}` starts from the beginning, \
         `piseduce destroy {node}` gives the node back",
        deployment.registered
    );
    match state {
        Resting::Deployed => None,
        Resting::Lost => Some(format!("somebody to look at the silent node; then {ways}")),
        Resting::Failed => Some(format!("its user, who may remove the cause; then {ways}")),
        Resting::Quarantined => Some(format!(
            "an administrator, who looks at node and switch; then `piseduce node test {node}` tries to free it again"
        )),
    }
}
