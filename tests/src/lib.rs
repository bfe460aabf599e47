//! Harness and end-to-end tests: real programs, virtual boards. See ARCHITECTURE.md.
