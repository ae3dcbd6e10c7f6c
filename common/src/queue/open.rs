//! Opens the queue named by the settings.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::{AmqpQueue, JobQueue, MemoryQueue, amqp};
use crate::error::Failure;
use crate::settings::{QueueSettings, kind_refusal, unsupported_url};

/// The forms of `queue.url`.
pub(crate) const SUPPORTED_URLS: &str = "memory: for one machine; amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps:// for TLS, with more hosts after \
     commas, for many";

/// Returns why `queue.url` is refused, as the rest of a sentence without a password.
pub(crate) fn url_refusal(url: &str) -> Option<String> {
    match url {
        "memory:" => None,
        url if url.starts_with("amqp:") || url.starts_with("amqps:") => amqp::url_refusal(url),
        url => Some(kind_refusal(url)),
    }
}

/// Opens the queue named by the scheme of `queue.url`. A queue in memory belongs to one process, and
/// scheduler and worker share the returned one. At a broker a job waits at most for `claim_lifetime`
/// (`schedule.claim_lifetime`), because its claim has expired then.
///
/// # Errors
/// The scheme is not supported, or the broker cannot be used; class `Transient` if it may be usable later.
pub async fn open_queue(
    settings: &QueueSettings,
    claim_lifetime: Duration,
) -> Result<Arc<dyn JobQueue>, Failure> {
    match settings.url.as_str() {
        "memory:" => Ok(Arc::new(MemoryQueue::new(settings))),
        url if url.starts_with("amqp://") || url.starts_with("amqps://") => {
            Ok(Arc::new(AmqpQueue::open(settings, claim_lifetime).await?))
        }
        url => Err(unsupported_url("queue.url", url, SUPPORTED_URLS)),
    }
}

/// Returns the further certificate authorities of the settings.
pub(super) fn read_authorities(settings: &QueueSettings) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let Some(path) = &settings.authorities else {
        return Ok(Vec::new());
    };
    crate::settings::read_authorities("queue.authorities", path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    const CLAIM: Duration = Duration::from_mins(2);

    #[tokio::test]
    async fn only_supported_schemes_open() {
        let mut settings = QueueSettings::default();
        assert!(open_queue(&settings, CLAIM).await.is_ok());
        settings.url = "kafka://user:geheim@host".to_owned();
        let Err(failure) = open_queue(&settings, CLAIM).await else {
            panic!("opened")
        };
        assert_eq!(failure.code, Code::SettingsWrong);
        assert!(
            failure.detail.contains("kafka:") && !failure.detail.contains("geheim"),
            "{failure}"
        );
    }

    #[tokio::test]
    async fn unusable_authorities_are_reported_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("authorities.pem");
        let settings = QueueSettings {
            url: "amqps://user:geheim@127.0.0.1:1".to_owned(),
            authorities: Some(file.clone()),
            ..QueueSettings::default()
        };
        let block =
            |inner: &str| format!("-----BEGIN CERTIFICATE-----\n{inner}\n-----END CERTIFICATE-----\n");
        for text in [
            None,
            Some("hello".to_owned()),
            Some(block("@@@@")),
            Some(block("aGVsbG8=")),
        ] {
            if let Some(text) = text {
                std::fs::write(&file, text).unwrap();
            }
            let Err(failure) = open_queue(&settings, CLAIM).await else {
                panic!("opened")
            };
            assert_eq!(failure.code, Code::SettingsWrong);
            assert!(failure.detail.contains("authorities.pem"), "{failure}");
        }
    }
}
