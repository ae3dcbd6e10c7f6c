//! The guard against mass deletions: what it lets through, for any plan.

#![expect(
    clippy::unwrap_used,
    reason = "this is a test; its helper functions may fail loudly, too"
)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tasksync_common::model::{LocationKey, SourceKey, Task};
use tasksync_common::plan::{
    Absence, Action, GuardLimits, HeldDeletions, Plan, Removal, ReplacedValues, Side, Step, ValueOrigin,
    held_digest,
};
use tasksync_common::state::Link;

/// What a plan does with one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    DeleteAtSource,
    Complete,
    Remove(Absence),
    RemoveTwin,
    Disown,
    Create,
}

/// A task of a user: its location, whether it is linked, and what is planned for it.
type Planned = (u8, bool, Option<Wish>);

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        4 => Just(Wish::DeleteAtSource),
        2 => Just(Wish::Complete),
        2 => Just(Wish::Remove(Absence::Deleted)),
        1 => Just(Wish::Remove(Absence::NotAssigned)),
        1 => Just(Wish::Remove(Absence::NoAccess)),
        3 => Just(Wish::Remove(Absence::LocationGone)),
        1 => Just(Wish::RemoveTwin),
        1 => Just(Wish::Disown),
        1 => Just(Wish::Create),
    ]
}

fn planned() -> impl Strategy<Value = Vec<Planned>> {
    let task = (
        0..4_u8,
        prop::bool::weighted(0.9),
        prop::option::weighted(0.6, wish()),
    );
    prop::collection::vec(task, 0..60)
}

fn limits() -> impl Strategy<Value = GuardLimits> {
    (0..20_usize, 0..=100_u8, 0..8_usize).prop_map(|(deletions, percent, emptied_from)| GuardLimits {
        deletions,
        percent,
        emptied_from,
    })
}

fn key(location: u8, number: usize) -> SourceKey {
    LocationKey::sharepoint_list(&location.to_string()).task(i64::try_from(number).unwrap())
}

fn action(key: SourceKey, wish: Wish) -> (Step, Action) {
    let (item, change_key) = ("item".to_owned(), "ck".to_owned());
    match wish {
        Wish::DeleteAtSource => {
            let (version, task) = (String::new(), Box::default());
            (
                Step::MailboxDeletions,
                Action::DeleteAtSource { key, version, task },
            )
        }
        Wish::Complete => {
            let action = Action::CompleteAtSource {
                key,
                version: String::new(),
                task: Box::default(),
                link: Box::new(Link::unagreed("", "", None)),
                replaces: Box::new(ReplacedValues::from_read(&Task::default(), ValueOrigin::Agreed)),
            };
            (Step::MailboxDeletions, action)
        }
        Wish::Remove(absence) => {
            let action = Action::RemoveFromMailbox {
                key,
                item,
                change_key,
                absence,
                removal: Removal::Delete,
                replaces: Box::new(ReplacedValues::from_read(&Task::default(), ValueOrigin::Agreed)),
            };
            (Step::SourceDeletions, action)
        }
        Wish::RemoveTwin => (
            Step::MailboxCreations,
            Action::RemoveTwin {
                key,
                item,
                change_key,
            },
        ),
        Wish::Disown => (
            Step::MailboxCreations,
            Action::DisownTwin {
                key,
                item,
                change_key,
            },
        ),
        Wish::Create => {
            let action = Action::CreateInMailbox {
                key,
                task: Task::default(),
                version: String::new(),
                link: Box::new(Link::unagreed("", "", None)),
                web_url: String::new(),
                restored: false,
                not_permitted: false,
            };
            (Step::NewSourceTasks, action)
        }
    }
}

/// Returns the plan that passes and the deletions that are held. Asserts that both together are the whole
/// plan.
fn guard(plan: &Plan, links: &BTreeMap<SourceKey, Link>, limits: GuardLimits) -> (Plan, Vec<HeldDeletions>) {
    let guarded = plan.clone().apply_guard(links, limits);
    let (passed, held_deletions) = (guarded.plan.clone(), guarded.held_deletions.clone());
    let released = guarded.with_held_deletions();
    assert_eq!(released.actions.len(), plan.actions.len());
    assert!(
        plan.actions
            .iter()
            .all(|action| released.actions.contains(action))
    );
    (passed, held_deletions)
}

fn plan_of(planned: &[Planned]) -> (Plan, BTreeMap<SourceKey, Link>) {
    let (mut plan, mut links) = (Plan::default(), BTreeMap::new());
    for (number, (location, linked, wish)) in planned.iter().enumerate() {
        let key = key(*location, number);
        if *linked {
            links.insert(key.clone(), Link::unagreed("item", "ck", None));
        }
        plan.actions.extend(wish.map(|wish| action(key, wish)));
    }
    (plan, links)
}

fn side(action: &Action) -> Option<Side> {
    match action {
        Action::DeleteAtSource { .. } | Action::CompleteAtSource { .. } => Some(Side::Source),
        Action::RemoveFromMailbox { .. } => Some(Side::Mailbox),
        Action::CreateInMailbox { .. }
        | Action::UpdateSource { .. }
        | Action::UpdateMailbox { .. }
        | Action::RemoveTwin { .. }
        | Action::DisownTwin { .. } => None,
    }
}

fn deletions(plan: &Plan, on: Side) -> Vec<&Action> {
    let actions = plan.actions.iter().map(|(_, action)| action);
    actions.filter(|action| side(action) == Some(on)).collect()
}

/// Returns whether the deletion was concluded from what a folder or list does not show.
fn is_inferred(action: &Action) -> bool {
    match action {
        Action::DeleteAtSource { .. } | Action::CompleteAtSource { .. } => true,
        Action::RemoveFromMailbox { absence, .. } => *absence == Absence::LocationGone,
        Action::CreateInMailbox { .. }
        | Action::UpdateSource { .. }
        | Action::UpdateMailbox { .. }
        | Action::RemoveTwin { .. }
        | Action::DisownTwin { .. } => false,
    }
}

/// Returns the number of tasks that the guard counts on one side, linked or not.
fn tasks_on(plan: &Plan, links: &BTreeMap<SourceKey, Link>, on: Side) -> usize {
    let unlinked = deletions(plan, on)
        .iter()
        .filter(|action| !links.contains_key(action.key()))
        .count();
    links.len() + unlinked
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_more_than_the_limit_or_the_share(planned in planned(), limits in limits()) {
        let (plan, links) = plan_of(&planned);
        let (passed, _) = guard(&plan, &links, limits);
        for on in [Side::Source, Side::Mailbox] {
            let of = tasks_on(&plan, &links, on);
            let share = of * usize::from(limits.percent) / 100;
            prop_assert!(deletions(&passed, on).len() <= limits.deletions.max(share));
        }
    }

    #[test]
    fn a_side_with_too_many_deletions_has_none(planned in planned(), limits in limits()) {
        let (plan, links) = plan_of(&planned);
        let (passed, held_deletions) = guard(&plan, &links, limits);
        for on in [Side::Source, Side::Mailbox] {
            let share = tasks_on(&plan, &links, on) * usize::from(limits.percent) / 100;
            if deletions(&plan, on).len() > limits.deletions.max(share) {
                prop_assert!(deletions(&passed, on).is_empty());
                prop_assert!(held_deletions.iter().any(|deletions| deletions.side == on && deletions.emptied.is_empty()));
            }
        }
    }

    #[test]
    fn everything_else_passes_in_its_order(planned in planned(), limits in limits()) {
        let (plan, links) = plan_of(&planned);
        let (passed, _) = guard(&plan, &links, limits);
        prop_assert_eq!(&passed.folders, &plan.folders);
        let others = |plan: &Plan| -> Vec<(Step, Action)> {
            plan.actions.iter().filter(|(_, action)| side(action).is_none()).cloned().collect()
        };
        prop_assert_eq!(others(&passed), others(&plan));
        // The passed actions keep their order.
        let mut rest = plan.actions.iter();
        for action in &passed.actions {
            prop_assert!(rest.any(|planned| planned == action));
        }
    }

    #[test]
    fn held_keys_are_the_missing_ones(planned in planned(), limits in limits()) {
        let (plan, links) = plan_of(&planned);
        let (passed, held_deletions) = guard(&plan, &links, limits);
        for on in [Side::Source, Side::Mailbox] {
            let keys = |plan: &Plan| -> BTreeSet<SourceKey> {
                deletions(plan, on).iter().map(|action| action.key().clone()).collect()
            };
            let missing: BTreeSet<SourceKey> = keys(&plan).difference(&keys(&passed)).cloned().collect();
            let of_side: Vec<&HeldDeletions> = held_deletions.iter().filter(|deletions| deletions.side == on).collect();
            prop_assert!(of_side.len() <= 1);
            let keys: BTreeSet<SourceKey> = of_side.iter().flat_map(|deletions| deletions.keys.iter().cloned()).collect();
            prop_assert_eq!(keys.len(), of_side.iter().map(|deletions| deletions.keys.len()).sum::<usize>());
            prop_assert_eq!(keys, missing);
            for deletions in of_side {
                prop_assert!(!deletions.keys.is_empty());
                prop_assert_eq!(deletions.of, tasks_on(&plan, &links, on));
            }
        }
    }

    #[test]
    fn no_container_is_emptied_at_once(planned in planned(), limits in limits()) {
        let (plan, links) = plan_of(&planned);
        let (passed, _) = guard(&plan, &links, limits);
        for on in [Side::Source, Side::Mailbox] {
            for number in 0..4 {
                let location = key(number, 0).location();
                let following = deletions(&passed, on)
                    .iter()
                    .filter(|action| is_inferred(action) && action.key().location() == location)
                    .count();
                let linked = links.keys().filter(|key| key.location() == location).count();
                prop_assert!(following < limits.emptied_from.max(1) || following < linked);
            }
        }
    }

    #[test]
    fn few_deletions_pass_whole(planned in planned()) {
        let (plan, links) = plan_of(&planned);
        let limits = GuardLimits { deletions: 60, percent: 0, emptied_from: 61 };
        prop_assert_eq!(guard(&plan, &links, limits), (plan, vec![]));
    }

    #[test]
    fn a_second_look_holds_nothing_more(planned in planned(), limits in limits()) {
        let (plan, links) = plan_of(&planned);
        let (passed, _) = guard(&plan, &links, limits);
        let unlinked = passed.actions.iter().any(|(_, action)| !links.contains_key(action.key()));
        // Without unlinked tasks, the number of tasks is the same, and so is the result.
        if !unlinked {
            prop_assert_eq!(guard(&passed, &links, limits), (passed, vec![]));
        }
    }
}

const USUAL: GuardLimits = GuardLimits {
    deletions: 10,
    percent: 20,
    emptied_from: 3,
};

fn many(count: usize, location: u8, wish: Option<Wish>) -> Vec<Planned> {
    vec![(location, true, wish); count]
}

#[test]
fn nothing_on_either_side() {
    let (plan, held_deletions) = guard(&Plan::default(), &BTreeMap::new(), USUAL);
    assert!(plan.actions.is_empty() && held_deletions.is_empty());
}

#[test]
fn a_first_sync_creates_what_it_likes_and_removes_little() {
    let creating: Vec<Planned> = vec![(0, false, Some(Wish::Create)); 500];
    let (plan, links) = plan_of(&creating);
    assert_eq!(guard(&plan, &links, USUAL), (plan, vec![]));
    // The state is empty, and the source shows none of the tasks in the mailbox.
    let removing: Vec<Planned> = vec![(0, false, Some(Wish::Remove(Absence::Deleted))); 50];
    let (plan, links) = plan_of(&removing);
    let (passed, held_deletions) = guard(&plan, &links, USUAL);
    assert!(passed.actions.is_empty());
    assert_eq!(
        (
            held_deletions.len(),
            held_deletions[0].side,
            held_deletions[0].keys.len(),
            held_deletions[0].of
        ),
        (1, Side::Mailbox, 50, 50)
    );
}

#[test]
fn ten_pass_and_eleven_do_not_unless_they_are_a_fifth() {
    for (deleted, kept, passes) in [
        (10, 0, true),
        (10, 5, true),
        (11, 40, false),
        (11, 44, true),
        (20, 80, true),
        (21, 79, false),
    ] {
        let mut tasks: Vec<Planned> = Vec::new();
        // Spread over locations with a task that stays, so that no location is emptied.
        for number in 0..deleted {
            tasks.push((
                u8::try_from(number % 4).unwrap(),
                true,
                Some(Wish::Remove(Absence::Deleted)),
            ));
        }
        tasks.extend(many(kept, 0, None));
        let (plan, links) = plan_of(&tasks);
        let (_, held_deletions) = guard(&plan, &links, USUAL);
        assert_eq!(
            held_deletions.is_empty(),
            passes,
            "{deleted} of {}",
            deleted + kept
        );
    }
}

#[test]
fn an_emptied_folder_is_held_and_others_pass() {
    let mut tasks = many(3, 0, Some(Wish::DeleteAtSource));
    tasks.extend(many(3, 1, Some(Wish::DeleteAtSource)));
    tasks.extend(many(1, 1, None));
    let (plan, links) = plan_of(&tasks);
    let (passed, held_deletions) = guard(&plan, &links, USUAL);
    assert_eq!(passed.actions.len(), 3);
    assert_eq!(held_deletions.len(), 1);
    let emptied = key(0, 0).location();
    assert_eq!(held_deletions[0].emptied, vec![emptied.clone()]);
    assert!(held_deletions[0].keys.iter().all(|key| key.location() == emptied));
}

#[test]
fn a_few_tasks_deleted_one_by_one_are_no_accident() {
    // Two tasks are below `emptied_from`. Three tasks that the source itself reports as deleted do not empty
    // a container by accident.
    for tasks in [
        many(2, 0, Some(Wish::DeleteAtSource)),
        many(3, 0, Some(Wish::Remove(Absence::Deleted))),
    ] {
        let (plan, links) = plan_of(&tasks);
        assert_eq!(guard(&plan, &links, USUAL), (plan, vec![]));
    }
    let (plan, links) = plan_of(&many(3, 0, Some(Wish::Remove(Absence::LocationGone))));
    assert_eq!(guard(&plan, &links, USUAL).1[0].keys.len(), 3);
}

#[test]
fn sides_are_counted_apart() {
    let mut tasks = many(10, 0, Some(Wish::DeleteAtSource));
    tasks.extend(many(10, 1, Some(Wish::Remove(Absence::Deleted))));
    tasks.extend(many(1, 0, None));
    let (plan, links) = plan_of(&tasks);
    assert_eq!(guard(&plan, &links, USUAL), (plan, vec![]));
}

/// Completing all tasks of a folder is held like deleting them: both follow from copies that the folder does
/// not show.
#[test]
fn a_folder_whose_tasks_would_all_be_completed_is_held() {
    let (plan, links) = plan_of(&many(3, 0, Some(Wish::Complete)));
    let (passed, held_deletions) = guard(&plan, &links, USUAL);
    assert_eq!((passed.actions.len(), held_deletions[0].keys.len()), (0, 3));
}

/// A permit names the same tasks on the same side, in any order.
#[test]
fn the_name_of_held_deletions_depends_on_side_and_tasks() {
    let of = |side: Side, numbers: &[usize]| {
        let keys = numbers.iter().map(|number| key(0, *number)).collect();
        let held_deletions = HeldDeletions {
            side,
            keys,
            of: 40,
            emptied: Vec::new(),
        };
        held_digest(&[held_deletions])
    };
    assert_eq!(of(Side::Source, &[1, 2]), of(Side::Source, &[2, 1]));
    assert_ne!(of(Side::Source, &[1, 2]), of(Side::Mailbox, &[1, 2]));
    assert_ne!(of(Side::Source, &[1, 2]), of(Side::Source, &[1, 3]));
}
