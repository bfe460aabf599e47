//! `piseduce doctor`: looks at everything that the coordinator stands on, says what is wrong and what to do, one
//! line a check. Changes nothing; works beside a running coordinator, without one, and before the first start.

mod contents;
pub(super) mod head;
pub(super) mod listeners;
pub(super) mod netboot;

use super::ConfigOption;
use super::check::{Check, tell};
use crate::print::Output;

/// What `piseduce doctor` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Doctor {
    #[command(flatten)]
    config: ConfigOption,
}

/// Looks, and prints what it found.
///
/// # Errors
/// When a check failed; what it found is printed before.
pub fn doctor(doctor: &Doctor, output: Output) -> anyhow::Result<()> {
    tell("doctor", &examine(&doctor.config), output)
}

fn examine(option: &ConfigOption) -> Vec<Check> {
    let file = option.file().display().to_string();
    let config = match option.read() {
        Ok(config) => config,
        Err(error) => {
            let advice = "mend it and run this again; README, \"Run it\", has every setting";
            return vec![Check::fail("settings", format!("{:#}", anyhow::Error::new(error)), advice)];
        }
    };
    let mut checks = vec![Check::ok("settings", file)];
    let directory = &config.data_directory;
    let (readable, found) = head::directory(directory);
    checks.extend(found);
    checks.extend(head::disk(directory, config.free_bytes));
    checks.push(head::clock(config.trust_unsynchronised));
    if readable {
        checks.extend(head::ballast(directory));
        checks.extend(head::site_key(directory));
        checks.extend(head::store_of_key(directory));
        let (is_running, found) = listeners::examine(&config);
        checks.extend(found);
        checks.extend(netboot::examine(&config, is_running));
        checks.extend(contents::examine(directory));
    }
    checks
}
