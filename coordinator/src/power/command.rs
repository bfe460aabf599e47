//! The `command` driver: a program on the head node switches the port. No shell.
//!
//! The program is run once a request with `{action}` (`on`, `off` or `status`), `{port}` and `{node}`
//! filled into its words. Exit code 0: done. 75 (`EX_TEMPFAIL` of sysexits.h), a time-out, or a program
//! that cannot be started: no answer, tried again. Any other code: refused, with the first line of its
//! standard error. `status` prints `on` or `off` as its first word, and may add `delivering` or `idle`.

use super::{Answer, Port, Power, PowerError, PowerSwitch, Reading};
use crate::domain::driver::CommandSettings;
use std::process::{Output, Stdio};
use std::time::Duration;

/// A program that takes longer has no answer.
const COMMAND_MAX: Duration = Duration::from_secs(20);

/// `EX_TEMPFAIL`.
const TRY_AGAIN: i32 = 75;

/// A switch behind a program.
pub(super) struct CommandSwitch {
    argv: Vec<String>,
}

impl CommandSwitch {
    /// A switch behind the program of these settings.
    pub(super) fn new(settings: &CommandSettings) -> Self {
        CommandSwitch { argv: settings.argv.clone() }
    }

    #[expect(clippy::disallowed_methods, reason = "this driver's work is to start the operator's program")]
    async fn run(&self, action: &str, port: &Port) -> Result<String, PowerError> {
        let fill = |word: &String| {
            word.replace("{action}", action).replace("{port}", &port.port).replace("{node}", &port.node)
        };
        let mut words = self.argv.iter().map(fill);
        let program = words.next().ok_or_else(|| PowerError::Refused("no program is configured".into()))?;
        let child = tokio::process::Command::new(&program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| PowerError::Unreachable(format!("{program} cannot be started: {error}")))?;
        match tokio::time::timeout(COMMAND_MAX, child.wait_with_output()).await {
            Ok(Ok(output)) => judge(&program, &output),
            Ok(Err(error)) => Err(PowerError::Unreachable(format!("{program}: {error}"))),
            Err(_) => {
                let seconds = COMMAND_MAX.as_secs();
                Err(PowerError::Unreachable(format!("{program} did not end within {seconds} s")))
            }
        }
    }
}

fn judge(program: &str, output: &Output) -> Result<String, PowerError> {
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("and said nothing").trim();
    match output.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Some(TRY_AGAIN) => Err(PowerError::Unreachable(format!("{program}: {said}"))),
        Some(code) => Err(PowerError::Refused(format!("{program} ended with exit code {code}: {said}"))),
        None => Err(PowerError::Unreachable(format!("{program} was killed by a signal"))),
    }
}

fn reading(text: &str) -> Option<Reading> {
    let mut words = text.split_ascii_whitespace();
    let on = match words.next()? {
        "on" => true,
        "off" => false,
        _ => return None,
    };
    let delivering = match words.next() {
        Some("delivering") => Some(true),
        Some("idle") => Some(false),
        _ => None,
    };
    Some(Reading { on, delivering })
}

impl PowerSwitch for CommandSwitch {
    fn set<'a>(&'a self, port: &'a Port, power: Power) -> Answer<'a, ()> {
        let action = match power {
            Power::On => "on",
            Power::Off => "off",
        };
        Box::pin(async move { self.run(action, port).await.map(drop) })
    }

    fn read<'a>(&'a self, port: &'a Port) -> Answer<'a, Reading> {
        Box::pin(async move {
            let text = self.run("status", port).await?;
            reading(&text).ok_or_else(|| {
                let first = text.lines().next().unwrap_or_default();
                PowerError::Refused(format!(
                    "`status` printed `{first}`; its first word must be `on` or `off`"
                ))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> Port {
        Port { port: "7".into(), node: "pi-7".into() }
    }

    fn shell(script: &str) -> CommandSwitch {
        let words = ["sh", "-c", script, "sh", "{action}", "{port}", "{node}"];
        CommandSwitch::new(&CommandSettings { argv: words.map(String::from).into() })
    }

    #[tokio::test]
    async fn the_program_gets_action_port_and_node_as_words_of_its_own() {
        let switch = shell(r#"[ "$1 $2 $3" = "off 7 pi-7" ]"#);
        assert_eq!(switch.set(&port(), Power::Off).await, Ok(()));
        assert!(matches!(switch.set(&port(), Power::On).await, Err(PowerError::Refused(_))));
    }

    #[tokio::test]
    async fn status_is_read_from_its_first_words() {
        for (text, on, delivering) in
            [("on", true, None), ("off idle", false, Some(false)), ("on delivering\n", true, Some(true))]
        {
            let found = shell(&format!("echo '{text}'")).read(&port()).await;
            assert_eq!(found, Ok(Reading { on, delivering }), "{text}");
        }
        let error = shell("echo maybe").read(&port()).await.unwrap_err().to_string();
        assert!(error.contains("`maybe`") && error.contains("`on` or `off`"), "{error}");
    }

    #[tokio::test]
    async fn exit_codes_tell_a_refusal_from_silence() {
        let refused = shell("echo no such port >&2; exit 3").set(&port(), Power::On).await.unwrap_err();
        assert_eq!(refused, PowerError::Refused("sh ended with exit code 3: no such port".into()));
        let silent = shell("exit 75").set(&port(), Power::On).await;
        assert!(matches!(silent, Err(PowerError::Unreachable(_))));
        let missing = CommandSettings { argv: vec!["/nowhere/poe".into()] };
        let missing = CommandSwitch::new(&missing).set(&port(), Power::On).await;
        assert!(matches!(missing, Err(PowerError::Unreachable(text)) if text.contains("/nowhere/poe")));
    }
}
