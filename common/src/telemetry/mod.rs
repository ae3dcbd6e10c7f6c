//! The output of a process for its operator: log lines, metrics and traces.

mod export;
mod labelled;
mod logs;
pub mod spans;

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub(crate) use export::endpoint_refusal;

use crate::metrics::{KnownInstallation, Metrics, MetricsError};
use crate::random::unique_id;
use crate::settings::{LogSettings, TelemetrySettings};

/// Why logs, metrics or traces cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.filter` is not a filter.
    #[error("log.filter \"{filter}\" {error}; write for example info or info,tasksync_worker=debug")]
    Filter {
        /// The text of the setting.
        filter: String,
        /// Why it cannot be used, as the rest of a sentence.
        error: String,
    },
    /// `telemetry.otlp_endpoint` is not an address.
    #[error(
        "telemetry.otlp_endpoint \"{endpoint}\" {error}; write for example https://collector.example:4318"
    )]
    Endpoint {
        /// The address, without user name and password.
        endpoint: String,
        /// Why it cannot be used, as the rest of a sentence.
        error: String,
    },
    /// Metrics cannot be created.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Logging was set up before in this process.
    #[error("logging cannot be set up: {0}")]
    SetUp(String),
}

/// The process's metrics, and the exporters of metrics and traces.
pub struct Telemetry {
    metrics: Metrics,
    tracer: Option<SdkTracerProvider>,
}

/// Sets up logs, metrics and traces for the whole process. Called once, right after the settings were read.
/// `role` identifies the process in its metrics and traces.
///
/// Without `telemetry.otlp_endpoint` nothing is sent, and spans cost nothing.
///
/// # Errors
/// A setting cannot be used, or logging was set up already.
pub fn init(
    log: &LogSettings,
    telemetry: &TelemetrySettings,
    role: &'static str,
) -> Result<Telemetry, TelemetryError> {
    let lines = logs::layer(log)?;
    let resource = resource(role);
    let installation = KnownInstallation::default();
    let exporting = telemetry
        .otlp_endpoint
        .as_deref()
        .map(|endpoint| export::exporting(endpoint, telemetry, &resource, &installation))
        .transpose()?;
    let (reader, tracer) = exporting.unzip();
    let spans = tracer.as_ref().map(|tracer| {
        tracing_opentelemetry::layer()
            .with_tracer(tracer.tracer("tasksync"))
            // Places in the source and threads do not help an operator. Log lines stay out of traces.
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_filter(tracing_subscriber::filter::filter_fn(|metadata| {
                metadata.is_span() && metadata.target() == spans::TARGET
            }))
    });
    tracing_subscriber::registry()
        .with(lines)
        .with(spans)
        .try_init()
        .map_err(|error| TelemetryError::SetUp(error.to_string()))?;
    Ok(Telemetry {
        metrics: Metrics::new(role, resource, reader, installation)?,
        tracer,
    })
}

impl Telemetry {
    /// Returns the process's metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Sends the remaining data and ends the exporters, within `time` in total. Called last, after everything
    /// else has ended. Data that could not be sent by then are lost.
    pub async fn shut_down(self, time: Duration) {
        let (ended_sender, ended) = tokio::sync::oneshot::channel();
        // The exporters block their thread; that of metrics blocks for 5 seconds, whatever timeout it gets.
        // So they run in a thread of their own, for which the end of the runtime does not wait.
        let ending = std::thread::Builder::new()
            .name("telemetry-end".to_owned())
            .spawn(move || {
                if let Some(tracer) = &self.tracer {
                    // The exporter has logged its failures.
                    tracer.shutdown_with_timeout(time / 2).ok();
                }
                self.metrics.provider().shutdown_with_timeout(time / 2).ok();
                ended_sender.send(()).ok();
            });
        if let Err(error) = ending {
            tracing::warn!(%error, "the last metrics and traces cannot be sent");
            return;
        }
        if tokio::time::timeout(time, ended).await.is_err() {
            tracing::debug!("the last metrics and traces were not sent in time");
        }
    }
}

fn resource(role: &'static str) -> Resource {
    // The builder's own detectors read `OTEL_RESOURCE_ATTRIBUTES` from the environment.
    Resource::builder()
        .with_service_name("tasksync")
        .with_attributes([
            opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            opentelemetry::KeyValue::new("service.instance.id", unique_id().to_string()),
            opentelemetry::KeyValue::new("tasksync.role", role),
        ])
        .build()
}
