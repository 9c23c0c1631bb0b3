//! The built binary from outside: clusters, faults, compliance; and the arrow test
