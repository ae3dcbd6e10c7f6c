//! A private RabbitMQ with its management API.
//!
//! The server script of the package's library folder is run directly, with a home (for Erlang's cookie), a port mapper and
//! a configuration of its own; everything listens on 127.0.0.1 only.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::process::{Launch, Signal};
use super::server::{Home, Recipe, Server};
use super::{ServiceError, ServiceFolder, net, ports};

/// The broker's administrator.
const USER: &str = "tasksync";

/// AMQP 0-9-1's greeting.
const GREETING: &[u8] = b"AMQP\x00\x00\x09\x01";

/// A private RabbitMQ node with the management plugin.
pub type RabbitMq = Server<RabbitMqRecipe>;

/// How a RabbitMQ node is started.
#[derive(Debug)]
pub struct RabbitMqRecipe {
    amqp: u16,
    management: u16,
    distribution: u16,
    port_mapper: u16,
    password: String,
    cookie: String,
}

impl RabbitMq {
    /// Starts a node in `folder` and waits until broker and management API answer (about six seconds).
    ///
    /// # Errors
    /// Why it does not come up, with the last lines of its log.
    pub async fn start(folder: &Arc<ServiceFolder>) -> Result<Self, ServiceError> {
        Self::start_new(folder, "rabbitmq", || {
            Ok(RabbitMqRecipe {
                amqp: ports::free_port()?,
                management: ports::free_port()?,
                distribution: ports::free_port()?,
                port_mapper: ports::free_port()?,
                password: uuid::Uuid::new_v4().simple().to_string(),
                cookie: uuid::Uuid::new_v4().simple().to_string(),
            })
        })
        .await
    }

    /// `amqp://user:password@127.0.0.1:port`, the default virtual host; the user is an administrator.
    #[must_use]
    pub fn url(&self) -> String {
        let recipe = self.recipe();
        format!("amqp://{USER}:{}@127.0.0.1:{}", recipe.password, recipe.amqp)
    }

    /// `http://user:password@127.0.0.1:port`: the management API is below `/api`.
    #[must_use]
    pub fn api_url(&self) -> String {
        let recipe = self.recipe();
        format!(
            "http://{USER}:{}@127.0.0.1:{}",
            recipe.password, recipe.management
        )
    }

    /// Port of AMQP.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.recipe().amqp
    }
}

impl RabbitMqRecipe {
    fn configuration(&self) -> String {
        let Self {
            amqp,
            management,
            password,
            ..
        } = self;
        format!(
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
        )
    }
}

impl Recipe for RabbitMqRecipe {
    const NAME: &'static str = "RabbitMQ";
    const STOP: Signal = Signal::Terminate;
    const DISCARD: Signal = Signal::Kill;
    const START_LIMIT: Duration = Duration::from_secs(180);

    async fn prepare(&self, home: &Home, _folder: &Arc<ServiceFolder>) -> Result<(), ServiceError> {
        let write = |path: std::path::PathBuf, text: &str| {
            std::fs::write(&path, text).map_err(ServiceError::system(path.display().to_string()))
        };
        std::fs::create_dir_all(home.data())
            .map_err(ServiceError::system(home.data().display().to_string()))?;
        write(home.path.join("rabbitmq.conf"), &self.configuration())?;
        write(home.path.join("plugins"), "[rabbitmq_management].\n")?;
        write(home.path.join("environment"), "")?;
        let cookie = home.path.join(".erlang.cookie");
        if !cookie.exists() {
            write(cookie.clone(), &self.cookie)?;
            // Erlang refuses a cookie others may read.
            std::fs::set_permissions(&cookie, std::fs::Permissions::from_mode(0o400))
                .map_err(ServiceError::system(cookie.display().to_string()))?;
        }
        Ok(())
    }

    #[expect(private_interfaces, reason = "recipes are of this module only")]
    fn launches(&self, home: &Home, folder: &ServiceFolder) -> Result<Vec<Launch>, ServiceError> {
        let mapper = vec![
            ("ERL_EPMD_PORT", self.port_mapper.to_string().into()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
            ("HOME", home.path.clone().into()),
        ];
        let mut environment = mapper.clone();
        environment.extend([
            ("RABBITMQ_NODENAME", "tasksync@localhost".into()),
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
            // The port mapper is ours and runs already; distribution listens on loopback.
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}".into(),
            ),
            // The script becomes the server instead of waiting for it, so that signals and the process id are the server's.
            ("RUNNING_UNDER_SYSTEMD", "true".into()),
        ]);
        let launch = |command, environment, listens| Launch {
            command,
            environment,
            directory: home.path.clone(),
            log: home.log(),
            listens,
            last_signal: Self::DISCARD,
        };
        Ok(vec![
            launch(
                vec![folder.binaries().epmd()?.into()],
                mapper,
                Some(self.port_mapper),
            ),
            launch(
                vec![folder.binaries().rabbitmq_server()?.into()],
                environment,
                None,
            ),
        ])
    }

    async fn ready(&self, _home: &Home, _pid: u32) -> Result<(), String> {
        let login = STANDARD.encode(format!("{USER}:{}", self.password));
        let question =
            format!("GET /api/overview HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Basic {login}\r\n\r\n");
        let answer = net::ask(self.management, question.as_bytes(), |answer| {
            answer.contains(&b'\n')
        })
        .await?;
        let line = String::from_utf8_lossy(&answer);
        let line = line.lines().next().unwrap_or_default();
        if !line.contains(" 200 ") {
            return Err(format!("management API: {line}"));
        }
        // The broker answers the greeting with its first frame, a method on channel 0.
        let frame = net::ask(self.amqp, GREETING, |answer| answer.len() >= 3).await?;
        if frame.starts_with(&[1, 0, 0]) {
            Ok(())
        } else {
            Err("AMQP: no answer to the greeting".to_owned())
        }
    }
}
