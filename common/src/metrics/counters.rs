//! Counters that the process reads itself; metrics are made from them.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter or gauge.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Adds `number`.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// Adds a length.
    pub fn add_len(&self, length: usize) {
        self.add(u64::try_from(length).unwrap_or(u64::MAX));
    }

    /// Subtracts one from a gauge.
    pub fn take_one(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the present number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares a set of counters, and the type of a snapshot of their numbers.
#[macro_export]
macro_rules! counters {
    (
        $(#[doc = $about:literal])+
        $counters:ident, $snapshot:ident;
        $($(#[doc = $doc:literal])+ $name:ident;)*
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Default)]
        pub struct $counters {
            $($(#[doc = $doc])+ pub $name: $crate::metrics::Counter,)*
        }

        #[doc = concat!("The numbers of [`", stringify!($counters), "`] at one moment.")]
        #[derive(Debug, Clone, PartialEq, Eq, Default, ::serde::Serialize)]
        pub struct $snapshot {
            $($(#[doc = $doc])+ pub $name: u64,)*
        }

        impl $counters {
            /// Returns the present numbers.
            #[must_use]
            pub fn snapshot(&self) -> $snapshot {
                $snapshot { $($name: self.$name.get(),)* }
            }
        }
    };
}
