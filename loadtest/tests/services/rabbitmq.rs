//! The private RabbitMQ.

use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tasksync_loadtest::services::RabbitMq;

use super::{folder, started, state};

const QUEUE: &str = "kept";

async fn connect(server: &RabbitMq) -> (Connection, Channel) {
    let connection = Connection::connect(&server.url(), ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

async fn declare(channel: &Channel, passive: bool) -> Result<u32, lapin::Error> {
    let options = QueueDeclareOptions {
        durable: true,
        passive,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare(QUEUE.into(), options, FieldTable::default())
        .await?;
    Ok(queue.message_count())
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
async fn keeps_durable_messages_over_a_kill_and_loses_them_in_a_wipe() {
    let Some(server) = started(RabbitMq::start(&folder()).await) else {
        return;
    };
    let pid = server.pid().unwrap();
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(name.trim(), "beam.smp", "the process id is the broker's");

    let (_connection, channel) = connect(&server).await;
    declare(&channel, false).await.unwrap();
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    channel
        .basic_publish(
            "".into(),
            QUEUE.into(),
            BasicPublishOptions::default(),
            b"one",
            BasicProperties::default().with_delivery_mode(2),
        )
        .await
        .unwrap()
        .await
        .unwrap();

    let pids = server.pids();
    server.kill();
    assert!(pids.iter().all(|pid| state(*pid).is_none()), "{pids:?}");

    let (url, api) = (server.url(), server.api_url());
    server.restart().await.unwrap();
    let (_connection, channel) = connect(&server).await;
    let message = channel
        .basic_get(QUEUE.into(), BasicGetOptions { no_ack: true })
        .await
        .unwrap();
    assert_eq!(message.unwrap().delivery.data, b"one");

    server.wipe().await.unwrap();
    assert_eq!((server.url(), server.api_url()), (url, api));
    let (_connection, channel) = connect(&server).await;
    assert!(declare(&channel, true).await.is_err(), "the queue is gone");

    // The user may create virtual hosts, as the tests do.
    rustls::crypto::ring::default_provider().install_default().ok();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http
        .put(format!("{}/api/vhosts/other", server.api_url()))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 201);
    let other = format!("{}/other", server.url());
    Connection::connect(&other, ConnectionProperties::default())
        .await
        .unwrap();

    server.stop().await.unwrap();
    assert_eq!(server.pid(), None);
}
