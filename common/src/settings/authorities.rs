//! Files of certificate authorities that settings name.

use std::path::Path;

use crate::error::{Code, ErrorClass, Failure};

/// Largest file of authorities read, in bytes.
const MAXIMUM_AUTHORITIES: u64 = 16 * 1024 * 1024;

/// The file's PEM text; `setting` names the file in errors.
///
/// # Errors
/// The file cannot be read, is too large, or holds no certificate in PEM form.
pub(crate) fn read_authorities(setting: &str, path: &Path) -> Result<String, Failure> {
    let wrong = |why: String| {
        Failure::new(
            ErrorClass::TenantPermanent,
            Code::SettingsWrong,
            format!("{setting} {}: {why}", path.display()),
        )
    };
    let size = std::fs::metadata(path)
        .map_err(|error| wrong(error.to_string()))?
        .len();
    if size > MAXIMUM_AUTHORITIES {
        return Err(wrong(format!("{size} bytes are too many for certificates")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(wrong("holds no certificate in PEM form".to_owned()));
    }
    Ok(text)
}
