//! The meaning of PostgreSQL's errors. The codes are those of PostgreSQL's manual, appendix A (SQLSTATE).

use std::io::ErrorKind;

use sqlx::postgres::PgDatabaseError;

use crate::tls;

/// Where the trusted authorities are named.
const AUTHORITIES: &str = "sslrootcert of registry.url";

/// Returns the meaning of the error together with the server's own text.
pub(super) fn reason(error: &sqlx::Error) -> String {
    if let sqlx::Error::Database(database) = error {
        let code = database.code().unwrap_or_default();
        let hint = database
            .try_downcast_ref::<PgDatabaseError>()
            .and_then(PgDatabaseError::hint)
            .map(|hint| format!("; {hint}"))
            .unwrap_or_default();
        format!(
            "{} ({}{hint}, SQLSTATE {code})",
            meaning(&code),
            database.message()
        )
    } else if let sqlx::Error::Io(error) = error {
        match tls::explain_refusal(&error.to_string(), AUTHORITIES) {
            Some(refusal) => format!("{refusal} ({error})"),
            None => format!("{} ({error})", io_meaning(error.kind())),
        }
    } else if let sqlx::Error::Tls(error) = error {
        let said = error.to_string();
        let meaning = if said.contains("server does not support TLS") {
            "the server offers no TLS, and sslmode of registry.url requires it: turn it on there (ssl = on)"
                .to_owned()
        } else {
            tls::explain_refusal(&said, AUTHORITIES).unwrap_or_else(|| {
                "TLS could not be negotiated; check sslmode and sslrootcert of registry.url".to_owned()
            })
        };
        format!("{meaning} ({said})")
    } else {
        error.to_string()
    }
}

fn meaning(code: &str) -> &'static str {
    match code {
        "28P01" => "the password is wrong",
        "28000" => "the user may not sign in; check the user's name and the server's pg_hba.conf",
        "3D000" => "the database does not exist; create it with CREATE DATABASE",
        "3F000" => "the schema does not exist; check the user's search_path",
        "42501" => {
            "permission denied; the user must own the tables, or have the right to create them at the first start (GRANT CREATE ON SCHEMA)"
        }
        "25006" => "the server is a read-only standby; registry.url must name the primary",
        "53300" => {
            "the server has no connection left; lower registry.connections or raise the server's max_connections"
        }
        "53100" => "the server's disk is full; free disk space",
        "53200" => "the server is out of memory",
        "57P01" | "57P02" => "the server is shutting down",
        "57P03" => "the server is starting or stopping",
        "57014" => {
            "it took longer than registry.statement_timeout; the server is overloaded or a lock is held"
        }
        "55P03" => "a lock was held by another process for too long",
        "25P03" | "25P04" => "the transaction took too long",
        "40001" | "40P01" => "others changed the same rows at the same time, several times in a row",
        "42P01" | "42703" => "a table or column is missing; it was changed by hand or by a newer build",
        "22021" => "a text contains a character that the database cannot store",
        "XX001" | "XX002" => "the database is damaged; restore a backup",
        _ => match code.get(..2) {
            Some("08") => "the connection broke",
            Some("23") => "a rule of the tables was broken",
            Some("53") => "the server lacks a resource",
            Some("57") => "the server ended the statement",
            Some("58") => "the server's disk or operating system reports an error",
            _ => "the database refused",
        },
    }
}

fn io_meaning(kind: ErrorKind) -> &'static str {
    if kind == ErrorKind::ConnectionRefused {
        "nothing listens there; is the server running, are host and port of registry.url right?"
    } else if kind == ErrorKind::TimedOut {
        "the server did not answer in time"
    } else if matches!(
        kind,
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
    ) {
        "the connection broke"
    } else if kind == ErrorKind::NotFound {
        "the host's name, the socket or a certificate file is not found"
    } else {
        "the server cannot be reached"
    }
}

/// Returns whether the statement was refused only because of concurrent changes, and changed nothing: run
/// again, it may succeed.
pub(super) fn is_conflict(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| matches!(&*code, "40001" | "40P01"))
}

/// Returns whether the connection is unusable after this error, because it broke or its server no longer
/// accepts writes.
pub(super) fn ends_connection(error: &sqlx::Error) -> bool {
    if let Some(database) = error.as_database_error() {
        database.code().is_some_and(|code| {
            matches!(&*code, "25006" | "57P01" | "57P02" | "57P03") || code.starts_with("08")
        })
    } else {
        matches!(
            error,
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_their_classes_have_words() {
        assert!(meaning("28P01").contains("password"));
        assert!(meaning("53100").contains("disk is full"));
        assert!(meaning("53300").contains("registry.connections"));
        assert!(meaning("25006").contains("primary"));
        assert!(meaning("08006").contains("connection broke"));
        assert!(meaning("23514").contains("rule"));
        assert_eq!(meaning(""), "the database refused");
        assert_eq!(meaning("é"), "the database refused");
        assert!(io_meaning(ErrorKind::ConnectionRefused).contains("nothing listens"));
    }
}
