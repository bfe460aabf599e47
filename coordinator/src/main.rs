//! The `piseduce` program: parses its command line and runs one subcommand.

fn main() {}
