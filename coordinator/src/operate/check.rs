//! What checks of a head node have in common: a verdict, what was found, what to do, one line each.

use crate::print::Output;
use anyhow::bail;
use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and someone should know.
    Warn,
    /// It does not work, or will not for long.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    /// A stable word.
    pub(super) name: &'static str,
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) found: String,
    /// What to do; empty when nothing is to be done.
    pub(super) advice: String,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Ok, found: found.into(), advice: String::new() }
    }

    pub(super) fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Warn, found: found.into(), advice: advice.into() }
    }

    pub(super) fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Check {
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

/// Prints what checks found, to programs under `name`.
///
/// # Errors
/// When a check failed.
pub(super) fn tell(name: &str, checks: &[Check], output: Output) -> anyhow::Result<()> {
    let findings = Findings { version: env!("CARGO_PKG_VERSION"), checks };
    output.tell(name, &findings, |findings| {
        findings.checks.iter().map(Check::line).collect::<Vec<_>>().join("\n")
    });
    match checks.iter().filter(|check| check.verdict == Verdict::Fail).count() {
        0 => Ok(()),
        1 => bail!("1 check failed"),
        failed => bail!("{failed} checks failed"),
    }
}
