//! The channel binding inside a Kerberos token. Version 0.23 of the `sspi` crate writes the announcement of a binding
//! (`KERB_AP_OPTIONS_CBT`, [MS-KILE] 3.2.5.8) with two bytes in place of four. MIT's library refuses such a token as an
//! "invalid message type". This module opens the token with its session key and writes the announcement anew.

use picky_asn1::wrapper::{
    ExplicitContextTag0, ExplicitContextTag1, ExplicitContextTag2, ExplicitContextTag8, IntegerAsn1,
    OctetStringAsn1, Optional,
};
use picky_krb::constants::key_usages::AP_REQ_AUTHENTICATOR;
use picky_krb::crypto::CipherSuite;
use picky_krb::data_types::{Authenticator, AuthorizationData, AuthorizationDataInner};
use picky_krb::gss_api::{ApplicationTag0, GssApiNegInit, KrbMessage};
use picky_krb::messages::ApReq;

/// How a request for a service begins inside a token (RFC 4121, section 4.1): Kerberos' object identifier and `01 00`.
const AP_REQ: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00";

/// SPNEGO's object identifier (RFC 4178), which is the first value of its first token.
const SPNEGO: &[u8] = b"\x06\x06\x2b\x06\x01\x05\x05\x02";

/// The type of data that a server may ignore if it does not know them (RFC 4120, section 5.2.6.1).
const AD_IF_RELEVANT: u8 = 1;

/// The type of [`CBT`].
const AD_AP_OPTIONS: [u8; 2] = [0x00, 0x8f];

/// The announcement that the token is bound: the number 0x4000, the lowest byte first.
const CBT: [u8; 4] = [0x00, 0x40, 0x00, 0x00];

/// Returns whether the token holds a Kerberos request for a service.
pub(super) fn is_request(token: &[u8]) -> bool {
    token.windows(AP_REQ.len()).any(|window| window == AP_REQ)
}

/// Returns the token, alone or inside SPNEGO, with the announcement of its channel binding in the form that servers
/// read.
///
/// # Errors
/// The reason why the token cannot be opened.
pub(super) fn announced(token: &[u8], session_key: &[u8]) -> Result<Vec<u8>, String> {
    // The tag and the length, which has one to five bytes, stand before the identifier.
    let is_spnego = token
        .get(..SPNEGO.len() + 6)
        .is_some_and(|head| head.windows(SPNEGO.len()).any(|window| window == SPNEGO));
    if !is_spnego {
        return announced_alone(token, session_key);
    }
    let mut outer: ApplicationTag0<GssApiNegInit> =
        picky_asn1_der::from_bytes(token).map_err(|error| error.to_string())?;
    let init = &mut outer.0.neg_token_init.0;
    let Some(inner) = init.mech_token.0.take() else {
        return Err("it has no ticket".to_owned());
    };
    let inner = announced_alone(&inner.0.0, session_key)?;
    init.mech_token = Optional::from(Some(ExplicitContextTag2::from(OctetStringAsn1::from(inner))));
    picky_asn1_der::to_vec(&outer).map_err(|error| error.to_string())
}

fn announced_alone(token: &[u8], session_key: &[u8]) -> Result<Vec<u8>, String> {
    let mut message =
        KrbMessage::<ApReq>::decode_application_krb_message(token).map_err(|error| error.to_string())?;
    let encrypted = &mut message.0.krb_msg.0.authenticator.0;
    let suite = CipherSuite::try_from(encrypted.etype.0.0.as_slice()).map_err(|error| error.to_string())?;
    let cipher = suite.cipher();
    let plain = cipher
        .decrypt(session_key, AP_REQ_AUTHENTICATOR, &encrypted.cipher.0.0)
        .map_err(|error| error.to_string())?;
    let mut authenticator: Authenticator =
        picky_asn1_der::from_bytes(&plain).map_err(|error| error.to_string())?;
    let options = data(AD_AP_OPTIONS.to_vec(), CBT.to_vec());
    let options = picky_asn1_der::to_vec(&options).map_err(|error| error.to_string())?;
    authenticator.0.authorization_data = Optional::from(Some(ExplicitContextTag8::from(data(
        vec![AD_IF_RELEVANT],
        options,
    ))));
    let plain = picky_asn1_der::to_vec(&authenticator).map_err(|error| error.to_string())?;
    let sealed = cipher
        .encrypt(session_key, AP_REQ_AUTHENTICATOR, &plain)
        .map_err(|error| error.to_string())?;
    encrypted.cipher = ExplicitContextTag2::from(OctetStringAsn1::from(sealed));
    picky_asn1_der::to_vec(&message).map_err(|error| error.to_string())
}

fn data(kind: Vec<u8>, content: Vec<u8>) -> AuthorizationData {
    AuthorizationData::from(vec![AuthorizationDataInner {
        ad_type: ExplicitContextTag0::from(IntegerAsn1::from(kind)),
        ad_data: ExplicitContextTag1::from(OctetStringAsn1::from(content)),
    }])
}
