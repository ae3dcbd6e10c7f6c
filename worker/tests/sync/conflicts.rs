//! Edits on both sides between two syncs.

use jiff::SignedDuration;
use tasksync_loadtest::exchange::MailboxItemEdit as CopyEdit;
use tasksync_loadtest::sharepoint::people::{ItemId, ListId, ListItemEdit};

use crate::rig::{Rig, day};

async fn one_synced_task(source_skew: SignedDuration, mailbox_skew: SignedDuration) -> (Rig, ListId, ItemId) {
    let mut rig = Rig::plain().await;
    rig.farm.sharepoint.clock.set_skew(source_skew);
    rig.farm.exchange.clock.set_skew(mailbox_skew);
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;
    (rig, list, item)
}

/// The later edit wins the whole task, even if a server's clock is wrong by minutes. The losing edit is in the
/// journal.
#[tokio::test]
async fn the_later_edit_wins_whatever_the_clocks_say() {
    let minutes = SignedDuration::from_mins;
    for (source_skew, mailbox_skew) in [
        (minutes(0), minutes(0)),
        (minutes(7), minutes(0)),
        (minutes(-7), minutes(0)),
        (minutes(0), minutes(9)),
        (minutes(-4), minutes(9)),
    ] {
        for source_last in [true, false] {
            let (rig, list, item) = one_synced_task(source_skew, mailbox_skew).await;
            let set = |on: SignedDuration| {
                rig.farm.sharepoint.clock.set_skew(source_skew + on);
                rig.farm.exchange.clock.set_skew(mailbox_skew + on);
            };
            let at_source = || {
                let edit = ListItemEdit {
                    title: Some("By a colleague".into()),
                    due: Some(Some(day(12, 1))),
                    ..ListItemEdit::default()
                };
                rig.edit_original(list, item, edit);
            };
            let in_mailbox = || {
                let edit = CopyEdit {
                    subject: Some("By me".into()),
                    importance: Some("High".into()),
                    ..CopyEdit::default()
                };
                rig.edit_copy(0, list, item, edit);
            };
            if source_last {
                in_mailbox();
            } else {
                at_source();
            }
            set(minutes(1));
            rig.clock.advance(minutes(1));
            if source_last {
                at_source();
            } else {
                in_mailbox();
            }
            rig.cycle(0).await.report();
            let title = rig.original(list, item).title;
            let case = format!("{source_skew} {mailbox_skew} source last: {source_last}");
            assert_eq!(
                title,
                if source_last { "By a colleague" } else { "By me" },
                "{case}"
            );
            // The decision is per task and not per field: the loser's other fields are lost too.
            let high = rig.original(list, item).priority == 1;
            assert_eq!(high, !source_last, "{case}");
            let kind = if source_last {
                "conflict_lost_in_mailbox"
            } else {
                "conflict_lost_at_source"
            };
            assert!(rig.journal(0).await.contains(&kind.to_owned()), "{case}");
            rig.assert_settled().await;
        }
    }
}

/// If a proxy drops the `Date` header, the server's clock is known from the times that the server gives to our own
/// writes.
#[tokio::test]
async fn the_later_edit_wins_where_the_mailbox_server_reports_no_time() {
    let minutes = SignedDuration::from_mins;
    let mut rig = Rig::plain().await;
    rig.farm.exchange.clock.omit_date();
    rig.farm.exchange.clock.set_skew(minutes(10));
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;
    // The mailbox's edit has the later timestamp although it was made first.
    rig.retitle_copy(0, list, item, "By me");
    rig.clock.advance(minutes(2));
    rig.farm.sharepoint.clock.set_skew(minutes(2));
    rig.farm.exchange.clock.set_skew(minutes(12));
    rig.retitle_original(list, item, "By a colleague");
    rig.cycle(0).await.report();
    assert_eq!(rig.original(list, item).title, "By a colleague");
    rig.assert_settled().await;
}

/// If neither server reports a time and a new process has written nothing yet, edits within five minutes of each other
/// are a tie, which the source wins.
#[tokio::test]
async fn where_no_clock_is_known_the_mailbox_wins_only_by_more_than_five_minutes() {
    let seconds = SignedDuration::from_secs;
    let mut rig = Rig::plain().await;
    rig.farm.exchange.clock.omit_date();
    rig.farm.sharepoint.clock.omit_date();
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;
    for (later, mailbox_wins) in [(200, false), (400, true)] {
        let (colleague, me) = (format!("By a colleague, {later}"), format!("By me, {later}"));
        rig.farm.exchange.clock.set_skew(seconds(later));
        rig.retitle_original(list, item, &colleague);
        rig.retitle_copy(0, list, item, &me);
        rig.restart();
        rig.cycle(0).await.report();
        let (winner, conflict) = if mailbox_wins {
            (&me, "conflict_lost_at_source")
        } else {
            (&colleague, "conflict_lost_in_mailbox")
        };
        assert_eq!(rig.original(list, item).title, *winner);
        assert_eq!(rig.copy(0, list, item).subject, *winner);
        assert_eq!(rig.conflicts(0).await.first().map(String::as_str), Some(conflict));
        rig.assert_settled().await;
    }
}

/// One unknown clock is enough for that rule: the other clock does not help to compare the times.
#[tokio::test]
async fn where_one_clock_is_not_known_the_mailbox_wins_only_by_more_than_five_minutes() {
    let mut rig = Rig::plain().await;
    rig.farm.sharepoint.clock.omit_date();
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;
    for (later, mailbox_wins) in [(200, false), (400, true)] {
        let (colleague, me) = (format!("By a colleague, {later}"), format!("By me, {later}"));
        rig.retitle_original(list, item, &colleague);
        rig.pass_time(SignedDuration::from_secs(later));
        rig.retitle_copy(0, list, item, &me);
        rig.restart();
        rig.cycle(0).await.report();
        let winner = if mailbox_wins { &me } else { &colleague };
        assert_eq!(rig.original(list, item).title, *winner);
        assert_eq!(rig.copy(0, list, item).subject, *winner);
    }
}

/// The same edit on both sides is not a conflict.
#[tokio::test]
async fn the_same_edit_on_both_sides_writes_nothing() {
    let (rig, list, item) = one_synced_task(SignedDuration::ZERO, SignedDuration::ZERO).await;
    rig.retitle_original(list, item, "Agreed");
    rig.retitle_copy(0, list, item, "Agreed");
    let before = rig.writes();
    rig.cycle(0).await.report();
    assert_eq!(rig.writes(), before);
    assert!(rig.journal(0).await.is_empty());
    rig.assert_settled().await;
}
