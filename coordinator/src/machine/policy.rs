//! The limits that the machine applies, in one place. Defaults are the product's promises.

use crate::domain::guard::Guards;
use piseduce_protocol::command::Wipe;
use std::time::Duration;

/// Limits of a site. All times are without pauses: nobody is blamed for waiting on us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Restarts that a run has; never refilled.
    pub restart_budget: u32,
    /// A boot into the boot root, or an agent, that shows no progress for this long is restarted.
    pub restart_after: Duration,
    /// A node without progress for this long is lost, restarts included.
    pub blocked_max: Duration,
    /// A boot of the written card that is not reported after this long is restarted.
    pub env_boot_restart_after: Duration,
    /// A node whose written card did not report for this long, restarts included, is lost.
    pub env_boot_blocked_max: Duration,
    /// How long an agent may take to end its writing before its power is cut.
    pub stop_max: Duration,
    /// How long an agent may take to leave the boot root before its power is cycled.
    pub leave_max: Duration,
    /// How long a power job may take. The queue of each switch has limits of its own, and a person who switches by
    /// hand has a day: this is for a queue that never answers.
    pub power_max: Duration,
    /// How old our own broker link must be before silence counts against a node.
    pub link_settle: Duration,
    /// After this long without a heartbeat an agent is called silent.
    pub beat_max: Duration,
    /// How long a node's report about its script may come after the script's own time limit.
    pub script_report_max: Duration,
    /// Nodes of one switch between power-on and sign of life.
    pub boots_in_flight: usize,
    /// The same for Pi 3s alone, which ask for their files slowly and give up early.
    pub boots_in_flight_pi3: usize,
    /// Time between two power-ons on one switch.
    pub boot_spacing: Duration,
    /// Time before a Pi 3 is powered on.
    pub boot_spacing_pi3: Duration,
    /// What is done with the content of a card whose user has gone.
    pub wipe: Wipe,
    /// Whether that waits until the node is deployed for another user.
    pub wipe_later: bool,
    /// Whether the broker lets an agent in from the address that fetched its token only: our own does, another shows
    /// no addresses.
    pub broker_checks_addresses: bool,
    /// What keeps a node from being deployed or freed.
    pub guards: Guards,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            restart_budget: 2,
            restart_after: Duration::from_secs(100),
            blocked_max: Duration::from_secs(300),
            env_boot_restart_after: Duration::from_secs(200),
            env_boot_blocked_max: Duration::from_secs(600),
            stop_max: Duration::from_secs(2),
            leave_max: Duration::from_secs(60),
            power_max: Duration::from_secs(25 * 3600),
            link_settle: Duration::from_secs(30),
            beat_max: Duration::from_secs(15),
            script_report_max: Duration::from_secs(660),
            boots_in_flight: 8,
            boots_in_flight_pi3: 2,
            boot_spacing: Duration::from_secs(2),
            boot_spacing_pi3: Duration::from_secs(10),
            wipe: Wipe::Headers,
            wipe_later: false,
            broker_checks_addresses: true,
            guards: Guards::default(),
        }
    }
}

/// A limit that makes another one useless.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "with {blocked} = {found} s the {budget} restarts after {restart} s each cannot all be used; at least {needed} s are needed"
)]
pub struct PolicyError {
    /// Which limit is too short.
    pub blocked: &'static str,
    /// Its value in seconds.
    pub found: u64,
    /// The restart budget.
    pub budget: u32,
    /// The restart limit in seconds.
    pub restart: u64,
    /// The least value in seconds.
    pub needed: u64,
}

impl Policy {
    /// Time between two power-ons on one switch of which the second is of this kind.
    pub fn boot_spacing_of(&self, is_pi3: bool) -> Duration {
        if is_pi3 { self.boot_spacing_pi3 } else { self.boot_spacing }
    }

    /// Checks that every restart of the budget can be used before a node is lost.
    ///
    /// # Errors
    /// [`PolicyError`] naming the limit that is too short.
    pub fn check(&self) -> Result<(), PolicyError> {
        let pairs = [
            ("blocked_max", self.blocked_max, self.restart_after),
            ("env_boot_blocked_max", self.env_boot_blocked_max, self.env_boot_restart_after),
        ];
        for (blocked, found, restart) in pairs {
            let needed = restart * (self.restart_budget + 1);
            if found < needed {
                return Err(PolicyError {
                    blocked,
                    found: found.as_secs(),
                    budget: self.restart_budget,
                    restart: restart.as_secs(),
                    needed: needed.as_secs(),
                });
            }
        }
        Ok(())
    }
}
