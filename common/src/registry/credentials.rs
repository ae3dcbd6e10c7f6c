//! The credentials with which tasksync signs in to a tenant's servers. They name secrets and never contain them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::tenant::SecretRef;
use crate::model::stored_as_text;

/// Port of a Kerberos key distribution centre (RFC 4120, section 7.2.3).
pub const KDC_PORT: u16 = 88;

/// Key distribution centres that a realm may have here.
const MAXIMUM_KDCS: usize = 10;

/// The credentials with which tasksync signs in to a server.
///
/// Earlier builds refuse a tenant whose `kind` is `ntlm`, `kerberos` or `negotiate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Credentials {
    /// HTTP Basic over TLS (Exchange Server and SharePoint Server only).
    Basic {
        /// Account, for example `contoso\svc-tasksync` or `svc-tasksync@contoso.example`.
        user: String,
        /// Its password.
        password: SecretRef,
    },
    /// OAuth 2.0 client credentials with a shared secret.
    OauthSecret {
        /// Token endpoint.
        token_url: Url,
        /// Application (client) id.
        client_id: String,
        /// Scope, for example `https://outlook.office365.com/.default`.
        scope: String,
        /// The client secret.
        secret: SecretRef,
    },
    /// OAuth 2.0 client credentials with a certificate (a signed JWT assertion, PS256).
    OauthCertificate {
        /// Token endpoint.
        token_url: Url,
        /// Application (client) id.
        client_id: String,
        /// Scope, for example `https://contoso.sharepoint.com/.default`.
        scope: String,
        /// The private key in PEM (PKCS #8).
        private_key: SecretRef,
        /// The certificate in PEM. It is public, but found in the same way.
        certificate: SecretRef,
    },
    /// NTLM version 2 (Exchange Server and SharePoint Server that offer `NTLM`).
    Ntlm {
        /// Account, for example `contoso\svc-tasksync` or `svc-tasksync@contoso.example`.
        user: String,
        /// Its password.
        password: SecretRef,
        /// Whether the sign-in is bound to the server's TLS certificate.
        #[serde(default)]
        channel_binding: ChannelBinding,
    },
    /// Kerberos (Exchange Server and SharePoint Server that offer `Negotiate`). The ticket is sent as it is, without
    /// SPNEGO around it.
    Kerberos {
        /// Name of the account in the realm, without a domain, for example `svc-tasksync`.
        user: String,
        /// Its password.
        password: SecretRef,
        /// The account's realm: the DNS name of its Active Directory domain, for example `CORP.CONTOSO.EXAMPLE`.
        realm: String,
        /// The realm's key distribution centres (domain controllers), `HOST` or `HOST:PORT`, at most 10. They are
        /// asked over TCP, the next one if one does not answer.
        kdc: Vec<KdcAddress>,
        /// The server's service principal name, if it is not `HTTP/` and the host of its address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// Whether the sign-in is bound to the server's TLS certificate.
        #[serde(default)]
        channel_binding: ChannelBinding,
    },
    /// SPNEGO (servers that offer `Negotiate`): Kerberos if `realm` and `kdc` are given, else NTLM inside SPNEGO.
    Negotiate {
        /// With a realm, the name of the account in it, for example `svc-tasksync`; without one, an account as for
        /// `ntlm`.
        user: String,
        /// Its password.
        password: SecretRef,
        /// The account's realm: the DNS name of its Active Directory domain, for example `CORP.CONTOSO.EXAMPLE`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        realm: Option<String>,
        /// The realm's key distribution centres (domain controllers), `HOST` or `HOST:PORT`, at most 10. They are
        /// asked over TCP, the next one if one does not answer.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kdc: Vec<KdcAddress>,
        /// The server's service principal name, if it is not `HTTP/` and the host of its address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// Whether NTLM may be used inside SPNEGO: without a realm; and with one, if no key distribution centre
        /// answers or knows the server, if the clocks differ too much, or if the server chooses NTLM.
        #[serde(default = "yes")]
        ntlm: bool,
        /// Whether the sign-in is bound to the server's TLS certificate.
        #[serde(default)]
        channel_binding: ChannelBinding,
    },
}

/// Whether a sign-in is bound to the server's TLS certificate (`tls-server-end-point`, RFC 5929). Windows calls the
/// server's side of it Extended Protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelBinding {
    /// Bound. A sign-in through a proxy that has its own certificate fails, as Extended Protection intends.
    #[default]
    Send,
    /// Not bound, for servers behind such a proxy. Servers that require Extended Protection refuse it.
    Omit,
}

impl Credentials {
    /// Returns the names of the secrets, each with its key in the tenant's document.
    #[must_use]
    pub fn secrets(&self) -> Vec<(&'static str, &SecretRef)> {
        match self {
            Self::Basic { password, .. }
            | Self::Ntlm { password, .. }
            | Self::Kerberos { password, .. }
            | Self::Negotiate { password, .. } => vec![("password", password)],
            Self::OauthSecret { secret, .. } => vec![("secret", secret)],
            Self::OauthCertificate {
                private_key,
                certificate,
                ..
            } => vec![("private_key", private_key), ("certificate", certificate)],
        }
    }

    /// Returns the account that signs in with a password; `None` for an application.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Basic { user, .. }
            | Self::Ntlm { user, .. }
            | Self::Kerberos { user, .. }
            | Self::Negotiate { user, .. } => Some(user),
            Self::OauthSecret { .. } | Self::OauthCertificate { .. } => None,
        }
    }

    /// Returns the token endpoint, if the credentials need one.
    #[must_use]
    pub fn token_url(&self) -> Option<&Url> {
        match self {
            Self::OauthSecret { token_url, .. } | Self::OauthCertificate { token_url, .. } => Some(token_url),
            Self::Basic { .. } | Self::Ntlm { .. } | Self::Kerberos { .. } | Self::Negotiate { .. } => None,
        }
    }

    /// Returns the HTTP authentication scheme that the credentials use.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Basic { .. } => "Basic",
            Self::OauthSecret { .. } | Self::OauthCertificate { .. } => "Bearer",
            Self::Ntlm { .. } => "NTLM",
            Self::Kerberos { .. } | Self::Negotiate { .. } => "Negotiate",
        }
    }

    /// Checks what the types of the values do not: which keys belong together.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub fn check(&self) -> Result<(), CredentialsError> {
        match self {
            Self::Basic { .. } | Self::OauthSecret { .. } | Self::OauthCertificate { .. } => Ok(()),
            Self::Kerberos {
                user,
                realm,
                kdc,
                service,
                ..
            }
            | Self::Negotiate {
                user,
                realm: Some(realm),
                kdc,
                service,
                ..
            } => check_realm(user, realm, kdc).and_then(|()| check_service(service.as_deref())),
            Self::Negotiate {
                realm: None,
                kdc,
                service,
                ..
            } if !kdc.is_empty() || service.is_some() => {
                Err(CredentialsError("realm: is needed with kdc and service"))
            }
            Self::Negotiate { ntlm: false, .. } => Err(CredentialsError(
                "ntlm: is false, and without realm and kdc nothing else can be used",
            )),
            Self::Ntlm { user, .. } | Self::Negotiate { user, .. } => check_account(user),
        }
    }
}

/// Keys of credentials that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CredentialsError(&'static str);

fn check_account(user: &str) -> Result<(), CredentialsError> {
    let parts: Vec<&str> = user.split(['\\', '@']).collect();
    if parts.len() > 2 || parts.iter().any(|part| part.is_empty()) || user.contains(char::is_control) {
        return Err(CredentialsError("user: write DOMAIN\\name or name@domain"));
    }
    Ok(())
}

fn check_realm(user: &str, realm: &str, kdc: &[KdcAddress]) -> Result<(), CredentialsError> {
    let is_plain = |letter: char| letter.is_ascii_graphic() && !matches!(letter, '\\' | '@' | '/');
    if user.is_empty() || !user.chars().all(is_plain) {
        return Err(CredentialsError(
            "user: write the account's name in the realm alone, without a domain, in ASCII without blanks",
        ));
    }
    let is_label = |label: &str| !label.is_empty() && label.chars().all(is_of_host_name);
    if realm.len() > 255 || !realm.split('.').all(is_label) {
        return Err(CredentialsError(
            "realm: is not the DNS name of a domain, for example CORP.CONTOSO.EXAMPLE",
        ));
    }
    if !(1..=MAXIMUM_KDCS).contains(&kdc.len()) {
        return Err(CredentialsError(
            "kdc: names none or more than 10; 1 to 10 are allowed",
        ));
    }
    Ok(())
}

fn check_service(service: Option<&str>) -> Result<(), CredentialsError> {
    let is_name = |name: &str| {
        let parts = name.split_once('/');
        parts.is_some_and(|(class, host)| {
            !host.is_empty()
                && class.chars().all(|letter| letter.is_ascii_alphanumeric())
                && !class.is_empty()
        }) && name
            .chars()
            .all(|letter| letter.is_ascii_graphic() && !matches!(letter, '@' | '\\'))
    };
    match service {
        Some(name) if !is_name(name) => Err(CredentialsError(
            "service: is not a service principal name, for example HTTP/mail.contoso.example",
        )),
        Some(_) | None => Ok(()),
    }
}

fn is_of_host_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_')
}

/// The address of a key distribution centre: a host name or IP address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KdcAddress {
    /// Host name or IP address; an IPv6 address is without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Why a text is not the address of a key distribution centre.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the text is not the address of a key distribution centre: write HOST or HOST:PORT")]
pub struct KdcAddressError;

impl FromStr for KdcAddress {
    type Err = KdcAddressError;
    fn from_str(text: &str) -> Result<Self, KdcAddressError> {
        // The parser of URLs knows host names, IPv4, IPv6 and ports.
        let url = Url::parse(&format!("kdc://{text}")).map_err(|_| KdcAddressError)?;
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.path().is_empty()
            && url.query().is_none()
            && url.fragment().is_none();
        let host = match url.host() {
            Some(Host::Domain(name)) if name.chars().all(is_of_host_name) => name.to_ascii_lowercase(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(Host::Domain(_)) | None => return Err(KdcAddressError),
        };
        if !is_plain || host.is_empty() || url.port() == Some(0) {
            return Err(KdcAddressError);
        }
        Ok(Self {
            host,
            port: url.port().unwrap_or(KDC_PORT),
        })
    }
}

stored_as_text!(KdcAddress, KdcAddressError);

impl fmt::Display for KdcAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]", self.host)?;
        } else {
            formatter.write_str(&self.host)?;
        }
        if self.port == KDC_PORT {
            Ok(())
        } else {
            write!(formatter, ":{}", self.port)
        }
    }
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_kdcs_are_host_and_port_and_nothing_else() {
        for (text, host, port, shown) in [
            ("dc1.corp.example", "dc1.corp.example", 88, "dc1.corp.example"),
            ("DC1:8800", "dc1", 8800, "dc1:8800"),
            ("10.0.0.5:88", "10.0.0.5", 88, "10.0.0.5"),
            ("[fd00::5]:750", "fd00::5", 750, "[fd00::5]:750"),
        ] {
            let address: KdcAddress = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port), "{text}");
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse::<KdcAddress>().unwrap(), address);
        }
        for wrong in [
            "",
            "tcp://dc1",
            "dc1/x",
            "dc1:0",
            "dc1:99999",
            "a@dc1",
            "dc 1",
            "dc1?x",
        ] {
            assert_eq!(wrong.parse::<KdcAddress>(), Err(KdcAddressError), "{wrong}");
        }
    }

    fn check(text: &str) -> Result<(), String> {
        let credentials: Credentials = toml::from_str(text).map_err(|error| error.to_string())?;
        credentials.check().map_err(|error| error.to_string())
    }

    #[test]
    fn keys_that_do_not_fit_together_are_named() {
        let kerberos = "kind = \"kerberos\"\nuser = \"svc\"\npassword = \"env:P\"\nrealm = \"CORP.TEST\"\nkdc = [\"dc1\"]";
        let negotiate = "kind = \"negotiate\"\nuser = \"svc\"\npassword = \"env:P\"\n";
        assert_eq!(check(kerberos), Ok(()));
        assert_eq!(check(negotiate), Ok(()));
        assert_eq!(
            check(&format!("{negotiate}realm = \"CORP.TEST\"\nkdc = [\"dc1\"]")),
            Ok(())
        );
        for (text, key) in [
            (kerberos.replace("[\"dc1\"]", "[]"), "kdc:"),
            (kerberos.replace("\"svc\"", "\"svc@corp.test\""), "user:"),
            (kerberos.replace("CORP.TEST", "CORP TEST"), "realm:"),
            (format!("{kerberos}\nservice = \"mail.example\""), "service:"),
            (
                format!("{kerberos}\nservice = \"HTTP/mail@CORP.TEST\""),
                "service:",
            ),
            (format!("{negotiate}kdc = [\"dc1\"]"), "realm:"),
            (format!("{negotiate}service = \"HTTP/mail\""), "realm:"),
            (kerberos.replace("\"svc\"", "\"sv\u{e7}\""), "user:"),
            (kerberos.replace("CORP.TEST", "."), "realm:"),
            (negotiate.replace("\"svc\"", "'corp\\'"), "user:"),
            (format!("{negotiate}ntlm = false"), "ntlm:"),
            (format!("{negotiate}realm = \"CORP.TEST\""), "kdc:"),
            (
                "kind = \"ntlm\"\nuser = 'corp\\svc@corp'\npassword = \"env:P\"".to_owned(),
                "user:",
            ),
        ] {
            let refused = check(&text).unwrap_err();
            assert!(refused.starts_with(key), "{text}: {refused}");
        }
    }
}
