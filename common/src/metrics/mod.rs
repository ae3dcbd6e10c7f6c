//! Metrics: defined once in the [`catalogue`]; Prometheus reads, and OTLP sends, the same instruments.
//!
//! Counters live in atomics and are read on demand ([`Metrics::observe`]). Durations are recorded where they
//! are measured ([`record`]). Recording does nothing before the first [`Metrics::new`].

mod buckets;
pub mod catalogue;
mod counters;
mod process;
mod queue;
pub mod record;

use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Histogram, Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{SdkMeterProvider, reader::MetricReader};
use prometheus::proto::{LabelPair, MetricFamily};

pub use catalogue::{MetricKind, Spec, markdown};
pub use counters::Counter;

use crate::model::InstallationId;

/// Label of every metric: the id of the installation.
pub(crate) const INSTALLATION: &str = "installation";

/// The id of the installation, once the registry has told it. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownInstallation(Arc<Mutex<Option<InstallationId>>>);

impl KnownInstallation {
    pub(crate) fn get(&self) -> Option<InstallationId> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, id: InstallationId) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    }
}

/// Why metrics cannot be created or rendered.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(String);

/// A number of an owner: the metric, the values of its labels, and the function that reads the number.
pub type MetricRow<T> = (&'static Spec, &'static [&'static str], fn(&T) -> u64);

/// The process's instruments and their readers. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: prometheus::Registry,
    provider: SdkMeterProvider,
    meter: Meter,
    installation: KnownInstallation,
}

impl Metrics {
    /// Returns instruments that Prometheus can read, and that `push` sends, if given. `installation` gets the
    /// installation's id once it is known. From now on [`record`] records into the first ones created in a process.
    ///
    /// # Errors
    /// The error of the exporter.
    pub(crate) fn new<R: MetricReader>(
        role: &'static str,
        resource: Resource,
        push: Option<R>,
        installation: KnownInstallation,
    ) -> Result<Self, MetricsError> {
        let registry = prometheus::Registry::new();
        // Units are part of the names already, and tasksync_build_info identifies the process.
        let pull = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_units()
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .map_err(|error| MetricsError(error.to_string()))?;
        let mut builder = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_reader(pull);
        if let Some(push) = push {
            builder = builder.with_reader(push);
        }
        let provider = builder.build();
        let metrics = Self {
            registry,
            meter: provider.meter("tasksync"),
            provider,
            installation,
        };
        metrics.observe(&catalogue::BUILD_INFO, move |sink| {
            sink.labelled(&[env!("CARGO_PKG_VERSION"), role], 1.0);
        });
        process::register(&metrics);
        record::install(&metrics);
        Ok(metrics)
    }

    /// Registers `read`, which reports the values of a counter or gauge whenever they are read. It must be
    /// quick and must not block. A gauge for which `read` reports no value is not exported.
    pub fn observe(&self, spec: &'static Spec, read: impl Fn(&Sink<'_>) + Send + Sync + 'static) {
        let callback = move |instrument: &dyn AsyncInstrument<f64>| read(&Sink { spec, instrument });
        match spec.kind {
            MetricKind::Counter => {
                self.meter
                    .f64_observable_counter(spec.name.trim_end_matches("_total"))
                    .with_unit(spec.unit)
                    .with_description(spec.meaning.trim())
                    .with_callback(callback)
                    .build();
            }
            MetricKind::Gauge => {
                self.meter
                    .f64_observable_gauge(spec.name)
                    .with_unit(spec.unit)
                    .with_description(spec.meaning.trim())
                    .with_callback(callback)
                    .build();
            }
            // Histograms are recorded, not read.
            MetricKind::Histogram(_) => {}
        }
    }

    /// Registers a number without labels.
    pub fn observe_value(&self, spec: &'static Spec, read: impl Fn() -> u64 + Send + Sync + 'static) {
        self.observe(spec, move |sink| sink.value(as_f64(read())));
    }

    /// Registers several numbers of one owner, each with its catalogue entry and the values of its labels.
    pub fn observe_all<T: Send + Sync + 'static>(&self, owner: &Arc<T>, table: &[MetricRow<T>]) {
        let mut rest = table;
        while let Some((spec, _, _)) = rest.first() {
            // The rows of one metric are adjacent, because an instrument is created once.
            let length = rest
                .iter()
                .take_while(|(other, _, _)| other.name == spec.name)
                .count();
            let (rows, others) = rest.split_at(length);
            let rows = rows.to_vec();
            let owner = Arc::clone(owner);
            self.observe(spec, move |sink| {
                for (_, labels, read) in &rows {
                    sink.labelled(labels, as_f64(read(&owner)));
                }
            });
            rest = others;
        }
    }

    fn histogram(&self, spec: &'static Spec) -> Histogram<f64> {
        let bounds = match spec.kind {
            MetricKind::Histogram(bounds) => bounds.to_vec(),
            MetricKind::Counter | MetricKind::Gauge => Vec::new(),
        };
        self.meter
            .f64_histogram(spec.name)
            .with_unit(spec.unit)
            .with_description(spec.meaning.trim())
            .with_boundaries(bounds)
            .build()
    }

    /// Sets the installation that all metrics are labelled with from now on. One Prometheus may read several.
    pub fn set_installation(&self, id: InstallationId) {
        self.installation.set(id);
    }

    /// Returns all metrics in the Prometheus text format, version 0.0.4. Each has the label `installation` once
    /// it is known.
    ///
    /// # Errors
    /// The text cannot be rendered.
    pub fn render(&self) -> Result<String, MetricsError> {
        let mut families = self.registry.gather();
        if let Some(id) = self.installation.get() {
            let id = id.to_string();
            for metric in families.iter_mut().flat_map(MetricFamily::mut_metric) {
                let mut label = LabelPair::default();
                label.set_name(INSTALLATION.to_owned());
                label.set_value(id.clone());
                let mut labels = metric.take_label();
                labels.push(label);
                metric.set_label(labels);
            }
        }
        prometheus::TextEncoder::new()
            .encode_to_string(&families)
            .map_err(|error| MetricsError(error.to_string()))
    }

    pub(crate) fn provider(&self) -> &SdkMeterProvider {
        &self.provider
    }
}

/// Media type of [`Metrics::render`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Receives the values that a callback reports.
pub struct Sink<'a> {
    spec: &'static Spec,
    instrument: &'a dyn AsyncInstrument<f64>,
}

impl Sink<'_> {
    /// Reports the value of a metric without labels.
    pub fn value(&self, value: f64) {
        self.labelled(&[], value);
    }

    /// Reports the value under these labels, in the order of the catalogue.
    pub fn labelled(&self, values: &[&'static str], value: f64) {
        let labels: Vec<KeyValue> = self
            .spec
            .labels
            .iter()
            .zip(values)
            .map(|(label, value)| KeyValue::new(label.name, *value))
            .collect();
        self.instrument.observe(value, &labels);
    }
}

/// Returns a count as a floating-point number, as exporters need it; exact up to 2⁵³.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "counts are below 2⁵³; a larger one is rounded, which no reader of a metric notices"
)]
pub fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use opentelemetry_sdk::metrics::ManualReader;

    use super::*;

    fn metrics() -> Metrics {
        let resource = Resource::builder_empty().build();
        Metrics::new::<ManualReader>("test", resource, None, KnownInstallation::default()).unwrap()
    }

    #[test]
    fn names_are_shown_as_the_catalogue_has_them_without_scope_labels() {
        let metrics = metrics();
        metrics.observe_value(&catalogue::JOBS_PUBLISHED, || 7);
        let histogram = metrics.histogram(&catalogue::JOB_DURATION);
        histogram.record(0.2, &[]);
        let text = metrics.render().unwrap();
        for line in [
            "# TYPE tasksync_jobs_published_total counter",
            "tasksync_jobs_published_total 7",
            "# TYPE tasksync_job_duration_seconds histogram",
            "tasksync_job_duration_seconds_bucket{le=\"0.5\"} 1",
            "tasksync_job_duration_seconds_bucket{le=\"+Inf\"} 1",
            "# TYPE process_cpu_seconds_total counter",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(!text.contains("otel_scope"), "{text}");
        assert!(
            text.contains("tasksync_build_info{role=\"test\",version="),
            "{text}"
        );
    }

    #[test]
    fn every_metric_names_the_installation_once_it_is_known() {
        let metrics = metrics();
        metrics.observe_value(&catalogue::JOBS_PUBLISHED, || 7);
        metrics.histogram(&catalogue::JOB_DURATION).record(0.2, &[]);
        assert!(!metrics.render().unwrap().contains("installation"));
        metrics.set_installation("6f1c2a30-0000-4000-8000-000000000001".parse().unwrap());
        let text = metrics.render().unwrap();
        let label = "installation=\"6f1c2a30-0000-4000-8000-000000000001\"";
        let samples = || text.lines().filter(|line| !line.starts_with('#'));
        assert!(samples().count() > 10);
        for line in samples() {
            assert!(line.contains(label), "{line}");
        }
        assert!(
            text.contains(&format!("tasksync_jobs_published_total{{{label}}} 7")),
            "{text}"
        );
    }

    #[test]
    fn a_table_of_one_metric_with_labels_becomes_one_family() {
        let metrics = metrics();
        let owner = Arc::new([AtomicU64::new(3), AtomicU64::new(4)]);
        metrics.observe_all(
            &owner,
            &[
                (&catalogue::WRITES, &["source"], |owner| {
                    owner[0].load(Ordering::Relaxed)
                }),
                (&catalogue::WRITES, &["mailbox"], |owner| {
                    owner[1].load(Ordering::Relaxed)
                }),
                (&catalogue::PANICS, &[], |_| 0),
            ],
        );
        let text = metrics.render().unwrap();
        assert_eq!(text.matches("# TYPE tasksync_writes_total").count(), 1, "{text}");
        assert!(
            text.contains("tasksync_writes_total{side=\"source\"} 3"),
            "{text}"
        );
        assert!(
            text.contains("tasksync_writes_total{side=\"mailbox\"} 4"),
            "{text}"
        );
        assert!(text.contains("tasksync_panics_total 0"), "{text}");
    }

    #[test]
    fn a_gauge_about_which_nothing_is_said_is_not_exported() {
        let metrics = metrics();
        metrics.observe(&catalogue::USERS_DUE, |_| {});
        assert!(!metrics.render().unwrap().contains("tasksync_users_due"));
    }

    #[test]
    fn recording_before_anything_is_made_does_nothing() {
        record::job(Duration::from_secs(1));
    }
}
