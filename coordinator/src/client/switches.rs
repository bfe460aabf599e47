//! `piseduce switch`.

use super::connection::{Connection, level};
use super::error::ClientError;
use crate::api::SwitchedView;
use crate::print::Output;
use clap::Subcommand;

/// `piseduce switch`.
#[derive(Clone, Debug, Subcommand)]
pub enum SwitchCommand {
    /// Say that a port of a `manual` switch is switched as its node's wait asks for
    Done {
        /// The switch's name
        switch: String,
        /// The port in the switch's own words
        port: String,
    },
}

pub(super) fn switch(
    connection: &Connection,
    output: Output,
    command: SwitchCommand,
) -> Result<(), ClientError> {
    match command {
        SwitchCommand::Done { switch, port } => {
            let path = format!("switches/{}/ports/{}/done", level(&switch), level(&port));
            let switched: SwitchedView = connection.post(&path, &())?;
            output.tell("switched", &switched, |SwitchedView { switch, port, on }| {
                format!("port {port} of {switch} is {}", if *on { "on" } else { "off" })
            });
        }
    }
    Ok(())
}
