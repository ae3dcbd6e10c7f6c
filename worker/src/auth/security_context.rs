//! The tokens of NTLM, Kerberos and SPNEGO. The protocols are those of the `sspi` crate; this module chooses among
//! them, and gives the crate a way to the key distribution centres that obeys the operator's rules for addresses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use secrecy::{ExposeSecret as _, SecretString};
use sspi::ntlm::NtlmConfig;
use sspi::{
    AuthIdentity, BufferType, ClientRequestFlags, CredentialUse, DataRepresentation, Kerberos,
    KerberosConfig, Negotiate, NegotiateConfig, Ntlm, SecurityBuffer, SecurityStatus, Sspi, SspiImpl,
    Username,
};
use tasksync_common::registry::{ChannelBinding, Credentials, KdcAddress};
use tasksync_common::x509::{BindingHash, binding_hash};
use tokio::sync::Semaphore;

use super::connection::ContextError;
use super::kdc::{KdcClient, home_url};
use super::kerberos_binding;
use crate::http::{Http, SignInToken, for_message};

/// The name under which tasksync signs in as a computer. Servers write it into their logs.
const COMPUTER: &str = "TASKSYNC";

/// How every NTLM message begins ([MS-NLMP] 2.2.1).
const NTLM_MESSAGE: &[u8] = b"NTLMSSP\0";

/// How an NTLM message begins that asks for a challenge and proves nothing ([MS-NLMP] 2.2.1.1).
const NTLM_NEGOTIATE_MESSAGE: &[u8] = b"NTLMSSP\0\x01\0\0\0";

/// What the library says when a key distribution centre refuses the account or its password.
const ABOUT_THE_ACCOUNT: &[&str] = &[
    "pre-authentication information was invalid",
    "client not found in Kerberos database",
    "credentials have been revoked",
    "password has expired",
    "client's entry in database has expired",
];

/// Characters of the library's reasons that are shown.
const REASON_SHOWN: usize = 160;

/// The client's side of one sign-in.
pub(super) struct SecurityContext {
    places: Arc<Semaphore>,
    /// Set when the sign-in is given up, so that a running step asks no further key distribution centre.
    given_up: Arc<AtomicBool>,
    /// Absent while a step runs, and after a step that was given up.
    parts: Option<Box<ContextParts>>,
}

/// Everything that a step needs on the thread where it runs.
struct ContextParts {
    protocol: Protocol,
    target: String,
    binding: ChannelBinding,
    kdc: KdcClient,
    /// Whether the last token was NTLM's.
    ntlm: bool,
}

enum Protocol {
    Ntlm(Box<Ntlm>, <Ntlm as SspiImpl>::CredentialsHandle),
    Kerberos(Box<Kerberos>, <Kerberos as SspiImpl>::CredentialsHandle),
    Negotiate(Box<Negotiate>, <Negotiate as SspiImpl>::CredentialsHandle),
}

/// The protocol that credentials choose.
enum Kind {
    Ntlm,
    Kerberos,
    /// SPNEGO, which may hold NTLM if `ntlm` is true.
    Negotiate {
        ntlm: bool,
    },
}

/// What credentials say about a sign-in.
struct Choice<'c> {
    kind: Kind,
    user: &'c str,
    realm: Option<&'c str>,
    kdc: &'c [KdcAddress],
    service: Option<&'c str>,
    binding: ChannelBinding,
}

impl SecurityContext {
    /// Returns the beginning of a sign-in at `host`. `first_kdc` is the position of the key distribution centre that is
    /// asked first, and becomes that of the one that answered.
    ///
    /// # Errors
    /// `Credentials`.
    pub(super) fn new(
        credentials: &Credentials,
        host: &str,
        password: &SecretString,
        http: Http,
        first_kdc: Arc<AtomicUsize>,
        places: Arc<Semaphore>,
    ) -> Result<Self, ContextError> {
        let given_up = Arc::new(AtomicBool::new(false));
        let choice = choice(credentials)?;
        let identity = AuthIdentity {
            username: username(&choice)?,
            password: password.expose_secret().to_owned().into(),
        };
        let config = kerberos_config(&choice);
        let protocol = match choice.kind {
            Kind::Ntlm => {
                let mut ntlm = Ntlm::with_config(NtlmConfig::new(COMPUTER.to_owned()));
                let handle = acquire(&mut ntlm, &identity)?;
                Protocol::Ntlm(Box::new(ntlm), handle)
            }
            Kind::Kerberos => {
                let mut kerberos = Kerberos::new_client_from_config(config).map_err(credentials_error)?;
                let handle = acquire(&mut kerberos, &sspi::Credentials::AuthIdentity(identity))?;
                Protocol::Kerberos(Box::new(kerberos), handle)
            }
            Kind::Negotiate { ntlm } => {
                let (packages, inner): (_, Box<dyn sspi::negotiate::ProtocolConfig>) =
                    match (choice.realm.is_some(), ntlm) {
                        (true, true) => ("kerberos,ntlm", Box::new(config)),
                        (true, false) => ("kerberos,!ntlm", Box::new(config)),
                        (false, _) => ("!kerberos,ntlm", Box::new(NtlmConfig::new(COMPUTER.to_owned()))),
                    };
                let config = NegotiateConfig::new(inner, Some(packages.to_owned()), COMPUTER.to_owned());
                let mut negotiate = Negotiate::new_client(config).map_err(credentials_error)?;
                let handle = acquire(&mut negotiate, &sspi::Credentials::AuthIdentity(identity))?;
                Protocol::Negotiate(Box::new(negotiate), handle)
            }
        };
        Ok(Self {
            places,
            given_up: Arc::clone(&given_up),
            parts: Some(Box::new(ContextParts {
                protocol,
                target: choice
                    .service
                    .map_or_else(|| format!("HTTP/{host}"), str::to_owned),
                binding: choice.binding,
                ntlm: false,
                kdc: KdcClient::new(http, choice.kdc, first_kdc, given_up),
            })),
        })
    }

    /// Returns the next token. It is made on a thread of its own: the key of a Kerberos password takes milliseconds.
    ///
    /// # Errors
    /// Any but `NotBuilt`.
    pub(super) async fn step(
        &mut self,
        given: Option<String>,
        certificate: Option<Vec<u8>>,
    ) -> Result<SignInToken, ContextError> {
        let lost = || ContextError::Token("an earlier step was interrupted".to_owned());
        let mut parts = self.parts.take().ok_or_else(lost)?;
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| lost())?;
        let stepped = tokio::task::spawn_blocking(move || {
            let _place = place;
            let result = parts.step(given.as_deref(), certificate.as_deref());
            (parts, result)
        });
        let panicked = |_| ContextError::Token("the step panicked".to_owned());
        let (parts, result) = stepped.await.map_err(panicked)?;
        self.parts = Some(parts);
        result
    }

    /// Returns whether the last token was NTLM's, alone or inside SPNEGO.
    pub(super) fn uses_ntlm(&self) -> bool {
        self.parts.as_ref().is_some_and(|parts| parts.ntlm)
    }
}

impl Drop for SecurityContext {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

impl ContextParts {
    fn step(&mut self, given: Option<&str>, certificate: Option<&[u8]>) -> Result<SignInToken, ContextError> {
        let given = match given {
            None => Vec::new(),
            Some(text) => STANDARD
                .decode(text)
                .map_err(|_| ContextError::Token("it is not base64".to_owned()))?,
        };
        let mut input = vec![SecurityBuffer::new(given, BufferType::Token)];
        let certificate = certificate.filter(|_| self.binding == ChannelBinding::Send);
        if let Some(certificate) = certificate {
            let bindings = channel_bindings(certificate).map_err(ContextError::Token)?;
            input.push(SecurityBuffer::new(bindings, BufferType::ChannelBindings));
        }
        let kdc = &self.kdc;
        kdc.begin_step();
        let result = match &mut self.protocol {
            Protocol::Ntlm(ntlm, handle) => advance(&mut **ntlm, handle, &self.target, &mut input, kdc),
            Protocol::Kerberos(kerberos, handle) => {
                advance(&mut **kerberos, handle, &self.target, &mut input, kdc)
            }
            Protocol::Negotiate(negotiate, handle) => {
                advance(&mut **negotiate, handle, &self.target, &mut input, kdc)
            }
        };
        let mut token = result.map_err(|error| self.error(&error))?;
        if certificate.is_some() && kerberos_binding::is_request(&token) {
            let key = self.session_key().map_err(|error| self.error(&error))?;
            token = kerberos_binding::announced(&token, key.as_ref())
                .map_err(|error| ContextError::Token(for_message(&error, REASON_SHOWN)))?;
        }
        self.ntlm = contains(&token, NTLM_MESSAGE);
        Ok(SignInToken {
            may_complete: !contains(&token, NTLM_NEGOTIATE_MESSAGE),
            value: STANDARD.encode(token),
        })
    }

    /// Returns the key that tasksync and the server share by their ticket.
    fn session_key(&self) -> sspi::Result<sspi::Secret<Vec<u8>>> {
        let keys = match &self.protocol {
            Protocol::Ntlm(ntlm, _) => ntlm.query_context_session_key(),
            Protocol::Kerberos(kerberos, _) => kerberos.query_context_session_key(),
            Protocol::Negotiate(negotiate, _) => negotiate.query_context_session_key(),
        };
        keys.map(|keys| keys.session_key)
    }

    /// Returns the meaning of the library's error.
    fn error(&self, error: &sspi::Error) -> ContextError {
        let reason = for_message(&error.description, REASON_SHOWN);
        match self.kdc.outcome() {
            (_, Some(failure)) => ContextError::KdcUnreachable(failure),
            (true, None) => ContextError::KdcRefused {
                account: ABOUT_THE_ACCOUNT.iter().any(|about| reason.contains(about)),
                reason,
            },
            (false, None) => ContextError::Token(reason),
        }
    }
}

/// Makes the next token of a protocol.
fn advance<P: Sspi + SspiImpl>(
    protocol: &mut P,
    handle: &mut P::CredentialsHandle,
    target: &str,
    input: &mut [SecurityBuffer],
    kdc: &KdcClient,
) -> sspi::Result<Vec<u8>> {
    let mut output = vec![SecurityBuffer::new(Vec::new(), BufferType::Token)];
    let status = {
        let mut builder = protocol
            .initialize_security_context()
            .with_credentials_handle(handle)
            .with_context_requirements(ClientRequestFlags::INTEGRITY)
            .with_target_data_representation(DataRepresentation::Native)
            .with_target_name(target)
            .with_input(input)
            .with_output(&mut output);
        protocol
            .initialize_security_context_impl(&mut builder)?
            .resolve_with_client(kdc)?
            .status
    };
    if matches!(
        status,
        SecurityStatus::CompleteNeeded | SecurityStatus::CompleteAndContinue
    ) {
        protocol.complete_auth_token(&mut output)?;
    }
    Ok(output
        .into_iter()
        .next()
        .map(|buffer| buffer.buffer)
        .unwrap_or_default())
}

fn acquire<P: Sspi + SspiImpl>(
    protocol: &mut P,
    identity: &P::AuthenticationData,
) -> Result<P::CredentialsHandle, ContextError> {
    protocol
        .acquire_credentials_handle()
        .with_credential_use(CredentialUse::Outbound)
        .with_auth_data(identity)
        .execute(protocol)
        .map(|acquired| acquired.credentials_handle)
        .map_err(credentials_error)
}

fn choice(credentials: &Credentials) -> Result<Choice<'_>, ContextError> {
    match credentials {
        Credentials::Ntlm {
            user,
            channel_binding,
            ..
        } => Ok(Choice {
            kind: Kind::Ntlm,
            user,
            realm: None,
            kdc: &[],
            service: None,
            binding: *channel_binding,
        }),
        Credentials::Kerberos {
            user,
            realm,
            kdc,
            service,
            channel_binding,
            ..
        } => Ok(Choice {
            kind: Kind::Kerberos,
            user,
            realm: Some(realm),
            kdc,
            service: service.as_deref(),
            binding: *channel_binding,
        }),
        Credentials::Negotiate {
            user,
            realm,
            kdc,
            service,
            ntlm,
            channel_binding,
            ..
        } => Ok(Choice {
            kind: Kind::Negotiate { ntlm: *ntlm },
            user,
            realm: realm.as_deref(),
            kdc,
            service: service.as_deref(),
            binding: *channel_binding,
        }),
        Credentials::Basic { .. }
        | Credentials::OauthSecret { .. }
        | Credentials::OauthCertificate { .. } => Err(ContextError::Credentials(
            "they do not sign connections in".to_owned(),
        )),
    }
}

/// Returns the account's name. In a realm it is a plain principal: an enterprise name (`name@domain`) is known to
/// Active Directory only.
fn username(choice: &Choice<'_>) -> Result<Username, ContextError> {
    match choice.realm {
        Some(realm) => Username::new(choice.user, Some(realm)),
        None => Username::parse(choice.user),
    }
    .map_err(|error| ContextError::Credentials(format!("user: {error}")))
}

fn kerberos_config(choice: &Choice<'_>) -> KerberosConfig {
    let first = choice.kdc.first().map(home_url).unwrap_or_default();
    KerberosConfig::new_with_kdc_url(&first, COMPUTER.to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "it is the argument of map_err")]
fn credentials_error(error: sspi::Error) -> ContextError {
    ContextError::Credentials(for_message(&error.description, REASON_SHOWN))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Returns the channel binding of a server's certificate in the form of `SEC_CHANNEL_BINDINGS`: eight numbers of four
/// bytes, the lowest first, of which the last two are length and position of the data that follows.
fn channel_bindings(certificate: &[u8]) -> Result<Vec<u8>, String> {
    let algorithm = match binding_hash(certificate)? {
        BindingHash::Sha256 => &digest::SHA256,
        BindingHash::Sha384 => &digest::SHA384,
        BindingHash::Sha512 => &digest::SHA512,
    };
    let hash = digest::digest(algorithm, certificate);
    let data = [b"tls-server-end-point:".as_slice(), hash.as_ref()].concat();
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let numbers = [0, 0, 0, 0, 0, 0, length, 32_u32];
    let header = numbers.iter().flat_map(|number| number.to_le_bytes());
    Ok(header.chain(data).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binding_is_the_hash_of_the_signature_and_sha_256_at_least() {
        let of = |algorithm| {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let parameters = rcgen::CertificateParams::new(vec!["mail.example".to_owned()]).unwrap();
            parameters.self_signed(&key).unwrap().der().to_vec()
        };
        for (algorithm, hash) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, &digest::SHA256),
            (&rcgen::PKCS_ECDSA_P384_SHA384, &digest::SHA384),
            (&rcgen::PKCS_ED25519, &digest::SHA256),
        ] {
            let certificate = of(algorithm);
            let bindings = channel_bindings(&certificate).unwrap();
            let data = bindings.get(32..).unwrap();
            assert_eq!(
                bindings.get(24..32).unwrap(),
                [u8::try_from(data.len()).unwrap(), 0, 0, 0, 32, 0, 0, 0]
            );
            let expected = [
                b"tls-server-end-point:".as_slice(),
                digest::digest(hash, &certificate).as_ref(),
            ]
            .concat();
            assert_eq!(data, expected);
        }
        assert!(channel_bindings(b"no certificate").is_err());
    }
}
