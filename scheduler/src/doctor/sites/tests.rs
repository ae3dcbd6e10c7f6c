use tasksync_common::facts::{ListFacts, SiteZone};

use super::*;

const ZONE: &str = "Europe/Berlin";

fn now() -> Timestamp {
    "2026-11-22T14:00:00Z".parse().unwrap()
}

fn healthy() -> SiteFacts {
    SiteFacts {
        lists: 1,
        may_edit: true,
        rights: Some(SiteRights {
            may_delete: true,
            may_ask_about_people: true,
            not_needed: Vec::new(),
            administrator: Some(false),
        }),
        task_lists: vec![ListFacts {
            name: "Projects - Tasks".to_owned(),
            items: 5_000,
            needs_approval: false,
        }],
        zones: vec![SiteZone {
            web: "https://sp/sites/a".to_owned(),
            name: ZONE.to_owned(),
            offsets: [Offset::constant(1), Offset::constant(2)],
        }],
        ..SiteFacts::default()
    }
}

fn discovery(hours_ago: Option<i64>) -> Discovery {
    Discovery {
        last: hours_ago.map(|hours| now() - SignedDuration::from_hours(hours)),
        late_after: Duration::from_hours(15),
    }
}

/// Returns the checks that are neither `ok` nor not applicable, with their results.
fn named(policy: Policy, zone: &str, facts: SiteFacts) -> Vec<(&'static str, CheckResult)> {
    let site = SiteCheck {
        site: "https://sp/sites/a".to_owned(),
        result: Ok(facts),
    };
    judge("tenant t", &policy, zone, &[site], discovery(Some(1)), now())
        .into_iter()
        .filter(|finding| finding.result > CheckResult::Ok)
        .map(|finding| (finding.id, finding.result))
        .collect()
}

#[test]
fn each_fact_about_a_site_has_its_check() {
    use CheckResult::{Failed, Warning};
    let policy = Policy::default();
    assert_eq!(named(policy, ZONE, healthy()), []);
    let rights = |change: fn(&mut SiteRights)| {
        let mut facts = healthy();
        facts.rights.as_mut().map(change);
        named(policy, ZONE, facts)
    };
    assert_eq!(
        rights(|rights| rights.may_delete = false),
        [("source-delete", Failed)]
    );
    assert_eq!(
        rights(|rights| rights.may_ask_about_people = false),
        [("source-enumerate", Warning)]
    );
    for change in [
        (|rights: &mut SiteRights| rights.administrator = Some(true)) as fn(&mut SiteRights),
        |rights| rights.not_needed = vec!["Manage Web Site"],
    ] {
        assert_eq!(rights(change), [("source-rights-not-needed", Warning)]);
    }
    let facts = |change: fn(&mut SiteFacts)| {
        let mut facts = healthy();
        change(&mut facts);
        named(policy, ZONE, facts)
    };
    assert_eq!(
        facts(|facts| facts.left_out.push("list 1: 403".to_owned())),
        [("source-discovery", Warning)]
    );
    assert_eq!(
        facts(|facts| facts.task_lists[0].items = 5_001),
        [("source-large-lists", Warning)]
    );
    assert_eq!(
        facts(|facts| facts.task_lists[0].needs_approval = true),
        [("source-approval", Warning)]
    );
    assert_eq!(
        facts(|facts| facts.webs_without_zone.push("x".to_owned())),
        [("source-time-zone", Failed)]
    );
    assert_eq!(
        facts(|facts| facts.zones[0].offsets[0] = Offset::UTC),
        [("tenant-time-zones", Warning)]
    );
    assert_eq!(
        named(policy, "Mars/Olympus", healthy()),
        [("tenant-time-zones", Failed)]
    );
    assert_eq!(named(policy, "Romance Standard Time", healthy()), []);
}

#[test]
fn a_policy_that_deletes_nothing_needs_no_right_to_delete() {
    let policy = Policy {
        mailbox_deletions: DeletionPolicy::Complete,
        ..Policy::default()
    };
    let mut facts = healthy();
    facts.rights = Some(SiteRights {
        may_delete: false,
        ..facts.rights.unwrap()
    });
    assert_eq!(named(policy, ZONE, facts), []);
}

#[test]
fn nothing_is_judged_by_facts_that_are_missing() {
    let all = judge("tenant t", &Policy::default(), ZONE, &[], discovery(None), now());
    assert!(
        all.iter()
            .all(|finding| finding.result == CheckResult::NotApplicable)
    );
    let empty = SiteCheck {
        site: "https://sp/sites/a".to_owned(),
        result: Ok(SiteFacts::default()),
    };
    let found = judge(
        "tenant t",
        &Policy::default(),
        ZONE,
        &[empty],
        discovery(None),
        now(),
    );
    assert!(found.iter().all(|finding| finding.result <= CheckResult::Ok));
    assert_eq!(found.len(), all.len());
}

#[test]
fn a_search_that_succeeded_too_long_ago_is_a_warning() {
    let facts = healthy();
    let judged = |hours_ago| {
        let open = [("https://sp/sites/a", &facts)];
        judge_discovery("tenant t", &open, discovery(hours_ago), now())
    };
    assert_eq!(judged(None).result, CheckResult::Ok);
    assert_eq!(judged(Some(15)).result, CheckResult::Ok);
    let late = judged(Some(16));
    assert_eq!(late.result, CheckResult::Warning);
    assert!(
        late.explanation.ends_with("at 2026-11-21T22:00:00Z"),
        "{}",
        late.explanation
    );
}
