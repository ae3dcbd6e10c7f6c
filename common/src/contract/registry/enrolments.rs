//! Enrolments.

use std::sync::Arc;

use super::{at, disabled, enrolment, tenant, with_users};
use crate::contract::{key, tenant_id, user_id};
use crate::error::Code;
use crate::model::UserId;
use crate::registry::{DeletionPermit, Enrolment, EnrolmentResult, EnrolmentState, Registry};

/// A second enrolment updates the first one. A second withdrawal changes nothing.
pub async fn a_user_enrols_is_updated_and_withdraws(registry: Arc<dyn Registry>) {
    let ana = enrolment("a", "ana");
    registry.put_tenant(&tenant("a")).await.unwrap();
    assert_eq!(registry.enrolment(&ana.key).await.unwrap(), None);
    assert_eq!(registry.enrol(&ana).await.unwrap(), EnrolmentResult::Added);
    assert_eq!(registry.enrolment(&ana.key).await.unwrap(), Some(ana.clone()));
    let moved = Enrolment {
        source_login: "i:0#.f|members|ana".to_owned(),
        mailbox: "ana.new@a.example".parse().unwrap(),
        time_zone: None,
        opted_in_at: at(99),
        ..ana.clone()
    };
    assert_eq!(registry.enrol(&moved).await.unwrap(), EnrolmentResult::Updated);
    let stored = registry.enrolment(&ana.key).await.unwrap().unwrap();
    assert_eq!(
        stored,
        Enrolment {
            opted_in_at: ana.opted_in_at,
            ..moved
        }
    );
    assert!(registry.withdraw(&ana.key).await.unwrap());
    assert!(!registry.withdraw(&ana.key).await.unwrap());
    assert_eq!(registry.enrolment(&ana.key).await.unwrap(), None);
    assert!(!registry.set_enrolment_state(&ana.key, &disabled()).await.unwrap());
}

/// Each user of a joint enrolment gets the same answer as alone. A refused one does not affect the others.
pub async fn many_are_enrolled_together_and_each_is_answered(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a", "b"], &["ana"]).await;
    let thief = Enrolment {
        mailbox: "ana@a.example".parse().unwrap(),
        ..enrolment("b", "thief")
    };
    let renamed = Enrolment {
        source_login: "other".to_owned(),
        ..enrolment("b", "ana")
    };
    let all = [
        enrolment("b", "ben"),
        thief.clone(),
        renamed.clone(),
        enrolment("b", "ben"),
    ];
    let answers = registry.enrol_many(&all).await.unwrap();
    let owner = key("a", "ana");
    assert_eq!(
        answers,
        [
            EnrolmentResult::Added,
            EnrolmentResult::MailboxTaken(owner),
            EnrolmentResult::Updated,
            EnrolmentResult::Updated
        ]
    );
    assert!(registry.enrolment(&key("b", "ben")).await.unwrap().is_some());
    assert_eq!(registry.enrolment(&thief.key).await.unwrap(), None);
    let stored = registry.enrolment(&renamed.key).await.unwrap().unwrap();
    assert_eq!(stored.source_login, "other");
    assert_eq!(registry.enrol_many(&[]).await.unwrap(), []);
}

/// The case of the address and the tenant do not matter. A refused enrolment changes nothing.
pub async fn a_mailbox_belongs_to_one_user_of_the_installation(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a", "b"], &["ana"]).await;
    let taken = Enrolment {
        mailbox: "ANA@A.Example".parse().unwrap(),
        ..enrolment("b", "ben")
    };
    let owner = key("a", "ana");
    assert_eq!(
        registry.enrol(&taken).await.unwrap(),
        EnrolmentResult::MailboxTaken(owner.clone())
    );
    assert_eq!(registry.enrolment(&taken.key).await.unwrap(), None);
    let moving = Enrolment {
        mailbox: "ana@a.example".parse().unwrap(),
        source_login: "other".to_owned(),
        ..enrolment("b", "ana")
    };
    assert_eq!(
        registry.enrol(&moving).await.unwrap(),
        EnrolmentResult::MailboxTaken(owner.clone())
    );
    assert_eq!(
        registry.enrolment(&moving.key).await.unwrap(),
        Some(enrolment("b", "ana"))
    );
    assert_eq!(
        registry.enrolment(&owner).await.unwrap(),
        Some(enrolment("a", "ana"))
    );
}

/// Neither case nor the claims prefix makes another name. Other tenants have their own names. A refused enrolment
/// changes nothing, alone and among many.
pub async fn a_sign_in_name_belongs_to_one_user_of_the_tenant(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a", "b"], &["ana"]).await;
    let owner = key("a", "ana");
    for login in [
        "i:0#.w|a\\ana",
        "I:0#.W|A\\Ana",
        "a\\ana",
        " A\\ANA",
        "i:0#.f|members|a\\ana",
    ] {
        let taken = Enrolment {
            source_login: login.to_owned(),
            ..enrolment("a", "ben")
        };
        let expected = EnrolmentResult::LoginTaken(owner.clone());
        assert_eq!(registry.enrol(&taken).await.unwrap(), expected, "{login}");
        let together = [taken.clone(), enrolment("a", "cem")];
        let answers = registry.enrol_many(&together).await.unwrap();
        assert_eq!(answers[0], expected, "{login}");
        assert_eq!(registry.enrolment(&taken.key).await.unwrap(), None);
        assert!(registry.withdraw(&key("a", "cem")).await.unwrap());
        let elsewhere = Enrolment {
            source_login: login.to_owned(),
            ..enrolment("b", "ben")
        };
        assert_eq!(registry.enrol(&elsewhere).await.unwrap(), EnrolmentResult::Added);
        assert!(registry.withdraw(&elsewhere.key).await.unwrap());
    }
    // A user who is updated does not get another user's name either, and keeps the own one in any case.
    assert_eq!(
        registry.enrol(&enrolment("a", "ben")).await.unwrap(),
        EnrolmentResult::Added
    );
    let renamed = Enrolment {
        source_login: "a\\ana".to_owned(),
        ..enrolment("a", "ben")
    };
    assert_eq!(
        registry.enrol(&renamed).await.unwrap(),
        EnrolmentResult::LoginTaken(owner.clone())
    );
    let own = Enrolment {
        source_login: "A\\Ana".to_owned(),
        ..enrolment("a", "ana")
    };
    assert_eq!(registry.enrol(&own).await.unwrap(), EnrolmentResult::Updated);
    // Parts of a name are other names.
    for (user, login) in [("dora", "ana"), ("eve", "b\\ana"), ("finn", "a\\ana2")] {
        let other = Enrolment {
            source_login: login.to_owned(),
            ..enrolment("a", user)
        };
        assert_eq!(
            registry.enrol(&other).await.unwrap(),
            EnrolmentResult::Added,
            "{login}"
        );
    }
    assert!(registry.withdraw(&owner).await.unwrap());
    assert_eq!(registry.enrol(&renamed).await.unwrap(), EnrolmentResult::Updated);
}

/// Opting out frees the mailbox for another user.
pub async fn a_withdrawn_user_s_mailbox_is_free_again(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a", "b"], &["ana"]).await;
    registry.withdraw(&key("a", "ana")).await.unwrap();
    let heir = Enrolment {
        mailbox: "ana@a.example".parse().unwrap(),
        ..enrolment("b", "ben")
    };
    assert_eq!(registry.enrol(&heir).await.unwrap(), EnrolmentResult::Added);
}

/// The failure names the tenant, and nothing is stored.
pub async fn an_unknown_tenant_s_user_cannot_enrol(registry: Arc<dyn Registry>) {
    let failure = registry.enrol(&enrolment("ghost", "ana")).await.unwrap_err();
    assert_eq!(failure.code, Code::TenantUnknown);
    assert!(failure.detail.contains("ghost"), "{failure}");
    assert_eq!(registry.enrolment(&key("ghost", "ana")).await.unwrap(), None);
}

/// Enabling clears the reason. Opting in again does not enable a disabled user.
pub async fn disabling_keeps_the_reason_and_survives_another_opt_in(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana"]).await;
    let ana = key("a", "ana");
    assert!(registry.set_enrolment_state(&ana, &disabled()).await.unwrap());
    assert_eq!(registry.enrolment(&ana).await.unwrap().unwrap().state, disabled());
    registry.enrol(&enrolment("a", "ana")).await.unwrap();
    assert_eq!(registry.enrolment(&ana).await.unwrap().unwrap().state, disabled());
    assert!(
        registry
            .set_enrolment_state(&ana, &EnrolmentState::Enabled)
            .await
            .unwrap()
    );
    assert_eq!(
        registry.enrolment(&ana).await.unwrap().unwrap().state,
        EnrolmentState::Enabled
    );
}

/// Unknown users and those of other tenants are left out.
pub async fn enrolments_of_names_only_those_asked_for(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana", "ben", "cem"]).await;
    with_users(&*registry, &["b"], &["dora"]).await;
    let asked = ["cem", "ana", "dora", "nobody"].map(user_id);
    let mut found: Vec<_> = registry
        .enrolments_of(&tenant_id("a"), &asked)
        .await
        .unwrap()
        .into_iter()
        .map(|enrolment| enrolment.key)
        .collect();
    found.sort();
    assert_eq!(found, [key("a", "ana"), key("a", "cem")]);
    assert!(
        registry
            .enrolments_of(&tenant_id("a"), &[])
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        registry
            .enrolments_of(&tenant_id("ghost"), &asked)
            .await
            .unwrap()
            .is_empty()
    );
}

/// The number of users exceeds what a database takes in one list, in queries and in pages.
pub async fn long_lists_of_users_are_answered_whole(registry: Arc<dyn Registry>) {
    const USERS: usize = 1_203;
    registry.put_tenant(&tenant("a")).await.unwrap();
    let users: Vec<UserId> = (0..USERS).map(|n| user_id(&format!("u{n:05}"))).collect();
    for user in users.iter().step_by(3) {
        registry.enrol(&enrolment("a", user.as_str())).await.unwrap();
        registry
            .save_sync_state(&enrolment("a", user.as_str()), 0, user.as_str().as_bytes(), b"")
            .await
            .unwrap();
    }
    let a = tenant_id("a");
    let enrolled = USERS.div_ceil(3);
    assert_eq!(registry.enrolments_of(&a, &users).await.unwrap().len(), enrolled);
    let fingerprints = registry.enrolments_with_fingerprints(&a, &users).await.unwrap();
    assert_eq!(fingerprints.len(), enrolled);
    for (enrolment, state) in &fingerprints {
        let fingerprint = state.as_ref().map(|state| state.fingerprint.as_slice());
        assert_eq!(fingerprint, Some(enrolment.key.user.as_str().as_bytes()));
    }
    let mut walked = Vec::new();
    let mut after = None;
    loop {
        let page = registry.enrolments(&a, after.as_ref(), 100).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key.user.clone());
        walked.extend(page.into_iter().map(|enrolment| enrolment.key.user));
    }
    assert_eq!(walked, users.iter().step_by(3).cloned().collect::<Vec<_>>());
}

/// Changes of one user do not affect the other.
pub async fn the_same_name_in_two_tenants_is_two_users(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a", "b"], &["ana"]).await;
    let (one, other) = (key("a", "ana"), key("b", "ana"));
    registry.set_enrolment_state(&one, &disabled()).await.unwrap();
    for (tenant, enabled, disabled) in [
        (Some(&one.tenant), 0, 1),
        (Some(&other.tenant), 1, 0),
        (None, 1, 1),
    ] {
        let counts = registry.enrolment_counts(tenant).await.unwrap();
        assert_eq!(
            (counts.enabled, counts.disabled),
            (enabled, disabled),
            "{tenant:?}"
        );
    }
    registry
        .save_sync_state(&enrolment("a", "ana"), 0, b"fa", b"state a")
        .await
        .unwrap();
    let permit = DeletionPermit {
        plan: "p1".to_owned(),
        until: at(60),
    };
    registry.allow_deletions(&one, &permit).await.unwrap();
    assert_eq!(
        registry.enrolment(&other).await.unwrap(),
        Some(enrolment("b", "ana"))
    );
    assert_eq!(registry.sync_state(&other).await.unwrap(), None);
    assert_eq!(
        registry
            .enrolments_with_fingerprints(&other.tenant, std::slice::from_ref(&other.user))
            .await
            .unwrap(),
        [(enrolment("b", "ana"), None)]
    );
    assert!(!registry.take_deletion_permit(&other, "p1", at(0)).await.unwrap());
    assert_eq!(registry.stamps(&other.tenant, None, 9).await.unwrap().len(), 1);
    assert!(registry.withdraw(&other).await.unwrap());
    assert!(registry.sync_state(&one).await.unwrap().is_some());
    assert_eq!(registry.enrolments(&one.tenant, None, 9).await.unwrap().len(), 1);
}

/// A permit holds for one plan, can be taken once, expires, and is replaced by the next one.
pub async fn a_deletion_permit_is_taken_once_and_for_its_plan(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana", "ben"]).await;
    let ana = key("a", "ana");
    let permit = |plan: &str| DeletionPermit {
        plan: plan.to_owned(),
        until: at(60),
    };
    assert!(!registry.take_deletion_permit(&ana, "p1", at(0)).await.unwrap());
    for plan in ["p1", "p2"] {
        assert!(registry.allow_deletions(&ana, &permit(plan)).await.unwrap());
        assert_eq!(registry.deletion_permit(&ana).await.unwrap(), Some(permit(plan)));
    }
    assert_eq!(registry.deletion_permit(&key("a", "ben")).await.unwrap(), None);
    assert!(
        !registry.take_deletion_permit(&ana, "p1", at(0)).await.unwrap(),
        "replaced"
    );
    assert!(
        !registry.take_deletion_permit(&ana, "p2", at(60)).await.unwrap(),
        "expired"
    );
    assert!(
        !registry
            .take_deletion_permit(&key("a", "ben"), "p2", at(0))
            .await
            .unwrap()
    );
    assert!(registry.take_deletion_permit(&ana, "p2", at(59)).await.unwrap());
    assert!(
        !registry.take_deletion_permit(&ana, "p2", at(59)).await.unwrap(),
        "taken"
    );
    assert_eq!(registry.deletion_permit(&ana).await.unwrap(), None);
    assert!(
        !registry
            .allow_deletions(&key("a", "nobody"), &permit("p1"))
            .await
            .unwrap()
    );
}
