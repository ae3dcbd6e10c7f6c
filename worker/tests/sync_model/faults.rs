//! The fault of one sync, and the call that it hits.

use tasksync_common::error::{Code, ErrorClass, Failure, Scope};

/// A fault. Its number counts the calls of the kind, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// The process ends right after this write.
    Crash(u32),
    /// The process ends before this call, of any kind.
    Kill(u32),
    /// The write is carried out, but its answer is lost.
    LostAnswer(u32),
    /// The write is not carried out; the server is busy.
    Busy(u32),
    /// This write and all later ones are not carried out. Each fails for a reason that may concern its item only.
    Fails(u32),
    /// The server refuses this write permanently.
    Refused(u32),
    /// The write is carried out, but the server reports a permanent refusal.
    FalseRefusal(u32),
    /// The write is carried out, but the server reports that another client wrote first.
    FalseConflict(u32),
    /// The time is used up before this write.
    Late(u32),
    /// This read gets no answer.
    ReadFails(u32),
    /// One item or task of this read cannot be read.
    ReadRefused(u32),
    /// This read omits an object that exists, or reports it as missing.
    WrongAnswer(u32),
    /// The changes of a folder continue for 2,000 pages, each with an id of this many bytes.
    Endless(usize),
}

/// The fault of the current sync, and the number of calls so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    pub(crate) fault: Fault,
    pub(crate) relist: bool,
    calls: u32,
    reads: u32,
    pub(crate) writes: u32,
    pub(crate) killed: bool,
    /// Whether a read lied or something was refused. The next full check resolves the effects at the latest.
    pub(crate) wrong_or_refused: bool,
}

/// The way a read is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Correct,
    /// One object is omitted or reported as missing.
    Omission,
    /// One object cannot be read.
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

    /// Counts a call of any kind. The process may end before it.
    pub(crate) fn call(&mut self) {
        self.calls += 1;
        self.killed |= matches!(self.fault, Fault::Kill(at) if at <= self.calls);
    }

    /// Counts a read. Returns how it is answered.
    pub(crate) fn read(&mut self) -> Result<Answer, Failure> {
        self.call();
        self.reads += 1;
        let answer = if self.fault == Fault::ReadFails(self.reads) {
            return Err(failure(ErrorClass::Transient));
        } else if self.fault == Fault::ReadRefused(self.reads) {
            Answer::Refusal
        } else if self.fault == Fault::WrongAnswer(self.reads) {
            Answer::Omission
        } else {
            return Ok(Answer::Correct);
        };
        self.wrong_or_refused = true;
        Ok(answer)
    }

    /// Counts a write. Returns an error if it is not to be carried out.
    pub(crate) fn before_write(&mut self) -> Result<(), Failure> {
        self.call();
        self.writes += 1;
        if self.fault == Fault::Busy(self.writes) {
            return Err(failure(ErrorClass::Transient));
        }
        if matches!(self.fault, Fault::Fails(at) if at <= self.writes) {
            self.wrong_or_refused = true;
            return Err(failure(ErrorClass::Transient).about(Scope::Item));
        }
        if self.fault == Fault::Refused(self.writes) {
            // If dealing with a second copy failed, the next full check finds the copy again.
            self.wrong_or_refused = true;
            return Err(refusal());
        }
        Ok(())
    }

    /// Runs after a write that was carried out. Returns an error if the caller is not to see its success.
    pub(crate) fn after_write(&mut self) -> Result<(), Failure> {
        self.killed |= matches!(self.fault, Fault::Crash(at) if at <= self.writes);
        if self.fault == Fault::LostAnswer(self.writes) {
            return Err(failure(ErrorClass::OutcomeUnknown));
        }
        if self.fault == Fault::FalseRefusal(self.writes) {
            self.wrong_or_refused = true;
            return Err(refusal());
        }
        if self.fault == Fault::FalseConflict(self.writes) {
            return Err(failure(ErrorClass::Conflict));
        }
        Ok(())
    }

    /// Returns whether the next write would be too late.
    pub(crate) fn is_late(&self) -> bool {
        matches!(self.fault, Fault::Late(at) if at <= self.writes + 1)
    }
}
