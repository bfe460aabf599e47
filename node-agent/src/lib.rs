//! The agent: runs in the boot root of a Raspberry Pi and does what the coordinator asks.
//!
//! Floor by floor, each naming only those below it: time and waiting (`clock`, `cancel`, `backoff`,
//! `meter`, `log`); the node and its storage (`identity`, `vitals`, `tool`, `card`, `tree`); what is put there
//! (`image`, `os`); the work of one state (`step`), or of a board that is not registered (`enrolment`); decisions, words and the thread that works (`agent`,
//! `link`, `worker`); the loop that joins them (`runner`). Tests reach them as a library.

pub mod agent;
pub mod backoff;
pub mod cancel;
pub mod card;
pub mod clock;
pub mod enrolment;
pub mod identity;
pub mod image;
pub mod link;
pub mod log;
pub mod meter;
pub mod os;
pub mod runner;
pub mod step;
pub mod tool;
pub mod tree;
pub mod vitals;
pub mod worker;
