//! The agent: runs in the boot root of a Raspberry Pi and does what the coordinator asks. See ARCHITECTURE.md.
