//! `piseduce doctor`: looks at everything that the coordinator stands on, says what is wrong and what to do, one
//! line a check. Changes nothing; works beside a running coordinator, without one, and before the first start.

mod contents;
mod head;
mod listeners;
mod netboot;

use super::ConfigOption;
use crate::print::Output;
use anyhow::bail;
use serde::Serialize;

/// What `piseduce doctor` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Doctor {
    #[command(flatten)]
    config: ConfigOption,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and someone should know.
    Warn,
    /// It does not work, or will not for long.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    /// A stable word.
    name: &'static str,
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What to do; empty when nothing is to be done.
    advice: String,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Ok, found: found.into(), advice: String::new() }
    }

    fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Warn, found: found.into(), advice: advice.into() }
    }

    fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Fail, found: found.into(), advice: advice.into() }
    }

    fn line(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        let advice = if self.advice.is_empty() { String::new() } else { format!(": {}", self.advice) };
        format!("{verdict:<5} {:<16} {}{advice}", self.name, self.found)
    }
}

/// The JSON document.
#[derive(Serialize)]
struct Findings<'a> {
    version: &'static str,
    checks: &'a [Check],
}

/// Looks, and prints what it found.
///
/// # Errors
/// When a check failed; what it found is printed before.
pub fn doctor(doctor: &Doctor, output: Output) -> anyhow::Result<()> {
    let checks = examine(&doctor.config);
    let findings = Findings { version: env!("CARGO_PKG_VERSION"), checks: &checks };
    output.tell("doctor", &findings, |findings| {
        findings.checks.iter().map(Check::line).collect::<Vec<_>>().join("\n")
    });
    match checks.iter().filter(|check| check.verdict == Verdict::Fail).count() {
        0 => Ok(()),
        1 => bail!("1 check failed"),
        failed => bail!("{failed} checks failed"),
    }
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
        checks.extend(head::site_key(directory));
        let (is_running, found) = listeners::examine(&config);
        checks.extend(found);
        checks.extend(netboot::examine(&config, is_running));
        checks.extend(contents::examine(directory));
    }
    checks
}
