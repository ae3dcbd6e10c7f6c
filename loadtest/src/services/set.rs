//! A set of several servers.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::OptionFuture;

use super::{
    Binaries, Persistence, Postgres, PostgresVolume, RabbitMq, RabbitMqCluster, Redis, RedisCluster,
    RedisSentinel, ServiceError, ServiceFolder,
};

/// Which servers to start, and where.
#[derive(Debug, Clone, Default)]
pub struct ServicesPlan {
    /// One Redis node.
    pub redis: Option<Persistence>,
    /// A Redis Cluster of three nodes.
    pub redis_cluster: Option<Persistence>,
    /// A Redis with a replica and three Sentinels.
    pub redis_sentinel: Option<Persistence>,
    /// A RabbitMQ node.
    pub rabbitmq: bool,
    /// A RabbitMQ cluster of three nodes.
    pub rabbitmq_cluster: bool,
    /// A PostgreSQL server.
    pub postgres: Option<PostgresVolume>,
    /// Folder in which the temporary folder is created; the system's when not given.
    pub parent: Option<PathBuf>,
    /// Additional folders with the servers' programs.
    pub binaries: Binaries,
}

impl ServicesPlan {
    /// Returns a plan with all servers but the RabbitMQ cluster. Its three nodes take half a gigabyte and 20 seconds,
    /// and the tests that need them start their own.
    #[must_use]
    pub fn all() -> Self {
        Self {
            redis: Some(Persistence::default()),
            redis_cluster: Some(Persistence::default()),
            redis_sentinel: Some(Persistence::default()),
            rabbitmq: true,
            postgres: Some(PostgresVolume::Folder),
            ..Self::default()
        }
    }

    /// Returns a plan with the servers of a distributed tasksync: one Redis, RabbitMQ and PostgreSQL.
    #[must_use]
    pub fn distributed() -> Self {
        Self {
            redis_cluster: None,
            redis_sentinel: None,
            ..Self::all()
        }
    }
}

/// Running servers. Dropping them kills them and deletes their data.
#[derive(Debug)]
pub struct Services {
    redis: Option<Redis>,
    redis_cluster: Option<RedisCluster>,
    redis_sentinel: Option<RedisSentinel>,
    rabbitmq: Option<RabbitMq>,
    rabbitmq_cluster: Option<RabbitMqCluster>,
    postgres: Option<Postgres>,
    // Dropped last: the folder is removed when the servers have ended.
    folder: Arc<ServiceFolder>,
}

impl Services {
    /// Starts the servers of the plan, all at once, and waits until all of them answer.
    ///
    /// # Errors
    /// Reports why one of them does not start. The others are then ended.
    pub async fn start(plan: &ServicesPlan) -> Result<Self, ServiceError> {
        plan.binaries.check(plan)?;
        let folder = Arc::new(ServiceFolder::new(plan.parent.as_deref(), plan.binaries.clone())?);
        let optional = |wanted: bool| wanted.then_some(&folder);
        // The futures of all servers together take 20 KB. On the heap they do not enlarge the future of every caller.
        let start_all = Box::pin(async {
            futures::try_join!(
                transposed(plan.redis.map(|persistence| Redis::start(&folder, persistence))),
                transposed(
                    plan.redis_cluster
                        .map(|persistence| RedisCluster::start(&folder, persistence))
                ),
                transposed(
                    plan.redis_sentinel
                        .map(|persistence| RedisSentinel::start(&folder, persistence))
                ),
                transposed(optional(plan.rabbitmq).map(RabbitMq::start)),
                transposed(optional(plan.rabbitmq_cluster).map(RabbitMqCluster::start)),
                transposed(plan.postgres.map(|volume| Postgres::start_on(&folder, volume))),
            )
        });
        let (redis, redis_cluster, redis_sentinel, rabbitmq, rabbitmq_cluster, postgres) = start_all.await?;
        Ok(Self {
            redis,
            redis_cluster,
            redis_sentinel,
            rabbitmq,
            rabbitmq_cluster,
            postgres,
            folder,
        })
    }

    /// Returns the Redis node.
    ///
    /// # Errors
    /// [`ServiceError::NotPlanned`] if the plan does not include it.
    pub fn redis(&self) -> Result<&Redis, ServiceError> {
        self.redis.as_ref().ok_or(ServiceError::NotPlanned("Redis"))
    }

    /// Returns the Redis Cluster.
    ///
    /// # Errors
    /// [`ServiceError::NotPlanned`] if the plan does not include it.
    pub fn redis_cluster(&self) -> Result<&RedisCluster, ServiceError> {
        self.redis_cluster
            .as_ref()
            .ok_or(ServiceError::NotPlanned("Redis Cluster"))
    }

    /// Returns the Redis with a replica and Sentinels.
    ///
    /// # Errors
    /// [`ServiceError::NotPlanned`] if the plan does not include it.
    pub fn redis_sentinel(&self) -> Result<&RedisSentinel, ServiceError> {
        self.redis_sentinel
            .as_ref()
            .ok_or(ServiceError::NotPlanned("Redis Sentinel"))
    }

    /// Returns RabbitMQ.
    ///
    /// # Errors
    /// [`ServiceError::NotPlanned`] if the plan does not include it.
    pub fn rabbitmq(&self) -> Result<&RabbitMq, ServiceError> {
        self.rabbitmq.as_ref().ok_or(ServiceError::NotPlanned("RabbitMQ"))
    }

    /// Returns the RabbitMQ cluster.
    ///
    /// # Errors
    /// [`ServiceError::NotPlanned`] if the plan does not include it.
    pub fn rabbitmq_cluster(&self) -> Result<&RabbitMqCluster, ServiceError> {
        self.rabbitmq_cluster
            .as_ref()
            .ok_or(ServiceError::NotPlanned("RabbitMQ cluster"))
    }

    /// Returns PostgreSQL.
    ///
    /// # Errors
    /// [`ServiceError::NotPlanned`] if the plan does not include it.
    pub fn postgres(&self) -> Result<&Postgres, ServiceError> {
        self.postgres
            .as_ref()
            .ok_or(ServiceError::NotPlanned("PostgreSQL"))
    }

    /// Returns the folder that contains everything.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Returns the ids of all running processes.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        pids.extend(self.redis.iter().flat_map(Redis::pids));
        pids.extend(self.redis_cluster.iter().flat_map(RedisCluster::pids));
        pids.extend(self.redis_sentinel.iter().flat_map(RedisSentinel::pids));
        pids.extend(self.rabbitmq.iter().flat_map(RabbitMq::pids));
        pids.extend(self.rabbitmq_cluster.iter().flat_map(RabbitMqCluster::pids));
        pids.extend(self.postgres.iter().flat_map(Postgres::pids));
        pids
    }

    /// Returns the environment variables through which tests and benchmarks find the servers: their URLs, and the
    /// process ids for measurements.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = Vec::new();
        if let Some(redis) = &self.redis {
            variables.push(("TASKSYNC_TEST_REDIS_URL", redis.url()));
            variables.extend(pid("TASKSYNC_TEST_REDIS_PID", redis.pid()));
        }
        if let Some(cluster) = &self.redis_cluster {
            variables.push(("TASKSYNC_TEST_REDIS_CLUSTER_URL", cluster.url()));
        }
        if let Some(sentinel) = &self.redis_sentinel {
            variables.push(("TASKSYNC_TEST_REDIS_SENTINEL_URL", sentinel.url()));
        }
        // Without a single node, the cluster is the broker of every test.
        let cluster = self.rabbitmq_cluster.as_ref();
        let cluster = cluster.and_then(|cluster| Some((cluster.url(), cluster.nodes().first()?)));
        let single = self.rabbitmq.as_ref().map(|node| (node.url(), node));
        if let Some((url, node)) = single.or(cluster) {
            variables.push(("TASKSYNC_TEST_AMQP_URL", url));
            variables.push(("TASKSYNC_TEST_RABBITMQ_API_URL", node.api_url()));
            variables.extend(pid("TASKSYNC_TEST_RABBITMQ_PID", node.pid()));
        }
        if let Some(postgres) = &self.postgres {
            variables.push(("TASKSYNC_TEST_POSTGRES_URL", postgres.url()));
            variables.extend(pid("TASKSYNC_TEST_POSTGRES_PID", postgres.pid()));
        }
        variables
    }
}

fn pid(name: &'static str, pid: Option<u32>) -> Option<(&'static str, String)> {
    pid.map(|pid| (name, pid.to_string()))
}

async fn transposed<T, F>(future: Option<F>) -> Result<Option<T>, ServiceError>
where
    F: Future<Output = Result<T, ServiceError>>,
{
    OptionFuture::from(future).await.transpose()
}
