//! Resolving host names. It happens here and nowhere else, so that the client connects to the addresses that
//! were checked.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::address::AddressRules;

/// Names looked up at the same time. A lookup holds a thread of the runtime's blocking pool (512 threads) until
/// the system gives up, even if its caller no longer waits. The rest of the pool stays free for other work.
const LOOKUPS_AT_ONCE: usize = 256;

/// Addresses of one name that are considered.
pub(super) const ADDRESSES_PER_NAME: usize = 64;

/// Turns a host name into addresses.
pub trait Lookup: Send + Sync + 'static {
    /// Returns every address of the name.
    ///
    /// # Errors
    /// The name has no address or cannot be looked up now.
    fn lookup(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver: hosts file, then DNS, as the system is configured.
#[derive(Debug)]
pub struct SystemLookup(Arc<Semaphore>);

impl Default for SystemLookup {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LOOKUPS_AT_ONCE)))
    }
}

impl Lookup for SystemLookup {
    fn lookup(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let lookups = Arc::clone(&self.0);
        Box::pin(async move {
            // The wait is bounded by the connect timeout around the whole lookup.
            let permit = lookups.acquire_owned().await.map_err(io::Error::other)?;
            tokio::task::spawn_blocking(move || {
                let _permit = permit;
                let addresses = (name.as_str(), 0).to_socket_addrs()?;
                Ok(addresses.map(|address| address.ip()).collect())
            })
            .await
            .map_err(io::Error::other)?
        })
    }
}

/// The rules refused every address of a name.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct AddressesRefused(pub(super) String);

/// Looks names up and returns only addresses that the rules allow. The client connects to exactly these, so a
/// name that changes between check and connection (DNS rebinding) gains nothing.
pub(super) struct CheckedResolver {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) rules: Arc<AddressRules>,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = Arc::clone(&self.rules);
        let found = self.lookup.lookup(name.as_str().to_owned());
        Box::pin(async move {
            let mut found = found.await?;
            found.truncate(ADDRESSES_PER_NAME);
            let chosen = rules
                .choose(name.as_str(), &found)
                .map_err(|reason| Box::new(AddressesRefused(reason)) as Box<dyn Error + Send + Sync>)?;
            // Port 0 stands for the port of the URL.
            Ok(Box::new(chosen.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}
