//! Servers that give wrong answers for a while, in small: nothing is lost, doubled, shifted or deleted.

use crate::shared_stores;

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_give_wrong_answers_for_a_while_lose_nothing() {
    let (outcome, folder) = shared_stores::run_scenario("small-liars").await;
    let (verdict, untruths) = (&outcome.trial.verdict, &outcome.trial.violations);
    let wrong_answers = std::fs::read_to_string(folder.path().join("run/lies.jsonl")).unwrap();
    assert!(
        outcome.passed(),
        "{:#?}\n{}\n{:#?}\n{wrong_answers}",
        outcome.judgements,
        [&verdict.lines, &verdict.unseen, &untruths.lines]
            .map(|lines| lines.join("\n"))
            .join("\n"),
        outcome.trial.reactions,
    );
    assert!(outcome.trial.edits > 0, "there were no edits");
    assert!(!outcome.trial.wrong_answers.is_empty(), "every answer was right");
}
