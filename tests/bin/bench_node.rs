//! The virtual board's own program, in its three roles, and the program that the coordinator's `command`
//! driver runs to switch a bench rack's ports.

use clap::{Parser, Subcommand};
use piseduce_tests::board::Board;
use piseduce_tests::rack;
use std::path::PathBuf;

#[derive(Parser)]
#[command(version, about = "Plays a Raspberry Pi for tests and the demo")]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// The board, from power-on to power cut
    Firmware(Board),
    /// One boot of the boot root
    Kernel(Board),
    /// One boot of the card
    System(Board),
    /// Asks a rack to switch a port or to show it
    Power {
        /// The rack's socket
        socket: PathBuf,
        /// on, off or status
        action: String,
        /// The port
        port: String,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().role {
        Role::Firmware(board) => board.firmware(),
        Role::Kernel(board) => board.kernel(),
        Role::System(board) => board.system(),
        Role::Power { socket, action, port } => rack::ask(&socket, &action, &port),
    }
}
