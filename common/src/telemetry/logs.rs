//! Log lines on standard error: text for people, or one JSON object per line.

use std::fmt;

use opentelemetry::trace::TraceContextExt as _;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use super::TelemetryError;
use super::spans;
use crate::settings::{LogFormat, LogSettings, log_filter_refusal};

/// Returns the layer that writes log lines.
pub(super) fn layer<S>(settings: &LogSettings) -> Result<Box<dyn Layer<S> + Send + Sync>, TelemetryError>
where
    S: Subscriber + for<'a> LookupSpan<'a> + 'static,
{
    let filter = line_filter(&settings.filter)?;
    Ok(match settings.format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .with_filter(filter)
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .fmt_fields(JsonFields::new())
            .event_format(WithTrace(
                tracing_subscriber::fmt::format()
                    .json()
                    .flatten_event(true)
                    .with_current_span(true)
                    .with_span_list(false),
            ))
            .with_filter(filter)
            .boxed(),
    })
}

/// Returns the filter of log lines: what the setting asks for, and every warning and error of tasksync. Log lines
/// do not show the spans of traces. Without a receiver these spans are not even created.
fn line_filter<S: 'static>(
    text: &str,
) -> Result<impl tracing_subscriber::layer::Filter<S> + Send + Sync + 'static, TelemetryError> {
    Ok(filter(text)?
        .or(filter_fn(is_own_warning).with_max_level_hint(tracing::Level::WARN))
        .and(filter_fn(|metadata| metadata.target() != spans::TARGET))
        .and(filter_fn(|metadata| !shows_sign_ins(metadata.target()))))
}

/// Writes JSON lines that begin with the ids of their trace, if that trace is kept.
struct WithTrace(Format<Json>);

impl<S, N> FormatEvent<S, N> for WithTrace
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let current = opentelemetry::Context::current();
        let span = current.span();
        let span = span.span_context();
        if !span.is_sampled() {
            return self.0.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&with_ids(
            &line,
            &span.trace_id().to_string(),
            &span.span_id().to_string(),
        ))
    }
}

/// Returns the line of a JSON object with the ids as its first fields.
fn with_ids(line: &str, trace: &str, span: &str) -> String {
    match line.strip_prefix('{') {
        Some(rest) => format!("{{\"trace_id\":\"{trace}\",\"span_id\":\"{span}\",{rest}"),
        None => line.to_owned(),
    }
}

/// Silences the AMQP library, which logs every closed connection as an error, even after an orderly end. The
/// queue's adapter itself logs the relevant errors, with host and reason.
const QUIET: &str = "lapin=off";

/// Returns whether a target is a library whose lines show parts of passwords, tickets and keys. No filter shows them.
fn shows_sign_ins(target: &str) -> bool {
    let library = target.split("::").next().unwrap_or(target);
    library == "sspi" || library.starts_with("picky")
}

/// Returns whether this is a warning or error of tasksync, which no filter silences.
fn is_own_warning(metadata: &Metadata<'_>) -> bool {
    metadata.is_event()
        && *metadata.level() <= tracing::Level::WARN
        && metadata.target().starts_with("tasksync")
}

fn filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    let refused = |error: String| TelemetryError::Filter {
        filter: text.to_owned(),
        error,
    };
    if let Some(why) = log_filter_refusal(text) {
        return Err(refused(why));
    }
    let asked_for = text.contains("lapin");
    let directives = if asked_for {
        text.to_owned()
    } else {
        format!("{text},{QUIET}")
    };
    EnvFilter::builder()
        .parse(directives)
        .map_err(|error| refused(format!("cannot be used: {error}")))
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn the_amqp_library_speaks_only_when_asked() {
        assert!(filter("info").unwrap().to_string().contains("lapin=off"));
        let asked = filter("info,lapin=debug").unwrap().to_string();
        assert!(asked.contains("lapin=debug") && !asked.contains("off"), "{asked}");
    }

    #[test]
    fn a_wrong_filter_is_refused_by_name() {
        assert!(filter("info,tasksync_worker=debug").is_ok());
        let error = filter("tasksync=loudly").unwrap_err().to_string();
        assert!(
            error.contains("log.filter") && error.contains("tasksync=loudly"),
            "{error}"
        );
    }

    #[test]
    fn no_filter_shows_lines_of_libraries_that_sign_in() {
        assert!(shows_sign_ins("sspi::kerberos::client") && shows_sign_ins("picky_krb::crypto"));
        assert!(!shows_sign_ins("tasksync_worker::auth") && !shows_sign_ins("sspirit"));
    }

    #[test]
    fn no_filter_silences_warnings_of_tasksync() {
        use std::sync::{Arc, Mutex};

        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        for silent in ["off", "lapin=debug", "tasksync_common=error"] {
            let lines = Lines::default();
            let writer = lines.clone();
            let layer = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .with_filter(line_filter(silent).unwrap());
            let subscriber = tracing_subscriber::registry().with(layer);
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(target: "tasksync_common::registry", "a warning");
                tracing::error!(target: "tasksync", "an error");
                tracing::info!(target: "tasksync", "an information");
                tracing::warn!(target: "hyper", "of a library");
            });
            let written = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            assert!(
                written.contains("a warning") && written.contains("an error"),
                "{silent}: {written}"
            );
            assert!(
                !written.contains("information") && !written.contains("library"),
                "{silent}: {written}"
            );
        }
    }

    #[test]
    fn ids_become_the_first_fields_of_a_line() {
        let line = with_ids("{\"level\":\"INFO\"}\n", "aa", "bb");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            read,
            serde_json::json!({"trace_id": "aa", "span_id": "bb", "level": "INFO"})
        );
        assert!(line.ends_with('\n'));
    }
}
