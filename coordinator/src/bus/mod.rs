//! The broker: its door (`gate`, `session`, `acl`) and our own client of it (`link`, `status`).
