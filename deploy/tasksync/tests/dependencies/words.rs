//! The language rule: product comments, docs, log and error texts use standard terms and name their numbers.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Phrases that a reader has to read twice, and what to write instead.
const REFUSED: &[(&str, &str)] = &[
    ("so many", "name the number or the limit"),
    ("so long", "name the time or the limit"),
    ("is told", "write who reports, shows or logs what"),
    ("are told", "write who reports, shows or logs what"),
    ("whoever", "name the user, worker or process"),
    ("nobody's", "name the user, worker or process"),
    ("somebody", "name the user, worker or process"),
    ("nobody", "write \"no user\", \"no worker\" or the like"),
    ("everybody", "write \"all users\", \"all workers\" or the like"),
    ("counted in", "write what is added to what"),
    ("what is missing", "name the missing item"),
];

/// Lines that keep a refused phrase: file, a part of the line, and the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Returns the files whose language is checked: product sources and every document, without tests.
fn checked_files(root: &Path) -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(
        listed.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let names = String::from_utf8(listed.stdout).unwrap();
    let checked = |name: &&str| {
        let rust = name.ends_with(".rs") && !name.contains("/tests/") && !name.ends_with("/tests.rs");
        let document = [".md", ".toml", ".yaml", ".yml", ".sh", ".sql"]
            .iter()
            .any(|ending| name.ends_with(ending));
        rust || document
    };
    names.lines().filter(checked).map(PathBuf::from).collect()
}

/// Returns whether a line has the phrase as words of a sentence: not inside a longer word or an identifier, and not as a whole
/// string literal, which is a name.
fn has(line: &str, phrase: &str) -> bool {
    let line = line.to_lowercase();
    line.match_indices(phrase).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + phrase.len()..].chars().next();
        let of_word = |next: Option<char>| {
            next.is_some_and(|next| next.is_alphanumeric() || next == '_' || next == ':')
        };
        let is_literal = before == Some('"') && after == Some('"');
        !of_word(before) && !(of_word(after) && after != Some(':')) && !is_literal
    })
}

#[test]
fn product_texts_use_standard_terms() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = checked_files(&root);
    assert!(files.len() > 300, "only {} files were found", files.len());
    let mut unused: Vec<_> = EXCEPTIONS.iter().collect();
    let mut refused = String::new();
    for file in files.iter().filter(|file| root.join(file).is_file()) {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        for (number, line) in text.lines().enumerate() {
            for (phrase, instead) in REFUSED.iter().filter(|(phrase, _)| has(line, phrase)) {
                let excepted = |exception: &(&str, &str, &str)| {
                    Path::new(exception.0) == file.as_path() && line.contains(exception.1)
                };
                if EXCEPTIONS.iter().any(excepted) {
                    unused.retain(|exception| !excepted(exception));
                    continue;
                }
                writeln!(
                    refused,
                    "{}:{}: \"{phrase}\" ({instead}): {}",
                    file.display(),
                    number + 1,
                    line.trim()
                )
                .unwrap();
            }
        }
    }
    assert!(
        refused.is_empty(),
        "{} lines:\n{refused}",
        refused.lines().count()
    );
    assert!(unused.is_empty(), "exceptions that no line needs: {unused:?}");
}
