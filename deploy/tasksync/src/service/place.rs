//! A registry that a command has for itself: no scheduler, worker or standalone process may run with it meanwhile.

use tasksync_common::error::Code;
use tasksync_common::registry::{Occupancy, RegistrySharing, occupy};
use tasksync_common::settings::Settings;

use super::lock::{self, RegistryLock};
use crate::exit::CommandError;

/// The registry's lock file, or the place on its database. Both end with this value.
#[derive(Debug)]
pub(crate) struct LonePlace {
    _lock: Option<RegistryLock>,
    occupancy: Option<Occupancy>,
}

impl LonePlace {
    /// Takes the place.
    ///
    /// # Errors
    /// Another process runs with the registry, or the database does not answer.
    pub(crate) async fn take(settings: &Settings) -> Result<Self, CommandError> {
        let lock = lock::take(&settings.registry.url)?;
        let occupancy = match occupy(
            &settings.registry,
            RegistrySharing::Exclusive,
            &settings.schedule.key_prefix,
        )
        .await
        {
            Ok(occupancy) => occupancy,
            Err(failure) if failure.code == Code::RegistryOccupied => {
                return Err(CommandError::settings(
                    "other processes run with this registry; stop every scheduler, worker and standalone process first",
                ));
            }
            Err(failure) => return Err(crate::backup::registry_error(&failure)),
        };
        Ok(Self {
            _lock: lock,
            occupancy,
        })
    }

    /// Does the work while the place is held. The work is dropped if the place is lost.
    pub(crate) async fn hold_during<T>(
        &mut self,
        work: impl Future<Output = Result<T, CommandError>>,
    ) -> Result<T, CommandError> {
        let Some(occupancy) = &mut self.occupancy else {
            return work.await;
        };
        tokio::select! {
            ended = work => ended,
            failure = occupancy.keep() => Err(crate::backup::registry_error(&failure)),
        }
    }
}
