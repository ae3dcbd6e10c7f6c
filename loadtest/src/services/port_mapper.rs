//! Erlang's port mapper (`epmd`), through which the nodes of a RabbitMQ cluster find each other.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use super::process::{Launch, Signal};
use super::server::{Home, Recipe, Server};
use super::{ServiceError, ServiceFolder, net, ports};

/// A port mapper shared by several nodes, so that the end of one node does not take it from the others.
pub(super) type PortMapper = Server<PortMapperRecipe>;

/// How a port mapper is started.
#[derive(Debug)]
pub struct PortMapperRecipe {
    port: u16,
}

impl PortMapper {
    /// Starts a port mapper in `folder`.
    pub(super) async fn start(folder: &Arc<ServiceFolder>) -> Result<Self, ServiceError> {
        Self::start_new(folder, "port-mapper", || {
            Ok(PortMapperRecipe {
                port: ports::free_port()?,
            })
        })
        .await
    }

    /// Returns the port it listens on.
    pub(super) fn port(&self) -> u16 {
        self.recipe().port
    }
}

/// Returns the environment variables with which a node and its tools find the port mapper on `port`.
pub(super) fn environment(port: u16, home: &Home) -> Vec<(&'static str, OsString)> {
    vec![
        ("ERL_EPMD_PORT", port.to_string().into()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
        ("HOME", home.path.clone().into()),
    ]
}

/// Returns the process of a port mapper on `port`, ready to be started.
pub(super) fn launch(port: u16, home: &Home, folder: &ServiceFolder) -> Result<Launch, ServiceError> {
    Ok(Launch {
        command: vec![folder.binaries().epmd()?.into()],
        environment: environment(port, home),
        directory: home.path.clone(),
        log: home.log(),
        listens: Some(port),
        last_signal: Signal::Kill,
    })
}

impl Recipe for PortMapperRecipe {
    const NAME: &'static str = "Erlang's port mapper";
    const STOP: Signal = Signal::Terminate;
    const DISCARD: Signal = Signal::Kill;
    const START_LIMIT: Duration = Duration::from_mins(1);

    async fn prepare(&self, _home: &Home, _folder: &Arc<ServiceFolder>) -> Result<(), ServiceError> {
        Ok(())
    }

    #[expect(private_interfaces, reason = "recipes are used in this module only")]
    fn launches(&self, home: &Home, folder: &ServiceFolder) -> Result<Vec<Launch>, ServiceError> {
        Ok(vec![launch(self.port, home, folder)?])
    }

    async fn ready(&self, _home: &Home, _pid: u32) -> Result<(), String> {
        if net::is_open(self.port).await {
            Ok(())
        } else {
            Err("its port is closed".to_owned())
        }
    }
}
