//! Traits of the stores, and a hook around every call of them.
//!
//! [`seam!`] declares one topic of a store as a trait. From the same lines it implements the trait for
//! [`Intercept`], which forwards every method. A new method is written once, and every hook (measuring,
//! faults, counting) sees its calls.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::monotonic;
use crate::error::Failure;
use crate::metrics::record::{self, Store};

/// One call of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreCall {
    /// The store.
    pub store: Store,
    /// Name of the method.
    pub operation: &'static str,
}

/// A hook that sees every call of a store.
pub trait Hook: Send + Sync + 'static {
    /// Runs before the store is called. An error becomes the answer of the call.
    ///
    /// # Errors
    /// The answer of the call; the store is not called.
    fn before(&self, call: StoreCall) -> Result<(), Failure> {
        let _ = call;
        Ok(())
    }

    /// Runs after the store answered. `failure` is the store's failure, if any, and `took` the duration of
    /// the call.
    ///
    /// # Errors
    /// The failure that replaces the store's answer.
    fn after(&self, call: StoreCall, failure: Option<&Failure>, took: Duration) -> Result<(), Failure> {
        let _ = (call, failure, took);
        Ok(())
    }
}

/// A store that passes every call to a hook.
pub struct Intercept<S: ?Sized> {
    pub(crate) inner: Arc<S>,
    hook: Arc<dyn Hook>,
}

impl<S: ?Sized> Intercept<S> {
    /// Puts the hook around the store.
    #[must_use]
    pub fn new(inner: Arc<S>, hook: Arc<dyn Hook>) -> Self {
        Self { inner, hook }
    }

    pub(crate) async fn call<T>(
        &self,
        call: StoreCall,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.hook.before(call)?;
        let began = monotonic();
        let result = answer.await;
        self.hook.after(call, result.as_ref().err(), began.elapsed())?;
        result
    }
}

/// A hook that records each call's duration and whether it succeeded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measure;

impl Hook for Measure {
    fn after(&self, call: StoreCall, failure: Option<&Failure>, took: Duration) -> Result<(), Failure> {
        record::call(call.store, call.operation, failure.is_none(), took);
        Ok(())
    }
}

/// Declares a trait of a store and implements it for [`Intercept`]. The methods in the `cached` block are
/// answered from memory: they make no call, and no hook sees them.
macro_rules! seam {
    (
        $store:expr,
        $(#[$about:meta])*
        pub trait $name:ident {
            $(
                $(#[$doc:meta])*
                async fn $method:ident(&self $(, $argument:ident: $type:ty)* $(,)?) -> Result<$answer:ty, Failure>;
            )*
        }
        $(cached {
            $(
                $(#[$cached_doc:meta])*
                fn $cached:ident(&self) -> $cached_answer:ty;
            )*
        })?
    ) => {
        $(#[$about])*
        #[async_trait::async_trait]
        pub trait $name: Send + Sync + 'static {
            $(
                $(#[$doc])*
                async fn $method(&self $(, $argument: $type)*) -> Result<$answer, Failure>;
            )*
            $($(
                $(#[$cached_doc])*
                fn $cached(&self) -> $cached_answer;
            )*)?
        }

        #[async_trait::async_trait]
        impl<S: $name + ?Sized> $name for $crate::seam::Intercept<S> {
            $(
                async fn $method(&self $(, $argument: $type)*) -> Result<$answer, Failure> {
                    let call = $crate::seam::StoreCall { store: $store, operation: stringify!($method) };
                    self.call(call, self.inner.$method($($argument),*)).await
                }
            )*
            $($(
                fn $cached(&self) -> $cached_answer {
                    self.inner.$cached()
                }
            )*)?
        }
    };
}
pub(crate) use seam;
