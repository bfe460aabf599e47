//! `piseduce environment`, as far as the coordinator answers it.

use super::connection::{Connection, ConnectionOptions, level};
use super::error::ClientError;
use super::tables;
use crate::api::EnvironmentView;
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
            connection.delete(&format!("environments/{}", level(&name)))?;
            output.tell("removed", &name, |name| format!("environment {name} removed"));
        }
    }
    Ok(())
}
