//! A private RabbitMQ with its management API.
//!
//! The server script in the package's library folder is run directly. It has its own home (for Erlang's cookie), port
//! mapper and configuration. All listeners are on 127.0.0.1 only.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::process::{Launch, Signal};
use super::server::{Home, Recipe, Server};
use super::{ServerCertificate, ServiceError, ServiceFolder, net, port_mapper, ports};
use crate::random::unique_id;

/// Name of the broker's administrator.
const USER: &str = "tasksync";

/// The protocol header of AMQP 0-9-1.
const GREETING: &[u8] = b"AMQP\x00\x00\x09\x01";

/// Certificate and key files of a node with TLS, in its own folder.
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// A private RabbitMQ node with the management plugin.
pub type RabbitMq = Server<RabbitMqRecipe>;

/// How a RabbitMQ node is started.
#[derive(Debug)]
pub struct RabbitMqRecipe {
    amqp: u16,
    tls: Option<Tls>,
    management: u16,
    distribution: u16,
    port_mapper: u16,
    identity: NodeIdentity,
}

/// An additional listener, for AMQP over TLS.
#[derive(Debug)]
struct Tls {
    port: u16,
    certificate: ServerCertificate,
}

/// The name of a node, and the cluster it belongs to.
#[derive(Debug, Clone)]
pub(super) struct NodeIdentity {
    /// Erlang name of the node, `name@localhost`.
    pub node: String,
    /// The nodes of its cluster, itself included; empty for a single node.
    pub cluster: Vec<String>,
    /// Port of the cluster's port mapper; a single node starts its own.
    pub port_mapper: Option<u16>,
    pub password: String,
    pub cookie: String,
}

impl NodeIdentity {
    /// Returns the identity of a single node.
    fn alone() -> Self {
        Self {
            node: "tasksync@localhost".to_owned(),
            cluster: Vec::new(),
            port_mapper: None,
            password: secret(),
            cookie: secret(),
        }
    }
}

/// Returns a new password or cookie.
pub(super) fn secret() -> String {
    unique_id().simple().to_string()
}

impl RabbitMq {
    /// Starts a node in `folder` and waits until broker and management API answer (about six seconds).
    ///
    /// # Errors
    /// Reports why it does not start, with the last lines of its log.
    pub async fn start(folder: &Arc<ServiceFolder>) -> Result<Self, ServiceError> {
        Self::start_as(folder, "rabbitmq", &NodeIdentity::alone(), None).await
    }

    /// Does the same with an additional listener for AMQP over TLS, which presents `certificate`.
    ///
    /// # Errors
    /// Reports why it does not start, with the last lines of its log.
    pub async fn start_with_tls(
        folder: &Arc<ServiceFolder>,
        certificate: &ServerCertificate,
    ) -> Result<Self, ServiceError> {
        Self::start_as(folder, "rabbitmq", &NodeIdentity::alone(), Some(certificate)).await
    }

    pub(super) async fn start_as(
        folder: &Arc<ServiceFolder>,
        name: &str,
        identity: &NodeIdentity,
        certificate: Option<&ServerCertificate>,
    ) -> Result<Self, ServiceError> {
        Self::start_new(folder, name, || {
            let tls = match certificate {
                Some(certificate) => Some(Tls {
                    port: ports::free_port()?,
                    certificate: certificate.clone(),
                }),
                None => None,
            };
            Ok(RabbitMqRecipe {
                amqp: ports::free_port()?,
                tls,
                management: ports::free_port()?,
                distribution: ports::free_port()?,
                port_mapper: match identity.port_mapper {
                    Some(port) => port,
                    None => ports::free_port()?,
                },
                identity: identity.clone(),
            })
        })
        .await
    }

    /// Returns `amqp://user:password@127.0.0.1:port`, for the default virtual host. The user is an administrator.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://{USER}:{}@127.0.0.1:{}", self.password(), self.port())
    }

    /// Returns `http://user:password@127.0.0.1:port`. The management API is below `/api`.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!(
            "http://{USER}:{}@127.0.0.1:{}",
            self.password(),
            self.recipe().management
        )
    }

    /// Returns the Erlang name of the node, which the management API uses.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.recipe().identity.node
    }

    /// Returns the administrator's password. The name is `tasksync`.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.recipe().identity.password
    }

    /// Returns the port of AMQP over TLS, if the node was started with it.
    #[must_use]
    pub fn tls_port(&self) -> Option<u16> {
        self.recipe().tls.as_ref().map(|tls| tls.port)
    }

    /// Calls the management API once. `path` begins with `/api/`, and names in it are percent-encoded. Returns `Null`
    /// for an answer without a body.
    ///
    /// # Errors
    /// Describes the problem, if there is no answer within three seconds or the answer reports no success.
    pub async fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        self.recipe().api(method, path, body).await
    }

    /// Evaluates an Erlang expression inside the node, with the broker's own tool.
    pub(super) async fn evaluate(&self, expression: &str) -> Result<(), ServiceError> {
        let recipe = self.recipe();
        let home = Home {
            path: self.home().to_path_buf(),
        };
        let tool = self
            .folder()
            .binaries()
            .rabbitmq_server()?
            .with_file_name("rabbitmqctl");
        let what = || format!("{} eval", tool.display());
        let output = tokio::process::Command::new(&tool)
            .args(["--node", self.node(), "eval", expression])
            .env_clear()
            .env("PATH", self.folder().binaries().search_path())
            .env("LANG", "C.UTF-8")
            .env("RABBITMQ_CONF_ENV_FILE", home.path.join("environment"))
            .envs(port_mapper::environment(recipe.port_mapper, &home))
            .kill_on_drop(true)
            .output()
            .await
            .map_err(ServiceError::system(what()))?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(ServiceError::System {
            what: what(),
            source: std::io::Error::other(words),
        })
    }

    /// Returns the port of AMQP.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.recipe().amqp
    }
}

impl RabbitMqRecipe {
    fn configuration(&self, home: &Home) -> String {
        let Self {
            amqp,
            management,
            identity: NodeIdentity {
                password, cluster, ..
            },
            ..
        } = self;
        let mut parts = vec![format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
             management.tcp.ip = 127.0.0.1\n\
             management.tcp.port = {management}\n\
             default_user = {USER}\n\
             default_pass = {password}\n\
             vm_memory_high_watermark.absolute = 1GB\n\
             disk_free_limit.absolute = 50MB\n\
             log.console = true\n\
             log.console.level = info\n\
             log.file = false\n"
        )];
        parts.extend(
            (1..)
                .zip(cluster)
                .map(|(number, node)| format!("cluster_formation.classic_config.nodes.{number} = {node}\n")),
        );
        if !cluster.is_empty() {
            // The same values as in deploy/rabbitmq/rabbitmq.conf.
            parts.push(
                "cluster_formation.peer_discovery_backend = classic_config\n\
                 cluster_partition_handling = pause_minority\n"
                    .to_owned(),
            );
        }
        if let Some(tls) = &self.tls {
            parts.push(format!(
                "listeners.ssl.1 = 127.0.0.1:{}\n\
                 ssl_options.certfile = {}\n\
                 ssl_options.keyfile = {}\n\
                 ssl_options.verify = verify_none\n\
                 ssl_options.fail_if_no_peer_cert = false\n",
                tls.port,
                home.path.join(CERTIFICATE).display(),
                home.path.join(KEY).display()
            ));
        }
        parts.concat()
    }

    async fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let login = STANDARD.encode(format!("{USER}:{}", self.identity.password));
        let body = body.map(Value::to_string).unwrap_or_default();
        let question = format!(
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Basic {login}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = net::ask(self.management, question.as_bytes(), |_| false).await?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let line = head.lines().next().unwrap_or_default();
        if line
            .split(' ')
            .nth(1)
            .is_some_and(|status| status.starts_with('2'))
        {
            Ok(serde_json::from_str(body).unwrap_or(Value::Null))
        } else {
            Err(format!("management API, {method} {path}: {line} {body}"))
        }
    }
}

impl Recipe for RabbitMqRecipe {
    const NAME: &'static str = "RabbitMQ";
    const STOP: Signal = Signal::Terminate;
    const DISCARD: Signal = Signal::Kill;
    const START_LIMIT: Duration = Duration::from_mins(3);

    async fn prepare(&self, home: &Home, _folder: &Arc<ServiceFolder>) -> Result<(), ServiceError> {
        let write = |path: std::path::PathBuf, text: &str| {
            std::fs::write(&path, text).map_err(ServiceError::system(path.display().to_string()))
        };
        std::fs::create_dir_all(home.data())
            .map_err(ServiceError::system(home.data().display().to_string()))?;
        write(home.path.join("rabbitmq.conf"), &self.configuration(home))?;
        write(home.path.join("plugins"), "[rabbitmq_management].\n")?;
        write(home.path.join("environment"), "")?;
        if let Some(tls) = &self.tls {
            write(home.path.join(CERTIFICATE), &tls.certificate.certificate)?;
            write(home.path.join(KEY), &tls.certificate.key)?;
        }
        let cookie = home.path.join(".erlang.cookie");
        if !cookie.exists() {
            write(cookie.clone(), &self.identity.cookie)?;
            // Erlang refuses a cookie file that others may read.
            std::fs::set_permissions(&cookie, std::fs::Permissions::from_mode(0o400))
                .map_err(ServiceError::system(cookie.display().to_string()))?;
        }
        Ok(())
    }

    #[expect(private_interfaces, reason = "recipes are used in this module only")]
    fn launches(&self, home: &Home, folder: &ServiceFolder) -> Result<Vec<Launch>, ServiceError> {
        let mut environment = port_mapper::environment(self.port_mapper, home);
        environment.extend([
            ("RABBITMQ_NODENAME", self.identity.node.clone().into()),
            ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".into()),
            ("RABBITMQ_NODE_PORT", self.amqp.to_string().into()),
            ("RABBITMQ_DIST_PORT", self.distribution.to_string().into()),
            ("RABBITMQ_MNESIA_BASE", home.data().into()),
            ("RABBITMQ_LOG_BASE", home.data().into()),
            ("RABBITMQ_LOGS", "-".into()),
            ("RABBITMQ_CONFIG_FILE", home.path.join("rabbitmq.conf").into()),
            (
                "RABBITMQ_ADVANCED_CONFIG_FILE",
                home.path.join("advanced.config").into(),
            ),
            ("RABBITMQ_CONF_ENV_FILE", home.path.join("environment").into()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", home.path.join("plugins").into()),
            ("RABBITMQ_PID_FILE", home.path.join("pid").into()),
            // The port mapper is our own and already runs. The distribution listens on loopback only. The nodes of a
            // cluster share a machine that does other work, so each gets one scheduler, which does not spin while it
            // waits.
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                format!(
                    "-start_epmd false -kernel inet_dist_use_interface {{127,0,0,1}}{}",
                    if self.identity.cluster.is_empty() {
                        ""
                    } else {
                        " +S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
                    }
                )
                .into(),
            ),
            // The script replaces itself by the server instead of waiting for it, so that signals and the process id
            // are the server's.
            ("RUNNING_UNDER_SYSTEMD", "true".into()),
        ]);
        let mut launches = Vec::new();
        if self.identity.port_mapper.is_none() {
            launches.push(port_mapper::launch(self.port_mapper, home, folder)?);
        }
        launches.push(Launch {
            command: vec![folder.binaries().rabbitmq_server()?.into()],
            environment,
            directory: home.path.clone(),
            log: home.log(),
            listens: None,
            last_signal: Self::DISCARD,
        });
        Ok(launches)
    }

    async fn ready(&self, _home: &Home, _pid: u32) -> Result<(), String> {
        self.api("GET", "/api/overview", None).await?;
        // The broker answers the protocol header with its first frame, a method on channel 0.
        let frame = net::ask(self.amqp, GREETING, |answer| answer.len() >= 3).await?;
        if frame.starts_with(&[1, 0, 0]) {
            Ok(())
        } else {
            Err("AMQP: no answer to the greeting".to_owned())
        }
    }
}
