//! The reference of the tenant file. Keys, types and meanings come from the source of the types that read the file,
//! defaults from reading a file without the key, examples from complete files.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tasksync_common::registry::Tenant;
use toml::{Table, Value};

use super::declared::{self, DeclaredField, DeclaredType};
use super::settings;
use super::tenant_examples::EXAMPLES;

/// The sources with the types of the file.
const SOURCES: [&str; 3] = [
    include_str!("../../../../common/src/registry/tenant.rs"),
    include_str!("../../../../common/src/registry/credentials.rs"),
    include_str!("../../../../common/src/plan/policy.rs"),
];

/// What a value of a Rust type is in the file: its name for people, and what is allowed.
const VALUES: &[(&str, &str, &str)] = &[
    ("bool", "true or false", "`true`, `false`"),
    ("String", "text", ""),
    ("TenantId", "name", "1 to 63 of `a-z`, `0-9` and `-`"),
    (
        "Url",
        "address",
        "`https://…`; `http://…` only while `outbound.allow_plain_http` is true",
    ),
    (
        "Vec<Url>",
        "list of addresses",
        "`https://…`; `http://…` only while `outbound.allow_plain_http` is true",
    ),
    (
        "SecretRef",
        "name of a secret",
        "`file:NAME`, `file:/PATH`, `env:NAME`; see above",
    ),
    (
        "Vec<KdcAddress>",
        "list of addresses",
        "`HOST` or `HOST:PORT`; the port is 88 if it is left out",
    ),
    ("MailboxAddress", "mailbox address", "`name@domain`"),
    (
        "SignedDuration",
        "duration",
        "a whole number with `ms`, `s`, `min`, `h` or `d`",
    ),
];

/// A table of the file.
#[derive(Debug)]
struct TenantTable {
    /// Where it may stand; the empty path is the file itself.
    paths: Vec<String>,
    /// The key and value that choose this form of the table, and what the form is.
    form: Option<(String, String, String)>,
    keys: Vec<TenantKey>,
}

/// A key of a table.
#[derive(Debug)]
struct TenantKey {
    name: String,
    value: String,
    allowed: String,
    default: String,
    meaning: String,
    example: String,
    /// The values to choose from, with their meanings.
    choices: Vec<(String, String)>,
}

pub(super) fn markdown() -> String {
    let mut page = String::from(
        "# The tenant file\n\nGenerated from the code (`tasksync docs tenant`); do not edit.\n\n\
         A tenant is one SharePoint with one Exchange. Its file is TOML: `tasksync tenant add FILE` adds the tenant or \
         replaces its connections and settings. Unknown keys are refused. [Connect a tenant](connect.md) goes through the \
         steps on both servers, and [tenant.toml](../deploy/tasksync/examples/tenant.toml) is a file to start from.\n\n\
         The file names secrets and never contains them. The service reads a secret where it runs: `file:NAME` or `file:/PATH` \
         from a file below the folder `secrets.folder` each time it is used, `env:NAME` from an environment variable at the \
         start of the process, whose name begins with `secrets.variable_prefix`. Any other file or variable is refused \
         (`secret-not-allowed`). One line break at the end of the file does not belong to the secret.\n\n\
         A key without a default is required.\n",
    );
    for table in tables() {
        let _ = writeln!(page, "\n## {}\n", heading(&table));
        if let Some((_, _, meaning)) = &table.form {
            let _ = writeln!(page, "{meaning}\n");
        }
        page.push_str("| key | value | allowed | default | meaning | example |\n|---|---|---|---|---|---|\n");
        for key in &table.keys {
            let cells = [&key.value, &key.allowed, &key.default, &key.meaning, &key.example];
            // A bar would end the cell, also inside code.
            let cells = cells.map(|cell| cell.replace('|', "\\|"));
            let _ = writeln!(page, "| `{}` | {} |", key.name, cells.join(" | "));
        }
        for key in table.keys.iter().filter(|key| !key.choices.is_empty()) {
            let _ = writeln!(page, "\n`{}`:\n", key.name);
            for (choice, meaning) in &key.choices {
                let _ = writeln!(page, "- `{choice}`: {meaning}");
            }
        }
    }
    page
}

fn heading(table: &TenantTable) -> String {
    let places: Vec<_> = table
        .paths
        .iter()
        .filter(|path| !path.is_empty())
        .map(|path| format!("`[{path}]`"))
        .collect();
    match (&table.form, places.is_empty()) {
        (Some((tag, value, _)), _) => format!("{} with `{tag} = \"{value}\"`", places.join(" and ")),
        (None, false) => places.join(" and "),
        (None, true) => "The tenant".to_owned(),
    }
}

/// Returns every table of the file: the file itself, then the tables that it may have, in their order.
fn tables() -> Vec<TenantTable> {
    let types: BTreeMap<String, DeclaredType> = SOURCES
        .iter()
        .flat_map(|source| declared::types(source))
        .collect();
    // The types of tables with their paths. A type that stands at two paths is one entry.
    let mut places: Vec<(String, Vec<String>)> = vec![("Tenant".to_owned(), vec![String::new()])];
    let mut tables = Vec::new();
    let mut next = 0;
    while let Some((name, paths)) = places.get(next).cloned() {
        next += 1;
        let Some(declared) = types.get(&name) else {
            continue;
        };
        for (form, fields) in forms(&types, declared) {
            for field in fields {
                let inner = plain_type(&field.kind);
                if !types.get(inner).is_some_and(is_table) {
                    continue;
                }
                let inner_paths = paths.iter().map(|path| joined(path, &field.name));
                match places.iter_mut().find(|(known, _)| known == inner) {
                    Some((_, known)) => known.extend(inner_paths),
                    None => places.push((inner.to_owned(), inner_paths.collect())),
                }
            }
            let tag = form.iter().map(|(tag, value, _)| TenantKey {
                name: tag.clone(),
                value: "text".to_owned(),
                allowed: format!("`\"{value}\"`"),
                default: String::new(),
                meaning: "Chooses this form of the table.".to_owned(),
                example: format!("`\"{value}\"`"),
                choices: Vec::new(),
            });
            let keys = fields.iter().map(|field| {
                let paths: Vec<_> = paths.iter().map(|path| joined(path, &field.name)).collect();
                key(&types, field, &paths, form.as_ref())
            });
            tables.push(TenantTable {
                paths: paths.clone(),
                keys: tag.chain(keys).collect(),
                form,
            });
        }
    }
    tables
}

type Form = Option<(String, String, String)>;

/// Returns the forms of a table's type with their fields: one for a struct, one for each variant of an enum.
fn forms<'a>(
    types: &'a BTreeMap<String, DeclaredType>,
    declared: &'a DeclaredType,
) -> Vec<(Form, &'a [DeclaredField])> {
    let Some(tag) = &declared.tag else {
        return vec![(None, declared.fields.as_slice())];
    };
    let of_variant = |variant: &'a declared::DeclaredVariant| {
        let content = variant.content.as_ref().and_then(|name| types.get(name));
        let fields = content.map_or(variant.fields.as_slice(), |content| content.fields.as_slice());
        let form = (tag.clone(), variant.name.clone(), variant.meaning.clone());
        (Some(form), fields)
    };
    declared.variants.iter().map(of_variant).collect()
}

fn is_table(declared: &DeclaredType) -> bool {
    declared.tag.is_some() || !declared.fields.is_empty()
}

fn plain_type(kind: &str) -> &str {
    kind.strip_prefix("Option<")
        .and_then(|kind| kind.strip_suffix('>'))
        .unwrap_or(kind)
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn key(
    types: &BTreeMap<String, DeclaredType>,
    field: &DeclaredField,
    paths: &[String],
    form: Option<&(String, String, String)>,
) -> TenantKey {
    let kind = plain_type(&field.kind);
    let declared = types.get(kind);
    let is_table = declared.is_some_and(is_table);
    let known = VALUES.iter().find(|(name, _, _)| *name == kind);
    let choices: Vec<_> = declared
        .filter(|_| !is_table && known.is_none())
        .map(|declared| {
            let of = |variant: &declared::DeclaredVariant| (variant.name.clone(), variant.meaning.clone());
            declared.variants.iter().map(of).collect()
        })
        .unwrap_or_default();
    let (value, allowed) = if is_table {
        ("table", "see below".to_owned())
    } else if choices.is_empty() {
        known.map_or((kind, String::new()), |(_, name, allowed)| {
            (name, (*allowed).to_owned())
        })
    } else {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("`\"{name}\"`")).collect();
        ("text", names.join(", "))
    };
    let found = paths.iter().find_map(|path| {
        EXAMPLES
            .iter()
            .find_map(|text| Some((example(text, path, form)?, key_default(text, path)?)))
    });
    let (example, default) = match found {
        Some((_, default)) if is_table => {
            let places = format!("`[{}]`", paths.join("]`, `["));
            let optional = !matches!(default, KeyDefault::Required);
            (
                places,
                if optional {
                    "may be left out".to_owned()
                } else {
                    String::new()
                },
            )
        }
        Some((example, KeyDefault::Required)) => (in_code(&example), String::new()),
        Some((example, KeyDefault::NotSet)) => (in_code(&example), "not set".to_owned()),
        Some((example, KeyDefault::Value(default))) => (in_code(&example), in_code(&default)),
        None => (String::new(), String::new()),
    };
    TenantKey {
        name: field.name.clone(),
        value: value.to_owned(),
        allowed,
        default,
        meaning: field.meaning.clone(),
        example,
        choices,
    }
}

fn in_code(value: &str) -> String {
    format!("`{value}`")
}

/// The value that a key has when the file does not name it.
enum KeyDefault {
    /// A file without the key is refused.
    Required,
    Value(String),
    /// The key has no value.
    NotSet,
}

/// Returns the value of a key in an example, as it is written there; `None` if the example does not have the key in
/// this form of its table.
fn example(text: &str, path: &str, form: Option<&(String, String, String)>) -> Option<String> {
    let file: Table = toml::from_str(text).ok()?;
    let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
    let table = table_at(&file, parent)?;
    let is_of_form = form.is_none_or(|(tag, value, _)| table.get(tag).and_then(Value::as_str) == Some(value));
    table.get(key).filter(|_| is_of_form).map(Value::to_string)
}

/// Returns the value that the key has in the example without it.
fn key_default(text: &str, path: &str) -> Option<KeyDefault> {
    let mut file: Table = toml::from_str(text).ok()?;
    let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
    let mut table = &mut file;
    for part in parent.split('.').filter(|part| !part.is_empty()) {
        table = table.get_mut(part)?.as_table_mut()?;
    }
    table.remove(key)?;
    let Ok(tenant) = Value::Table(file).try_into::<Tenant>() else {
        return Some(KeyDefault::Required);
    };
    let stored = serde_json::to_value(tenant).ok()?;
    Some(match stored.pointer(&format!("/{}", path.replace('.', "/"))) {
        None | Some(serde_json::Value::Null) => KeyDefault::NotSet,
        Some(serde_json::Value::String(text)) => {
            KeyDefault::Value(settings::duration(text).unwrap_or_else(|| format!("\"{text}\"")))
        }
        Some(other) => KeyDefault::Value(other.to_string()),
    })
}

fn table_at<'a>(file: &'a Table, path: &str) -> Option<&'a Table> {
    path.split('.')
        .filter(|part| !part.is_empty())
        .try_fold(file, |table, part| table.get(part)?.as_table())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names in the backticks of serde's "expected one of".
    fn expected_names(file: Table) -> Vec<String> {
        let error = Value::Table(file)
            .try_into::<Tenant>()
            .unwrap_err()
            .message()
            .to_owned();
        let (_, expected) = error.split_once("expected").unwrap_or_else(|| panic!("{error}"));
        expected
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    }

    /// Returns the example with another value at this key.
    fn with(text: &str, path: &str, key: &str, value: &str) -> Option<Table> {
        let mut file: Table = toml::from_str(text).unwrap();
        let mut table = &mut file;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            table = table.get_mut(part)?.as_table_mut()?;
        }
        table.insert(key.to_owned(), value.into());
        Some(file)
    }

    fn is_form(table: &TenantTable, text: &str, path: &str) -> bool {
        let file: Table = toml::from_str(text).unwrap();
        table_at(&file, path).is_some_and(|found| {
            table
                .form
                .as_ref()
                .is_none_or(|(tag, value, _)| found.get(tag).and_then(Value::as_str) == Some(value))
        })
    }

    #[test]
    fn the_examples_are_files_that_the_service_reads() {
        for text in EXAMPLES {
            toml::from_str::<Tenant>(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        }
    }

    /// The keys that serde accepts in a table are those of the page, no more and no fewer.
    #[test]
    fn the_page_has_every_key_that_a_tenant_file_may_have() {
        let tables = tables();
        let mut compared = 0;
        for table in &tables {
            for path in &table.paths {
                let Some(text) = EXAMPLES.iter().find(|text| is_form(table, text, path)) else {
                    panic!("no example has {path} as {:?}", table.form)
                };
                let known = expected_names(with(text, path, "no-such-key", "").unwrap());
                let shown: Vec<_> = table.keys.iter().map(|key| key.name.clone()).collect();
                let tag = table.form.iter().map(|(tag, _, _)| tag.clone());
                let known: Vec<_> = tag.chain(known).collect();
                assert_eq!(shown, known, "{path}");
                compared += 1;
            }
        }
        assert!(compared >= 10, "{compared} tables");
    }

    #[test]
    fn every_key_has_its_value_meaning_and_example_and_every_choice_is_named() {
        for table in tables() {
            for key in &table.keys {
                let place = format!("{:?} {}", table.paths, key.name);
                assert!(key.meaning.ends_with('.'), "{place}: {}", key.meaning);
                assert!(!key.example.is_empty(), "{place}: no file in EXAMPLES has it");
                assert!(
                    key.value == "table"
                        || !key.choices.is_empty()
                        || VALUES.iter().any(|(_, value, _)| *value == key.value),
                    "{place}: VALUES does not name {}",
                    key.value
                );
                if key.choices.is_empty() {
                    continue;
                }
                let path = &table.paths[0];
                let text = EXAMPLES.iter().find(|text| is_form(&table, text, path)).unwrap();
                let known = expected_names(with(text, path, &key.name, "no-such-value").unwrap());
                let shown: Vec<_> = key.choices.iter().map(|(name, _)| name.clone()).collect();
                assert_eq!(shown, known, "{place}");
                assert!(
                    key.choices.iter().all(|(_, meaning)| meaning.ends_with('.')),
                    "{place}"
                );
            }
        }
    }

    #[test]
    fn every_row_has_the_cells_of_its_heading() {
        for line in markdown().lines().filter(|line| line.starts_with("| ")) {
            let bars = line.replace("\\|", "").matches('|').count();
            assert_eq!(bars, 7, "{line}");
        }
    }

    #[test]
    fn every_form_of_a_table_is_named_by_its_kind() {
        let tables = tables();
        for path in ["source", "mailbox", "source.credentials", "mailbox.credentials"] {
            let known = expected_names(with(EXAMPLES[0], path, "kind", "no-such-kind").unwrap());
            let shown: Vec<_> = tables
                .iter()
                .filter(|table| table.paths.iter().any(|place| place == path))
                .filter_map(|table| table.form.as_ref().map(|(_, value, _)| value.clone()))
                .collect();
            assert_eq!(shown, known, "{path}");
        }
    }
}
