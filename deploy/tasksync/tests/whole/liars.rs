//! Servers that give wrong answers for a while, in small: nothing is lost, doubled, shifted or deleted.

use tasksync_loadtest::scenario::{self, RunOptions, Scenario, Silent};

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_give_wrong_answers_for_a_while_lose_nothing() {
    let text = scenario::find("small-liars").unwrap();
    let scenario = Scenario::parse(text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = RunOptions {
        executable: Some(env!("CARGO_BIN_EXE_tasksync").into()),
        folder: Some(folder.path().to_owned()),
    };
    let outcome = scenario::run(&scenario, &options, &Silent).await.unwrap();
    let (verdict, untruths) = (&outcome.trial.verdict, &outcome.trial.untruths);
    let lies = std::fs::read_to_string(folder.path().join("run/lies.jsonl")).unwrap();
    assert!(
        outcome.passed(),
        "{:#?}\n{}\n{:#?}\n{lies}",
        outcome.judgements,
        [&verdict.lines, &verdict.unseen, &untruths.lines]
            .map(|lines| lines.join("\n"))
            .join("\n"),
        outcome.trial.reactions,
    );
    assert!(outcome.trial.edits > 0, "nobody edited anything");
    assert!(!outcome.trial.lies.is_empty(), "every answer was right");
}
