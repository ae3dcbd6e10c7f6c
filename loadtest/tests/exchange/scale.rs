//! Many mailboxes in one server.

use tasksync_loadtest::exchange::{ExchangeSettings, MailboxItemEdit, MailboxSpec};

use crate::client::{Bench, folder_of, get_folder};

#[tokio::test]
async fn ten_of_ten_thousand_mailboxes_are_probed_in_one_request() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let address = |number: usize| format!("user{number}@contoso.example");
    for number in 0..10_000 {
        bench
            .exchange
            .add_mailbox(MailboxSpec::new(&address(number), "User"));
    }
    let edit = MailboxItemEdit {
        subject: Some("a".to_owned()),
        ..MailboxItemEdit::default()
    };
    bench
        .exchange
        .person_creates(&address(9_999), None, edit)
        .unwrap();
    let ten: String = (9_990..10_000)
        .map(|number| folder_of(&address(number)))
        .collect();
    let reply = bench.send("svc", "", &get_folder(&ten)).await;
    assert_eq!(reply.codes(), ["NoError"; 10]);
    let counts = reply.all("<t:TotalCount>", "<");
    assert_eq!(
        counts.iter().map(String::as_str).collect::<Vec<_>>(),
        [["0"; 9].as_slice(), &["1"]].concat()
    );
    let stats = bench.exchange.stats.snapshot();
    assert_eq!(
        (
            stats.total,
            stats.of("GetFolder"),
            stats.writes,
            stats.peak_in_flight
        ),
        (1, 1, 0, 1)
    );
    bench.finish().await;
}
