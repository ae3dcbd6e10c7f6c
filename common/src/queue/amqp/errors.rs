//! What the broker's and the client's errors mean for us: one table.

use lapin::ErrorKind;

use super::tls;
use crate::error::{Code, ErrorClass, Failure};

/// Reply codes of AMQP 0-9-1 that decide something (specification, section 1.2, and RabbitMQ's use of them).
mod reply {
    /// A wrong password, or a missing permission on a queue or exchange.
    pub(super) const ACCESS_REFUSED: u16 = 403;
    /// No such queue.
    pub(super) const NOT_FOUND: u16 = 404;
    /// Declared with other arguments.
    pub(super) const PRECONDITION_FAILED: u16 = 406;
    /// The vhost does not exist, or the user may not enter it.
    pub(super) const NOT_ALLOWED: u16 = 530;
}

/// Returns what an error of the client means; `doing` says what was tried, on which queue or host.
pub(super) fn failure(error: &lapin::Error, doing: &str) -> Failure {
    let (class, code) = classify(error.kind());
    Failure::new(class, code, format!("{doing}: {}", words(error.kind())))
}

/// Returns a call that got no answer in time.
pub(super) fn timed_out(doing: &str, after: std::time::Duration) -> Failure {
    unavailable(format!("{doing}: no answer within {} ms", after.as_millis()))
}

/// Returns the broker cannot be used now, and may be later.
pub(super) fn unavailable(detail: impl Into<String>) -> Failure {
    Failure::new(ErrorClass::Transient, Code::QueueUnavailable, detail)
}

/// It is not known whether the broker took a job.
pub(super) fn unknown(mut failure: Failure) -> Failure {
    if failure.class == ErrorClass::Transient {
        failure.class = ErrorClass::OutcomeUnknown;
    }
    failure
}

/// Returns a job that came back because no queue of that name exists.
pub(super) fn unroutable(queue: &str) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::QueueMissing,
        format!("the broker gave a job back because there is no queue {queue}"),
    )
}

/// Returns the broker stopped taking jobs because of an alarm.
pub(super) fn blocked(reason: &str) -> Failure {
    unavailable(format!(
        "the broker takes no jobs until its alarm ends: {}",
        if reason.is_empty() {
            "no reason given"
        } else {
            reason
        }
    ))
}

fn classify(kind: &ErrorKind) -> (ErrorClass, Code) {
    match kind {
        ErrorKind::ProtocolError(error) => match error.get_id() {
            reply::ACCESS_REFUSED | reply::NOT_ALLOWED => (ErrorClass::Refused, Code::QueueAccessRefused),
            reply::NOT_FOUND => (ErrorClass::Refused, Code::QueueMissing),
            reply::PRECONDITION_FAILED => (ErrorClass::Refused, Code::QueueMismatch),
            _ => (ErrorClass::Transient, Code::QueueUnavailable),
        },
        ErrorKind::AuthProviderError(_) => (ErrorClass::Refused, Code::QueueAccessRefused),
        // The client's enumeration may grow; whatever it is, the connection is made anew.
        _ => (ErrorClass::Transient, Code::QueueUnavailable),
    }
}

fn words(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::IOError(error) => tls::words(error).unwrap_or_else(|| error.to_string()),
        ErrorKind::RuntimeShutdownError(error) => error.to_string(),
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_) => {
            "the connection to the broker ended".to_owned()
        }
        ErrorKind::ParsingError(_) => {
            "what answers there does not speak AMQP; if it is the broker's port for TLS, write amqps://"
                .to_owned()
        }
        ErrorKind::MissingHeartbeatError => "the broker was silent for too long".to_owned(),
        other => lapin::Error::from(other.clone()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};

    use super::*;

    #[test]
    fn who_must_act_follows_from_the_reply_code() {
        let soft = |kind, text: &str| {
            lapin::Error::from(ErrorKind::ProtocolError(AMQPError::new(
                AMQPErrorKind::Soft(kind),
                text.into(),
            )))
        };
        let hard = |kind, text: &str| {
            lapin::Error::from(ErrorKind::ProtocolError(AMQPError::new(
                AMQPErrorKind::Hard(kind),
                text.into(),
            )))
        };
        for (error, class, code) in [
            (
                soft(AMQPSoftError::ACCESSREFUSED, "refused"),
                ErrorClass::Refused,
                Code::QueueAccessRefused,
            ),
            (
                hard(AMQPHardError::NOTALLOWED, "vhost x not found"),
                ErrorClass::Refused,
                Code::QueueAccessRefused,
            ),
            (
                soft(AMQPSoftError::NOTFOUND, "no queue"),
                ErrorClass::Refused,
                Code::QueueMissing,
            ),
            (
                soft(AMQPSoftError::PRECONDITIONFAILED, "inequivalent arg"),
                ErrorClass::Refused,
                Code::QueueMismatch,
            ),
            (
                hard(
                    AMQPHardError::CONNECTIONFORCED,
                    "broker forced connection closure",
                ),
                ErrorClass::Transient,
                Code::QueueUnavailable,
            ),
            (
                lapin::Error::from(ErrorKind::MissingHeartbeatError),
                ErrorClass::Transient,
                Code::QueueUnavailable,
            ),
        ] {
            let failure = failure(&error, "declaring queue x");
            assert_eq!((failure.class, failure.code), (class, code), "{failure}");
            assert!(failure.detail.starts_with("declaring queue x: "), "{failure}");
        }
    }
}
