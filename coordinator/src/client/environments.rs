//! `piseduce environment`, as far as the coordinator answers it.

use super::connection::{Connection, ConnectionOptions, level};
use super::error::ClientError;
use super::tables;
use crate::api::{EnvironmentView, RemovedView};
use crate::print::{Output, Screen};

/// `piseduce environment`, as far as the coordinator answers it.
#[derive(Clone, Debug)]
pub enum EnvironmentCommand {
    /// All environments.
    List,
    /// One environment.
    Show(String),
    /// Remove one.
    Remove(String),
}

/// Carries it out.
///
/// # Errors
/// What the coordinator answers, or that it does not.
pub fn environment(
    options: &ConnectionOptions,
    output: Output,
    command: EnvironmentCommand,
) -> Result<(), ClientError> {
    let connection = Connection::open(options)?;
    let screen = Screen::of_stdout();
    match command {
        EnvironmentCommand::List => {
            let environments: Vec<EnvironmentView> = connection.get("environments")?;
            output.tell("environments", &environments, |all| tables::environments(all, screen));
        }
        EnvironmentCommand::Show(name) => {
            let environment: EnvironmentView = connection.get(&format!("environments/{}", level(&name)))?;
            output.tell("environment", &environment, |one| tables::environment(one, screen));
        }
        EnvironmentCommand::Remove(name) => {
            let removed: RemovedView = connection.delete(&format!("environments/{}", level(&name)))?;
            output.tell("removed", &removed, |removed| {
                format!("environment {} removed{}", removed.name, kept(removed))
            });
        }
    }
    Ok(())
}

/// What keeps the image of an environment that was removed.
fn kept(removed: &RemovedView) -> String {
    let environments = removed.kept_for_environments.iter().map(|name| format!("environment {name}"));
    let deployments = match removed.kept_for_deployments {
        0 => None,
        1 => Some("1 deployment until it ends".to_owned()),
        count => Some(format!("{count} deployments until they end")),
    };
    let users: Vec<String> = environments.chain(deployments).collect();
    if users.is_empty() { String::new() } else { format!("; its image is kept for {}", users.join(" and ")) }
}
