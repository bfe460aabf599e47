//! The stories: what a user can rely on, told against the real programs.

mod machine;
mod walks;
