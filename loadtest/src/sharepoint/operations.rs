//! The operations, with the names used in fault rules and counters.

use std::sync::atomic::{AtomicU64, Ordering};

use super::path::Address;

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// The operation of a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Operation { $($(#[$doc])* $name,)* }

        impl Operation {
            /// Every operation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the name used in fault rules and reports.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

operations! {
    /// A new form digest.
    ContextInfo => "contextinfo",
    /// Properties of a web.
    Web => "web",
    /// Sub webs.
    Webs => "webs",
    /// Properties of the site collection.
    Site => "site",
    /// Regional settings and time zone.
    TimeZone => "timezone",
    /// Properties of the caller.
    CurrentUser => "currentuser",
    /// Finds a person and adds them to the site.
    EnsureUser => "ensureuser",
    /// People of the site.
    SiteUsers => "siteusers",
    /// Effective permissions of a person.
    Permissions => "permissions",
    /// The lists of a web, or one list.
    Lists => "lists",
    /// Creates a list.
    ListsCreate => "lists.create",
    /// Changes a list's title or description.
    ListsUpdate => "lists.update",
    /// Deletes a list.
    ListsDelete => "lists.delete",
    /// Content types of a list.
    ContentTypes => "contenttypes",
    /// Columns of a list.
    Fields => "fields",
    /// Many items through `OData`.
    ItemsList => "items.list",
    /// One item.
    ItemsGet => "items.get",
    /// Creates an item.
    ItemsCreate => "items.create",
    /// Changes an item.
    ItemsUpdate => "items.update",
    /// Recycles or deletes an item.
    ItemsRecycle => "items.recycle",
    /// Items through CAML.
    GetItems => "getitems",
    /// Reads the change log.
    GetChanges => "getchanges",
    /// Several requests in one. Its parts are counted as well.
    Batch => "batch",
    /// Anything else.
    Other => "other",
}

impl Operation {
    /// Returns the operation that an address and a method mean.
    pub(crate) fn of(address: &Address, method: &str) -> Self {
        let steps = address.steps();
        let Some(&last) = steps.last() else {
            return Self::Other;
        };
        let get = method == "GET";
        match last {
            "$batch" => return Self::Batch,
            "contextinfo" => return Self::ContextInfo,
            "getchanges" => return Self::GetChanges,
            "getitems" => return Self::GetItems,
            "getusereffectivepermissions" => return Self::Permissions,
            "ensureuser" => return Self::EnsureUser,
            "currentuser" => return Self::CurrentUser,
            "contenttypes" => return Self::ContentTypes,
            "fields" => return Self::Fields,
            "recycle" => return Self::ItemsRecycle,
            "webs" => return Self::Webs,
            _ => {}
        }
        if let Some(at) = steps
            .iter()
            .position(|step| matches!(*step, "items" | "getitembyid"))
        {
            let one = address
                .segments
                .get(at)
                .is_some_and(|segment| segment.argument.is_some())
                || at + 1 < steps.len();
            return match (method, one) {
                ("GET", true) => Self::ItemsGet,
                ("GET", false) => Self::ItemsList,
                ("DELETE", _) => Self::ItemsRecycle,
                ("POST", false) => Self::ItemsCreate,
                _ => Self::ItemsUpdate,
            };
        }
        if steps.contains(&"fields") {
            return Self::Fields;
        }
        if steps.get(1) == Some(&"lists") {
            let one = steps.len() > 2
                || address
                    .segments
                    .get(1)
                    .is_some_and(|segment| segment.argument.is_some());
            return match (method, one) {
                ("GET", _) => Self::Lists,
                ("DELETE", _) => Self::ListsDelete,
                ("POST", false) => Self::ListsCreate,
                _ => Self::ListsUpdate,
            };
        }
        match (steps.first().copied(), steps.get(1).copied()) {
            (Some("web"), Some("regionalsettings")) => Self::TimeZone,
            (Some("web"), Some("siteusers" | "getuserbyid")) => Self::SiteUsers,
            (Some("web"), _) if get => Self::Web,
            (Some("site"), _) if get => Self::Site,
            _ => Self::Other,
        }
    }
}

/// Counters of one server since its start.
#[derive(Debug)]
pub struct SharePointStats {
    by_operation: Vec<AtomicU64>,
    requests: AtomicU64,
    refused: AtomicU64,
    faults: AtomicU64,
}

impl Default for SharePointStats {
    fn default() -> Self {
        Self {
            by_operation: Operation::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            requests: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            faults: AtomicU64::new(0),
        }
    }
}

impl SharePointStats {
    pub(crate) fn count(&self, operation: Operation) {
        if let Some(counter) = self.by_operation.get(operation as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_fault(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of requests for an operation, parts of batches included.
    #[must_use]
    pub fn operations(&self, operation: Operation) -> u64 {
        self.by_operation
            .get(operation as usize)
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// Returns the number of HTTP requests. A batch counts as one.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns the number of requests refused because of their credentials.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Returns the number of requests and batch parts that met a fault.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    /// Returns the number of requests to create, update or delete items.
    #[must_use]
    pub fn item_writes(&self) -> u64 {
        [
            Operation::ItemsCreate,
            Operation::ItemsUpdate,
            Operation::ItemsRecycle,
        ]
        .map(|op| self.operations(op))
        .iter()
        .sum()
    }

    /// Returns every counter with its operation's name, without the zeros.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        let counted = Operation::ALL
            .iter()
            .map(|operation| (operation.name(), self.operations(*operation)));
        counted.filter(|(_, count)| *count > 0).collect()
    }
}
