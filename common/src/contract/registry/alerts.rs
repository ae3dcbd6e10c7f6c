//! Alerts.

use std::sync::Arc;

use super::*;
use crate::model::LocationKey;
use crate::registry::Alert;

fn alert(tenant: &str, user: Option<&str>, seconds: i64, code: Code) -> Alert {
    Alert {
        since: at(seconds),
        tenant: tenant_id(tenant),
        user: user.map(user_id),
        location: None,
        failure: Failure::new(ErrorClass::Refused, code, format!("at {seconds}")),
        evidence: Some(serde_json::json!([seconds])),
    }
}

/// The first time stays, the evidence is the newest; ended twice is ended once; then it may be raised again.
pub async fn an_alert_is_raised_once_refreshed_and_ended(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana"]).await;
    let first = alert("a", Some("ana"), 10, Code::GuardHeld);
    assert!(registry.raise_alert(&first).await.unwrap());
    let second = alert("a", Some("ana"), 20, Code::GuardHeld);
    assert!(!registry.raise_alert(&second).await.unwrap());
    let refreshed = Alert {
        since: first.since,
        ..second.clone()
    };
    assert_eq!(registry.alerts(None, 10).await.unwrap(), [refreshed]);
    let (a, ana) = (tenant_id("a"), user_id("ana"));
    assert_eq!(registry.end_alert(&a, Some(&ana), Code::Panic).await.unwrap(), 0);
    assert_eq!(
        registry.end_alert(&a, Some(&ana), Code::GuardHeld).await.unwrap(),
        1
    );
    assert_eq!(
        registry.end_alert(&a, Some(&ana), Code::GuardHeld).await.unwrap(),
        0
    );
    assert!(registry.alerts(None, 10).await.unwrap().is_empty());
    assert!(registry.raise_alert(&second).await.unwrap());
}

/// One code of a tenant, of two of its users and of another tenant: four alerts.
pub async fn alerts_of_users_and_of_the_tenant_are_apart(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a", "b"], &["ana", "ben"]).await;
    let code = Code::ExchangeMailboxMissing;
    let (a, ana) = (tenant_id("a"), user_id("ana"));
    let raised = [
        alert("b", Some("ana"), 1, code),
        alert("a", None, 2, code),
        alert("a", Some("ben"), 3, code),
        alert("a", Some("ana"), 4, code),
        alert("a", Some("ana"), 5, Code::GuardHeld),
    ];
    for one in raised.iter().rev() {
        assert!(registry.raise_alert(one).await.unwrap());
    }
    assert!(!registry.raise_alert(&raised[1]).await.unwrap());
    assert_eq!(registry.alerts(None, 10).await.unwrap(), raised);
    assert_eq!(registry.alerts(None, 2).await.unwrap(), raised[..2]);
    assert_eq!(registry.alerts(Some(&a), 10).await.unwrap(), raised[1..]);
    assert!(
        registry
            .alerts(Some(&tenant_id("ghost")), 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(registry.end_alert(&a, Some(&ana), code).await.unwrap(), 1);
    // Ending the tenant's alert leaves the users' alerts open.
    assert_eq!(registry.end_alert(&a, None, code).await.unwrap(), 1);
    let left: Vec<i64> = registry
        .alerts(None, 10)
        .await
        .unwrap()
        .iter()
        .map(|alert| (alert.since.as_microsecond() - at(0).as_microsecond()) / 1_000_000)
        .collect();
    assert_eq!(left, [1, 3, 5]);
}

/// However many people raise it, a list has one alert; it stands beside the others in order of time, and ends by the list or
/// when nobody confirms it.
pub async fn a_list_that_cannot_be_read_has_one_alert(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a", "b"], &["ana"]).await;
    let (a, b) = (tenant_id("a"), tenant_id("b"));
    let list = |name: &str| LocationKey::sharepoint_list(name);
    let about = |tenant: &str, name: &str, seconds| Alert {
        location: Some(list(name)),
        evidence: None,
        ..alert(tenant, None, seconds, Code::ListUnreadable)
    };
    assert!(registry.raise_alert(&about("a", "one", 10)).await.unwrap());
    assert!(!registry.raise_alert(&about("a", "one", 20)).await.unwrap());
    assert!(registry.raise_alert(&about("a", "two", 5)).await.unwrap());
    assert!(registry.raise_alert(&about("b", "one", 30)).await.unwrap());
    let of_user = alert("a", Some("ana"), 7, Code::GuardHeld);
    assert!(registry.raise_alert(&of_user).await.unwrap());
    let one = Alert {
        since: at(10),
        ..about("a", "one", 20)
    };
    let all = [about("a", "two", 5), of_user.clone(), one, about("b", "one", 30)];
    assert_eq!(registry.alerts(None, 10).await.unwrap(), all);
    assert_eq!(registry.alerts(None, 2).await.unwrap(), all[..2]);
    assert_eq!(registry.alerts(Some(&a), 10).await.unwrap(), all[..3]);
    // Another code's end does not end it.
    assert_eq!(
        registry.end_alert(&a, None, Code::ListUnreadable).await.unwrap(),
        0
    );
    assert!(registry.end_location_alert(&b, &list("one")).await.unwrap());
    assert!(!registry.end_location_alert(&b, &list("one")).await.unwrap());
    // The first was confirmed at 20.
    assert_eq!(registry.end_stale_location_alerts(at(15)).await.unwrap(), 1);
    assert_eq!(
        registry.alerts(None, 10).await.unwrap(),
        [all[1].clone(), all[2].clone()]
    );
    let unknown = registry.raise_alert(&about("ghost", "one", 1)).await.unwrap_err();
    assert_eq!(
        (unknown.class, unknown.code),
        (ErrorClass::Gone, Code::TenantUnknown)
    );
    registry.remove_tenant(&a).await.unwrap();
    assert!(registry.alerts(None, 10).await.unwrap().is_empty());
}

/// Of nobody there is no alert, and none stays of a user who left.
pub async fn an_alert_needs_its_subject_and_ends_with_it(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana"]).await;
    let unknown_user = registry
        .raise_alert(&alert("a", Some("nobody"), 1, Code::GuardHeld))
        .await
        .unwrap_err();
    assert_eq!(unknown_user.code, Code::UserUnknown);
    let unknown_tenant = registry
        .raise_alert(&alert("ghost", None, 1, Code::GuardHeld))
        .await
        .unwrap_err();
    assert_eq!(unknown_tenant.code, Code::TenantUnknown);
    registry
        .raise_alert(&alert("a", Some("ana"), 1, Code::GuardHeld))
        .await
        .unwrap();
    registry.withdraw(&key("a", "ana")).await.unwrap();
    assert!(registry.alerts(None, 10).await.unwrap().is_empty());
}
