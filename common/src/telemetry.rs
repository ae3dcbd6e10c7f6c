//! Log lines: to standard error, as text for people or as one JSON object per line.

use tracing_subscriber::EnvFilter;

use crate::settings::{LogFormat, LogSettings};

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.filter` is not a filter.
    #[error(
        "log.filter \"{filter}\" cannot be used: {error}; write for example info or info,tasksync_worker=debug"
    )]
    Filter {
        /// What was written.
        filter: String,
        /// What is wrong with it.
        error: String,
    },
    /// Logging was set up before in this process.
    #[error("logging cannot be set up: {0}")]
    SetUp(String),
}

/// Sets logging up for the whole process; called once, first thing after the settings were read.
///
/// # Errors
/// The filter cannot be read, or logging was set up already.
pub fn init(settings: &LogSettings) -> Result<(), TelemetryError> {
    let filter = filter(&settings.filter)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Text => lines
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init(),
    }
    .map_err(|error| TelemetryError::SetUp(error.to_string()))
}

fn filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .parse(text)
        .map_err(|error| TelemetryError::Filter {
            filter: text.to_owned(),
            error: error.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_is_refused_by_name() {
        assert!(filter("info,tasksync_worker=debug").is_ok());
        let error = filter("tasksync=loudly").unwrap_err().to_string();
        assert!(
            error.contains("log.filter") && error.contains("tasksync=loudly"),
            "{error}"
        );
    }
}
