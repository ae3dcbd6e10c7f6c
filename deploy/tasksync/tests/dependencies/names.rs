//! The naming rules: in the product, a type name means one thing, and no function is a bare participle.

use std::collections::BTreeMap;
use std::path::Path;

use super::words::listed_files;

/// The crates that are installed. The simulators of `loadtest` name their own types.
const PRODUCT: &[&str] = &[
    "common/src/",
    "worker/src/",
    "scheduler/src/",
    "deploy/tasksync/src/",
];

/// Function names that do not show at the call site what the function returns or does.
const REFUSED: &[&str] = &[
    "again", "apart", "counted", "found", "gone", "held", "known", "look", "meant", "mend", "ours", "own",
    "place", "shared", "stand", "tell", "theirs", "told", "unknown", "whole",
];

/// Returns each source line outside test code, with its file.
fn product_lines() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let is_product = |name: &str| {
        PRODUCT.iter().any(|folder| name.starts_with(folder))
            && Path::new(name).extension().is_some_and(|extension| extension == "rs")
            && !name.contains("/tests/")
            && !name.ends_with("/tests.rs")
            // The types of earlier builds keep the names that they had there.
            && name != "common/src/contract/earlier.rs"
    };
    let mut lines = Vec::new();
    for file in listed_files(&root) {
        let name = file.to_string_lossy().into_owned();
        if !is_product(&name) || !root.join(&file).is_file() {
            continue;
        }
        let text = std::fs::read_to_string(root.join(&file)).unwrap();
        let product = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        lines.extend(product.lines().map(|line| (name.clone(), line.to_owned())));
    }
    assert!(lines.len() > 10_000, "only {} lines were found", lines.len());
    lines
}

/// Returns the name that the line declares with one of the keywords. Indented `type` lines are associated types.
fn declared<'a>(line: &'a str, keywords: &[&str]) -> Option<&'a str> {
    let trimmed = line.trim_start();
    let item = match trimmed.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1.trim_start(),
        Some(rest) => rest.trim_start(),
        None => trimmed,
    };
    let item = item.strip_prefix("async ").unwrap_or(item);
    let item = item
        .strip_prefix("const fn")
        .map_or(item, |_| &item["const ".len()..]);
    let (keyword, rest) = item.split_once(' ')?;
    let associated = keyword == "type" && trimmed.len() < line.len();
    let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let name = &rest[..end.unwrap_or(rest.len())];
    (keywords.contains(&keyword) && !associated && !name.is_empty()).then_some(name)
}

#[test]
fn a_type_name_has_one_meaning_in_the_product() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, line) in product_lines() {
        if let Some(name) = declared(&line, &["struct", "enum", "trait", "type", "union"]) {
            places.entry(name.to_owned()).or_default().push(file);
        }
    }
    assert!(places.len() > 300, "only {} types were found", places.len());
    places.retain(|_, files| files.len() > 1);
    assert!(
        places.is_empty(),
        "give each type a name that no other type of the product has: {places:#?}"
    );
}

#[test]
fn a_function_says_what_it_returns_or_does() {
    let refused: Vec<_> = product_lines()
        .iter()
        .filter_map(|(file, line)| Some((file.clone(), declared(line, &["fn"])?.to_owned())))
        .filter(|(_, name)| REFUSED.contains(&name.as_str()))
        .collect();
    assert!(
        refused.is_empty(),
        "name what these functions return or do: {refused:#?}"
    );
}
