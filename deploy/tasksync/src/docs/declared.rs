//! Public types as Rust source declares them, with their doc comments and the names that serde gives them. The pages
//! about keys are made of these, so that a key and its meaning are written once.
//!
//! The source is read line by line in the layout of rustfmt, which the gate checks.

use std::collections::BTreeMap;

/// A public struct or enum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DeclaredType {
    /// The public fields of a struct.
    pub(super) fields: Vec<DeclaredField>,
    /// The variants of an enum.
    pub(super) variants: Vec<DeclaredVariant>,
    /// The key that names the variant (`#[serde(tag = "…")]`).
    pub(super) tag: Option<String>,
    rename_all: Option<String>,
}

/// A field of a struct or of a variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeclaredField {
    pub(super) name: String,
    /// The Rust type, as it is written.
    pub(super) kind: String,
    /// The doc comment as one line.
    pub(super) meaning: String,
}

/// A variant of an enum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeclaredVariant {
    /// The name in files.
    pub(super) name: String,
    /// The doc comment as one line.
    pub(super) meaning: String,
    /// The fields between braces.
    pub(super) fields: Vec<DeclaredField>,
    /// The Rust type between parentheses.
    pub(super) content: Option<String>,
}

/// Returns the public types of Rust source by name.
pub(super) fn types(source: &str) -> BTreeMap<String, DeclaredType> {
    let mut types: BTreeMap<String, DeclaredType> = BTreeMap::new();
    let mut current: Option<(String, bool)> = None;
    let mut meaning = String::new();
    let mut attributes = String::new();
    for line in source.lines() {
        let text = line.trim();
        if let Some(comment) = text.strip_prefix("///") {
            if !meaning.is_empty() {
                meaning.push(' ');
            }
            meaning.push_str(comment.trim());
            continue;
        }
        let is_open = !attributes.is_empty() && !attributes.ends_with(']');
        if text.starts_with("#[") || is_open {
            attributes.push_str(text);
            continue;
        }
        if text.starts_with("//") {
            continue;
        }
        let said = std::mem::take(&mut meaning);
        let attributes = std::mem::take(&mut attributes);
        if let Some((name, is_enum)) = declaration(line) {
            let declared = DeclaredType {
                tag: quoted(&attributes, "tag = "),
                rename_all: quoted(&attributes, "rename_all = "),
                ..DeclaredType::default()
            };
            types.insert(name.clone(), declared);
            current = Some((name, is_enum));
            continue;
        }
        if line == "}" {
            current = None;
        }
        let Some((name, is_enum)) = &current else { continue };
        let Some(declared) = types.get_mut(name) else {
            continue;
        };
        if *is_enum {
            member_of_enum(declared, line, said, &attributes);
        } else if let Some(field) = text.strip_prefix("pub ").and_then(|text| field(text, said)) {
            declared.fields.push(field);
        }
    }
    types
}

/// Returns the name of the type whose declaration the line begins, and whether it is an enum.
fn declaration(line: &str) -> Option<(String, bool)> {
    let (rest, is_enum) = match line.strip_prefix("pub struct ") {
        Some(rest) => (rest, false),
        None => (line.strip_prefix("pub enum ")?, true),
    };
    let name = rest.split([' ', '{', '<', '(', ';']).next()?;
    Some((name.to_owned(), is_enum))
}

fn field(text: &str, meaning: String) -> Option<DeclaredField> {
    let (name, kind) = text.strip_suffix(',')?.split_once(": ")?;
    Some(DeclaredField {
        name: name.to_owned(),
        kind: kind.to_owned(),
        meaning,
    })
}

/// Adds the variant, or the field of the last variant, that the line declares.
fn member_of_enum(declared: &mut DeclaredType, line: &str, meaning: String, attributes: &str) {
    let text = line.trim();
    let depth = line.len() - line.trim_start().len();
    if depth > 4 {
        if let (Some(field), Some(variant)) = (field(text, meaning), declared.variants.last_mut()) {
            variant.fields.push(field);
        }
        return;
    }
    let name: String = text
        .chars()
        .take_while(|letter| letter.is_alphanumeric())
        .collect();
    if name.is_empty() {
        return;
    }
    let content = text
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix("),"))
        .map(str::to_owned);
    let name =
        quoted(attributes, "rename = ").unwrap_or_else(|| renamed(&name, declared.rename_all.as_deref()));
    declared.variants.push(DeclaredVariant {
        name,
        meaning,
        fields: Vec::new(),
        content,
    });
}

/// Returns the text in quotes after `key`.
fn quoted(attributes: &str, key: &str) -> Option<String> {
    let (_, rest) = attributes.split_once(&format!("{key}\""))?;
    rest.split('"').next().map(str::to_owned)
}

/// Returns a variant's name by serde's rule.
fn renamed(name: &str, rule: Option<&str>) -> String {
    let separator = match rule {
        Some("snake_case") => "_",
        Some("kebab-case") => "-",
        Some("lowercase") => "",
        _ => return name.to_owned(),
    };
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push_str(separator);
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_with_their_names_in_files() {
        let source = r#"
/// Not of the type: a blank line follows.

/// A connection.
#[derive(Debug)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Connection {
    /// The first.
    OneWay {
        /// Where.
        url: Url,
        #[serde(default)]
        /// How.
        how: How,
    },
    /// The second,
    /// on two lines.
    #[serde(rename = "both")]
    TwoWay(Content),
}

impl Connection {
    /// A function.
    pub fn of(name: &str) -> Self {}
}

#[serde(rename_all = "kebab-case")]
pub enum How {
    VeryFast,
}

pub struct Content {
    /// Its sites.
    // About the code.
    pub sites: Vec<Url>,
    hidden: bool,
}
"#;
        let types = types(source);
        assert_eq!(types.len(), 3, "{types:?}");
        let connection = &types["Connection"];
        assert_eq!(connection.tag.as_deref(), Some("kind"));
        let [one, two] = connection.variants.as_slice() else {
            panic!("{connection:?}")
        };
        assert_eq!(
            (one.name.as_str(), one.meaning.as_str()),
            ("one_way", "The first.")
        );
        let names: Vec<_> = one.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["url", "how"]);
        assert_eq!(
            (two.name.as_str(), two.meaning.as_str(), two.content.as_deref()),
            ("both", "The second, on two lines.", Some("Content"))
        );
        assert_eq!(types["How"].variants[0].name, "very-fast");
        let content = &types["Content"].fields;
        assert_eq!(content.len(), 1, "{content:?}");
        assert_eq!(content[0].kind, "Vec<Url>");
    }
}
