//! The failures that are shown when the broker cannot be used.

use super::*;
use crate::error::{Code, ErrorClass};
use crate::random::unique_id;
use crate::settings::DeclareQueues;
use crate::tasks::spawn;

async fn open_failure(settings: &QueueSettings) -> Failure {
    match AmqpQueue::open(settings, CLAIM).await {
        Ok(_) => panic!("opened"),
        Err(failure) => failure,
    }
}

#[tokio::test]
async fn a_broker_that_is_not_there_may_come_and_every_host_is_named() {
    let settings = QueueSettings {
        url: "amqp://task:geheim@127.0.0.1:1,127.0.0.1:2/tasks".to_owned(),
        ..QueueSettings::default()
    };
    let failure = open_failure(&settings).await;
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Transient, Code::QueueUnavailable)
    );
    for part in ["127.0.0.1:1", "127.0.0.1:2", "vhost tasks"] {
        assert!(failure.detail.contains(part), "{failure}");
    }
    assert!(!failure.to_string().contains("geheim"), "{failure}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_and_cut_off() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = QueueSettings {
        url: format!("amqp://{}", listener.local_addr().unwrap()),
        connect_timeout: Duration::from_millis(200),
        ..QueueSettings::default()
    };
    let failure = open_failure(&settings).await;
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Transient, Code::QueueUnavailable)
    );
    assert!(failure.detail.contains("no answer within 200 ms"), "{failure}");
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut received = Vec::new();
    let end = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut received);
    tokio::time::timeout(PATIENCE, end).await.unwrap().unwrap();
    assert!(received.starts_with(b"AMQP"), "the end came after the greeting");
}

#[tokio::test]
async fn a_server_without_tls_is_reported() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"AMQP\0\0\x09\x01").await;
        }
    })
    .detach();
    let settings = QueueSettings {
        url: format!("amqps://task:geheim@localhost:{}", address.port()),
        ..QueueSettings::default()
    };
    let failure = open_failure(&settings).await;
    assert_eq!(failure.code, Code::QueueUnavailable);
    assert!(failure.detail.contains("amqps"), "{failure}");
    assert!(!failure.to_string().contains("geheim"), "{failure}");
}

#[tokio::test]
async fn a_wrong_password_a_missing_vhost_and_a_missing_permission_need_the_operator() {
    let Some(node) = Node::new() else { return };
    let user = format!("task-{}", unique_id());
    node.add_user(&user, "geheim");
    let at = |url: String| QueueSettings {
        url,
        ..QueueSettings::default()
    };
    // The user has no access to the vhost yet.
    let stranger = open_failure(&at(node.url_of(&user, "geheim"))).await;
    let wrong = open_failure(&at(node.url_of(&user, "falsch"))).await;
    let nowhere = open_failure(&at(format!("{}-not", node.url()))).await;
    node.allow(&user, "^nothing$");
    let unable = open_failure(&at(node.url_of(&user, "geheim"))).await;
    let looking = open_failure(&QueueSettings {
        declare: DeclareQueues::Check,
        ..at(node.url_of(&user, "geheim"))
    })
    .await;
    node.remove_user(&user);
    for failure in [&stranger, &wrong, &nowhere, &unable] {
        assert_eq!(
            (failure.class, failure.code),
            (ErrorClass::Refused, Code::QueueAccessRefused),
            "{failure}"
        );
        let text = failure.to_string();
        assert!(!text.contains("geheim") && !text.contains("falsch"), "{text}");
    }
    assert!(nowhere.detail.contains("-not"), "{nowhere}");
    assert!(unable.detail.contains("tasksync.tasks.dead"), "{unable}");
    assert_eq!(looking.code, Code::QueueMissing, "{looking}");
    assert!(looking.detail.contains("tasksync.tasks.dead"), "{looking}");
}

#[tokio::test]
async fn queues_of_other_arguments_are_named_and_left_alone() {
    let Some(bench) = bench(QueueSettings::default()).await else {
        return;
    };
    publish(&bench.queue, 1).await.unwrap();
    let failure = open_failure(&bench.node.settings(QueueSettings {
        maximum_length: 77,
        ..QueueSettings::default()
    }))
    .await;
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Refused, Code::QueueMismatch)
    );
    for part in ["tasksync.tasks.background", "x-max-length"] {
        assert!(failure.detail.contains(part), "{failure}");
    }
    let depth = bench.queue.depth(QueueName::Background).await.unwrap();
    assert_eq!(depth.ready, 1, "the job is still there");
}

#[tokio::test]
async fn queues_of_the_definitions_file_are_taken_and_agree_with_ours() {
    let Some(node) = Node::new() else { return };
    let settings = node.settings(QueueSettings::default());
    let checking = QueueSettings {
        declare: DeclareQueues::Check,
        ..settings.clone()
    };
    assert_eq!(open_failure(&checking).await.code, Code::QueueMissing);
    node.import(definitions(&settings, CLAIM, &node.vhost));
    for settings in [checking, settings] {
        let queue = AmqpQueue::open(&settings, CLAIM).await.unwrap();
        publish(&queue, 1).await.unwrap();
    }
}
