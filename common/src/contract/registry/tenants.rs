//! Tenants.

use std::sync::Arc;

use super::{at, enrolment, failure, tenant, with_users};
use crate::contract::{key, tenant_id, user_id};
use crate::model::SourceKey;
use crate::registry::{Alert, JournalEntry, JournalKind, Registry, Tenant, TenantCounts};
use crate::schedule::{SavedStamp, TenantUsers, digest_of, digest_of_all};

/// A tenant is added once, replaced after that, read as stored, and removed once.
pub async fn a_tenant_is_added_replaced_read_and_removed(registry: Arc<dyn Registry>) {
    let contoso = tenant("contoso");
    assert_eq!(registry.tenant(&contoso.id).await.unwrap(), None);
    assert!(registry.put_tenant(&contoso).await.unwrap());
    assert_eq!(registry.tenant(&contoso.id).await.unwrap(), Some(contoso.clone()));
    let contoso = Tenant {
        display_name: "Größe & \"Quotes\" '; DROP TABLE tenants".to_owned(),
        enabled: false,
        ..contoso
    };
    assert!(!registry.put_tenant(&contoso).await.unwrap());
    assert_eq!(registry.tenant(&contoso.id).await.unwrap(), Some(contoso.clone()));
    assert!(registry.remove_tenant(&contoso.id).await.unwrap());
    assert!(!registry.remove_tenant(&contoso.id).await.unwrap());
    assert_eq!(registry.tenant(&contoso.id).await.unwrap(), None);
}

/// Pages are ordered, begin after the given name and have the requested length.
pub async fn tenants_come_in_pages_in_order_of_name(registry: Arc<dyn Registry>) {
    assert_eq!(registry.tenant_counts().await.unwrap(), TenantCounts::default());
    for name in ["d", "b", "a-1", "a", "c", "10", "9"] {
        let enabled = name != "9";
        let tenant = Tenant {
            enabled,
            ..tenant(name)
        };
        registry.put_tenant(&tenant).await.unwrap();
    }
    let counts = TenantCounts {
        tenants: 7,
        enabled: 6,
    };
    assert_eq!(registry.tenant_counts().await.unwrap(), counts);
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = registry.tenants(after.as_ref(), 3).await.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        seen.extend(page.into_iter().map(|tenant| tenant.id.to_string()));
    }
    assert_eq!(seen, ["10", "9", "a", "a-1", "b", "c", "d"]);
    let beyond = tenant_id("zz");
    assert!(registry.tenants(Some(&beyond), 3).await.unwrap().is_empty());
}

/// Tenants without users, and disabled ones, are left out.
pub async fn only_enabled_tenants_with_users_are_active(registry: Arc<dyn Registry>) {
    registry.put_tenant(&tenant("nobody")).await.unwrap();
    with_users(&*registry, &["b", "a", "off"], &["ana", "ben"]).await;
    registry
        .put_tenant(&Tenant {
            enabled: false,
            ..tenant("off")
        })
        .await
        .unwrap();
    registry.withdraw(&key("b", "ben")).await.unwrap();
    let of = |tenant: &str, users: &[&str]| {
        let members = TenantUsers {
            users: users.len() as u64,
            names: Some(digest_of_all(users.iter().map(|user| digest_of(&user_id(user))))),
        };
        (tenant_id(tenant), members)
    };
    let both = [of("a", &["ana", "ben"]), of("b", &["ana"])];
    assert_eq!(registry.active_tenants(None, 10).await.unwrap(), both);
    assert_eq!(registry.active_tenants(None, 1).await.unwrap(), both[..1]);
    let after = tenant_id("a");
    assert_eq!(
        registry.active_tenants(Some(&after), 10).await.unwrap(),
        both[1..]
    );
    assert_eq!(registry.digest_names(&after, 10).await.unwrap(), 0);
}

/// All data of a removed tenant are removed except the journal, so that people can still see what happened to
/// their tasks.
pub async fn a_removed_tenant_takes_everything_but_the_journal(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a", "b"], &["ana"]).await;
    for name in ["a", "b"] {
        let user = key(name, "ana");
        registry
            .save_sync_state(&enrolment(name, "ana"), 0, b"f", b"state")
            .await
            .unwrap();
        let stamp = SavedStamp {
            user: user.user.clone(),
            stamp: at(5),
            last_success: Some(at(5)),
            failing: None,
        };
        registry.save_stamps(&user.tenant, &[stamp]).await.unwrap();
        registry
            .raise_alert(&Alert {
                since: at(1),
                tenant: user.tenant.clone(),
                user: Some(user.user.clone()),
                location: None,
                failure: failure(),
                evidence: None,
            })
            .await
            .unwrap();
        registry
            .journal(&[JournalEntry {
                at: at(1),
                user: user.clone(),
                task: SourceKey::from_stored("sp|x|1"),
                kind: JournalKind::ConflictLostAtSource,
                before: None,
                after: None,
            }])
            .await
            .unwrap();
    }
    assert!(registry.remove_tenant(&tenant_id("a")).await.unwrap());
    let (gone, stays) = (key("a", "ana"), key("b", "ana"));
    assert_eq!(registry.enrolment(&gone).await.unwrap(), None);
    assert_eq!(registry.sync_state(&gone).await.unwrap(), None);
    assert!(registry.alerts(Some(&gone.tenant), 10).await.unwrap().is_empty());
    assert!(registry.stamps(&gone.tenant, None, 10).await.unwrap().is_empty());
    assert_eq!(registry.journal_of(&gone, 10).await.unwrap().len(), 1);
    assert!(registry.sync_state(&stays).await.unwrap().is_some());
    assert_eq!(registry.alerts(None, 10).await.unwrap().len(), 1);
    assert_eq!(
        registry.stamps(&stays.tenant, None, 10).await.unwrap()[0].stamp,
        at(5)
    );
    // A new tenant with that name inherits nothing.
    with_users(&*registry, &["a"], &["ana"]).await;
    assert_eq!(registry.sync_state(&gone).await.unwrap(), None);
    assert_eq!(
        registry.stamps(&gone.tenant, None, 10).await.unwrap()[0].stamp,
        at(0)
    );
}

/// The check succeeds repeatedly and leaves nothing behind.
pub async fn it_can_be_written(registry: Arc<dyn Registry>) {
    for _ in 0..3 {
        registry.check_writable().await.unwrap();
    }
    assert!(registry.tenants(None, 10).await.unwrap().is_empty());
}
