//! Fail points: a hook at every COMMIT, by which a test lets this process "die" at an exact write.
//!
//! After [`CommitAction::Crash`] no call of the handle family returns ever again, as if the process were gone; the database keeps what
//! was committed. Tests then open the database anew, as a restarted daemon does.

/// Where a hook is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitPoint {
    /// Everything is written, nothing is committed: a crash loses it.
    Before,
    /// Committed, but nobody was told.
    After,
}

/// What a hook answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitAction {
    /// Go on.
    Continue,
    /// Die here.
    Crash,
}

/// Asked before and after each COMMIT.
pub trait CommitHook: Send + Sync + 'static {
    /// `number` counts the commits of the handle family from 1.
    fn at(&self, point: CommitPoint, number: u64) -> CommitAction;
}
