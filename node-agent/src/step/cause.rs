//! The one place where an error becomes a cause: trouble with a node is an answer, never a crash.

use crate::cancel::Cancelled;
use crate::card::CardError;
use crate::card::fat::FatError;
use crate::card::wipe::WipeError;
use crate::image::check::CheckError;
use crate::image::copy::CopyError;
use crate::image::fetch::FetchError;
use crate::os::family::{ConfigureError, UnknownFamily};
use crate::tool::ToolError;
use crate::tree::TreeError;
use piseduce_protocol::cause::{Cause, CauseKind};
use piseduce_protocol::table::TableError;
use rustix::io::Errno;
use std::error::Error;
use std::io;

/// Why a step did not end well.
#[derive(Debug)]
pub enum StepError {
    /// The work was stopped; nobody waits for its answer.
    Cancelled,
    /// The node has a trouble with this name.
    Failed(Cause),
}

/// Shorthand for a failure with this cause.
pub fn failed(kind: CauseKind, seen: impl Into<String>) -> StepError {
    StepError::Failed(Cause::new(kind, seen))
}

/// An error and what caused it, in one line: `failed to write … : input/output error`.
pub fn chain(error: &dyn Error) -> String {
    let mut text = plain(&error.to_string());
    let mut next = error.source();
    while let Some(source) = next {
        text = text + ": " + &plain(&source.to_string());
        next = source.source();
    }
    text
}

/// A system's message in the form of all others: lower case, without its number.
fn plain(text: &str) -> String {
    let text = text.find(" (os error").map_or(text, |end| &text[..end]);
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    let is_acronym = letters.clone().next().is_some_and(|second| second.is_ascii_uppercase());
    match first {
        Some(first) if !is_acronym => first.to_string() + letters.as_str(),
        _ => text.to_owned(),
    }
}

fn is_one_of(error: &io::Error, errnos: &[Errno]) -> bool {
    errnos.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl From<Cancelled> for StepError {
    fn from(_: Cancelled) -> Self {
        StepError::Cancelled
    }
}

impl From<CardError> for StepError {
    fn from(error: CardError) -> Self {
        let kind = match &error {
            CardError::Missing(_) | CardError::Gone { .. } => CauseKind::CardMissing,
            CardError::Io { source, .. }
                if is_one_of(source, &[Errno::NXIO, Errno::NODEV, Errno::NOMEDIUM]) =>
            {
                CauseKind::CardMissing
            }
            CardError::Busy(_) => CauseKind::CardBusy,
            CardError::ReadOnly(_) => CauseKind::CardReadOnly,
            // What a card answers that has locked itself.
            CardError::Io { source, .. } if is_one_of(source, &[Errno::ROFS, Errno::NOSPC, Errno::PERM]) => {
                CauseKind::CardReadOnly
            }
            CardError::Forgets { .. } => CauseKind::HashMismatch,
            CardError::Open { .. } | CardError::Io { .. } => CauseKind::CardError,
            CardError::Partition { source, .. } if is_one_of(source, &[Errno::BUSY]) => CauseKind::CardBusy,
            CardError::Partition { .. } => CauseKind::TableInvalid,
            CardError::Mount { action: "mount", source, .. } if !is_one_of(source, &[Errno::NODEV]) => {
                CauseKind::FilesystemBroken
            }
            CardError::Mount { .. } => CauseKind::ToolFailed,
        };
        failed(kind, chain(&error))
    }
}

impl From<TableError> for StepError {
    fn from(error: TableError) -> Self {
        let kind = match &error {
            TableError::DiskTooSmall { .. } => CauseKind::CardTooSmall,
            _ => CauseKind::TableInvalid,
        };
        failed(kind, chain(&error))
    }
}

impl From<FetchError> for StepError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Cancelled(cancelled) => cancelled.into(),
            FetchError::WrongHash { .. } => failed(CauseKind::HashMismatch, chain(&error)),
            _ => failed(CauseKind::ImageUnreachable, chain(&error)),
        }
    }
}

impl From<CopyError> for StepError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Cancelled(cancelled) => cancelled.into(),
            CopyError::Card(error) => error.into(),
            CopyError::Fetch(error) => error.into(),
        }
    }
}

impl From<CheckError> for StepError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Cancelled(cancelled) => cancelled.into(),
            CheckError::Card(error) => error.into(),
            CheckError::Mismatch { .. } => failed(CauseKind::HashMismatch, chain(&error)),
        }
    }
}

impl From<ToolError> for StepError {
    fn from(error: ToolError) -> Self {
        match error {
            ToolError::Cancelled { .. } => StepError::Cancelled,
            _ => failed(CauseKind::ToolFailed, chain(&error)),
        }
    }
}

impl From<WipeError> for StepError {
    fn from(error: WipeError) -> Self {
        match error {
            WipeError::Cancelled(cancelled) => cancelled.into(),
            WipeError::Card(error) => error.into(),
            WipeError::Kept { .. } => failed(CauseKind::CardError, chain(&error)),
        }
    }
}

impl From<TreeError> for StepError {
    fn from(error: TreeError) -> Self {
        let kind = match is_one_of(&error.source, &[Errno::IO]) {
            true => CauseKind::CardError,
            false => CauseKind::ConfigurationFailed,
        };
        failed(kind, chain(&error))
    }
}

impl From<FatError> for StepError {
    fn from(error: FatError) -> Self {
        match error {
            FatError::Card(error) => error.into(),
            FatError::Use { .. } => failed(CauseKind::ConfigurationFailed, chain(&error)),
        }
    }
}

impl From<ConfigureError> for StepError {
    fn from(error: ConfigureError) -> Self {
        match error {
            ConfigureError::Tree(error) => error.into(),
            ConfigureError::Fat(error) => error.into(),
            _ => failed(CauseKind::ConfigurationFailed, chain(&error)),
        }
    }
}

impl From<UnknownFamily> for StepError {
    fn from(error: UnknownFamily) -> Self {
        failed(CauseKind::ConfigurationFailed, chain(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::Access;

    fn io_error(errno: Errno) -> CardError {
        CardError::Io {
            access: Access::Write,
            card: "/dev/mmcblk0".into(),
            offset: 734_003_200,
            bytes: 2_147_483_648,
            source: errno.into(),
        }
    }

    #[test]
    fn the_chain_is_one_line_that_names_object_byte_and_error() {
        let text = "failed to write /dev/mmcblk0 at 734003200 of 2147483648 bytes: input/output error";
        assert_eq!(chain(&io_error(Errno::IO)), text);
        assert_eq!(plain("No space left on device (os error 28)"), "no space left on device");
        assert_eq!(plain("HTTP is off"), "HTTP is off");
    }

    #[test]
    fn a_card_that_refuses_writes_is_not_one_that_fails() {
        let cause = |error: StepError| match error {
            StepError::Failed(cause) => cause,
            StepError::Cancelled => panic!("nothing was stopped"),
        };
        assert!(cause(io_error(Errno::IO).into()).is(CauseKind::CardError));
        assert!(cause(io_error(Errno::ROFS).into()).is(CauseKind::CardReadOnly));
        assert!(cause(CardError::Busy("/dev/x".into()).into()).is(CauseKind::CardBusy));
        assert!(matches!(StepError::from(FetchError::Cancelled(Cancelled)), StepError::Cancelled));
    }
}
