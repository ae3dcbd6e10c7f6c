//! Opens the PostgreSQL database and brings its tables up to date.

use std::fmt::Display;
use std::str::FromStr as _;
use std::time::Duration;

use futures::FutureExt as _;
use sqlx::migrate::{Migrate as _, MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::timeout;

use super::connection_cache::{ConnectionCache, DOUBTFUL_AFTER, IDLE_TIMEOUT, ROUND_TRIP};
use super::errors::{Database, classify, compare_versions, unavailable};
use super::{Pools, SqlRegistry, Tables};
use crate::error::{Code, ErrorClass, Failure};
use crate::settings::RegistrySettings;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");
const MIGRATIONS_TABLE: &str = "_sqlx_migrations";

/// How long a process waits for another one that changes the tables, and how long a migration waits for a
/// lock on its table.
const MIGRATION_LOCK_TIMEOUT: &str = "60s";
/// Time limit of all migrations together. The running service makes large changes, not the start.
const MIGRATION_TIMEOUT: Duration = Duration::from_mins(10);
/// Connections are renewed after this time, so that they spread again after a failover.
const LIFETIME: Duration = Duration::from_mins(30);

/// How the applied migrations compare with the known ones.
enum MigrationHistory {
    /// Every migration that this build knows was applied.
    Complete,
    /// A migration is missing, or there is no history.
    Incomplete,
}

impl SqlRegistry {
    /// Opens the database of `registry.url` and brings its tables up to date (see `migrations/README.md`).
    ///
    /// Without `sslmode` in the URL, a server on another machine must prove its identity (`verify-full`).
    ///
    /// # Errors
    /// Code `SettingsWrong` if the URL cannot be read. Otherwise class `Transient`: it names the database,
    /// and whether the server does not answer, refuses the user, lacks the database, is a standby, or has
    /// tables that this build cannot use. It never contains the password.
    pub async fn open_postgres(settings: &RegistrySettings) -> Result<Self, Failure> {
        Self::open_postgres_with(settings, Tables::BroughtUpToDate).await
    }

    /// Does the same as [`Self::open_postgres`]. With [`Tables::AsTheyAre`] it changes nothing.
    ///
    /// # Errors
    /// As [`Self::open_postgres`]; also if the tables are missing or of another build.
    pub(in crate::registry) async fn open_postgres_with(
        settings: &RegistrySettings,
        tables: Tables,
    ) -> Result<Self, Failure> {
        let options = options(settings)?;
        let description = describe_database(&options);
        let fail =
            |doing: &str, error: &sqlx::Error| classify(Database::Postgres, &description, doing, error);
        let session = [
            ("lock_timeout", MIGRATION_LOCK_TIMEOUT),
            ("statement_timeout", "0"),
        ];
        // A separate connection, because its error names the cause, whereas a pool retries until its timeout.
        let migrating = with_session(&options, session);
        let mut connection = timeout(settings.acquire_timeout, migrating.connect())
            .await
            .unwrap_or_else(|_| Err(timeout_error(settings.acquire_timeout)))
            .map_err(|error| fail("connecting", &error))?;
        let preparing = async {
            match tables {
                Tables::BroughtUpToDate => prepare(&mut connection, &description).await,
                Tables::AsTheyAre => check_tables(&mut connection, &description).await,
            }
        };
        timeout(MIGRATION_TIMEOUT, preparing).await.unwrap_or_else(|_| {
            Err(fail(
                "bringing its tables up to date",
                &timeout_error(MIGRATION_TIMEOUT),
            ))
        })?;
        connection.close().await.ok();
        let statement_timeout = settings.statement_timeout.as_millis();
        let session = [
            ("statement_timeout", statement_timeout),
            // Statements of a transaction follow each other at once; an idle transaction was abandoned.
            ("idle_in_transaction_session_timeout", statement_timeout),
        ];
        let pool = PgPoolOptions::new()
            .max_connections(settings.connections)
            .acquire_timeout(settings.acquire_timeout)
            .idle_timeout(IDLE_TIMEOUT)
            .max_lifetime(LIFETIME)
            .test_before_acquire(false)
            .before_acquire(|connection, facts| {
                async move {
                    if facts.idle_for < DOUBTFUL_AFTER {
                        return Ok(true);
                    }
                    Ok(matches!(timeout(ROUND_TRIP, connection.ping()).await, Ok(Ok(()))))
                }
                .boxed()
            })
            .connect_lazy_with(with_session(&options, session));
        Ok(Self {
            pools: Pools::Postgres {
                cache: ConnectionCache::new(pool, settings.connections, settings.acquire_timeout),
                limit: settings.statement_timeout + ROUND_TRIP,
            },
            database: description.into(),
        })
    }
}

fn timeout_error(limit: Duration) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        format!("no answer within {limit:?}"),
    ))
}

/// Returns the options of the URL with those that tasksync adds.
pub(super) fn options(settings: &RegistrySettings) -> Result<PgConnectOptions, Failure> {
    options_of(&settings.url)
        .and_then(|options| match postgres_file_refusal(&settings.url) {
            Some(reason) => Err(reason),
            None => Ok(options),
        })
        .map_err(|reason| {
            Failure::new(
                ErrorClass::Refused,
                Code::SettingsWrong,
                format!(
                    "registry.url does not name a PostgreSQL database ({reason}); write postgres://USER:PASSWORD@HOST:PORT/DATABASE"
                ),
            )
        })
        .inspect(warn_without_tls)
}

/// Returns why the URL names no PostgreSQL database, as the rest of a sentence.
pub(in crate::registry) fn postgres_url_refusal(url: &str) -> Option<String> {
    options_of(url)
        .err()
        .map(|reason| format!("does not name a PostgreSQL database: {reason}"))
}

/// Returns the options of a URL, or why it is refused, without a password.
fn options_of(text: &str) -> Result<PgConnectOptions, String> {
    let url = url::Url::parse(text).map_err(|error| error.to_string())?;
    // The driver would take the text before the host, perhaps a password, for the name of the database, and
    // show it.
    if !url.has_authority() {
        return Err("the two slashes after \"postgres:\" are missing".to_owned());
    }
    check_parameters(&url)?;
    let named = |names: &[&str]| url.query_pairs().any(|(name, _)| names.contains(&&*name));
    let mut options = PgConnectOptions::from_str(text).map_err(|error| error.to_string())?;
    if options.get_database().is_none() {
        return Err("it has no database".to_owned());
    }
    if !named(&["application_name"]) {
        options = options.application_name("tasksync");
    }
    let mode = options.get_ssl_mode();
    let authority = named(&["sslrootcert", "ssl-root-cert", "ssl-ca"]);
    if !named(&["sslmode", "ssl-mode"]) {
        if authority || !is_local(&options) {
            options = options.ssl_mode(PgSslMode::VerifyFull);
        }
    } else if authority && !matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull) {
        return Err(
            "its sslrootcert would not be used: write sslmode=verify-full, or leave sslmode out".to_owned(),
        );
    }
    // Statements are fast, or their own timeouts report them as slow calls.
    Ok(options.disable_statement_logging())
}

fn warn_without_tls(options: &PgConnectOptions) {
    let may_be_plain = matches!(
        options.get_ssl_mode(),
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer
    );
    if may_be_plain && !is_local(options) {
        tracing::warn!(
            place = describe_database(options),
            "registry.url allows a connection without TLS: anyone on the network path can read the password and the tasks"
        );
    }
}

/// Parameters of the URL that are obeyed, each with its other spellings.
const PARAMETERS: &[&[&str]] = &[
    &["sslmode", "ssl-mode"],
    &["sslrootcert", "ssl-root-cert", "ssl-ca"],
    &["sslcert", "ssl-cert"],
    &["sslkey", "ssl-key"],
    &["application_name"],
    &["host"],
    &["hostaddr"],
    &["port"],
    &["dbname"],
    &["user"],
    &["password"],
    &["statement-cache-capacity"],
];

/// Refuses parameters that the driver would ignore, and duplicates, of which it would obey only the last one.
/// `sslMode=verify-full`, for example, would silently require no proof. The driver also logs ignored
/// parameters, including a misspelt password.
fn check_parameters(url: &url::Url) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    for (name, _) in url.query_pairs() {
        // `options` may come in several parts.
        if name == "options" || (name.starts_with("options[") && name.ends_with(']')) {
            continue;
        }
        let Some(parameter) = PARAMETERS.iter().find(|names| names.contains(&&*name)) else {
            return Err(format!(
                "its parameter {name} is not known; known are sslmode, sslrootcert, sslcert, sslkey, application_name and options"
            ));
        };
        let parameter = parameter.first().copied().unwrap_or_default();
        if !seen.insert(parameter) {
            return Err(format!("it names {parameter} twice"));
        }
    }
    Ok(())
}

/// Returns which file that the URL names cannot be read. The driver's error would not name it.
pub(in crate::registry) fn postgres_file_refusal(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    url.query_pairs().find_map(|(name, value)| {
        let parameter = PARAMETERS.iter().find(|names| names.contains(&&*name))?.first()?;
        if !matches!(*parameter, "sslrootcert" | "sslcert" | "sslkey") || value.starts_with("-----BEGIN") {
            return None;
        }
        let error = std::fs::metadata(&*value).err()?;
        Some(format!("{parameter} {value}: {error}"))
    })
}

/// Returns whether the connection stays on this machine.
fn is_local(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some()
        || options.get_host() == "localhost"
        || options
            .get_host()
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Adds session settings, except those that the URL sets.
fn with_session<V: Display>(
    options: &PgConnectOptions,
    session: impl IntoIterator<Item = (&'static str, V)>,
) -> PgConnectOptions {
    let url_options = options.get_options().unwrap_or_default().to_owned();
    options.clone().options(
        session
            .into_iter()
            .filter(|(name, _)| !url_options.contains(name)),
    )
}

/// Returns the database as text, without a password.
pub(super) fn describe_database(options: &PgConnectOptions) -> String {
    let server = options.get_socket().map_or_else(
        || format!("{}:{}", options.get_host(), options.get_port()),
        |socket| socket.display().to_string(),
    );
    format!(
        "registry database \"{}\" at {server} (user {})",
        options.get_database().unwrap_or_default(),
        options.get_username()
    )
}

/// Refuses a standby, and brings the tables up to date.
async fn prepare(connection: &mut PgConnection, description: &str) -> Result<(), Failure> {
    const DOING: &str = "bringing its tables up to date";
    let fail = |error: sqlx::Error| classify(Database::Postgres, description, DOING, &error);
    let (standby,): (bool,) = sqlx::query_as("SELECT pg_is_in_recovery()")
        .fetch_one(&mut *connection)
        .await
        .map_err(fail)?;
    if standby {
        return Err(unavailable(format!(
            "{description}: the server is a read-only standby; registry.url must name the primary"
        )));
    }
    // First checked without a lock: a usual start has no migration to run, and then needs no right to change
    // tables.
    if matches!(
        history(connection, description).await?,
        MigrationHistory::Incomplete
    ) {
        migrate(connection, description).await?;
    }
    let newest = newest_known();
    let (applied, minimum): (i64, i64) = sqlx::query_as(
        "SELECT COALESCE((SELECT MAX(version) FROM _sqlx_migrations), 0), \
            COALESCE((SELECT MAX(minimum_migration) FROM compatibility), 0)",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(fail)?;
    if minimum > newest {
        return Err(unavailable(format!(
            "{description}: its tables need a build that knows migration {minimum}; this one knows {newest}. Use a newer build"
        )));
    }
    if applied > newest {
        tracing::warn!(
            place = description,
            applied,
            known = newest,
            "a newer build changed the registry's tables; this build works with them and should be upgraded"
        );
    }
    Ok(())
}

/// Checks that the tables have the form of this build.
async fn check_tables(connection: &mut PgConnection, description: &str) -> Result<(), Failure> {
    let applied = match connection.list_applied_migrations(MIGRATIONS_TABLE).await {
        Ok(applied) => applied.iter().map(|applied| applied.version).collect(),
        Err(MigrateError::Execute(error)) if is_undefined_table(&error) => Vec::new(),
        Err(error) => return Err(migration_failure(description, &error)),
    };
    compare_versions(description, &MIGRATIONS, &applied)
}

fn newest_known() -> i64 {
    MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0)
}

/// Compares the applied migrations with those that this build knows.
async fn history(connection: &mut PgConnection, description: &str) -> Result<MigrationHistory, Failure> {
    let applied = match connection.list_applied_migrations(MIGRATIONS_TABLE).await {
        Ok(applied) => applied,
        Err(MigrateError::Execute(error)) if is_undefined_table(&error) => {
            return Ok(MigrationHistory::Incomplete);
        }
        Err(error) => return Err(migration_failure(description, &error)),
    };
    let complete = MIGRATIONS.iter().all(|migration| {
        applied
            .iter()
            .any(|applied| applied.version == migration.version && applied.checksum == migration.checksum)
    });
    Ok(if complete {
        MigrationHistory::Complete
    } else {
        // The same if a checksum differs, which the migrator reports.
        MigrationHistory::Incomplete
    })
}

fn is_undefined_table(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code == "42P01")
}

/// Applies missing migrations under an advisory lock, which ends with the connection.
async fn migrate(connection: &mut PgConnection, description: &str) -> Result<(), Failure> {
    let mut migrator = Migrator {
        migrations: MIGRATIONS.migrations.clone(),
        ..Migrator::DEFAULT
    };
    // A newer build may have added migrations; they do no harm.
    migrator.set_ignore_missing(true);
    migrator
        .run_direct(None, connection, false)
        .await
        .map_err(|error| migration_failure(description, &error))
}

fn migration_failure(description: &str, error: &MigrateError) -> Failure {
    const DOING: &str = "bringing its tables up to date";
    if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
        classify(Database::Postgres, description, DOING, error)
    } else if let MigrateError::VersionMismatch(version) = error {
        unavailable(format!(
            "{description}: migration {version} was applied in another form than this build knows; the database belongs to another \
             build, or the build was changed"
        ))
    } else {
        unavailable(format!("{description}, {DOING}: {error}"))
    }
}
