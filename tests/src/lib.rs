//! Cross-crate tests: flows through the real conductor and store on both databases, with crashes at every write.
//!
//! [`world`] puts a conductor with fake hardware on a database; [`rig`] runs the real daemon and the real agent program with a loop device as
//! the machine's disk. The tests are in `tests/`.

pub mod gate;
pub mod machine;
pub mod rig;
pub mod world;
