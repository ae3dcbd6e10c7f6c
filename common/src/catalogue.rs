//! The catalogue of every error that is shown to people. `docs/errors.md` is generated from it.

use serde::{Deserialize, Serialize};

use crate::scope::Scope;

/// The party that has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Actor {
    /// No action is needed: it heals by itself.
    Nobody,
    /// The person whose tasks are concerned.
    Person,
    /// The administrator of the tenant's SharePoint and Exchange.
    TenantAdministrator,
    /// The operator of tasksync.
    Operator,
}

impl Actor {
    /// Returns the actor in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nobody => "no one; it heals by itself",
            Self::Person => "the person",
            Self::TenantAdministrator => "the tenant's administrator",
            Self::Operator => "the operator",
        }
    }
}

macro_rules! catalogue {
    ($($variant:ident $text:literal $(($earlier:ident))? $actor:ident $least:ident..$widest:ident $message:literal $cause:literal $action:literal;)*) => {
        $crate::codes! {
            /// The stable code of an error.
            #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
            pub enum Code {
                $(#[serde(rename = $text)] $variant $text $message $action;)*
            }
        }

        impl Code {
            /// Returns the usual cause.
            #[must_use]
            pub fn cause(self) -> &'static str {
                match self { $(Self::$variant => $cause,)* }
            }

            /// Returns who has to act.
            #[must_use]
            pub fn actor(self) -> Actor {
                match self { $(Self::$variant => Actor::$actor,)* }
            }

            /// Returns the widest scope a failure with this code can have.
            #[must_use]
            pub fn scope(self) -> Scope {
                match self { $(Self::$variant => Scope::$widest,)* }
            }

            /// Returns the narrowest scope a failure with this code can have, however small the subject of
            /// the request was.
            #[must_use]
            pub fn narrowest_scope(self) -> Scope {
                match self { $(Self::$variant => Scope::$least,)* }
            }

            /// Returns the code to store beside this one for earlier builds, which refuse a document with an
            /// unknown code: the code itself if they know it, otherwise the nearest one they know.
            #[must_use]
            pub fn for_earlier_builds(self) -> Self {
                match self { $(Self::$variant => catalogue!(@earlier $variant $($earlier)?),)* }
            }
        }
    };
    (@earlier $variant:ident) => { Self::$variant };
    (@earlier $variant:ident $earlier:ident) => { Self::$earlier };
}

catalogue! {
    ExchangeUnreachable "exchange-unreachable" TenantAdministrator Server..Server
        "The Exchange server cannot be reached"
        "The host name does not resolve, nothing listens there, TLS fails, or a firewall is in between."
        "Check the EWS address of the tenant (it ends in /EWS/Exchange.asmx), name resolution, the certificate, and the network path to the server.";
    ExchangeTimeout "exchange-timeout" Nobody Item..Server
        "The Exchange server did not answer in time"
        "The server is overloaded or the network is slow."
        "Nothing, if it passes. If it persists, check the load of the Exchange servers.";
    ExchangeBusy "exchange-busy" Nobody Server..Server
        "The Exchange server asked for a pause"
        "A throttling policy of the server was reached."
        "Nothing; tasksync keeps the pause. If syncs become late, give the service account a throttling policy of its own.";
    ExchangeSignInRefused "exchange-sign-in-refused" TenantAdministrator Server..Server
        "Exchange refused the credentials"
        "Wrong user name or password, an expired secret, a blocked account, or a way to sign in that the server does not offer."
        "See the detail for what the server offers. Check the tenant's Exchange credentials, then run `tasksync doctor`.";
    ExchangeForbidden "exchange-forbidden" TenantAdministrator Mailbox..Server
        "Exchange refuses web services for this application"
        "EWS is switched off for the organisation or this application id is not on its allow list."
        "Allow EWS for this application (organisation setting EwsEnabled and EwsAllowedAppIDs).";
    ExchangeImpersonationDenied "exchange-impersonation-denied" TenantAdministrator Mailbox..Server
        "The service account may not act for other mailboxes"
        "The role ApplicationImpersonation (or full_access_as_app) is missing."
        "Grant the service account ApplicationImpersonation, or FullAccess to the mailboxes and use delegate access.";
    ExchangeMailboxMissing "exchange-mailbox-missing" TenantAdministrator Mailbox..Server
        "The mailbox does not exist"
        "The address changed, the mailbox was removed, or it is not a user mailbox."
        "Correct the user's mailbox address, or opt the user out.";
    ExchangeMailboxDenied "exchange-mailbox-denied" TenantAdministrator Mailbox..Server
        "The service account has no access to this mailbox"
        "The mailbox is outside the scope of the role, or FullAccess is missing."
        "Widen the scope of the role, or grant FullAccess to this mailbox.";
    ExchangeMailboxUnavailable "exchange-mailbox-unavailable" Nobody Mailbox..Server
        "The mailbox is not available at the moment"
        "Its database is being moved or fails over to another server."
        "Nothing, if it passes.";
    ExchangeMailboxFull "exchange-mailbox-full" Person Mailbox..Mailbox
        "The mailbox is full"
        "The mailbox has reached its quota, so nothing can be created in it."
        "Make room in the mailbox.";
    ExchangeItemRefused "exchange-item-refused" TenantAdministrator Item..Item
        "Exchange refused this one task"
        "A value that the server does not accept, or a damaged item."
        "See the detail. Change the task at its source, and it is retried.";
    ExchangeItemGone "exchange-item-gone" Nobody Item..Item
        "The task is no longer in the mailbox"
        "It was deleted or moved while the sync was running."
        "Nothing; the next sync detects it.";
    ExchangeConflict "exchange-conflict" Nobody Item..Item
        "The task was changed in the mailbox at the same moment"
        "A person edited it between reading and writing."
        "Nothing; the task is read again, and the tenant's policy for conflicts decides.";
    ExchangeFolderGone "exchange-folder-gone" Nobody Container..Container
        "A task folder is no longer in the mailbox"
        "The person deleted the folder."
        "Nothing; the folder and its tasks are recreated. Nothing is deleted at the source.";
    ExchangeSyncStateInvalid "exchange-sync-state-invalid" Nobody Container..Container
        "Exchange no longer accepts the stored cursor"
        "The mailbox was moved or restored, or the cursor is too old."
        "Nothing; everything is compared again.";
    ExchangeBadAnswer "exchange-bad-answer" TenantAdministrator Item..Server
        "The answer of the Exchange server cannot be understood"
        "Something else answers under this address: a proxy's page, another service, or a cut answer."
        "Check the EWS address; the detail shows what was received.";
    ExchangeForeignAnswer "exchange-foreign-answer" (ExchangeBadAnswer) TenantAdministrator Item..Server
        "The Exchange server answered about another mailbox, folder or item than the requested one"
        "A proxy or load balancer between tasksync and Exchange mixes up answers."
        "Nothing of the answer was used. If it happens again, check the proxies and load balancers between tasksync and Exchange.";
    ExchangeAnswerTooLarge "exchange-answer-too-large" TenantAdministrator Item..Server
        "The answer of the Exchange server is larger than allowed"
        "A broken or hostile server, or a single item of extreme size."
        "The detail names the request.";
    ExchangeOutcomeUnknown "exchange-outcome-unknown" Nobody Item..Server
        "It is not known whether a write reached Exchange"
        "The connection broke before the answer."
        "Nothing; tasksync looks for the task before it writes again.";
    ExchangeError "exchange-error" Nobody Item..Server
        "Exchange reported an error"
        "The detail names the server's own code."
        "Nothing, if it passes; it is retried. If it persists, look up the server's code.";
    SharePointUnreachable "sharepoint-unreachable" TenantAdministrator Server..Server
        "The SharePoint site cannot be reached"
        "The host name does not resolve, nothing listens there, TLS fails, or a firewall is in between."
        "Check the site address of the tenant, name resolution, the certificate, and the network path to the server.";
    SharePointTimeout "sharepoint-timeout" Nobody Item..Server
        "SharePoint did not answer in time"
        "The server is overloaded or the network is slow."
        "Nothing, if it passes. If it persists, check the load of the SharePoint servers.";
    SharePointBusy "sharepoint-busy" Nobody Server..Server
        "SharePoint asked for a pause"
        "Too many requests for the server or for this application."
        "Nothing; tasksync keeps the pause.";
    SharePointSignInRefused "sharepoint-sign-in-refused" TenantAdministrator Server..Server
        "SharePoint refused the credentials"
        "Wrong user name or password, an expired secret or certificate, a blocked account, or a way to sign in that the server does not offer."
        "See the detail for what the server offers. Check the tenant's SharePoint credentials, then run `tasksync doctor`.";
    SharePointDenied "sharepoint-denied" TenantAdministrator Item..Server
        "The service account has no right to do this in SharePoint"
        "The account lacks rights on the site, list or item."
        "Grant the service account the right to edit items on the site.";
    SharePointSiteMissing "sharepoint-site-missing" TenantAdministrator Container..Server
        "No SharePoint site has this address"
        "The address is wrong or the site was removed."
        "Correct the site address of the tenant.";
    SharePointListGone "sharepoint-list-gone" Nobody Container..Container
        "The task list is no longer in SharePoint"
        "The list was deleted or moved."
        "Nothing; the copies are removed from the mailboxes if the list stays gone.";
    SharePointItemGone "sharepoint-item-gone" Nobody Item..Item
        "The task is no longer in SharePoint"
        "It was deleted or moved while the sync was running."
        "Nothing; the next sync detects it.";
    SharePointItemRefused "sharepoint-item-refused" TenantAdministrator Item..Item
        "SharePoint refused this one task"
        "A required column is empty, a validation rule fails, or a value is not accepted."
        "See the detail; correct the task or the list's rules.";
    SharePointConflict "sharepoint-conflict" Nobody Item..Item
        "The task was changed in SharePoint at the same moment"
        "A person edited it between reading and writing."
        "Nothing; the task is read again, and the tenant's policy for conflicts decides.";
    SharePointTokenExpired "sharepoint-token-expired" Nobody Container..Server
        "SharePoint no longer accepts the stored cursor"
        "The cursor is older than the change log, or the site was restored."
        "Nothing; everything is compared again.";
    SharePointUserUnknown "sharepoint-user-unknown" TenantAdministrator Person..Server
        "SharePoint does not know this person"
        "The sign-in name of the enrolment is wrong, or the person has no access to the site."
        "Correct the user's SharePoint sign-in name, or give the person access to the site.";
    SharePointBadAnswer "sharepoint-bad-answer" TenantAdministrator Item..Server
        "The answer of SharePoint cannot be understood"
        "Something else answers under this address: a proxy's page, another service, or a cut answer."
        "Check the site address; the detail shows what was received.";
    SharePointForeignAnswer "sharepoint-foreign-answer" (SharePointBadAnswer) TenantAdministrator Item..Server
        "SharePoint answered about another site, list or item than the requested one"
        "A proxy or load balancer between tasksync and SharePoint mixes up answers."
        "Nothing of the answer was used. If it happens again, check the proxies and load balancers between tasksync and SharePoint.";
    SharePointAnswerTooLarge "sharepoint-answer-too-large" TenantAdministrator Item..Server
        "The answer of SharePoint is larger than allowed"
        "A broken or hostile server, or a single item of extreme size."
        "The detail names the request.";
    SharePointOutcomeUnknown "sharepoint-outcome-unknown" Nobody Item..Server
        "It is not known whether a write reached SharePoint"
        "The connection broke before the answer."
        "Nothing; tasksync reads the task again before it writes.";
    SharePointError "sharepoint-error" Nobody Item..Server
        "SharePoint reported an error"
        "The detail names the server's own code."
        "Nothing, if it passes; it is retried. If it persists, look up the server's code.";
    TokenRefused "token-refused" TenantAdministrator Server..Server
        "The token endpoint refused the application's credentials"
        "A wrong application id, an expired secret, or a certificate that is not registered."
        "Renew the secret or certificate and correct the tenant's settings.";
    TokenUnreachable "token-unreachable" TenantAdministrator Server..Server
        "The token endpoint cannot be reached or understood"
        "The address is wrong, or a firewall is in between."
        "Check the token address of the tenant and the network path to it.";
    KdcUnreachable "kdc-unreachable" (TokenUnreachable) TenantAdministrator Server..Server
        "No key distribution centre of the account's realm can be reached"
        "The addresses in `kdc` are wrong, the domain controllers are down, or a firewall closes TCP port 88."
        "Check `kdc` in the tenant's credentials and the network path from the workers to it.";
    KdcRefused "kdc-refused" (TokenRefused) TenantAdministrator Server..Server
        "The key distribution centre gives no ticket"
        "A wrong password, account or realm, a blocked account, a server without the service principal name, or clocks that differ by more than 5 minutes."
        "See the detail. Correct the tenant's credentials, register the service principal name, or set the clocks.";
    SignInNotBuilt "sign-in-not-built" (SecretUnavailable) Operator Server..Server
        "This build of tasksync cannot sign in by NTLM or Kerberos"
        "It was built without the cargo feature `sspi`."
        "Use the released image, or build with the default features.";
    SecretUnavailable "secret-unavailable" Operator Server..Server
        "A secret named in the tenant's settings cannot be read"
        "The environment variable is not set or the file is missing or unreadable."
        "Provide the secret under the name shown in the detail.";
    SecretNotAllowed "secret-not-allowed" (SecretUnavailable) Operator Server..Server
        "The tenant's settings name a secret that tenants may not use"
        "The file is not below the folder `secrets.folder`, or the variable does not begin with `secrets.variable_prefix`."
        "Put the secret where the detail says, and write that name into the tenant's settings. If all secrets are in another folder, set `secrets.folder`.";
    AddressRefused "address-refused" Operator Server..Server
        "tasksync does not connect to this address"
        "The address is private, reserved or plain http, and the operator has not allowed it."
        "If it is right, add the network to `outbound.allowed_networks` (or, for trials only, set `outbound.allow_plain_http`).";
    RegistryUnavailable "registry-unavailable" Operator Ours..Ours
        "The registry cannot be read or written"
        "The database is down, or its file is damaged or locked."
        "See the detail; bring the database back. What was sent by hand (a tenant, an opt-in) was not stored: send it again. Syncs are repeated by themselves.";
    RegistryFull "registry-full" (RegistryUnavailable) Operator Ours..Ours
        "The registry has no room; nothing was stored"
        "The disk of the registry's database is full, or a limit on its size is reached."
        "Make room on the disk that the detail names. What was sent by hand (a tenant, an opt-in) was not stored: send it again. Syncs are repeated by themselves.";
    RegistryOccupied "registry-occupied" Operator Ours..Ours
        "Other processes use the registry, and this one cannot run beside them"
        "One of the processes keeps its schedule or its queue in memory, where no other process sees it, so it must run alone; or the processes have different schedule.key_prefix, so that they are two fleets with two leaders."
        "Stop the other process, or give all of them shared stores (registry.url, schedule.url and queue.url) and one schedule.key_prefix. To change the prefix, stop all processes first.";
    ScheduleUnavailable "schedule-unavailable" Operator Ours..Ours
        "The schedule cannot be read or written"
        "The store that holds it is down, restarting, or out of memory."
        "See the detail; bring the store back. Nothing is lost: the schedule is rebuilt from the registry.";
    RedisUnavailable "redis-unavailable" Operator Ours..Ours
        "Redis cannot be used"
        "It is down, restarting, out of memory or overloaded, a node of the cluster is missing, or it refuses the login."
        "See the detail; bring Redis back or correct the URL. Nothing is lost: the schedule is rebuilt from the registry.";
    QueueUnavailable "queue-unavailable" Operator Ours..Ours
        "The job queue cannot be reached"
        "The broker is down, restarting, or blocks publishers because memory or disk are short."
        "See the detail; bring the broker back. Nothing is lost: the jobs are created again.";
    QueueFull "queue-full" Nobody Ours..Ours
        "The job queue is full"
        "Jobs are created faster than workers take them."
        "Nothing; the users stay in the schedule. If it persists, run more workers.";
    QueueAccessRefused "queue-access-refused" Operator Ours..Ours
        "The broker refuses access to the job queue"
        "A wrong user name or password, a virtual host that does not exist, or a missing permission."
        "Correct `queue.url`, or give the user the permissions configure, write and read on the virtual host for the queues and for the default exchange (configure is not needed with `queue.declare = \"check\"`).";
    QueueMissing "queue-missing" Operator Ours..Ours
        "A queue of tasksync does not exist at the broker"
        "It was deleted, or `queue.declare` is \"check\" and no operator created the queues."
        "Import deploy/rabbitmq/definitions.json, or set `queue.declare = \"create\"`. Nothing is lost: the jobs are created again.";
    QueueMismatch "queue-mismatch" Operator Ours..Ours
        "A queue exists at the broker with other arguments"
        "A setting with which the queue was created has changed (`queue.maximum_length`, `queue.delivery_limit`, `queue.maximum_dead_letters`, `queue.dead_letter_lifetime` or `schedule.claim_lifetime`), or another program created the queue."
        "Restore the setting; or choose another `queue.name_prefix`; or stop tasksync, delete the queue named in the detail and start again. tasksync never deletes a queue; the jobs in it are created again.";
    JobRefused "job-refused" Operator Ours..Ours
        "A sync job cannot be used"
        "A newer version created it, it is damaged, or it names no user or too many."
        "Run the same version in all processes; see the dead letters for the job.";
    SettingsWrong "settings-wrong" Operator Ours..Ours
        "A setting cannot be used"
        "A value is invalid, or a store's URL names a kind of store that this build does not have."
        "Correct the setting named in the detail.";
    StateConflict "state-conflict" Nobody Person..Person
        "Another worker saved this user's sync state first"
        "The claim expired while this worker was still busy."
        "Nothing; the user is synced again.";
    StateUnreadable "state-unreadable" Nobody Person..Person
        "The saved sync state cannot be read"
        "A newer version wrote it, or it is damaged."
        "Nothing; links are found again in the mailbox by a full comparison.";
    AnswersDisagree "answers-disagree" (StateConflict) Nobody Item..Person
        "Two answers of a server contradict each other"
        "One answer says that an object is gone, and another one shows it; or an answer belongs to another request."
        "Nothing; the task is left as it is, and the next sync looks at it again. If it persists, see the detail for the answers.";
    MailboxOfAnotherInstallation "mailbox-of-another-installation" (ExchangeMailboxDenied) Operator Mailbox..Mailbox
        "The mailbox is synced by another installation of tasksync"
        "A task folder in it bears the marker of another installation. Two installations would take each other's copies for the person's deletions."
        "Opt the person out of one of the two installations. If the other one no longer exists, delete its task folders in the mailbox.";
    ListUnreadable "list-unreadable" (SharePointDenied) TenantAdministrator Container..Container
        "A list or site cannot be read; its tasks and their copies stay as they are"
        "The service account lost its rights there, the site is closed, or the list is larger than the server's threshold allows."
        "See the detail for the server's reason. Give the service account its rights back, or index the column Assigned To of the list. The list is read again at each full check, and the alert ends with the first check that can read it.";
    ListWithoutDates "list-without-dates" (SharePointDenied) TenantAdministrator Container..Container
        "The dates of a list are neither read nor written"
        "The time zone of its site cannot be read, and was never read before. A date written on a guess could be a day off."
        "See the detail for the server's reason. All other fields of the tasks are synced; the dates follow once the time zone can be read, and then the alert ends.";
    OrderMended "order-mended" (ScheduleUnavailable) Operator Ours..Ours
        "A part of the schedule was lost and has been restored"
        "Redis lost a key of tasksync: it was evicted, deleted by hand, or a replica without it took over."
        "Nothing for the users: all of them are synced again. Give Redis the policy `noeviction` and enough memory, and let nothing else write under `schedule.key_prefix`. The alert ends after an hour.";
    SyncsLate "syncs-late" (BudgetExhausted) Operator Ours..Ours
        "Users have not been synced for longer than `schedule.late_after`"
        "No worker runs, the workers cannot keep up, or every sync of these users fails."
        "See `tasksync status` for workers and load, and `tasksync user list` for the reason of each user.";
    GuardHeld "guard-held" Operator Person..Person
        "Deletions are held back: too many at once"
        "One side lost many tasks at once, or a whole folder or list is empty, new or unknown."
        "Inspect the plan with `tasksync user plan`; release it with `tasksync user allow-deletions`, or restore the tasks.";
    TimeZoneUnknown "time-zone-unknown" TenantAdministrator Person..Server
        "The time zone of a mailbox is not known"
        "The name in the enrolment or the tenant is neither an IANA nor a Windows time zone."
        "Write a name such as Europe/Berlin or W. Europe Standard Time.";
    UserUnknown "user-unknown" Nobody Person..Person
        "The user is not enrolled"
        "The person opted out while the job was waiting."
        "Nothing.";
    TenantUnknown "tenant-unknown" Nobody Server..Server
        "The tenant is not in the registry"
        "The tenant was removed while the job was waiting."
        "Nothing.";
    ClaimLost "claim-lost" Nobody Person..Person
        "The claim on this user expired"
        "The worker was too slow or was stopped."
        "Nothing; the user is synced again.";
    BudgetExhausted "budget-exhausted" Nobody Person..Server
        "The sync was stopped because its time was up"
        "Slow servers or very many changes; completed work is kept."
        "Nothing; the next sync continues.";
    Panic "internal-panic" Operator Person..Ours
        "An internal error occurred in tasksync"
        "A programming error; only this user's sync was stopped."
        "Report the defect with the log lines around it.";
}

/// Returns the catalogue as a Markdown page.
#[must_use]
pub fn markdown() -> String {
    let introduction = "# Errors\n\nGenerated from the code (`tasksync docs errors`); do not edit.\n\nEvery error a person can meet, by its code.\n";
    let sections = Code::ALL.iter().map(|code| {
        format!(
            "\n## {code}\n\n{}.\n\n- Cause: {}\n- Stops: {}\n- Who acts: {}\n- What to do: {}\n",
            code.message(),
            code.cause(),
            code.stops(),
            code.actor().name(),
            code.action()
        )
    });
    std::iter::once(introduction.to_owned()).chain(sections).collect()
}

impl Code {
    /// Returns what a failure with this code stops, in words.
    #[must_use]
    pub fn stops(self) -> String {
        let (narrowest, widest) = (self.narrowest_scope(), self.scope());
        if narrowest == widest {
            widest.name().to_owned()
        } else {
            format!("{}; at most {}", narrowest.name(), widest.name())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_complete() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(!code.message().ends_with('.'), "{code}");
            assert!(
                code.cause().ends_with('.') && code.action().ends_with('.'),
                "{code}"
            );
            assert!(code.narrowest_scope() <= code.scope(), "{code}");
            assert_eq!(serde_json::to_string(code).unwrap(), format!("\"{code}\""));
        }
    }
}
