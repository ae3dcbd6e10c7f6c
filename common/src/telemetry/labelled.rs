//! Labels the metrics that are sent with the installation.
//!
//! The SDK fixes what all metrics have in common when the process starts, and the registry tells the installation's id
//! later. So the label is added to the request.

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;

use crate::metrics::{INSTALLATION, KnownInstallation};
use crate::model::InstallationId;

/// A client that labels every metric with the installation, once it is known.
#[derive(Debug)]
pub(super) struct WithInstallation<C> {
    client: C,
    installation: KnownInstallation,
}

impl<C> WithInstallation<C> {
    pub(super) fn new(client: C, installation: KnownInstallation) -> Self {
        Self { client, installation }
    }
}

#[async_trait]
impl<C: HttpClient> HttpClient for WithInstallation<C> {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, mut body) = request.into_parts();
        if let Some(id) = self.installation.get() {
            let mut metrics = ExportMetricsServiceRequest::decode(body)?;
            label(&mut metrics, id);
            body = metrics.encode_to_vec().into();
        }
        self.client.send_bytes(Request::from_parts(head, body)).await
    }
}

/// Adds the label to every value.
fn label(metrics: &mut ExportMetricsServiceRequest, id: InstallationId) {
    let label = KeyValue::from(&opentelemetry::KeyValue::new(INSTALLATION, id.to_string()));
    let scopes = metrics
        .resource_metrics
        .iter_mut()
        .flat_map(|resource| &mut resource.scope_metrics);
    for metric in scopes.flat_map(|scope| &mut scope.metrics) {
        for labels in labels_of(metric) {
            labels.push(label.clone());
        }
    }
}

/// Returns the labels of each value of a metric.
fn labels_of(metric: &mut Metric) -> Vec<&mut Vec<KeyValue>> {
    macro_rules! labels {
        ($values:expr) => {
            $values
                .data_points
                .iter_mut()
                .map(|value| &mut value.attributes)
                .collect()
        };
    }
    match &mut metric.data {
        None => Vec::new(),
        Some(Data::Gauge(values)) => labels!(values),
        Some(Data::Sum(values)) => labels!(values),
        Some(Data::Histogram(values)) => labels!(values),
        Some(Data::ExponentialHistogram(values)) => labels!(values),
        Some(Data::Summary(values)) => labels!(values),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry_proto::tonic::metrics::v1::{
        Gauge, Histogram, HistogramDataPoint, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    };

    use super::*;

    /// Keeps the last body, and answers with success.
    #[derive(Debug, Clone, Default)]
    struct Receiver(Arc<Mutex<Bytes>>);

    #[async_trait]
    impl HttpClient for Receiver {
        async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
            *self.0.lock().unwrap() = request.into_body();
            Ok(Response::new(Bytes::new()))
        }
    }

    fn metric(data: Data) -> Metric {
        Metric {
            data: Some(data),
            ..Metric::default()
        }
    }

    #[tokio::test]
    async fn every_value_that_is_sent_names_the_installation_once_it_is_known() {
        let number = || NumberDataPoint {
            attributes: vec![KeyValue::from(&opentelemetry::KeyValue::new("side", "source"))],
            ..NumberDataPoint::default()
        };
        let metrics = vec![
            metric(Data::Gauge(Gauge {
                data_points: vec![number()],
            })),
            metric(Data::Sum(Sum {
                data_points: vec![number(), NumberDataPoint::default()],
                ..Sum::default()
            })),
            metric(Data::Histogram(Histogram {
                data_points: vec![HistogramDataPoint::default()],
                ..Histogram::default()
            })),
        ];
        let body = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                scope_metrics: vec![ScopeMetrics {
                    metrics,
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        };
        let (receiver, installation) = (Receiver::default(), KnownInstallation::default());
        let client = WithInstallation::new(receiver.clone(), installation.clone());
        let sent = async || {
            let request = Request::new(Bytes::from(body.encode_to_vec()));
            client.send_bytes(request).await.unwrap();
            let body = receiver.0.lock().unwrap().clone();
            ExportMetricsServiceRequest::decode(body).unwrap()
        };
        assert_eq!(sent().await, body);

        let id: InstallationId = "6f1c2a30-0000-4000-8000-000000000001".parse().unwrap();
        installation.set(id);
        let mut labelled = sent().await;
        let metrics = &mut labelled.resource_metrics[0].scope_metrics[0].metrics;
        let labels: Vec<&mut Vec<KeyValue>> = metrics.iter_mut().flat_map(labels_of).collect();
        assert_eq!(labels.len(), 4);
        let expected = KeyValue::from(&opentelemetry::KeyValue::new("installation", id.to_string()));
        for labels in labels {
            assert_eq!(labels.pop().as_ref(), Some(&expected));
        }
        assert_eq!(labelled, body, "nothing else differs");
    }
}
