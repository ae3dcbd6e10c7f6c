//! Sends spans and metrics by OTLP (HTTP with protobuf) from separate threads.
//!
//! The service never waits for the receiver. If the receiver does not answer, that is logged once, and its
//! return is logged once. Queues are bounded; what does not fit is dropped.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_otlp::{
    MetricExporter, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, Temporality};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter as SendsSpans,
};
use url::Url;

use super::TelemetryError;
use super::labelled::WithInstallation;
use crate::metrics::KnownInstallation;
use crate::metrics::record::{self, Signal};
use crate::settings::TelemetrySettings;

/// Timeout of one export, including its retries.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest number of waiting spans; further ones are dropped.
const SPANS_WAITING: usize = 8_192;
/// Number of spans in one request, and the longest wait of the first of them.
const SPANS_AT_ONCE: usize = 512;
const SPANS_EVERY: Duration = Duration::from_secs(2);

/// The reader that pushes metrics, and the source of tracers.
pub(super) type Exporting = (PeriodicReader<LoggedOnce<MetricExporter>>, SdkTracerProvider);

/// Returns both exporters for the receiver at `endpoint`.
pub(super) fn exporting(
    endpoint: &str,
    settings: &TelemetrySettings,
    resource: &Resource,
    installation: &KnownInstallation,
) -> Result<Exporting, TelemetryError> {
    let (traces, metrics) = addresses(endpoint)?;
    // The exporters' HTTP client uses the process's default provider. A second installation is refused and
    // does no harm.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let refused = |error: &dyn std::fmt::Display| TelemetryError::Endpoint {
        endpoint: redacted_endpoint(endpoint),
        error: format!("cannot be used: {error}"),
    };
    let receiver = Arc::new(Receiver::new(redacted_endpoint(endpoint)));
    let spans = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(traces)
        .with_timeout(TIMEOUT)
        .build()
        .map_err(|error| refused(&error))?;
    let client = WithInstallation::new(client().map_err(|error| refused(&error))?, installation.clone());
    let metrics = MetricExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_temporality(Temporality::Cumulative)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(metrics)
        .with_timeout(TIMEOUT)
        .build()
        .map_err(|error| refused(&error))?;
    let processor = BatchSpanProcessor::builder(LoggedOnce {
        exporter: spans,
        receiver: Arc::clone(&receiver),
    })
    .with_batch_config(
        BatchConfigBuilder::default()
            .with_max_queue_size(SPANS_WAITING)
            .with_max_export_batch_size(SPANS_AT_ONCE)
            .with_scheduled_delay(SPANS_EVERY)
            .build(),
    )
    .build();
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            settings.trace_ratio.get(),
        ))))
        .with_span_processor(processor)
        .with_resource(resource.clone())
        .build();
    let reader = PeriodicReader::builder(LoggedOnce {
        exporter: metrics,
        receiver,
    })
    .with_interval(settings.metrics_interval)
    .build();
    Ok((reader, provider))
}

/// Returns the HTTP client that the exporter of metrics would make for itself. It may only be made outside of the
/// runtime's threads.
fn client() -> std::io::Result<reqwest::blocking::Client> {
    let making = std::thread::Builder::new()
        .name("telemetry-client".to_owned())
        .spawn(|| reqwest::blocking::Client::builder().timeout(TIMEOUT).build())?;
    match making.join() {
        Ok(made) => made.map_err(std::io::Error::other),
        Err(_) => Err(std::io::Error::other("the HTTP client cannot be made")),
    }
}

/// Returns the addresses of traces and metrics below a receiver's base address.
fn addresses(endpoint: &str) -> Result<(String, String), TelemetryError> {
    if let Some(why) = endpoint_refusal(endpoint) {
        return Err(TelemetryError::Endpoint {
            endpoint: redacted_endpoint(endpoint),
            error: why,
        });
    }
    let base = endpoint.trim_end_matches('/');
    Ok((format!("{base}/v1/traces"), format!("{base}/v1/metrics")))
}

/// Returns why a receiver's address is refused, as the rest of a sentence that begins with the address.
pub(crate) fn endpoint_refusal(endpoint: &str) -> Option<String> {
    let why = match Url::parse(endpoint) {
        Err(_) => "is not an address",
        Ok(url) if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() => {
            "is not an http or https address"
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => "has a query or a fragment",
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            "holds a user or password; put credentials into the variable OTEL_EXPORTER_OTLP_HEADERS"
        }
        Ok(_) => return None,
    };
    Some(why.to_owned())
}

/// Returns an address without what may be secret in it.
fn redacted_endpoint(endpoint: &str) -> String {
    match Url::parse(endpoint) {
        Ok(mut url) => {
            // Refused only for addresses that have no such part.
            url.set_username("").ok();
            url.set_password(None).ok();
            url.set_query(None);
            url.to_string()
        }
        Err(_) => "…".to_owned(),
    }
}

/// The receiver, and the signals that it does not accept at present.
#[derive(Debug)]
struct Receiver {
    endpoint: String,
    failing: Mutex<[bool; 2]>,
}

/// The log line after an export.
#[derive(Debug, PartialEq, Eq)]
enum ExportLogLine {
    None,
    Fails,
    Recovered,
}

/// Returns the log line after an export: one when the first signal fails, and one when all work again.
fn log_line_after(failing: &mut [bool; 2], signal: Signal, sent: bool) -> ExportLogLine {
    let before = failing.contains(&true);
    match signal {
        Signal::Traces => failing[0] = !sent,
        Signal::Metrics => failing[1] = !sent,
    }
    match (before, failing.contains(&true)) {
        (false, true) => ExportLogLine::Fails,
        (true, false) => ExportLogLine::Recovered,
        (false, false) | (true, true) => ExportLogLine::None,
    }
}

impl Receiver {
    fn new(endpoint: String) -> Self {
        Self {
            endpoint,
            failing: Mutex::default(),
        }
    }

    fn record_result(&self, signal: Signal, result: &OTelSdkResult) {
        record::export(signal, result.is_ok());
        let news = log_line_after(
            &mut self.failing.lock().unwrap_or_else(PoisonError::into_inner),
            signal,
            result.is_ok(),
        );
        match (news, result) {
            (ExportLogLine::Fails, Err(error)) => {
                tracing::warn!(endpoint = self.endpoint, signal = signal.name(), %error, "the OTLP receiver accepts no data; sending is retried, and the service goes on");
            }
            (ExportLogLine::Recovered, _) => {
                tracing::info!(endpoint = self.endpoint, "the OTLP receiver works again");
            }
            (ExportLogLine::Fails, Ok(())) | (ExportLogLine::None, _) => {}
        }
    }
}

/// An exporter whose failures are logged once.
#[derive(Debug)]
pub(super) struct LoggedOnce<E> {
    exporter: E,
    receiver: Arc<Receiver>,
}

impl<E: SendsSpans> SendsSpans for LoggedOnce<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        self.receiver.record_result(Signal::Traces, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for LoggedOnce<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.exporter.export(metrics).await;
        self.receiver.record_result(Signal::Metrics, &result);
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signals_have_their_own_addresses() {
        for base in [
            "https://collector.example:4318",
            "https://collector.example:4318/",
        ] {
            let (traces, metrics) = addresses(base).unwrap();
            assert_eq!(traces, "https://collector.example:4318/v1/traces");
            assert_eq!(metrics, "https://collector.example:4318/v1/metrics");
        }
        for wrong in [
            "",
            "collector:4318",
            "ftp://collector",
            "http://collector/?key=geheim",
            "http://me:geheim@collector",
        ] {
            let error = addresses(wrong).unwrap_err().to_string();
            assert!(error.contains("telemetry.otlp_endpoint"), "{error}");
            assert!(!error.contains("geheim"), "{error}");
        }
    }

    #[test]
    fn a_failing_receiver_is_logged_once_and_so_is_its_return() {
        let mut failing = [false; 2];
        let log_lines: Vec<ExportLogLine> = [
            (Signal::Traces, true),
            (Signal::Traces, false),
            (Signal::Metrics, false),
            (Signal::Traces, false),
            (Signal::Traces, true),
            (Signal::Metrics, true),
        ]
        .into_iter()
        .map(|(signal, sent)| log_line_after(&mut failing, signal, sent))
        .collect();
        assert_eq!(
            log_lines,
            [
                ExportLogLine::None,
                ExportLogLine::Fails,
                ExportLogLine::None,
                ExportLogLine::None,
                ExportLogLine::None,
                ExportLogLine::Recovered
            ]
        );
    }
}
