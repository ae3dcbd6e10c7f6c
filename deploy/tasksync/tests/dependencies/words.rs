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

/// Returns every file of the repository that git knows or would add.
pub(super) fn listed_files(root: &Path) -> Vec<PathBuf> {
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
    names.lines().map(PathBuf::from).collect()
}

/// Returns the files whose language is checked: product sources and every document, without tests.
fn checked_files(root: &Path) -> Vec<PathBuf> {
    let checked = |file: &PathBuf| {
        let name = file.to_string_lossy();
        let rust = name.ends_with(".rs") && !name.contains("/tests/") && !name.ends_with("/tests.rs");
        let document = [".md", ".toml", ".yaml", ".yml", ".sh", ".sql"]
            .iter()
            .any(|ending| name.ends_with(ending));
        rust || document
    };
    listed_files(root).into_iter().filter(checked).collect()
}

/// Returns the prose of a line: in Rust the comment, or the string literals with a space; elsewhere the whole line.
fn prose(line: &str, is_rust: bool) -> Vec<&str> {
    let line = line.trim();
    if !is_rust || line.starts_with("//") {
        return vec![line];
    }
    let literals = line.split('"').skip(1).step_by(2);
    let comment = line.split_once(" // ").map(|(_, comment)| comment);
    literals
        .filter(|literal| literal.contains(' '))
        .chain(comment)
        .collect()
}

/// Returns whether a text has the phrase as words of a sentence, and not inside a longer word or an identifier.
fn has(text: &str, phrase: &str) -> bool {
    let text = text.to_lowercase();
    let of_word = |next: Option<char>| next.is_some_and(|next| next.is_alphanumeric() || next == '_');
    text.match_indices(phrase).any(|(at, _)| {
        !of_word(text[..at].chars().next_back()) && !of_word(text[at + phrase.len()..].chars().next())
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
        let is_rust = file.extension().is_some_and(|extension| extension == "rs");
        for (number, line) in text.lines().enumerate() {
            let prose = prose(line, is_rust);
            for (phrase, instead) in REFUSED
                .iter()
                .filter(|(phrase, _)| prose.iter().any(|part| has(part, phrase)))
            {
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

/// The longest line of a comment, in columns. rustfmt leaves comments as they are.
const COLUMNS: usize = 120;

#[test]
fn lines_of_comments_are_not_too_long() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut long = String::new();
    for file in listed_files(&root) {
        if file.extension().is_none_or(|extension| extension != "rs") || !root.join(&file).is_file() {
            continue;
        }
        let text = std::fs::read_to_string(root.join(&file)).unwrap();
        for (number, line) in text.lines().enumerate() {
            let comment = line.trim_start();
            let is_table = comment.starts_with("/// |") || comment.starts_with("//! |");
            if comment.starts_with("//") && !is_table && line.chars().count() > COLUMNS {
                writeln!(long, "{}:{}", file.display(), number + 1).unwrap();
            }
        }
    }
    assert!(
        long.is_empty(),
        "comments of more than {COLUMNS} columns:\n{long}"
    );
}
