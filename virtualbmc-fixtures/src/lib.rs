//! Simulated hardware for tests: baseboard management controllers (BMCs) that answer real protocols, and the machine behind them.
//!
//! These servers are written against the protocol specifications alone and share no code with the clients they
//! test, so that a misreading of a specification cannot hide by being made twice.
//! Nothing here is for production use: random numbers, timing and storage are those of a test.

pub mod ipmi;
pub mod machine;
pub mod redfish;
