//! model based
