//! What goes wrong between command line and coordinator: each with a word for programs, words for people,
//! what to do about it, and the exit code.

use crate::api::{ErrorBody, Started};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Exit code: something failed here.
pub const EXIT_FAILED: u8 = 1;
/// Exit code: a deployment that was waited for did not end well.
pub const EXIT_ENDED_BADLY: u8 = 3;
/// Exit code: the coordinator does not answer.
pub const EXIT_UNREACHABLE: u8 = 4;
/// Exit code: the coordinator said no.
pub const EXIT_REFUSED: u8 = 5;
/// Exit code: Ctrl-C, as shells have it: 128 and the signal's number.
pub const EXIT_INTERRUPTED: u8 = 130;

/// What goes wrong between command line and coordinator.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No token.
    #[error("no token in {file}")]
    Token {
        /// Where it should be.
        file: PathBuf,
        /// Why it could not be read.
        source: std::io::Error,
    },
    /// What should be a token is none.
    #[error("{place} holds no token")]
    NotAToken {
        /// Where it should be.
        place: String,
    },
    /// The coordinator does not know the token.
    #[error("the coordinator does not know the token in {place}")]
    UnknownToken {
        /// Where the token is.
        place: String,
    },
    /// No connection.
    #[error("no answer from the coordinator at {url}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer that is not the API's.
    #[error("{url} answers with status {status}, but not like a PiSeduce coordinator")]
    Foreign {
        /// Who answered.
        url: String,
        /// With which status.
        status: u16,
    },
    /// The coordinator says no.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
    /// Some of several nodes stand in the way.
    #[error("{}", of_nodes(.refused, *.asked))]
    RefusedByNodes {
        /// Which, and why.
        refused: Vec<(String, ErrorBody)>,
        /// How many were asked.
        asked: usize,
    },
    /// A file cannot be read.
    #[error("failed to read {file}")]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("failed to write {file}")]
    Write {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not an inventory.
    #[error("{file} is not an inventory")]
    Inventory {
        /// Which file.
        file: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// The password is empty.
    #[error("the first line of {0} is empty: it should be the password")]
    NoPassword(PathBuf),
    /// The password cannot be hashed.
    #[error("the password in {file} cannot be hashed: {why}")]
    Password {
        /// Where it is.
        file: PathBuf,
        /// Why, in the words of who was to do it.
        why: String,
    },
    /// The script's time limit is too long.
    #[error("a script time limit of {0} s is too long")]
    ScriptTime(u64),
    /// Nothing is deployed on the node.
    #[error("node `{0}` is free: nothing is deployed on it")]
    Free(String),
    /// No node has the label.
    #[error("no node has the label `{0}`")]
    NoSuchLabel(String),
    /// Ctrl-C.
    #[error("interrupted{}", under_way(.0))]
    Interrupted(Vec<Started>),
    /// No thread or signal handler can be had.
    #[error("failed to wait for the coordinator")]
    Waiting(#[source] std::io::Error),
}

/// Every node that stands in the way, with its reason.
fn of_nodes(refused: &[(String, ErrorBody)], asked: usize) -> String {
    let each = refused.iter().map(|(node, why)| format!("\n  {node}: {}", why.message));
    format!("{} of {asked} nodes stand in the way:{}", refused.len(), each.collect::<String>())
}

/// The deployments as words, with their verb.
fn under_way(started: &[Started]) -> String {
    let names: Vec<String> =
        started.iter().map(|one| format!("deployment {} on {}", one.deployment, one.node)).collect();
    let stay = if names.len() == 1 { "stays" } else { "stay" };
    if names.is_empty() { String::new() } else { format!("; {} {stay} under way", names.join(", ")) }
}

impl ClientError {
    /// What nodes said no to, when `asked` nodes were asked; none if none did.
    pub(super) fn refused_by(mut refused: Vec<(String, ErrorBody)>, asked: usize) -> Option<Self> {
        match refused.len() {
            0 => None,
            1 if asked == 1 => refused.pop().map(|(_, why)| ClientError::Refused(why)),
            _ => Some(ClientError::RefusedByNodes { refused, asked }),
        }
    }

    /// A stable word for programs.
    pub fn code(&self) -> &str {
        match self {
            ClientError::Token { .. } | ClientError::NotAToken { .. } => "no_token",
            ClientError::UnknownToken { .. } => "unauthorized",
            ClientError::Unreachable { .. } => "unreachable",
            ClientError::Foreign { .. } => "foreign",
            ClientError::Refused(body) => &body.code,
            ClientError::RefusedByNodes { refused, .. } => {
                let mut codes: Vec<&str> = refused.iter().map(|(_, why)| why.code.as_str()).collect();
                codes.dedup();
                if let [code] = codes[..] { code } else { "refused" }
            }
            ClientError::Read { .. } => "unreadable_file",
            ClientError::Write { .. } => "unwritable_file",
            ClientError::Inventory { .. } => "invalid_inventory",
            ClientError::NoPassword(_) | ClientError::Password { .. } => "invalid_password",
            ClientError::ScriptTime(_) => "invalid",
            ClientError::Free(_) => "free",
            ClientError::NoSuchLabel(_) => "missing",
            ClientError::Interrupted(_) => "interrupted",
            ClientError::Waiting(_) => "failed",
        }
    }

    /// What to do about it; may be empty.
    pub fn hint(&self) -> String {
        match self {
            ClientError::Token { .. } | ClientError::NotAToken { .. } => {
                "name the file with --token-file or PISEDUCE_TOKEN_FILE; `piseduce user add` makes a token"
                    .into()
            }
            ClientError::UnknownToken { .. } => {
                "`piseduce user add` on the head node makes one; is --url that coordinator's?".into()
            }
            ClientError::Unreachable { .. } | ClientError::Foreign { .. } => {
                "is `piseduce serve` running, and is --url or PISEDUCE_URL its people's listener?".into()
            }
            ClientError::Refused(body) => body.hint.clone(),
            ClientError::RefusedByNodes { refused, .. } => {
                let hints: BTreeSet<&str> = refused.iter().map(|(_, why)| why.hint.as_str()).collect();
                hints.into_iter().filter(|hint| !hint.is_empty()).collect::<Vec<_>>().join("; ")
            }
            ClientError::Inventory { .. } => "nothing was imported".into(),
            ClientError::ScriptTime(_) => "from 1 s to 1 day".into(),
            ClientError::Free(_) => "`piseduce deployment list` shows earlier ones by their numbers".into(),
            ClientError::NoSuchLabel(_) => {
                "`labels = [\"blue\"]` at a [[node]] of the inventory gives one".into()
            }
            ClientError::Interrupted(started) if started.is_empty() => String::new(),
            ClientError::Interrupted(started) => {
                let ids: Vec<String> = started.iter().map(|one| one.deployment.to_string()).collect();
                format!("look at it with `piseduce deployment watch {}`", ids.join(" "))
            }
            ClientError::Read { .. }
            | ClientError::Write { .. }
            | ClientError::NoPassword(_)
            | ClientError::Password { .. }
            | ClientError::Waiting(_) => String::new(),
        }
    }

    /// With which code the program ends.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::Unreachable { .. } | ClientError::Foreign { .. } => EXIT_UNREACHABLE,
            ClientError::Refused(_)
            | ClientError::RefusedByNodes { .. }
            | ClientError::UnknownToken { .. } => EXIT_REFUSED,
            ClientError::Interrupted(_) => EXIT_INTERRUPTED,
            ClientError::Token { .. }
            | ClientError::NotAToken { .. }
            | ClientError::Read { .. }
            | ClientError::Write { .. }
            | ClientError::Inventory { .. }
            | ClientError::NoPassword(_)
            | ClientError::Password { .. }
            | ClientError::ScriptTime(_)
            | ClientError::Free(_)
            | ClientError::NoSuchLabel(_)
            | ClientError::Waiting(_) => EXIT_FAILED,
        }
    }
}
