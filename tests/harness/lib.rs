//! Harness of the end-to-end tests: real programs, virtual boards. See ARCHITECTURE.md.
