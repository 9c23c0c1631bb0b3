//! Config, wiring, supervision, CLI: the binary vestal
