//! The defaults of all settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{
    ApiSettings, DeclareQueues, GuardSettings, HealthSettings, LogFormat, LogSettings, OutboundSettings,
    QueueSettings, Ratio, RegistrySettings, ScheduleSettings, SecretsSettings, TelemetrySettings,
    WorkerSettings,
};

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            url: "sqlite:tasksync.sqlite".to_owned(),
            connections: 10,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(15),
            journal_lifetime: Duration::from_hours(720),
        }
    }
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            url: "memory:".to_owned(),
            authorities: None,
            key_prefix: "tasksync".to_owned(),
            run_interval: Duration::from_mins(1),
            top_up_interval: Duration::from_secs(1),
            tenants_per_run: 50,
            users_per_batch: 100,
            minimum_time_between_user_syncs: Duration::from_mins(5),
            maximum_time_between_user_syncs: Duration::from_mins(12),
            tenant_search_interval: Duration::from_mins(30),
            late_after: Duration::from_mins(30),
            discovery_interval: Duration::from_hours(3),
            claim_lifetime: Duration::from_mins(2),
            tenant_in_flight: 1_000,
            tenant_share_percent: 25,
            leader_lifetime: Duration::from_secs(12),
            heartbeat_interval: Duration::from_secs(1),
            heartbeat_lifetime: Duration::from_secs(10),
        }
    }
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            url: "memory:".to_owned(),
            maximum_length: 10_000,
            delivery_limit: 5,
            consumer_timeout: Duration::from_mins(30),
            maximum_dead_letters: 1_000,
            dead_letter_lifetime: Duration::from_hours(168),
            declare: DeclareQueues::Create,
            name_prefix: "tasksync".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(10),
            unconfirmed: 256,
            authorities: None,
        }
    }
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            batch_budget: Duration::from_secs(45),
            users_at_once: 10,
            batches_at_once: 16,
            user_budget: Duration::from_secs(40),
            full_check_interval: Duration::from_hours(6),
            deep_check_interval: Duration::from_hours(168),
            drain: Duration::from_secs(50),
            grace_period: Duration::from_secs(75),
        }
    }
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8480)),
            connections: 512,
            connections_per_address: 64,
            wrong_tokens: 10,
            trusted_proxies: Vec::new(),
            linger: Duration::ZERO,
        }
    }
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8481)),
        }
    }
}

impl Default for OutboundSettings {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            maximum_answer_bytes: 16 * 1024 * 1024,
            requests_per_server: 25,
            allowed_networks: Vec::new(),
            allow_plain_http: false,
            authorities: None,
        }
    }
}

impl Default for SecretsSettings {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("/run/secrets/tenants"),
            variable_prefix: "TASKSYNC_SECRET_".to_owned(),
        }
    }
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            deletions: 10,
            deletions_percent: 20,
            emptied_from: 3,
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info".to_owned(),
        }
    }
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            trace_ratio: Ratio::percent(1),
            metrics_interval: Duration::from_mins(1),
        }
    }
}
