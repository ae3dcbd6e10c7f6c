//! The rules of the repository: licences, versions and bans of crates, the language of its texts, its names.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code outside test functions: a panic is how it fails"
)]

#[path = "dependencies/names.rs"]
mod names;
#[path = "dependencies/words.rs"]
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Licences that are compatible with Apache-2.0 for a service.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates with global state or a wire protocol: a second version would silently split them.
const ONE_VERSION: &[&str] = &[
    "axum",
    "hyper",
    "http",
    "jiff",
    "opentelemetry",
    "quick-xml",
    "reqwest",
    "rustls",
    "serde",
    "sqlx",
    "tokio",
    "tokio-rustls",
    "tracing",
    "tracing-core",
    "tracing-subscriber",
    "uuid",
];

/// Banned crates, and why.
const BANNED: &[(&str, &str)] = &[
    ("openssl", "TLS is rustls"),
    ("native-tls", "TLS is rustls"),
    ("aws-lc-sys", "one cryptography provider: ring"),
    ("xml-rs", "expands entities without a limit"),
    ("chrono", "dates are jiff's"),
];

/// Crates of which the build has two versions, and why.
const TWO_VERSIONS: &[(&str, &[&str])] = &[
    (
        "sspi brings the RustCrypto crates of 2026, and lapin's reader of PKCS #12 and sqlx those of before",
        &[
            "aes",
            "block-buffer",
            "block-padding",
            "cbc",
            "cipher",
            "const-oid",
            "cpufeatures",
            "crypto-common",
            "der",
            "des",
            "digest",
            "hmac",
            "inout",
            "pbkdf2",
            "pem-rfc7468",
            "sha1",
            "sha2",
            "spki",
        ],
    ),
    (
        "crates without state that libraries have not moved to their newest version yet",
        &[
            "base64",
            "getrandom",
            "hashbrown",
            "nom",
            "rand",
            "rand_core",
            "syn",
            "synstructure",
        ],
    ),
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns the packages of the build.
fn packages() -> Vec<Value> {
    let metadata = metadata();
    let used: BTreeSet<String> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["id"].as_str().unwrap().to_owned())
        .collect();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| used.contains(package["id"].as_str().unwrap()))
        .cloned()
        .collect()
}

/// Returns true if the licences above satisfy a licence expression.
fn acceptable(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], "");
    expression.split(" OR ").any(|choice| {
        choice
            .split(" AND ")
            .all(|licence| LICENCES.contains(&licence.trim()))
    })
}

#[test]
fn licences_are_known_and_sources_are_the_registry() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or("none stated");
        assert!(acceptable(licence), "{name}: licence {licence}");
        match package["source"].as_str() {
            None => assert!(name.starts_with("tasksync"), "{name} comes from a path"),
            Some(source) => assert!(source.starts_with("registry+"), "{name} comes from {source}"),
        }
    }
}

#[test]
fn crates_that_must_be_single_are_and_banned_ones_are_absent() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        let (name, version) = (
            package["name"].as_str().unwrap(),
            package["version"].as_str().unwrap(),
        );
        versions
            .entry(name.to_owned())
            .or_default()
            .insert(version.to_owned());
    }
    let doubled: BTreeSet<&str> = versions
        .iter()
        .filter(|(_, found)| found.len() > 1)
        .map(|(name, _)| name.as_str())
        .collect();
    let excepted: BTreeSet<&str> = TWO_VERSIONS
        .iter()
        .flat_map(|(_, names)| *names)
        .copied()
        .collect();
    assert_eq!(
        doubled, excepted,
        "a crate in two versions needs a reason, and a reason a crate"
    );
    for name in ONE_VERSION {
        let found = versions.get(*name).cloned().unwrap_or_default();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
    }
    for (name, why) in BANNED {
        assert!(!versions.contains_key(*name), "{name}: {why}");
    }
}

#[test]
fn licence_expressions_are_understood() {
    assert!(acceptable("MIT OR Apache-2.0"));
    assert!(acceptable("MIT/Apache-2.0"));
    assert!(acceptable("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!acceptable("AGPL-3.0"));
    assert!(!acceptable("GPL-3.0 AND MIT"));
}
