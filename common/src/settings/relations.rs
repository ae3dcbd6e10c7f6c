//! The relations between settings.

use std::time::Duration;

use super::Settings;

/// A rule about several settings.
pub(super) struct SettingRelation {
    /// The keys it is about, as `section.name`.
    pub(super) keys: &'static [&'static str],
    /// What must hold, and why if the reader cannot see it.
    pub(super) rule: &'static str,
    pub(super) holds: fn(&Settings) -> bool,
}

/// All relations. The deadlines nest: request < user < batch < claim < broker; drain < grace period
/// (ARCHITECTURE, invariant 10).
pub(super) const RELATIONS: &[SettingRelation] = &[
    SettingRelation {
        keys: &["outbound.connect_timeout", "outbound.request_timeout"],
        rule: "outbound.connect_timeout must not be above outbound.request_timeout",
        holds: |all| all.outbound.connect_timeout <= all.outbound.request_timeout,
    },
    SettingRelation {
        keys: &["outbound.request_timeout", "worker.user_budget"],
        rule: "outbound.request_timeout must be below worker.user_budget",
        holds: |all| all.outbound.request_timeout < all.worker.user_budget,
    },
    SettingRelation {
        keys: &["worker.user_budget", "worker.batch_budget"],
        rule: "worker.user_budget must be below worker.batch_budget",
        holds: |all| all.worker.user_budget < all.worker.batch_budget,
    },
    SettingRelation {
        keys: &[
            "worker.batch_budget",
            "worker.user_budget",
            "schedule.claim_lifetime",
        ],
        rule: "worker.batch_budget + worker.user_budget must be below schedule.claim_lifetime: a user started at \
               the end of the budget still needs a claim",
        holds: |all| sum(all.worker.batch_budget, all.worker.user_budget) < all.schedule.claim_lifetime,
    },
    SettingRelation {
        keys: &[
            "worker.batch_budget",
            "schedule.claim_lifetime",
            "queue.consumer_timeout",
        ],
        rule: "worker.batch_budget + schedule.claim_lifetime must be below queue.consumer_timeout: a worker keeps \
               a job until its renewed claim has expired, and the broker must not take it away before",
        holds: |all| sum(all.worker.batch_budget, all.schedule.claim_lifetime) < all.queue.consumer_timeout,
    },
    SettingRelation {
        keys: &["worker.drain", "worker.grace_period"],
        rule: "worker.drain must be below worker.grace_period",
        holds: |all| all.worker.drain < all.worker.grace_period,
    },
    SettingRelation {
        keys: &["worker.user_budget", "worker.drain"],
        rule: "worker.user_budget must be below worker.drain: a running user must be able to end",
        holds: |all| all.worker.user_budget < all.worker.drain,
    },
    SettingRelation {
        keys: &[
            "schedule.minimum_time_between_user_syncs",
            "schedule.maximum_time_between_user_syncs",
        ],
        rule: "schedule.minimum_time_between_user_syncs must not be above \
               schedule.maximum_time_between_user_syncs",
        holds: |all| {
            all.schedule.minimum_time_between_user_syncs <= all.schedule.maximum_time_between_user_syncs
        },
    },
    SettingRelation {
        keys: &["schedule.top_up_interval", "schedule.run_interval"],
        rule: "schedule.top_up_interval must not be above schedule.run_interval",
        holds: |all| all.schedule.top_up_interval <= all.schedule.run_interval,
    },
    SettingRelation {
        keys: &["schedule.heartbeat_interval", "schedule.heartbeat_lifetime"],
        rule: "three times schedule.heartbeat_interval must fit into schedule.heartbeat_lifetime",
        holds: |all| all.schedule.heartbeat_interval.saturating_mul(3) <= all.schedule.heartbeat_lifetime,
    },
    SettingRelation {
        keys: &[
            "registry.acquire_timeout",
            "registry.statement_timeout",
            "worker.user_budget",
        ],
        rule: "registry.acquire_timeout + registry.statement_timeout must be below worker.user_budget: a sync \
               must be able to save what it did",
        holds: |all| {
            !all.registry.url.starts_with("postgres")
                || sum(all.registry.acquire_timeout, all.registry.statement_timeout) < all.worker.user_budget
        },
    },
    SettingRelation {
        keys: &["schedule.authorities", "schedule.url"],
        rule: "schedule.authorities is for TLS: write rediss in place of redis in schedule.url, or remove \
               schedule.authorities",
        holds: |all| {
            all.schedule.authorities.is_none()
                || !crate::redis::is_redis_url(&all.schedule.url)
                || all.schedule.url.starts_with("rediss")
        },
    },
    SettingRelation {
        keys: &["queue.authorities", "queue.url"],
        rule: "queue.authorities is for TLS: write amqps in place of amqp in queue.url, or remove \
               queue.authorities",
        holds: |all| all.queue.authorities.is_none() || !all.queue.url.starts_with("amqp:"),
    },
];

fn sum(one: Duration, other: Duration) -> Duration {
    one.saturating_add(other)
}
