//! The environment variables of settings: `TASKSYNC_WORKER__USERS_AT_ONCE` sets `worker.users_at_once`.

/// Prefix of all variables.
const PREFIX: &str = "TASKSYNC_";

/// Variables of tasksync that are no settings.
const OTHERS: &[&str] = &["TOKEN", "TOKEN_FILE", "URL", "CONFIG"];

/// Beginnings of further variables that are no settings: those of secrets, and those of tasksync's own tests.
const OTHER_BEGINNINGS: &[&str] = &["SECRET_", "TEST_"];

/// Likeness from which a variable with a single underscore is taken for a misspelt setting.
const MISSPELT: f64 = 0.8;

/// What an environment variable is to the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VariableMeaning {
    /// Nothing: it belongs to another program, or is known by other means.
    NotOurs,
    /// It sets this key.
    Sets(String),
    /// It is no setting, but is or resembles one that was meant.
    Misspelt {
        /// The setting that was probably meant.
        meant: Option<&'static str>,
    },
    /// It has the prefix and resembles no setting.
    Strange,
}

/// Returns the environment variable that sets a key, as `TASKSYNC_HEALTH__LISTEN` sets `health.listen`.
#[must_use]
pub fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

/// Returns what a variable is. `secret_prefix` begins the names of the tenants' secrets.
pub(super) fn meaning(name: &str, secret_prefix: &str) -> VariableMeaning {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return VariableMeaning::NotOurs;
    };
    if OTHERS.contains(&rest)
        || (!secret_prefix.is_empty() && name.starts_with(secret_prefix))
        || OTHER_BEGINNINGS.iter().any(|begin| rest.starts_with(begin))
        || is_service_link(rest)
    {
        return VariableMeaning::NotOurs;
    }
    let lower = rest.to_ascii_lowercase();
    if let Some((section, name)) = lower.split_once("__") {
        let key = format!("{section}.{name}");
        if super::keys::declaration(&key).is_some() {
            return VariableMeaning::Sets(key);
        }
        return VariableMeaning::Misspelt {
            meant: super::suggestion::nearest_key(&key)
                .or_else(|| super::suggestion::nearest_variable(&lower).map(|(key, _)| key)),
        };
    }
    match super::suggestion::nearest_variable(&lower) {
        Some((key, likeness)) if likeness >= MISSPELT => VariableMeaning::Misspelt { meant: Some(key) },
        Some(_) | None => VariableMeaning::Strange,
    }
}

/// Returns whether Kubernetes sets such a variable for a Service whose name begins with `tasksync`, as
/// `TASKSYNC_SERVICE_HOST` or `TASKSYNC_API_PORT_8480_TCP_ADDR`.
fn is_service_link(rest: &str) -> bool {
    let rest = format!("_{rest}");
    let after = |part: &str| rest.split_once(part).map(|(_, after)| after);
    rest.ends_with("_SERVICE_HOST")
        || rest.ends_with("_PORT")
        || after("_SERVICE_PORT").is_some_and(|after| after.is_empty() || after.starts_with('_'))
        || after("_PORT_").is_some_and(|after| {
            let digits = after.trim_start_matches(|sign: char| sign.is_ascii_digit());
            digits.len() < after.len()
                && ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| {
                    digits
                        .strip_prefix(protocol)
                        .is_some_and(|end| matches!(end, "" | "_PROTO" | "_PORT" | "_ADDR"))
                })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variable_is_a_setting_a_mistake_or_of_others() {
        let misspelt = |meant| VariableMeaning::Misspelt { meant: Some(meant) };
        for (name, expected) in [
            ("PATH", VariableMeaning::NotOurs),
            ("TASKSYNC_TOKEN", VariableMeaning::NotOurs),
            ("TASKSYNC_SECRET_CONTOSO__SP", VariableMeaning::NotOurs),
            ("TASKSYNC_PORT", VariableMeaning::NotOurs),
            ("TASKSYNC_SERVICE_HOST", VariableMeaning::NotOurs),
            ("TASKSYNC_SERVICE_PORT_HTTP", VariableMeaning::NotOurs),
            ("TASKSYNC_WORKER_PORT_8481_TCP_ADDR", VariableMeaning::NotOurs),
            ("TASKSYNC_IMAGE", VariableMeaning::Strange),
            (
                "TASKSYNC_WORKER__USERS_AT_ONCE",
                VariableMeaning::Sets("worker.users_at_once".to_owned()),
            ),
            ("TASKSYNC_WORKER_USERS_AT_ONCE", misspelt("worker.users_at_once")),
            ("TASKSYNC_WORKER__USER_AT_ONCE", misspelt("worker.users_at_once")),
            ("TASKSYNC_LOG_FILTER", misspelt("log.filter")),
            (
                "TASKSYNC_WORKER__NONSENSE",
                VariableMeaning::Misspelt { meant: None },
            ),
            ("MYPREFIX_A", VariableMeaning::NotOurs),
        ] {
            assert_eq!(meaning(name, "TASKSYNC_SECRET_"), expected, "{name}");
        }
        assert_eq!(
            meaning("TASKSYNC_OF_TENANT_A", "TASKSYNC_OF_TENANT_"),
            VariableMeaning::NotOurs
        );
        assert_eq!(variable_of("health.listen"), "TASKSYNC_HEALTH__LISTEN");
    }
}
