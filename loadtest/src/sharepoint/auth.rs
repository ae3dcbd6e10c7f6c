//! Identifies the caller: Basic accounts, bearer tokens, and the form digest that protects writes without a bearer
//! token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use jiff::Timestamp;
use ring::hmac;

use super::SharePoint;
use super::errors::SpError;
use super::model::{APP_USER_ID, Site, User};

/// A caller whose credentials were accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallerIdentity {
    /// An account with a password.
    Account(String),
    /// An app with a bearer token.
    App(String),
}

impl CallerIdentity {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Account(name) | Self::App(name) => name,
        }
    }
}

/// A caller on one site.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) user: i32,
    /// Whether it is a service account or app with full control, as opposed to a person.
    pub(crate) full: bool,
}

/// A refusal of the credentials.
pub(crate) struct AuthRefusal {
    /// Values of `WWW-Authenticate`.
    pub(crate) challenges: Vec<String>,
    pub(crate) diagnostics: Option<&'static str>,
}

impl SharePoint {
    /// Checks the `Authorization` header. Returns the identity of the caller.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<CallerIdentity, AuthRefusal> {
        if let Some(challenges) = self.schemes.only() {
            return Err(AuthRefusal {
                challenges,
                diagnostics: None,
            });
        }
        let mut diagnostics = None;
        let header = headers
            .get(hyper::header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        match header
            .split_once(' ')
            .map(|(scheme, value)| (scheme.to_ascii_lowercase(), value.trim()))
        {
            Some((scheme, value)) if scheme == "basic" => {
                let decoded = STANDARD
                    .decode(value)
                    .ok()
                    .and_then(|bytes| String::from_utf8(bytes).ok());
                if let Some((user, password)) = decoded.as_deref().and_then(|text| text.split_once(':'))
                    && self.password_fits(user, password)
                {
                    return Ok(CallerIdentity::Account(user.to_owned()));
                }
            }
            Some((scheme, token)) if scheme == "bearer" => {
                if let Some(app) = self.token_owner(token) {
                    return Ok(CallerIdentity::App(app));
                }
                diagnostics = Some(
                    "3000006;reason=\"Token contains invalid signature or is no longer valid.\";\
                     category=\"invalid_client\"",
                );
            }
            _ => {}
        }
        let mut challenges = Vec::new();
        if self.takes_tokens() {
            challenges.push(
                "Bearer realm=\"00000000-0000-4000-8000-000000000011\",\
                 client_id=\"00000003-0000-0ff1-ce00-000000000000\",trusted_issuers=\"*\""
                    .to_owned(),
            );
        }
        if self.has_accounts() {
            challenges.push("Basic realm=\"SharePoint\"".to_owned());
        }
        Err(AuthRefusal {
            challenges,
            diagnostics,
        })
    }

    /// Returns a form digest for a caller, in the form `0x<mac>,<time>`.
    pub(crate) fn digest(&self, caller: &str, now: Timestamp) -> String {
        let time = now.strftime("%d %b %Y %H:%M:%S -0000").to_string();
        format!("0x{},{time}", self.digest_mac(caller, &time))
    }

    /// Checks the digest that a write sent.
    pub(crate) fn check_digest(
        &self,
        digest: Option<&str>,
        caller: &str,
        now: Timestamp,
    ) -> Result<(), SpError> {
        let (mac, time) = digest
            .and_then(|text| text.split_once(','))
            .ok_or_else(SpError::digest_missing)?;
        if mac.strip_prefix("0x") != Some(self.digest_mac(caller, time).as_str()) {
            return Err(SpError::digest_missing());
        }
        let issued = jiff::fmt::strtime::parse("%d %b %Y %H:%M:%S %z", time)
            .and_then(|parsed| parsed.to_timestamp())
            .map_err(|_| SpError::digest_missing())?;
        let age = now.duration_since(issued);
        if age > self.settings.digest_lifetime {
            Err(SpError::digest_expired())
        } else {
            Ok(())
        }
    }

    fn digest_mac(&self, caller: &str, time: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.settings.seed.to_be_bytes());
        let tag = hmac::sign(&key, format!("{}\n{time}", caller.to_lowercase()).as_bytes());
        let digits = tag.as_ref().iter().map(|byte| format!("{byte:02X}"));
        digits.collect::<Vec<_>>().concat()
    }
}

impl Site {
    /// Returns the role of a caller on this site. An account with the login of one of the site's people acts as that
    /// person. Any other account, and every app, has full control.
    pub(crate) fn caller(&mut self, identity: &CallerIdentity) -> Result<Caller, SpError> {
        if self.refused.contains(&identity.name().to_lowercase()) {
            return Err(SpError::access_denied());
        }
        match identity {
            CallerIdentity::App(_) => {
                self.users.entry(APP_USER_ID).or_insert_with(|| User {
                    id: APP_USER_ID,
                    login: "i:0i.t|00000003-0000-0ff1-ce00-000000000000|app@sharepoint".to_owned(),
                    title: "SharePoint App".to_owned(),
                    email: String::new(),
                });
                Ok(Caller {
                    user: APP_USER_ID,
                    full: true,
                })
            }
            CallerIdentity::Account(name) => {
                let service_login = format!("i:0#.s|{name}");
                match self.find_user(name).filter(|user| user.login != service_login) {
                    Some(user) => Ok(Caller {
                        user: user.id,
                        full: false,
                    }),
                    None => Ok(Caller {
                        user: self.add_user(&service_login, name, ""),
                        full: true,
                    }),
                }
            }
        }
    }
}
