//! What the service account may do on the simulated sites, and which sign-in schemes the server offers.

use std::sync::PoisonError;

use super::SharePoint;
use super::model::FULL_MASK;

/// The rights of service accounts and apps, as the sites report them. They are not enforced; see
/// [`SharePoint::close_web`] and [`SharePoint::refuse_caller`] for refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccountLevel {
    /// Contribute and Enumerate Permissions.
    #[default]
    Documented,
    /// Contribute.
    Contribute,
    /// Contribute without Delete Items, and Enumerate Permissions.
    WithoutDelete,
    /// Read, and Enumerate Permissions.
    Read,
    /// Full control.
    FullControl,
    /// Site collection administrator, and the rights of the documented level.
    Administrator,
}

/// `EnumeratePermissions`, in the high half of the mask.
const ENUMERATE: u32 = 0x4000_0000;

impl AccountLevel {
    /// Returns SharePoint's permission mask, high and low 32 bits.
    pub(crate) fn mask(self) -> (u32, u32) {
        match self {
            Self::Documented | Self::Administrator => (0x1b0 | ENUMERATE, 0x3c43_12ef),
            Self::Contribute => (0x1b0, 0x3c43_12ef),
            Self::WithoutDelete => (0x1b0 | ENUMERATE, 0x3c43_12e7),
            Self::Read => (0xb0 | ENUMERATE, 0x0843_1061),
            Self::FullControl => FULL_MASK,
        }
    }
}

impl SharePoint {
    /// Sets the rights that sites report for service accounts and apps.
    pub fn set_account_level(&self, level: AccountLevel) {
        *self.account_level.write().unwrap_or_else(PoisonError::into_inner) = level;
    }

    pub(crate) fn account_level(&self) -> AccountLevel {
        *self.account_level.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers only these sign-in schemes and accepts no credentials; `None` offers what the server accepts.
    pub fn offer_only(&self, schemes: Option<&[&str]>) {
        self.schemes.offer_only(schemes);
    }

    /// Sets the version that every answer names.
    pub fn set_version(&self, version: &str) {
        version.clone_into(&mut self.version.write().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn version(&self) -> String {
        self.version
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
