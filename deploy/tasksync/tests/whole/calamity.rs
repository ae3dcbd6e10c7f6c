//! The acceptance trial in small: everything breaks once while people edit, and nothing is lost or doubled.

use tasksync_loadtest::services::{Binaries, ServicesPlan};

use crate::shared_stores;

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_is_killed_once_and_both_sides_agree_afterwards() {
    if let Err(missing) = Binaries::default().check(&ServicesPlan::distributed()) {
        assert!(!shared_stores::required(), "{missing}");
        println!("skipped: {missing}; run make test");
        return;
    }
    let (outcome, _folder) = shared_stores::run_scenario("small-calamity").await;
    let verdict = &outcome.trial.verdict;
    assert!(
        outcome.passed(),
        "{:#?}\n{}\n{}",
        outcome.judgements,
        outcome.trial.hits().join("\n"),
        [verdict.lines.join("\n"), verdict.unseen.join("\n")].join("\n")
    );
    assert!(outcome.trial.edits > 0, "there were no edits");
    assert_eq!(outcome.trial.hits().len(), 5);
}
