//! The meaning of the broker's and the client's errors, in one table.

use lapin::ErrorKind;

use super::tls;
use crate::error::{Code, ErrorClass, Failure};

/// Reply codes of AMQP 0-9-1 with a meaning of their own (specification, section 1.2, and RabbitMQ's use of
/// them).
mod reply {
    /// The password is wrong, or a permission for a queue or exchange is missing.
    pub(super) const ACCESS_REFUSED: u16 = 403;
    /// The queue does not exist.
    pub(super) const NOT_FOUND: u16 = 404;
    /// The queue was declared with other arguments.
    pub(super) const PRECONDITION_FAILED: u16 = 406;
    /// The vhost does not exist, or the user has no access to it.
    pub(super) const NOT_ALLOWED: u16 = 530;
}

/// Returns the failure for an error of the client; `doing` names the attempt and the queue or host.
pub(super) fn failure(error: &lapin::Error, doing: &str) -> Failure {
    let (class, code) = classify(error.kind());
    Failure::new(class, code, format!("{doing}: {}", describe_kind(error.kind())))
}

/// Returns the failure for a call without an answer in time.
pub(super) fn timed_out(doing: &str, after: std::time::Duration) -> Failure {
    unavailable(format!("{doing}: no answer within {} ms", after.as_millis()))
}

/// Returns the failure for a broker that cannot be used now, but perhaps later.
pub(super) fn unavailable(detail: impl Into<String>) -> Failure {
    Failure::new(ErrorClass::Transient, Code::QueueUnavailable, detail)
}

/// Returns the failure with an unknown outcome if it is transient: the broker may have taken the job.
pub(super) fn with_unknown_outcome(mut failure: Failure) -> Failure {
    if failure.class == ErrorClass::Transient {
        failure.class = ErrorClass::OutcomeUnknown;
    }
    failure
}

/// Returns the failure for a job that came back because no queue of that name exists.
pub(super) fn unroutable_failure(queue: &str) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::QueueMissing,
        format!("the broker returned a job because the queue {queue} does not exist"),
    )
}

/// Returns the failure for a broker that takes no jobs because of an alarm.
pub(super) fn blocked_failure(reason: &str) -> Failure {
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
    if let ErrorKind::ProtocolError(error) = kind {
        match error.get_id() {
            reply::ACCESS_REFUSED | reply::NOT_ALLOWED => (ErrorClass::Refused, Code::QueueAccessRefused),
            reply::NOT_FOUND => (ErrorClass::Refused, Code::QueueMissing),
            reply::PRECONDITION_FAILED => (ErrorClass::Refused, Code::QueueMismatch),
            _ => (ErrorClass::Transient, Code::QueueUnavailable),
        }
    } else if matches!(kind, ErrorKind::AuthProviderError(_)) {
        (ErrorClass::Refused, Code::QueueAccessRefused)
    } else {
        // The client may add errors; for an unknown one the connection is reopened.
        (ErrorClass::Transient, Code::QueueUnavailable)
    }
}

fn describe_kind(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::IOError(error) => tls::describe_tls_error(error).unwrap_or_else(|| error.to_string()),
        ErrorKind::RuntimeShutdownError(error) => error.to_string(),
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_) => {
            "the connection to the broker ended".to_owned()
        }
        ErrorKind::ParsingError(_) => {
            "the server there does not speak AMQP; if it is the broker's port for TLS, write amqps://"
                .to_owned()
        }
        ErrorKind::MissingHeartbeatError => "the broker was silent for too long".to_owned(),
        ErrorKind::ChannelsLimitReached
        | ErrorKind::InvalidProtocolVersion(_)
        | ErrorKind::InvalidChannel(_)
        | ErrorKind::SerialisationError(_)
        | ErrorKind::AuthProviderError(_)
        | ErrorKind::FutureCompleted
        | ErrorKind::NoDefaultRuntime
        | _ => lapin::Error::from(kind.clone()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};

    use super::*;

    #[test]
    fn the_actor_follows_from_the_reply_code() {
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
