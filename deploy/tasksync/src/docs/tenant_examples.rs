//! The example files behind the reference of the tenant file.

/// Complete files. Each key occurs in one of them with a value that is not its default.
pub(super) const EXAMPLES: [&str; 6] = [
    r#"
id = "contoso"
display_name = "Contoso Ltd."
enabled = false
time_zone = "Europe/Berlin"

[source]
kind = "sharepoint"
sites = ["https://sharepoint.contoso.example/sites/projects"]
credentials = { kind = "basic", user = 'contoso\svc-tasksync', password = "env:TASKSYNC_SECRET_CONTOSO_SHAREPOINT" }

[mailbox]
kind = "ews"
url = "https://mail.contoso.example/EWS/Exchange.asmx"
credentials = { kind = "basic", user = 'contoso\svc-tasksync', password = "file:contoso-exchange" }
access = "delegate"

[policy]
conflicts = "merge"
mailbox_deletions = "complete"
source_deletions = "ignore"
archived_after = "90d"

[test]
mailbox = "test@contoso.example"
source_login = 'i:0#.w|contoso\test'
"#,
    r#"
id = "contoso"
display_name = "Contoso Ltd."

[source]
kind = "sharepoint"
sites = ["https://contoso.sharepoint.com/sites/projects"]

[source.credentials]
kind = "oauth_certificate"
token_url = "https://login.microsoftonline.com/DIRECTORY-ID/oauth2/v2.0/token"
client_id = "APPLICATION-ID"
scope = "https://contoso.sharepoint.com/.default"
private_key = "file:contoso-key.pem"
certificate = "file:contoso-certificate.pem"

[mailbox]
kind = "ews"
url = "https://outlook.office365.com/EWS/Exchange.asmx"
access = "impersonation"

[mailbox.credentials]
kind = "oauth_certificate"
token_url = "https://login.microsoftonline.com/DIRECTORY-ID/oauth2/v2.0/token"
client_id = "APPLICATION-ID"
scope = "https://outlook.office365.com/.default"
private_key = "file:contoso-key.pem"
certificate = "file:contoso-certificate.pem"
"#,
    r#"
id = "contoso"
display_name = "Contoso Ltd."

[source]
kind = "sharepoint"
sites = ["https://contoso.sharepoint.com/sites/projects"]
credentials = { kind = "oauth_secret", token_url = "https://login.example/token", client_id = "APPLICATION-ID", scope = "https://contoso.sharepoint.com/.default", secret = "env:TASKSYNC_SECRET_CONTOSO_SHAREPOINT" }

[mailbox]
kind = "ews"
url = "https://outlook.office365.com/EWS/Exchange.asmx"
access = "impersonation"

[mailbox.credentials]
kind = "oauth_secret"
token_url = "https://login.microsoftonline.com/DIRECTORY-ID/oauth2/v2.0/token"
client_id = "APPLICATION-ID"
scope = "https://outlook.office365.com/.default"
secret = "env:TASKSYNC_SECRET_CONTOSO_EXCHANGE"
"#,
    r#"
id = "contoso"
display_name = "Contoso Ltd."

[source]
kind = "sharepoint"
sites = ["https://sharepoint.contoso.example/sites/projects"]

[source.credentials]
kind = "kerberos"
user = "svc-tasksync"
password = "file:contoso-sharepoint"
realm = "CORP.CONTOSO.EXAMPLE"
kdc = ["dc1.corp.contoso.example", "dc2.corp.contoso.example"]
service = "HTTP/farm.corp.contoso.example"
channel_binding = "omit"

[mailbox]
kind = "ews"
url = "https://mail.contoso.example/EWS/Exchange.asmx"

[mailbox.credentials]
kind = "ntlm"
user = 'contoso\svc-tasksync'
password = "file:contoso-exchange"
channel_binding = "omit"
"#,
    r#"
id = "contoso"
display_name = "Contoso Ltd."

[source]
kind = "sharepoint"
sites = ["https://sharepoint.contoso.example/sites/projects"]
credentials = { kind = "negotiate", user = 'contoso\svc-tasksync', password = "file:contoso-sharepoint" }

[mailbox]
kind = "ews"
url = "https://mail.contoso.example/EWS/Exchange.asmx"

[mailbox.credentials]
kind = "negotiate"
user = "svc-tasksync"
password = "file:contoso-exchange"
realm = "CORP.CONTOSO.EXAMPLE"
kdc = ["dc1.corp.contoso.example", "dc2.corp.contoso.example"]
service = "HTTP/mail.corp.contoso.example"
ntlm = false
channel_binding = "omit"
"#,
    r#"
id = "contoso"
display_name = "Contoso Ltd."

[source]
kind = "sharepoint"
sites = ["https://sharepoint.contoso.example/sites/projects"]
credentials = { kind = "ntlm", user = 'contoso\svc-tasksync', password = "file:contoso-sharepoint" }

[mailbox]
kind = "ews"
url = "https://mail.contoso.example/EWS/Exchange.asmx"

[mailbox.credentials]
kind = "kerberos"
user = "svc-tasksync"
password = "file:contoso-exchange"
realm = "CORP.CONTOSO.EXAMPLE"
kdc = ["dc1.corp.contoso.example"]
"#,
];
