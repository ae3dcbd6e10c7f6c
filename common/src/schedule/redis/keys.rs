//! Names of the keys, and the scripts that use them.

use crate::model::TenantId;
use crate::redis::LazyScript;

/// Hash tag of the keys that do not belong to one tenant. No tenant can have this name.
const INDEX: &str = "{_}";

/// Names of all keys of one installation.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// Returns the keys of one tenant, in the order of `tenant.lua`. All of them are in one slot.
    pub(super) fn tenant(&self, tenant: &TenantId) -> Vec<String> {
        [
            "due",
            "claimed",
            "batches",
            "status",
            "meta",
            "failures",
            "failing",
            "intervals",
            "asked",
            "requested",
        ]
        .map(|name| self.tenant_key(tenant, name))
        .into()
    }

    pub(super) fn due(&self, tenant: &TenantId) -> String {
        self.tenant_key(tenant, "due")
    }

    pub(super) fn status(&self, tenant: &TenantId) -> String {
        self.tenant_key(tenant, "status")
    }

    fn tenant_key(&self, tenant: &TenantId, name: &str) -> String {
        format!("{}:{{{tenant}}}:{name}", self.prefix)
    }

    /// Returns keys of the index; all of them are in one slot.
    pub(super) fn index(&self, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| self.index_key(name)).collect()
    }

    fn index_key(&self, name: &str) -> String {
        format!("{}:{INDEX}:{name}", self.prefix)
    }

    pub(super) fn heads(&self) -> String {
        self.index_key("heads")
    }

    pub(super) fn probe(&self) -> String {
        self.index_key("probe")
    }

    pub(super) fn lease(&self) -> String {
        self.index_key("lease")
    }
}

macro_rules! tenant_scripts {
    ($($name:ident $file:literal)*) => {
        $(pub(super) static $name: LazyScript =
            LazyScript::new(concat!(include_str!("lua/tenant.lua"), include_str!(concat!("lua/", $file))));)*
    };
}

macro_rules! index_scripts {
    ($($name:ident $file:literal)*) => {
        $(pub(super) static $name: LazyScript = LazyScript::new(include_str!(concat!("lua/", $file)));)*
    };
}

tenant_scripts! {
    ENROL "enrol.lua"
    WITHDRAW "withdraw.lua"
    WITHDRAW_TENANT "withdraw_tenant.lua"
    MAKE_DUE "make_due.lua"
    CLAIM "claim.lua"
    RENEW "renew.lua"
    FINISH "finish.lua"
    RELEASE "release.lua"
    RECLAIM "reclaim.lua"
    STATUS "status.lua"
    REPORT "report.lua"
    MEND "mend.lua"
    NAMES "names.lua"
    TENANT_SUMMARY "tenant_summary.lua"
}

index_scripts! {
    PUSH "push.lua"
    HEADS "heads.lua"
    KNOWN "known.lua"
    EXPIRED "expired.lua"
    TOTALS "totals.lua"
    TOTAL "total.lua"
    SCAN "scan.lua"
    LEAD "lead.lua"
    LEADER "leader.lua"
    RESIGN "resign.lua"
    MARK "mark.lua"
    NOW "now.lua"
}
