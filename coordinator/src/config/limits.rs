//! The section `[limits]`: how long what may take, and how many nodes boot at once.

use super::{Config, ConfigError, Section};
use crate::machine::Policy;
use std::time::Duration;

impl Section<'_> {
    /// The settings with the limits of this section.
    pub(super) fn limits(mut self, config: Config) -> Result<Config, ConfigError> {
        let defaults = Policy::default();
        let seconds = |duration: Duration| duration.as_secs();
        let mut time = |key: &str, default: Duration| {
            self.number(key, seconds(default), 1..=86_400).map(Duration::from_secs)
        };
        let restart_after = time("restart_after_s", defaults.restart_after)?;
        let blocked_max = time("blocked_max_s", defaults.blocked_max)?;
        let env_boot_restart_after = time("env_boot_restart_after_s", defaults.env_boot_restart_after)?;
        let env_boot_blocked_max = time("env_boot_blocked_max_s", defaults.env_boot_blocked_max)?;
        let hold = time("hold_s", Duration::from_secs(15 * 60))?;
        let boots_in_flight = self.number("boots_in_flight", defaults.boots_in_flight as u64, 1..=1000)?;
        let boots_in_flight_pi3 =
            self.number("boots_in_flight_pi3", defaults.boots_in_flight_pi3 as u64, 1..=1000)?;
        let mut spacing = |key: &str, default: Duration| {
            let default = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
            self.number(key, default, 0..=600_000).map(Duration::from_millis)
        };
        let boot_spacing = spacing("boot_spacing_ms", defaults.boot_spacing)?;
        let boot_spacing_pi3 = spacing("boot_spacing_pi3_ms", defaults.boot_spacing_pi3)?;
        let restart_budget = self.number("restart_budget", defaults.restart_budget.into(), 0..=10)?;
        let free_mb = self.number("free_space_mb", 1024, 0..=1_000_000_000)?;
        let policy = Policy {
            restart_budget: u32::try_from(restart_budget).expect("at most 10"),
            restart_after,
            blocked_max,
            env_boot_restart_after,
            env_boot_blocked_max,
            boots_in_flight: usize::try_from(boots_in_flight).expect("at most 1000"),
            boots_in_flight_pi3: usize::try_from(boots_in_flight_pi3).expect("at most 1000"),
            boot_spacing,
            boot_spacing_pi3,
            ..defaults
        };
        policy.check().map_err(|error| {
            let allowed =
                format!("at least {}, so that all {} restarts can be used", error.needed, error.budget);
            self.wrong(&format!("{}_s", error.blocked), error.found.to_string(), allowed)
        })?;
        self.finish()?;
        Ok(Config { policy, hold, free_bytes: free_mb << 20, ..config })
    }
}
