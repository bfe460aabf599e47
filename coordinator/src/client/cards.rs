//! `piseduce card`: what memory cards did, and what to think of them.

use super::connection::{Connection, level};
use super::error::ClientError;
use super::table::{Cell, Look, table};
use super::time::local;
use crate::api::{CopyView, FailureView, PassportView};
use crate::print::{Output, Screen};
use clap::Subcommand;

/// `piseduce card`.
#[derive(Clone, Debug, Subcommand)]
pub enum CardCommand {
    /// All memory cards that were ever seen, with a verdict
    List,
    /// Everything about one: its copies and failures
    Show {
        /// Its identification, or the beginning or end of it
        cid: String,
    },
}

/// Carries out a subcommand.
///
/// # Errors
/// What the coordinator answers.
pub(super) fn card(connection: &Connection, output: Output, command: CardCommand) -> Result<(), ClientError> {
    match command {
        CardCommand::List => {
            let cards: Vec<PassportView> = connection.get("cards")?;
            output.tell("cards", &cards, |cards| list(cards, Screen::of_stdout()));
        }
        CardCommand::Show { cid } => {
            let card: PassportView = connection.get(&format!("cards/{}", level(&cid)))?;
            output.tell("card", &card, |card| show(card, Screen::of_stdout()));
        }
    }
    Ok(())
}

fn list(cards: &[PassportView], screen: Screen) -> String {
    if cards.is_empty() {
        return "no card that shows its identification was seen yet".into();
    }
    let row = |card: &PassportView| {
        vec![
            card.cid.as_str().into(),
            verdict(card),
            card.node.as_str().into(),
            format!("{} GB", card.bytes / 1_000_000_000).into(),
            format!("{:.1} GB", card.written as f64 / 1e9).into(),
            trend(card).into(),
            card.failures.len().to_string().into(),
            local(card.first_unix_ms).into(),
            card.advice.as_str().into(),
        ]
    };
    let heading =
        ["CID", "VERDICT", "NODE", "SIZE", "WRITTEN", "SPEED", "FAILURES", "FIRST SEEN", "WHAT TO DO"];
    table(&heading, cards.iter().map(row).collect(), screen)
}

fn verdict(card: &PassportView) -> Cell {
    let look = match card.verdict.as_str() {
        "good" => Look::Good,
        "new" => Look::Plain,
        _ => Look::Bad,
    };
    Cell::looking(card.verdict.as_str(), look)
}

/// Then and now, or as it was last.
fn trend(card: &PassportView) -> String {
    let shown = |rate: u64| format!("{:.1}", rate as f64 / 1e6);
    match (card.trend, card.copies.last()) {
        (Some((then, now)), _) => format!("{} -> {} MB/s", shown(then), shown(now)),
        (None, Some(copy)) => format!("{} MB/s", shown(copy.rate)),
        (None, None) => "-".into(),
    }
}

fn show(card: &PassportView, screen: Screen) -> String {
    let mut text = list(std::slice::from_ref(card), screen);
    let copy = |copy: &CopyView| {
        let (bytes, rate) = (copy.bytes as f64 / 1e6, copy.rate as f64 / 1e6);
        vec![local(copy.unix_ms).into(), format!("{bytes:.1} MB").into(), format!("{rate:.1} MB/s").into()]
    };
    if !card.copies.is_empty() {
        text += "\n\n";
        text += &table(&["COPIED", "WRITTEN", "SPEED"], card.copies.iter().map(copy).collect(), screen);
    }
    let failure = |failure: &FailureView| {
        let FailureView { unix_ms, node, cause, seen } = failure;
        vec![local(*unix_ms).into(), node.as_str().into(), cause.as_str().into(), seen.as_str().into()]
    };
    if !card.failures.is_empty() {
        text += "\n\n";
        text +=
            &table(&["FAILED", "IN", "CAUSE", "SEEN"], card.failures.iter().map(failure).collect(), screen);
    }
    text
}
