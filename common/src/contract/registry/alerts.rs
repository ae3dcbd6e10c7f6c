//! Alerts.

use std::sync::Arc;

use super::{at, with_users};
use crate::contract::{key, tenant_id, user_id};
use crate::error::{Code, ErrorClass, Failure};
use crate::model::LocationKey;
use crate::registry::{Alert, AlertCursor, AlertFilter, Registry};

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

/// A repeated alert keeps the first time and takes the newest evidence. Ending it twice ends it once, and
/// then it may be raised again.
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

/// The same code for a tenant, two of its users and another tenant makes four alerts.
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
    // Ending the tenant's alert leaves those of the users open.
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

/// However many users raise it, a list has one alert. It is listed with the others in order of time. It ends
/// for its list, or if it is not confirmed for long.
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
    // Ending the tenant's alert of the same code does not end the list's.
    assert_eq!(
        registry.end_alert(&a, None, Code::ListUnreadable).await.unwrap(),
        0
    );
    assert!(registry.end_location_alert(&b, &list("one")).await.unwrap());
    assert!(!registry.end_location_alert(&b, &list("one")).await.unwrap());
    // The alert of the first list was confirmed at 20.
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

/// A filter keeps what meets all its conditions. Pages join without a gap, also where many alerts have one time.
pub async fn alerts_are_found_by_tenant_user_code_and_time_in_pages(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a", "b"], &["ana", "ben"]).await;
    let list = |tenant: &str, name: &str, seconds| Alert {
        location: Some(LocationKey::sharepoint_list(name)),
        evidence: None,
        ..alert(tenant, None, seconds, Code::ListUnreadable)
    };
    let all = [
        alert("a", Some("ana"), 1, Code::GuardHeld),
        list("a", "one", 7),
        list("b", "one", 7),
        list("a", "two", 7),
        alert("a", Some("ben"), 7, Code::GuardHeld),
        alert("b", Some("ana"), 7, Code::ExchangeMailboxFull),
        alert("b", None, 9, Code::SyncsLate),
    ];
    for one in &all {
        registry.raise_alert(one).await.unwrap();
    }
    for limit in [1, 2, 3, 100] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = registry
                .find_alerts(&AlertFilter::default(), after.as_ref(), limit)
                .await
                .unwrap();
            assert!(page.alerts.len() <= limit as usize);
            seen.extend(page.alerts);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, all, "{limit}");
    }
    let find = |filter: AlertFilter| {
        let registry = Arc::clone(&registry);
        async move { registry.find_alerts(&filter, None, 100).await.unwrap().alerts }
    };
    let any = AlertFilter::default;
    let of_b = find(AlertFilter {
        tenant: Some(tenant_id("b")),
        ..any()
    })
    .await;
    assert_eq!(of_b, [all[2].clone(), all[5].clone(), all[6].clone()]);
    let of_ana = AlertFilter {
        tenant: Some(tenant_id("a")),
        user: Some(user_id("ana")),
        ..any()
    };
    assert_eq!(find(of_ana).await, all[..1]);
    let held = find(AlertFilter {
        code: Some(Code::GuardHeld),
        ..any()
    })
    .await;
    assert_eq!(held, [all[0].clone(), all[4].clone()]);
    assert_eq!(
        find(AlertFilter {
            code: Some(Code::ListUnreadable),
            ..any()
        })
        .await,
        all[1..4]
    );
    assert_eq!(
        find(AlertFilter {
            since: Some(at(8)),
            ..any()
        })
        .await,
        all[6..]
    );
    let foreign = AlertCursor("nonsense".to_owned());
    let again = registry.find_alerts(&any(), Some(&foreign), 100).await.unwrap();
    assert_eq!(again.alerts.len(), all.len(), "a foreign cursor starts over");
}

/// An unknown user or tenant has no alert, and the alerts of a withdrawn user are removed.
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
