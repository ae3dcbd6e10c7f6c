//! What the processes of one fleet must agree on: settings, and the schedulers' operator token. Each process reports
//! short digests of them, so that the status and the doctor can name who differs and in what.

use std::collections::{BTreeMap, BTreeSet};

use ring::hmac;
use serde::{Deserialize, Serialize};

use super::Member;
use crate::model::InstallationId;
use crate::settings::Settings;

/// Name under which the digest of the operator token is reported, beside the keys of settings.
pub const OPERATOR_TOKEN: &str = "TASKSYNC_TOKEN";

/// Digests of what must agree, by the key of the setting. A digest has 32 bits and is keyed with the installation's id.
/// It shows whether two processes have the same value and is too short to find a value by trying.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Agreement(pub BTreeMap<String, u32>);

impl Agreement {
    /// Returns the digests of a process with these settings. `token` is the operator token of a process with an API.
    #[must_use]
    pub fn of(installation: InstallationId, settings: &Settings, token: Option<&[u8]>) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, installation.to_string().as_bytes());
        let digest = |name: &str, value: &[u8]| {
            let mut context = hmac::Context::with_key(&key);
            context.update(name.as_bytes());
            context.update(&[0]);
            context.update(value);
            let tag = context.sign();
            tag.as_ref()
                .iter()
                .take(4)
                .fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte))
        };
        let mut digests: BTreeMap<String, u32> = shared_settings(settings)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), digest(name, value.as_bytes())))
            .collect();
        if let Some(token) = token {
            digests.insert(OPERATOR_TOKEN.to_owned(), digest(OPERATOR_TOKEN, token));
        }
        Self(digests)
    }
}

/// Returns the settings that all processes must have alike, with their values as text.
fn shared_settings(settings: &Settings) -> [(&'static str, String); 24] {
    let (schedule, queue) = (&settings.schedule, &settings.queue);
    let (worker, guard, outbound) = (&settings.worker, &settings.guard, &settings.outbound);
    [
        ("schedule.key_prefix", schedule.key_prefix.clone()),
        (
            "schedule.minimum_time_between_user_syncs",
            format!("{:?}", schedule.minimum_time_between_user_syncs),
        ),
        (
            "schedule.maximum_time_between_user_syncs",
            format!("{:?}", schedule.maximum_time_between_user_syncs),
        ),
        ("schedule.run_interval", format!("{:?}", schedule.run_interval)),
        (
            "schedule.top_up_interval",
            format!("{:?}", schedule.top_up_interval),
        ),
        ("schedule.tenants_per_run", schedule.tenants_per_run.to_string()),
        ("schedule.users_per_batch", schedule.users_per_batch.to_string()),
        ("schedule.tenant_in_flight", schedule.tenant_in_flight.to_string()),
        (
            "schedule.tenant_share_percent",
            schedule.tenant_share_percent.to_string(),
        ),
        ("schedule.late_after", format!("{:?}", schedule.late_after)),
        (
            "schedule.claim_lifetime",
            format!("{:?}", schedule.claim_lifetime),
        ),
        (
            "schedule.leader_lifetime",
            format!("{:?}", schedule.leader_lifetime),
        ),
        (
            "schedule.heartbeat_lifetime",
            format!("{:?}", schedule.heartbeat_lifetime),
        ),
        ("queue.name_prefix", queue.name_prefix.clone()),
        ("queue.maximum_length", queue.maximum_length.to_string()),
        ("queue.delivery_limit", queue.delivery_limit.to_string()),
        ("worker.batch_budget", format!("{:?}", worker.batch_budget)),
        ("worker.user_budget", format!("{:?}", worker.user_budget)),
        (
            "worker.full_check_interval",
            format!("{:?}", worker.full_check_interval),
        ),
        ("guard.deletions", guard.deletions.to_string()),
        ("guard.deletions_percent", guard.deletions_percent.to_string()),
        ("guard.emptied_from", guard.emptied_from.to_string()),
        (
            "outbound.requests_per_server",
            outbound.requests_per_server.to_string(),
        ),
        ("outbound.allow_plain_http", outbound.allow_plain_http.to_string()),
    ]
}

/// A setting in which the live processes differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingDifference {
    /// Key of the setting, or [`OPERATOR_TOKEN`].
    pub key: String,
    /// The processes whose value is not the one that most processes have, by name. Of two equally common values, the
    /// one of the process with the first name counts.
    pub differing: Vec<String>,
}

/// Returns in which settings live processes differ, and who has not what most have. A process that does not report a
/// key is left out of it: an earlier build does not know the key, and a worker has no operator token.
#[must_use]
pub fn differing_settings(members: &[Member]) -> Vec<SettingDifference> {
    let keys: BTreeSet<&String> = members
        .iter()
        .flat_map(|member| member.agreement.0.keys())
        .collect();
    keys.into_iter()
        .filter_map(|key| {
            let values: Vec<(&str, u32)> = members
                .iter()
                .filter_map(|member| Some((member.name.as_str(), *member.agreement.0.get(key)?)))
                .collect();
            let usual = most_common(&values)?;
            let differing: Vec<String> = values
                .iter()
                .filter(|(_, value)| *value != usual)
                .map(|(name, _)| (*name).to_owned())
                .collect();
            (!differing.is_empty()).then(|| SettingDifference {
                key: key.clone(),
                differing,
            })
        })
        .collect()
}

/// Returns the value that most have; of equally common ones, the first in the list.
fn most_common(values: &[(&str, u32)]) -> Option<u32> {
    let count = |wanted: u32| values.iter().filter(|(_, value)| *value == wanted).count();
    let mut best: Option<(u32, usize)> = None;
    for (_, value) in values {
        let count = count(*value);
        if best.is_none_or(|(_, most)| count > most) {
            best = Some((*value, count));
        }
    }
    best.map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::fleet::Role;

    fn installation() -> InstallationId {
        "6f1c2a30-0000-4000-8000-000000000001".parse().unwrap()
    }

    fn member(name: &str, settings: &Settings, token: Option<&str>) -> Member {
        Member {
            agreement: Agreement::of(installation(), settings, token.map(str::as_bytes)),
            ..Member::new(name, Role::Scheduler, Timestamp::UNIX_EPOCH)
        }
    }

    fn differences(members: &[Member]) -> Vec<(String, Vec<String>)> {
        differing_settings(members)
            .into_iter()
            .map(|difference| (difference.key, difference.differing))
            .collect()
    }

    #[test]
    fn who_differs_is_named_with_the_key() {
        let usual = Settings::default();
        let mut other = Settings::default();
        other.schedule.claim_lifetime = Duration::from_mins(3);
        other.guard.deletions = 11;
        let members = [
            member("a", &usual, Some("token-one-0123456")),
            member("b", &other, Some("token-one-0123456")),
            member("c", &usual, Some("token-two-0123456")),
            member("w", &usual, None),
        ];
        let one = |key: &str, name: &str| (key.to_owned(), vec![name.to_owned()]);
        assert_eq!(
            differences(&members),
            [
                one(OPERATOR_TOKEN, "c"),
                one("guard.deletions", "b"),
                one("schedule.claim_lifetime", "b")
            ]
        );
        assert_eq!(differences(&members[..1]), []);
        assert_eq!(
            differences(&[members[0].clone(), members[3].clone()]),
            [],
            "a worker has no token"
        );
    }

    #[test]
    fn a_process_of_an_earlier_build_differs_in_nothing() {
        let usual = member("a", &Settings::default(), None);
        let earlier = Member::new("b", Role::Worker, Timestamp::UNIX_EPOCH);
        assert_eq!(differences(&[usual, earlier]), []);
    }

    #[test]
    fn another_installation_s_digest_of_the_same_token_is_another_one() {
        let settings = Settings::default();
        let here = Agreement::of(installation(), &settings, Some(b"token-one-0123456"));
        let there = Agreement::of(
            "6f1c2a30-0000-4000-8000-000000000002".parse().unwrap(),
            &settings,
            Some(b"token-one-0123456"),
        );
        assert_ne!(here.0[OPERATOR_TOKEN], there.0[OPERATOR_TOKEN]);
    }
}
