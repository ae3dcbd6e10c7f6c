//! What goes wrong in one sync, and at which call.

use tasksync_common::error::{Code, ErrorClass, Failure, Scope};

/// What goes wrong. Numbers count calls of the kind, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// The process ends right after this write.
    Crash(u32),
    /// The process ends before this call, of any kind.
    Kill(u32),
    /// The write happens, its answer does not arrive.
    LostAnswer(u32),
    /// The write does not happen; the server is busy.
    Busy(u32),
    /// This write and all that follow it do not happen: each fails for a reason that may be its item's own.
    Fails(u32),
    /// The server refuses this write for good.
    Refused(u32),
    /// The write happens, and the server says that it refused it for good.
    FalseRefusal(u32),
    /// The write happens, and the server says that somebody else wrote first.
    FalseConflict(u32),
    /// The time is used up before this write.
    Late(u32),
    /// This read is not answered.
    ReadFails(u32),
    /// What this read is about cannot be read: one item or task of it.
    ReadRefused(u32),
    /// This read leaves something out or calls it missing, although it is there.
    Lie(u32),
    /// The changes of a folder go on for 2,000 pages, each with an id of this many bytes.
    Endless(usize),
}

/// The fault of the sync that runs, and how many calls there were.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    pub(crate) fault: Fault,
    pub(crate) relist: bool,
    calls: u32,
    reads: u32,
    pub(crate) writes: u32,
    pub(crate) killed: bool,
    /// A read lied, or something was refused: what follows from it is settled by the next full check at the latest.
    pub(crate) deceived: bool,
}

/// How a read is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Honest,
    /// One thing is left out or called missing.
    Lie,
    /// One thing cannot be read.
    Refusal,
}

pub(crate) fn failure(class: ErrorClass) -> Failure {
    Failure::new(class, Code::ExchangeError, "a fault of the model")
}

pub(crate) fn refusal() -> Failure {
    failure(ErrorClass::Refused).about(Scope::Item)
}

impl Faults {
    pub(crate) fn of(fault: Fault, relist: bool) -> Self {
        Self {
            fault,
            relist,
            ..Self::default()
        }
    }

    /// Counts a call of any kind; the process ends before some.
    pub(crate) fn call(&mut self) {
        self.calls += 1;
        self.killed |= matches!(self.fault, Fault::Kill(at) if at <= self.calls);
    }

    /// Counts a read.
    pub(crate) fn read(&mut self) -> Result<Answer, Failure> {
        self.call();
        self.reads += 1;
        let answer = match self.fault {
            Fault::ReadFails(at) if at == self.reads => return Err(failure(ErrorClass::Transient)),
            Fault::ReadRefused(at) if at == self.reads => Answer::Refusal,
            Fault::Lie(at) if at == self.reads => Answer::Lie,
            _ => return Ok(Answer::Honest),
        };
        self.deceived = true;
        Ok(answer)
    }

    /// Counts a write that is about to happen, or not.
    pub(crate) fn before_write(&mut self) -> Result<(), Failure> {
        self.call();
        self.writes += 1;
        match self.fault {
            Fault::Busy(at) if at == self.writes => Err(failure(ErrorClass::Transient)),
            Fault::Fails(at) if at <= self.writes => {
                self.deceived = true;
                Err(failure(ErrorClass::Transient).about(Scope::Item))
            }
            Fault::Refused(at) if at == self.writes => {
                // A second copy that could not be dealt with is met again by the next full check.
                self.deceived = true;
                Err(refusal())
            }
            _ => Ok(()),
        }
    }

    /// After a write that happened.
    pub(crate) fn after_write(&mut self) -> Result<(), Failure> {
        self.killed |= matches!(self.fault, Fault::Crash(at) if at <= self.writes);
        match self.fault {
            Fault::LostAnswer(at) if at == self.writes => Err(failure(ErrorClass::OutcomeUnknown)),
            Fault::FalseRefusal(at) if at == self.writes => {
                self.deceived = true;
                Err(refusal())
            }
            Fault::FalseConflict(at) if at == self.writes => Err(failure(ErrorClass::Conflict)),
            _ => Ok(()),
        }
    }

    /// Whether the next write would be too late.
    pub(crate) fn is_late(&self) -> bool {
        matches!(self.fault, Fault::Late(at) if at <= self.writes + 1)
    }
}
