//! The checks of a tenant.

use super::Definition;

definitions! {
    TENANT_ENABLED "tenant-enabled" "every tenant"
        "The tenant is enabled"
        "Enable it with `tasksync tenant enable TENANT`.";
    TENANT_ANSWERS "tenant-answers" "every tenant"
        "The tenant's servers answer in time"
        "Check the tenant's addresses, and the network path to its servers.";
    SITES "source-sites" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "Every site answers and accepts the service account"
        "Correct the site addresses or the credentials of the tenant.";
    SITES_EDIT "source-edit" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "The service account may edit tasks on every site"
        "Give the service account Contribute on the named sites, so that changes made in Outlook reach SharePoint.";
    SITES_LISTS "source-lists" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "The sites have task lists"
        "Name sites with task lists (templates 107, 150, 171), or give the service account access to the lists.";
    PEOPLE "people-known" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "SharePoint knows the people of the sample"
        "If a person was opted in just now, the first sync makes the site know the person. Otherwise correct the sign-in names with `tasksync user opt-in`, or give these people access to the sites.";
    MAILBOX "mailbox-server" "Exchange Server 2013 SP1 to Subscription Edition, Exchange Online with EWS"
        "Exchange answers, accepts the service account, and opens the mailboxes of the sample"
        "Correct the EWS address or the credentials of the tenant, or the mailbox address of the user.";
    MAILBOX_ACCESS "mailbox-access" "Exchange Server 2013 SP1 to Subscription Edition, Exchange Online with EWS"
        "All mailboxes of the sample are opened in the same way, the cheap one"
        "Grant the service account FullAccess to the mailboxes, so that one request can cover many of them.";
    IDLE_CHECK "mailbox-idle-check" "Exchange Server 2013 SP1 to Subscription Edition, Exchange Online with EWS"
        "The cheap check for changes works in the mailboxes of the sample"
        "Nothing needs to be done; syncs of these mailboxes cost more requests.";
    MAILBOX_KIND "mailbox-kind" "Exchange Server 2013 SP1 to Subscription Edition, Exchange Online with EWS"
        "The addresses of the sample are those of mailboxes"
        "Correct the mailbox addresses with `tasksync user opt-in`: distribution lists, contacts and public folders have no tasks of a person.";
    TENANT_CLOCK "tenant-clock" "every tenant"
        "The clocks of the tenant's servers agree with this machine's"
        "Set the clocks of the named servers, or this machine's, by NTP. The latest edit wins a conflict, so clocks decide.";
    TENANT_PAUSES "tenant-pauses" "every tenant"
        "No server of the tenant is paused"
        "Nothing needs to be done: a pause ends by itself. If a server asked for it by mistake, `tasksync tenant end-pauses TENANT` ends it at once.";
    TENANT_USERS "tenant-users" "every tenant"
        "At least one user is opted in, and none is disabled"
        "`tasksync user list TENANT` and `tasksync user status TENANT USER` show the reasons. Opting in again enables a user.";
    TENANT_ALERTS "tenant-alerts" "every tenant"
        "No alert of the tenant is open"
        "Read `tasksync alerts --tenant TENANT`; each alert says what to do.";
    TLS_USED "tls-used" "every tenant"
        "Every connection to the tenant's servers is encrypted"
        "Write https:// into the tenant's addresses, and give the server a certificate if it has none.";
    TLS_TRUSTED "tls-trusted" "every tenant"
        "The certificates of the tenant's servers come from a trusted authority"
        "Add the authority's certificate to the file of `outbound.authorities`, or have the server's certificate issued by a public authority, with the whole chain installed.";
    TLS_NAME "tls-name" "every tenant"
        "The certificates of the tenant's servers are for the names in the tenant's addresses"
        "Write a name from the certificate into the tenant's address, or have a certificate issued for this name.";
    TLS_EXPIRY "tls-expiry" "every tenant"
        "The certificates of the tenant's servers are valid for 30 days and longer"
        "Renew the certificates of the named servers. If one is said to be not valid yet, compare the clocks of both machines.";
    SOURCE_SIGN_IN "source-sign-in" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "SharePoint offers a sign-in scheme that the tenant's credentials can use"
        "Use credentials of a kind that the server offers (docs/connect.md), or switch the scheme on at the server.";
    MAILBOX_SIGN_IN "mailbox-sign-in" "Exchange Server 2013 SP1 to Subscription Edition, Exchange Online with EWS"
        "Exchange offers a sign-in scheme that the tenant's credentials can use"
        "Use credentials of a kind that the server offers (docs/connect.md), or switch the scheme on for the EWS virtual directory.";
    SOURCE_VERSION "source-version" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "SharePoint has a version that tasksync works with and that Microsoft maintains"
        "Update SharePoint. Below 2013 tasksync does not work with it; a version out of maintenance gets no security updates.";
    MAILBOX_VERSION "mailbox-version" "Exchange Server 2013 SP1 to Subscription Edition, Exchange Online with EWS"
        "Exchange has a version that tasksync works with and that Microsoft maintains"
        "Update Exchange. Before 2013 SP1 tasksync does not work with it; a version out of maintenance gets no security updates.";
    EXCHANGE_ONLINE "exchange-online-ews" "Exchange Online"
        "Exchange Online allows web services for this application"
        "If EWS is blocked, an administrator runs `Set-OrganizationConfig -EwsEnabled $true -EwsAllowedAppIDs \"APPLICATION-ID\"` (the whole list each time; it takes up to 24 hours). EWS in Exchange Online ends on 1 April 2027: plan the move of these mailboxes before that day.";
    TOPOLOGY "tenant-topology" "every tenant"
        "It is known where both ends of the tenant are"
        "Correct the findings about the tenant's servers; where they run is known once both answer.";
    SECRETS "tenant-secrets" "every tenant"
        "The tenant's secrets can be read"
        "Provide each secret under the name that the explanation shows (docs/connect.md).";
    CLIENT_CERTIFICATE "tenant-client-certificate" "tenants that sign in with a certificate"
        "The certificates with which tasksync signs in are valid for 30 days and longer"
        "Make a new certificate, register it with the application, and replace the files of key and certificate (docs/connect.md).";
    SOURCE_DELETE "source-delete" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "The service account may delete tasks, as the tenant's policy asks"
        "Give the service account Delete Items on the named sites, or set `mailbox_deletions` below [policy] in the tenant's file to `complete` or `ignore`.";
    SOURCE_PEOPLE_RIGHTS "source-enumerate" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "The service account may ask what people may see"
        "Give the service account Enumerate Permissions on the named sites (docs/connect.md). Without it a site may refuse the question, and no tasks are found there.";
    SOURCE_TOO_MUCH "source-rights-not-needed" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "The service account has no more rights than it needs"
        "Replace the account's permission level by one with Contribute and Enumerate Permissions (docs/connect.md), unless a site refused that. Remove it from the site collection's administrators.";
    SOURCE_DISCOVERY "source-discovery" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "The search for task lists sees everything"
        "Give the service account access to what was left out, or name fewer and smaller sites. Tasks in it stay as they are until it can be read.";
    SOURCE_LARGE_LISTS "source-large-lists" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "No task list is larger than SharePoint's list view threshold"
        "Index the column Assigned To of the named lists, or move old tasks into another list. tasksync reads such lists page by page; a query that SharePoint refuses stops that list alone.";
    SOURCE_APPROVAL "source-approval" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "Edits from the mailbox need no approval in the lists"
        "Switch content approval off in the versioning settings of the named lists, or tell people that edits made in Outlook wait for approval.";
    SOURCE_ZONE "source-time-zone" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "The time zone of every site is known"
        "Correct the regional settings of the named webs. Until then their dates are neither read nor written.";
    ZONES_AGREE "tenant-time-zones" "every tenant"
        "The tenant's time zone is that of its sites"
        "Correct `time_zone` in the tenant's file or the regional settings of the site, unless people really work in another zone. People with a zone of their own are not affected.";
    LOGINS_FOUND "people-found" "every tenant"
        "SharePoint knows all people who opted in"
        "Correct the sign-in names with `tasksync user opt-in`, give these people access to the sites, or opt them out.";
    MAILBOXES_FOUND "mailboxes-found" "every tenant"
        "The mailboxes of all people who opted in are found and can be opened"
        "Correct the mailbox addresses with `tasksync user opt-in`, grant access to these mailboxes, or opt the people out.";
    THROTTLED "tenant-throttled" "every tenant"
        "No server of the tenant asked for a pause within the last day"
        "If it happens often, lower `outbound.requests_per_server`, or ask the server's administrator for a throttling policy of the service account.";
    SHARED_ACCOUNT "tenant-shared-account" "installations with several tenants"
        "No other tenant uses the same server with the same account"
        "Give each tenant a service account of its own: on a shared one, a pause or a locked account stops all of them.";
}
