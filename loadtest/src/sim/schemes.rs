//! The sign-in schemes that a simulated server offers.

use std::sync::{PoisonError, RwLock};

/// The schemes that a server offers in place of those that it accepts.
#[derive(Debug, Default)]
pub(crate) struct OfferedSchemes(RwLock<Option<Vec<String>>>);

impl OfferedSchemes {
    /// Offers only these schemes; `None` offers what the server accepts.
    pub(crate) fn offer_only(&self, schemes: Option<&[&str]>) {
        let schemes = schemes.map(|schemes| schemes.iter().map(|scheme| (*scheme).to_owned()).collect());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = schemes;
    }

    /// Returns the schemes that alone are offered; `None` if the server offers what it accepts.
    pub(crate) fn only(&self) -> Option<Vec<String>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
