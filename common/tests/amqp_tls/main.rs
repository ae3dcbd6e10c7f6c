//! The queue over TLS, at a RabbitMQ node of these tests with a certificate from a private authority.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test, and only test functions themselves are exempt"
)]

mod relay;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tasksync_common::error::{Code, Failure};
use tasksync_common::queue::{QueueName, Reason, SyncJob, VERSION, Workload, open_queue};
use tasksync_common::random::unique_id;
use tasksync_common::schedule::Token;
use tasksync_common::settings::QueueSettings;
use tasksync_common::trace::TraceContext;
use tasksync_loadtest::services::{Binaries, PrivateAuthority, RabbitMq, ServiceFolder, started_or_skipped};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use relay::Relay;

/// Every wait fails after this time.
const PATIENCE: Duration = Duration::from_mins(2);
const CLAIM: Duration = Duration::from_hours(1);

/// Name of a user whose job goes over the connection.
const PERSON: &str = "anastasia-with-a-long-name";

struct Bench {
    broker: RabbitMq,
    folder: TempDir,
    authority: PathBuf,
}

static BENCH: OnceCell<Option<Bench>> = OnceCell::const_new();

/// Returns a broker with a certificate for `localhost` only. It ends with the program.
async fn bench() -> Option<&'static Bench> {
    let start = async {
        let authority = PrivateAuthority::generate().unwrap();
        let certificate = authority.certify(&["localhost"]).unwrap();
        let servers = Arc::new(ServiceFolder::new(None, Binaries::default()).unwrap());
        let broker = started_or_skipped(RabbitMq::start_with_tls(&servers, &certificate).await)?;
        // In the servers' folder, which is removed after the end of the program.
        let folder = tempfile::tempdir_in(servers.path()).unwrap();
        let file = folder.path().join("authority.pem");
        std::fs::write(&file, authority.pem()).unwrap();
        Some(Bench {
            broker,
            folder,
            authority: file,
        })
    };
    BENCH.get_or_init(|| start).await.as_ref()
}

impl Bench {
    fn settings(&self, scheme: &str, host: &str, port: u16) -> QueueSettings {
        QueueSettings {
            url: format!("{scheme}://tasksync:{}@{host}:{port}", self.broker.password()),
            authorities: Some(self.authority.clone()),
            name_prefix: prefix(),
            connect_timeout: PATIENCE,
            request_timeout: PATIENCE,
            ..QueueSettings::default()
        }
    }

    fn tls_port(&self) -> u16 {
        self.broker.tls_port().unwrap()
    }

    /// Returns why the queue does not open, and asserts that the text does not contain the password.
    async fn open_failure(&self, settings: &QueueSettings) -> Failure {
        let Err(failure) = open_queue(settings, CLAIM).await else {
            panic!("opened")
        };
        assert!(!failure.to_string().contains(self.broker.password()), "{failure}");
        failure
    }
}

/// Returns a prefix for the queues of one test, so that no test takes the job of another.
fn prefix() -> String {
    format!("test-{}", unique_id())
}

fn job() -> SyncJob {
    SyncJob {
        version: VERSION,
        id: unique_id(),
        tenant: "contoso".parse().unwrap(),
        workload: Workload::Tasks,
        reason: Reason::Scheduled,
        token: Token(1),
        users: vec![PERSON.parse().unwrap()],
        issued_at: Timestamp::from_second(1_795_000_000).unwrap(),
    }
}

/// Publishes a job and takes it again.
async fn works(settings: &QueueSettings) {
    let queue = open_queue(settings, CLAIM).await.unwrap();
    let job = job();
    queue
        .publish(QueueName::Background, &job, &TraceContext::default())
        .await
        .unwrap();
    let mut consumer = queue.consume(QueueName::Background, 10).await.unwrap();
    let delivery = tokio::time::timeout(PATIENCE, consumer.next()).await;
    let delivery = delivery.expect("the job").expect("an open consumer");
    assert_eq!(delivery.job(), &Ok(job));
    delivery.acknowledge().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_travel_under_a_private_authority_and_cannot_be_read_on_the_way() {
    let Some(bench) = bench().await else { return };
    // First without TLS, to prove that the recording finds readable text.
    let plain = Relay::start(bench.broker.port()).await;
    works(&bench.settings("amqp", "127.0.0.1", plain.port())).await;
    let secrets = [bench.broker.password(), PERSON, "AMQP", ".tasks.background"];
    for secret in secrets {
        assert!(plain.saw(secret), "{secret} is readable without TLS");
    }
    let relay = Relay::start(bench.tls_port()).await;
    works(&bench.settings("amqps", "localhost", relay.port())).await;
    for secret in secrets {
        assert!(!relay.saw(secret), "{secret} was readable");
    }
    assert!(relay.bytes() > 1000, "it did go over the relay");
}

#[tokio::test]
async fn an_untrusted_authority_is_reported_with_the_setting() {
    let Some(bench) = bench().await else { return };
    let settings = bench.settings("amqps", "localhost", bench.tls_port());
    // Another authority with the same name, as after a company's authority was issued anew.
    let other = bench.folder.path().join("other.pem");
    std::fs::write(&other, PrivateAuthority::generate().unwrap().pem()).unwrap();
    for authorities in [None, Some(other)] {
        let failure = bench
            .open_failure(&QueueSettings {
                authorities,
                ..settings.clone()
            })
            .await;
        assert_eq!(failure.code, Code::QueueUnavailable);
        for part in ["localhost", "authority that is not trusted", "queue.authorities"] {
            assert!(failure.detail.contains(part), "{failure}");
        }
    }
}

#[tokio::test]
async fn a_certificate_for_another_host_is_reported_with_its_names() {
    let Some(bench) = bench().await else { return };
    let settings = bench.settings("amqps", "127.0.0.1", bench.tls_port());
    let failure = bench.open_failure(&settings).await;
    assert_eq!(failure.code, Code::QueueUnavailable);
    for part in ["127.0.0.1", "another host name", "localhost", "queue.url"] {
        assert!(failure.detail.contains(part), "{failure}");
    }
}

#[tokio::test]
async fn tls_at_the_wrong_port_is_reported_and_reveals_no_secret() {
    let Some(bench) = bench().await else { return };
    let relay = Relay::start(bench.broker.port()).await;
    let failure = bench
        .open_failure(&bench.settings("amqps", "localhost", relay.port()))
        .await;
    assert_eq!(failure.code, Code::QueueUnavailable);
    assert!(failure.detail.contains("does not speak TLS"), "{failure}");
    assert!(failure.detail.contains("5671"), "{failure}");
    for secret in [bench.broker.password(), "tasksync"] {
        assert!(!relay.saw(secret), "{secret} was readable");
    }

    let relay = Relay::start(bench.tls_port()).await;
    let failure = bench
        .open_failure(&bench.settings("amqp", "localhost", relay.port()))
        .await;
    assert_eq!(failure.code, Code::QueueUnavailable);
    assert!(failure.detail.contains("amqps://"), "{failure}");
    for secret in [bench.broker.password(), "tasksync"] {
        assert!(!relay.saw(secret), "{secret} was readable");
    }
}

/// Variable of the child that the next test starts: the URL and the file with the authority.
const CHILD: &str = "TASKSYNC_TEST_AMQP_TLS_CHILD";

#[tokio::test]
async fn a_machine_without_authorities_needs_only_the_named_one() {
    if let Some(settings) = std::env::var_os(CHILD).and_then(|value| value.into_string().ok()) {
        let (url, authority) = settings.split_once(' ').unwrap();
        let mut settings = QueueSettings {
            url: url.to_owned(),
            authorities: Some(authority.into()),
            name_prefix: prefix(),
            connect_timeout: PATIENCE,
            request_timeout: PATIENCE,
            ..QueueSettings::default()
        };
        works(&settings).await;
        settings.authorities = None;
        let Err(failure) = open_queue(&settings, CLAIM).await else {
            panic!("opened")
        };
        assert_eq!(failure.code, Code::SettingsWrong, "{failure}");
        for part in ["queue.authorities", "ca-certificates"] {
            assert!(failure.detail.contains(part), "{failure}");
        }
        return;
    }
    let Some(bench) = bench().await else { return };
    let empty = bench.folder.path().join("nobody.pem");
    std::fs::write(&empty, "").unwrap();
    let settings = bench.settings("amqps", "localhost", bench.tls_port());
    // The environment names the system's authorities, so only another process can have different ones.
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args([
            "--exact",
            "a_machine_without_authorities_needs_only_the_named_one",
            "--nocapture",
        ])
        .env("SSL_CERT_FILE", &empty)
        .env_remove("SSL_CERT_DIR")
        .env(CHILD, format!("{} {}", settings.url, bench.authority.display()));
    let output = tokio::task::spawn_blocking(move || child.output())
        .await
        .unwrap()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
