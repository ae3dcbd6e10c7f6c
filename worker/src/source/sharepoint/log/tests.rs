use proptest::prelude::*;
use serde_json::json;

use super::*;

const LIST: Uuid = Uuid::from_u128(7);

fn token(number: i64) -> String {
    format!(
        "1;1;00000000-0000-4000-8000-000000000001;{};{number}",
        1_000 + number
    )
}

fn change(number: i64, subject: ChangeSubject, kind: FeedChangeKind) -> FeedChange {
    FeedChange::new(token(number).into(), subject, kind)
}

fn item(number: i64, id: i64) -> FeedChange {
    change(number, ChangeSubject::Item(LIST, id), FeedChangeKind::Changed)
}

#[test]
fn entries_of_every_kind_are_read() {
    let entry = |change_type: i64, more: &str| -> Cell {
        let text = format!(
            r#"{{"ChangeToken":{{"StringValue":"t"}},"ChangeType":{change_type},"WebId":"00000000-0000-0000-0000-000000000002"{more}}}"#
        );
        super::super::json::read(text.as_bytes(), &CHANGE_PROPERTIES, 10).unwrap()
    };
    let list = r#","ListId":"00000000-0000-0000-0000-000000000007""#;
    let web = ChangeSubject::Web(Uuid::from_u128(2));
    for (value, subject, kind) in [
        (
            entry(2, &format!("{list},\"ItemId\":17")),
            ChangeSubject::Item(LIST, 17),
            FeedChangeKind::Changed,
        ),
        (
            entry(3, &format!("{list},\"ItemId\":17")),
            ChangeSubject::Item(LIST, 17),
            FeedChangeKind::Deleted,
        ),
        (
            entry(11, &format!("{list},\"ItemId\":17")),
            ChangeSubject::Item(LIST, 17),
            FeedChangeKind::Roles,
        ),
        (
            entry(15, &format!("{list},\"ItemId\":17")),
            ChangeSubject::Item(LIST, 17),
            FeedChangeKind::Changed,
        ),
        (entry(1, list), ChangeSubject::List(LIST), FeedChangeKind::Changed),
        (entry(3, list), ChangeSubject::List(LIST), FeedChangeKind::Deleted),
        (entry(11, ""), web, FeedChangeKind::Roles),
        (entry(2, ""), web, FeedChangeKind::Changed),
        (
            entry(13, ",\"GroupId\":4"),
            ChangeSubject::Site,
            FeedChangeKind::Roles,
        ),
    ] {
        let (_, change) = FeedChange::read(&value).unwrap();
        assert_eq!(
            change.map(|change| (change.subject, change.kind)),
            Some((subject, kind)),
            "{value:?}"
        );
    }
    assert!(FeedChange::read(&json!({"ChangeType": 1}).into()).is_err());
    assert!(matches!(FeedChange::read(&entry(0, "")), Ok((_, None))));
}

#[test]
fn a_cursor_is_answered_with_what_came_after_it_each_thing_once() {
    let mut log = FeedLog::new(&token(0), 0, 100);
    for (number, id) in [(1, 17), (2, 18), (3, 17)] {
        log.push(item(number, id));
    }
    log.push(change(4, ChangeSubject::Item(LIST, 18), FeedChangeKind::Deleted));
    let all = log.since(log.locate(&token(0)).unwrap());
    assert_eq!(all.items[&LIST], [(17, false), (18, true)]);
    let late = log.since(log.locate(&token(3)).unwrap());
    assert_eq!(late.items[&LIST], [(18, true)]);
    assert!(log.since(log.locate(&token(4)).unwrap()).is_empty());
}

#[test]
fn trimming_forgets_the_oldest_and_says_so() {
    let mut log = FeedLog::new(&token(0), 0, 3);
    for number in 1..=5 {
        log.push(item(number, number));
    }
    assert_eq!((log.first(), log.end()), (2, 5));
    assert_eq!(log.locate(&token(1)), None);
    assert_eq!(log.locate(&token(2)), Some(2));
    assert_eq!(log.base(), token(2));
    assert_eq!(log.items.len(), 3);
    // An item that was read before the forgotten changes does not count as fresh any more.
    assert!(!log.item_is_fresh(LIST, 99, 1));
    assert!(log.item_is_fresh(LIST, 99, 2));
    assert!(!log.item_is_fresh(LIST, 4, 3) && log.item_is_fresh(LIST, 4, 4));
}

#[test]
fn tokens_between_are_found_only_by_proof() {
    let mut log = FeedLog::new(&token(0), 0, 100);
    log.push(item(10, 1));
    log.push(item(20, 2));
    assert_eq!(log.locate(&token(15)), Some(1));
    assert_eq!(log.locate(&token(25)), None);
    assert_eq!(
        log.locate("1;1;00000000-0000-4000-8000-000000000009;1015;15"),
        None
    );
    // A token with only a time is at or before the change with this time.
    assert_eq!(
        log.locate("1;1;00000000-0000-4000-8000-000000000001;1020;-1"),
        Some(1)
    );
    // Number and time contradict each other.
    assert_eq!(
        log.locate("1;1;00000000-0000-4000-8000-000000000001;1030;15"),
        None
    );
}

#[test]
fn a_moved_head_stays_known() {
    let mut log = FeedLog::new("a", 0, 100);
    log.move_head("b");
    log.push(item(1, 17));
    assert_eq!((log.locate("a"), log.locate("b")), (Some(0), Some(0)));
    log.move_head("c");
    assert_eq!(log.locate(&token(1)), Some(1));
    assert_eq!(log.locate("c"), Some(1));
}

#[test]
fn older_changes_are_put_in_front() {
    let mut log = FeedLog::new(&token(10), 100, 4);
    log.push(item(11, 5));
    assert!(log.prepend(&token(7), vec![item(8, 5), item(9, 6), item(10, 7)]));
    assert_eq!(log.locate(&token(7)), Some(97));
    assert_eq!(log.since(97).items[&LIST].len(), 3);
    assert_eq!(log.locate(&token(10)), Some(100));
    // The later change of item 5 still decides whether it is fresh.
    assert!(!log.item_is_fresh(LIST, 5, 100));
    assert!(!log.prepend(&token(6), vec![item(7, 1)]));
}

#[test]
fn structure_and_roles_are_remembered_apart() {
    let mut log = FeedLog::new("a", 0, 100);
    log.push(change(1, ChangeSubject::List(LIST), FeedChangeKind::Roles));
    assert!(!log.structure_changed(0));
    assert!(!log.roles_are_fresh(&[ChangeSubject::List(LIST)], 0));
    assert!(log.roles_are_fresh(&[ChangeSubject::List(LIST)], 1));
    log.push(change(2, ChangeSubject::List(LIST), FeedChangeKind::Changed));
    assert!(log.structure_changed(1) && !log.structure_changed(2));
    log.push(item(3, 1));
    log.push(change(4, ChangeSubject::List(LIST), FeedChangeKind::Deleted));
    let delta = log.since(0);
    assert!(delta.items.is_empty() && delta.lists.is_empty() && delta.roles_lists.is_empty());
    assert!(delta.lists_deleted.contains(&LIST));
}

proptest! {
    /// Whatever the limit, a cursor that the log locates is answered with every change after it.
    #[test]
    fn nothing_is_left_out(limit in 1_usize..30, numbers in proptest::collection::vec(1_i64..20, 1..60), from in 0_usize..60) {
        let mut log = FeedLog::new(&token(0), 0, limit);
        for (at, id) in (1_i64..).zip(&numbers) {
            log.push(item(at, *id));
        }
        let from = from.min(numbers.len());
        if let Some(position) = log.locate(&token(i64::try_from(from).unwrap())) {
            let reported: BTreeSet<i64> = log.since(position).items.remove(&LIST).unwrap_or_default().into_iter().map(|(id, _)| id).collect();
            let expected: BTreeSet<i64> = numbers[from..].iter().copied().collect();
            prop_assert_eq!(reported, expected);
        } else {
            prop_assert!(numbers.len() - from > limit);
        }
        prop_assert!(log.changes.len() <= limit && log.items.len() <= limit);
    }

    /// A log whose tokens only grow is searched by halving, and answers as a scan does, whatever the token.
    #[test]
    fn an_ordered_log_locates_a_token_as_a_scan_does(
        steps in proptest::collection::vec((0_i64..3, 0_i64..3), 1..40),
        older in proptest::collection::vec(0_i64..3, 0..5),
        asked in (-10_i64..140, -1_i64..140),
    ) {
        let at = |ticks: i64, number: i64| format!("1;1;00000000-0000-4000-8000-000000000001;{ticks};{number}");
        let of = |ticks: i64, number: i64| FeedChange::new(at(ticks, number).into(), ChangeSubject::Item(LIST, number), FeedChangeKind::Changed);
        let mut log = FeedLog::new(&at(20, 20), 0, 100);
        let (mut ticks, mut number) = (20, 20);
        for (later, further) in &steps {
            (ticks, number) = (ticks + later, number + further);
            log.push(of(ticks, number));
        }
        let mut before = (10, 10);
        let older = older.iter().map(|step| {
            before = (before.0 + step, before.1 + step);
            of(before.0, before.1)
        });
        log.prepend(&at(9, 9), older.collect());
        let scanned = FeedLog { ordered: false, ..log.clone() };
        let known_tokens = log.changes.iter().map(|change| change.token.to_string());
        let tokens: Vec<String> = known_tokens.chain([at(asked.0, asked.1), at(9, 9), at(20, 20), "t".to_owned()]).collect();
        for token in tokens {
            prop_assert_eq!(log.locate(&token), scanned.locate(&token), "{} in a log that is ordered: {}", token, log.ordered);
        }
    }
}
