//! `piseduce console`: what a node says on its UART, and what is typed there. On a terminal every key goes to the
//! node, but Ctrl-], which leaves.

use super::connection::{Connection, level};
use super::error::ClientError;
use super::interrupt::until_interrupted;
use super::nodes::by_name;
use crate::print;
use clap::Args;
use rustix::termios::{self, OptionalActions, Termios};
use std::io::{IsTerminal as _, Read, Stdin, stdin};
use std::sync::{Arc, mpsc};
use std::thread;

/// Ctrl-], which few programs on a node want.
const ESCAPE: u8 = 0x1d;
/// Typed at once, in bytes; the coordinator takes as many.
const TYPED_BYTES: usize = 4 << 10;

/// What `console` takes.
#[derive(Clone, Debug, Args)]
pub struct ConsoleOptions {
    /// The node
    node: String,
    /// Show what is kept and end
    #[arg(long)]
    no_follow: bool,
    /// Send standard input to the node although it is no terminal
    #[arg(long)]
    write: bool,
}

pub(super) fn console(connection: &Connection, options: &ConsoleOptions) -> Result<(), ClientError> {
    let console = Console {
        connection: connection.clone(),
        path: format!("nodes/{}/console", level(&options.node)),
        follow: !options.no_follow,
    };
    let allowed = by_name(connection, &options.node)?.console.is_some_and(|console| console.write);
    if options.write && !allowed {
        // The coordinator says why before anything is shown.
        console.type_bytes(&[])?;
    }
    if allowed && stdin().is_terminal() && console.follow {
        return console.at_terminal();
    }
    if options.write && !stdin().is_terminal() {
        console.type_all(stdin())?;
    }
    until_interrupted(vec![], move || console.show())
}

struct Console {
    connection: Connection,
    path: String,
    follow: bool,
}

impl Console {
    /// Shows what is said, until the coordinator ends it.
    fn show(&self) -> Result<(), ClientError> {
        let path = format!("{}?follow={}", self.path, self.follow);
        self.connection.stream(&path, |bytes| print::bytes(bytes).is_ok())
    }

    fn type_bytes(&self, bytes: &[u8]) -> Result<(), ClientError> {
        self.connection.post_bytes(&self.path, bytes)
    }

    /// Types everything that there is to read.
    fn type_all(&self, mut from: impl Read) -> Result<(), ClientError> {
        let mut buffer = [0; TYPED_BYTES];
        loop {
            match from.read(&mut buffer).map_err(ClientError::Waiting)? {
                0 => return Ok(()),
                count => self.type_bytes(&buffer[..count])?,
            }
        }
    }

    /// Types every key until the one that leaves.
    fn type_keys(&self) -> Result<(), ClientError> {
        let mut buffer = [0; TYPED_BYTES];
        loop {
            let count = stdin().read(&mut buffer).map_err(ClientError::Waiting)?;
            let keys = &buffer[..count];
            let typed = keys.iter().position(|key| *key == ESCAPE).unwrap_or(count);
            if typed > 0 {
                self.type_bytes(&keys[..typed])?;
            }
            if typed < count || count == 0 {
                return Ok(());
            }
        }
    }

    /// Shows and types at once, until Ctrl-] or the coordinator ends it.
    fn at_terminal(self) -> Result<(), ClientError> {
        print::aside("every key goes to the node; Ctrl-] leaves");
        let raw = RawTerminal::new(stdin()).map_err(ClientError::Waiting)?;
        let (done, first) = mpsc::channel();
        let console = Arc::new(self);
        for work in [Console::show, Console::type_keys] {
            let (done, console) = (done.clone(), console.clone());
            // Whoever comes second finds nobody waiting.
            thread::spawn(move || drop(done.send(work(&console))));
        }
        let result = first.recv().expect("one of two threads speaks");
        drop(raw);
        print::aside("");
        result
    }
}

/// A terminal that hands every key on; as it was before when this is dropped.
struct RawTerminal {
    terminal: Stdin,
    before: Termios,
}

impl RawTerminal {
    fn new(terminal: Stdin) -> std::io::Result<Self> {
        let before = termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(RawTerminal { terminal, before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that went away needs no repair.
        let _ = termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
