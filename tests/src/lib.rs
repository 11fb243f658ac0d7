//! Cross-crate tests: flows through the real conductor and store on both databases, with crashes at every write.
//!
//! [`world`] puts a conductor with fake hardware on a database; the tests are in `tests/`.

pub mod world;
