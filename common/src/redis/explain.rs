//! Explanations of Redis errors for the operator.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::trust;
use crate::tls;

/// Returns what happened and what to do. It contains no secret, because servers do not repeat passwords.
/// `tls` says whether the connection uses TLS.
pub(super) fn explain(error: &RedisError, tls: bool) -> String {
    let said = error.to_string();
    match tls_advice(&said).or_else(|| advice(error, tls).map(str::to_owned)) {
        Some(advice) => format!("{advice} ({said})"),
        None => said,
    }
}

/// Returns the server's error code and all words that look like one: errors inside a script are wrapped in
/// other text.
fn codes(error: &RedisError) -> Vec<String> {
    let text = error.to_string();
    error
        .code()
        .map(str::to_owned)
        .into_iter()
        .chain(
            text.split(|character: char| !character.is_ascii_uppercase())
                .filter(|word| word.len() >= 3)
                .map(str::to_owned),
        )
        .collect()
}

fn tls_advice(said: &str) -> Option<String> {
    if said.contains("received fatal alert") {
        return Some(
            "the server refuses the TLS connection: does it require a certificate of its clients (tls-auth-clients)? \
             tasksync has none"
                .to_owned(),
        );
    }
    tls::explain_refusal(said, trust::SETTING)
}

fn advice(error: &RedisError, tls: bool) -> Option<&'static str> {
    if let Some(advice) = codes(error).iter().find_map(|code| by_code(code)) {
        return Some(advice);
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => by_code("WRONGPASS"),
        ErrorKind::MasterNameNotFoundBySentinel => Some(
            "no sentinel that answers knows a reachable master of this name: check the name in the URL and the sentinels",
        ),
        ErrorKind::ClusterConnectionNotFound => {
            Some("no node of the cluster that serves this key answers: bring its nodes back")
        }
        ErrorKind::InvalidClientConfig => Some("the URL in the settings cannot be used"),
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => by_code("MOVED"),
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => Some(
            "the answer is not what tasksync expects: does something else use these keys, or is it not a Redis server?",
        ),
        ErrorKind::Io if error.is_timeout() && tls => Some(
            "no answer in time: the server is overloaded, stopped or cut off, or speaks no TLS on that port",
        ),
        ErrorKind::Io if error.is_timeout() => {
            Some("no answer in time: the server is overloaded, stopped or cut off")
        }
        ErrorKind::Io if error.is_connection_refusal() => {
            Some("nothing listens there: start Redis, or correct the URL")
        }
        ErrorKind::Io if tls => Some(
            "the connection cannot be opened or was closed: the server is down or restarting, or speaks no TLS on that port",
        ),
        ErrorKind::Io => Some(
            "the connection cannot be opened or was closed: the server is down or restarting, or requires TLS (rediss)",
        ),
        ErrorKind::Client
        | ErrorKind::Extension
        | ErrorKind::NoValidReplicasFoundBySentinel
        | ErrorKind::EmptySentinelList
        | ErrorKind::Server(_)
        | ErrorKind::RESP3NotSupported
        | _ => None,
    }
}

/// Returns the meaning of a server's error code.
fn by_code(code: &str) -> Option<&'static str> {
    Some(match code {
        "NOAUTH" => "the server requires a password: put it into the URL",
        "WRONGPASS" => "the server refuses user or password: correct the URL",
        "NOPERM" => {
            "the user has no permission for this: allow it all commands except admin ones on tasksync's keys (ACL SETUSER)"
        }
        "OOM" => "the server's memory is full: raise maxmemory; its policy must be noeviction",
        "READONLY" => "the server is a replica: name the master, or use redis+sentinel: or redis+cluster:",
        "MOVED" | "ASK" => "the server is part of a cluster: use redis+cluster: in the URL",
        "LOADING" => "the server is loading its data and will answer soon",
        "CLUSTERDOWN" => "a part of the cluster is down: bring its nodes back",
        "MASTERDOWN" => "the server is a replica that lost its master",
        "MISCONF" => {
            "the server cannot save to its disk and accepts no changes: free disk space, and see its log"
        }
        "NOREPLICAS" => "the server has too few replicas to accept changes (min-replicas-to-write)",
        "BUSY" => "the server is busy with a long script",
        "CROSSSLOT" => "keys of different slots in one call",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(line: &str) -> RedisError {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes())
            .unwrap()
            .extract_error()
            .unwrap_err()
    }

    #[test]
    fn every_kind_of_refusal_says_what_to_do() {
        for (line, says) in [
            ("NOAUTH Authentication required.", "requires a password"),
            (
                "WRONGPASS invalid username-password pair or user is disabled.",
                "refuses user or password",
            ),
            (
                "NOPERM User app has no permissions to run the 'zadd' command",
                "no permission for this",
            ),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                "maxmemory",
            ),
            ("READONLY You can't write against a read only replica.", "replica"),
            ("MOVED 3999 127.0.0.1:6381", "redis+cluster"),
            ("LOADING Redis is loading the dataset in memory", "soon"),
            ("CLUSTERDOWN The cluster is down", "nodes back"),
            ("MISCONF Redis is configured to save RDB snapshots", "disk"),
            (
                "ERR Error running script (call to f_1): @user_script:1: OOM command not allowed when used memory > 'maxmemory'.",
                "maxmemory",
            ),
        ] {
            let text = explain(&server(line), false);
            assert!(text.contains(says), "{line}: {text}");
        }
    }

    #[test]
    fn an_unknown_error_is_passed_on() {
        assert!(explain(&server("ODD something new"), false).contains("something new"));
    }
}
