//! What is wrong with the fields of a request, in plain words.
//!
//! The parser's own texts speak of its types and show the value it met. A value may be a secret, so only names of
//! fields and kinds of values are shown here.

use std::fmt::Write as _;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

/// Most problems of one answer.
const MAXIMUM_PROBLEMS: usize = 10;
/// What stands for a missing field while further problems are looked for.
const PLACEHOLDER: &str = "missing";

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldProblem {
    /// The field with its path, such as `source.sites[0]`; `body` for the whole body.
    pub field: String,
    /// What is wrong with it, what is allowed, and an example.
    pub problem: String,
}

/// Examples of the fields that operators write.
const EXAMPLES: &[(&str, &str)] = &[
    ("id", "\"contoso\""),
    ("display_name", "\"Contoso\""),
    ("time_zone", "\"Europe/Berlin\""),
    ("enabled", "true"),
    ("source_login", "\"i:0#.w|contoso\\\\ana\""),
    ("mailbox", "\"ana@contoso.example\""),
    ("user", "\"ana\""),
    (
        "users",
        "[{\"user\": \"ana\", \"source_login\": \"i:0#.w|contoso\\\\ana\", \"mailbox\": \"ana@contoso.example\"}]",
    ),
    ("sites", "[\"https://sharepoint.contoso.example/sites/projects\"]"),
    ("url", "\"https://mail.contoso.example/EWS/Exchange.asmx\""),
    ("confirmed", "true"),
    ("limit", "100"),
];

/// Reads a JSON body.
///
/// # Errors
/// Every problem that can be found in one reading, at most ten.
pub(super) fn read_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Vec<FieldProblem>> {
    let of_body = |problem: String| {
        vec![FieldProblem {
            field: "body".to_owned(),
            problem,
        }]
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(of_body("is empty, but must be a JSON object".to_owned()));
    }
    let mut body: Value = serde_json::from_slice(bytes).map_err(|error| {
        of_body(format!(
            "is not valid JSON in line {}, column {}: {}",
            error.line(),
            error.column(),
            without_position(&error.to_string())
        ))
    })?;
    let mut problems: Vec<FieldProblem> = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(&body) {
            Ok(read) if problems.is_empty() => return Ok(read),
            Ok(_) => return Err(problems),
            Err(error) => error,
        };
        let found = locate(&body, error.path(), &error.inner().to_string());
        let field = display(&found.path);
        // A field that was wrong before is missing or a placeholder now: nothing further can be found.
        if problems.iter().any(|known| known.field == field) {
            return Err(problems);
        }
        let problem = describe(found.path.last().map(BodyStep::name), &found.text);
        problems.push(FieldProblem { field, problem });
        if problems.len() == MAXIMUM_PROBLEMS || !set_aside(&mut body, &found) {
            return Err(problems);
        }
    }
}

/// Returns what is wrong with a query, from the parser's text: `NAME: REASON` or only the reason.
pub(super) fn query_problem(text: &str) -> FieldProblem {
    // These two texts have the name themselves.
    let text = match text.split_once(": ") {
        Some((_, rest)) if rest.starts_with("unknown field `") || rest.starts_with("missing field `") => rest,
        Some(_) | None => text,
    };
    if let Some((name, rest)) = quoted(text, "unknown field `") {
        let problem = match allowed(rest) {
            allowed if allowed.is_empty() => "is no parameter: this address takes none".to_owned(),
            allowed => format!(
                "is no parameter of this address{}; it takes {}",
                did_you_mean(name, &allowed),
                allowed.join(", ")
            ),
        };
        return FieldProblem {
            field: name.to_owned(),
            problem,
        };
    }
    if let Some((name, _)) = quoted(text, "missing field `") {
        return FieldProblem {
            field: name.to_owned(),
            problem: "is missing in the query".to_owned(),
        };
    }
    let (field, reason) = text.split_once(": ").unwrap_or(("query", text));
    let problem = match reason {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "must be a whole number".to_owned()
        }
        "number too large to fit in target type" => "is too large a number".to_owned(),
        "provided string was not `true` or `false`" => "must be true or false".to_owned(),
        other => other.to_owned(),
    };
    FieldProblem {
        field: field.to_owned(),
        problem,
    }
}

/// One step of a path inside a body.
#[derive(Debug, Clone, PartialEq, Eq)]
enum BodyStep {
    Field(String),
    Entry(usize),
}

impl BodyStep {
    fn name(&self) -> &str {
        match self {
            Self::Field(name) => name,
            Self::Entry(_) => "",
        }
    }
}

/// A problem with its place.
struct LocatedProblem {
    path: Vec<BodyStep>,
    text: String,
}

fn locate(body: &Value, path: &Path, text: &str) -> LocatedProblem {
    let mut steps: Vec<BodyStep> = path
        .iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(BodyStep::Entry(*index)),
            Segment::Map { key } => Some(BodyStep::Field(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect();
    if let Some((name, _)) = quoted(text, "missing field `") {
        steps.push(BodyStep::Field(name.to_owned()));
    } else if let Some((name, _)) = quoted(text, "unknown field `")
        && steps.last().map(BodyStep::name) != Some(name)
    {
        // Inside a part with a `kind`, the path ends at that part, so the field is looked for.
        let below = at(body, &steps).and_then(|part| path_to(part, name));
        steps.extend(below.unwrap_or_else(|| vec![BodyStep::Field(name.to_owned())]));
    }
    LocatedProblem {
        path: steps,
        text: text.to_owned(),
    }
}

fn at<'a>(body: &'a Value, path: &[BodyStep]) -> Option<&'a Value> {
    path.iter().try_fold(body, |part, step| match step {
        BodyStep::Field(name) => part.get(name),
        BodyStep::Entry(index) => part.get(index),
    })
}

/// Returns the path to the first field of this name.
fn path_to(part: &Value, name: &str) -> Option<Vec<BodyStep>> {
    let members: Vec<(BodyStep, &Value)> = match part {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (BodyStep::Field(name.clone()), value))
            .collect(),
        Value::Array(entries) => (0..).map(BodyStep::Entry).zip(entries).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
    };
    if let Some((step, _)) = members.iter().find(|(step, _)| step.name() == name) {
        return Some(vec![step.clone()]);
    }
    members.into_iter().find_map(|(step, value)| {
        let mut path = vec![step];
        path.extend(path_to(value, name)?);
        Some(path)
    })
}

/// Puts a value that could be right in the place of the wrong or missing one, or takes the field out, so that the next
/// problem shows. Returns false if the field is not there.
fn set_aside(body: &mut Value, found: &LocatedProblem) -> bool {
    let Some((BodyStep::Field(name), parents)) = found.path.split_last() else {
        return false;
    };
    let parent = parents.iter().try_fold(body, |part, step| match step {
        BodyStep::Field(name) => part.get_mut(name),
        BodyStep::Entry(index) => part.get_mut(index),
    });
    let Some(fields) = parent.and_then(Value::as_object_mut) else {
        return false;
    };
    if found.text.starts_with("missing field `") {
        return fields.insert(name.clone(), PLACEHOLDER.into()).is_none();
    }
    match stand_in(&found.text) {
        Some(value) => fields.insert(name.clone(), value).is_some(),
        None => fields.remove(name).is_some(),
    }
}

/// Returns a value of the kind that the parser expects, if it says so.
fn stand_in(text: &str) -> Option<Value> {
    if let Some((_, rest)) = quoted(text, "unknown variant `") {
        return allowed(rest).first().map(|name| Value::from(*name));
    }
    match text.rsplit_once(", expected ")?.1 {
        "a string" | "a borrowed string" | "string" => Some(PLACEHOLDER.into()),
        "a boolean" => Some(true.into()),
        "a sequence" => Some(Value::Array(Vec::new())),
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "f64" => Some(1.into()),
        _ => None,
    }
}

fn display(path: &[BodyStep]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            BodyStep::Field(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
            BodyStep::Entry(index) => {
                let _ = write!(text, "[{index}]");
            }
        }
    }
    if text.is_empty() {
        text.push_str("body");
    }
    text
}

/// Returns a parser's text in plain words. A text of tasksync's own types is plain already and stays, without values.
fn describe(field: Option<&str>, text: &str) -> String {
    let example = |default: Option<&str>| {
        let field = field.unwrap_or_default();
        let known = EXAMPLES.iter().find(|(name, _)| *name == field);
        match known.map(|(_, example)| *example).or(default) {
            Some(example) if !field.is_empty() => format!("; for example \"{field}\": {example}"),
            Some(example) => format!("; for example {example}"),
            None => String::new(),
        }
    };
    if quoted(text, "missing field `").is_some() {
        return format!("is missing{}", example(None));
    }
    if let Some((name, rest)) = quoted(text, "unknown field `") {
        let allowed = allowed(rest);
        return format!(
            "is no field here{}; allowed are {}",
            did_you_mean(name, &allowed),
            allowed.join(", ")
        );
    }
    if let Some((name, rest)) = quoted(text, "unknown variant `") {
        let allowed = allowed(rest);
        return format!(
            "is none of the allowed values{}; allowed are {}",
            did_you_mean(name, &allowed),
            allowed.join(", ")
        );
    }
    let wrong_kind = text
        .strip_prefix("invalid type: ")
        .or_else(|| text.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "));
    if let Some((found, wanted)) = wrong_kind {
        let (wanted, default) = kind_wanted(wanted);
        return format!("must be {wanted}, not {}{}", kind_found(found), example(default));
    }
    if text.starts_with("invalid length ") && text.contains("expected struct ") {
        return format!("must be an object, not a list{}", example(Some("{}")));
    }
    tasksync_common::refusals::without_values(text)
}

/// Returns the kind of a value that the parser met, without the value.
fn kind_found(text: &str) -> &'static str {
    let kinds = [
        ("string", "a text"),
        ("character", "a text"),
        ("integer", "this number"),
        ("floating point", "this number"),
        ("boolean", "true or false"),
        ("null", "null"),
        ("unit", "null"),
        ("Option", "null"),
        ("map", "an object"),
        ("sequence", "a list"),
    ];
    kinds
        .iter()
        .find(|(prefix, _)| text.starts_with(prefix))
        .map_or("this value", |(_, kind)| kind)
}

/// Returns the kind of value that the parser expects, and an example of it.
fn kind_wanted(text: &str) -> (String, Option<&'static str>) {
    let (kind, example) = match text {
        "a string" | "a borrowed string" | "string" | "a character" => ("a text in quotes", Some("\"text\"")),
        "a boolean" => ("true or false", Some("true")),
        "a sequence" => ("a list", Some("[]")),
        "a map" => ("an object", Some("{}")),
        "u8" => ("a whole number from 0 to 255", Some("10")),
        "u16" => ("a whole number from 0 to 65535", Some("10")),
        "u32" => ("a whole number from 0 to 4294967295", Some("10")),
        "u64" | "usize" => ("a whole number, 0 or more", Some("10")),
        "i8" | "i16" | "i32" | "i64" | "isize" => ("a whole number", Some("10")),
        "f32" | "f64" => ("a number", Some("1.5")),
        text if text.starts_with("struct ") || text.contains("tagged enum ") => ("an object", Some("{}")),
        text => return (text.to_owned(), None),
    };
    (kind.to_owned(), example)
}

/// Returns the name after `prefix` up to the next backtick, and the rest, if the text begins with the prefix.
fn quoted<'a>(text: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    text.strip_prefix(prefix)?.split_once('`')
}

/// Returns the names in backticks.
fn allowed(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Returns `" (did you mean NAME?)"` if a name is close to the given one.
fn did_you_mean(given: &str, names: &[&str]) -> String {
    tasksync_common::nearest_name(given, names.iter().copied())
        .map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

/// Returns a text of `serde_json` without its position, which is given in words.
fn without_position(text: &str) -> &str {
    text.rsplit_once(" at line ").map_or(text, |(text, _)| text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Order {
        name: String,
        count: u8,
        lines: Vec<Line>,
        shop: Shop,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Line {
        text: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    enum Shop {
        Local { key: Key },
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Key {
        secret: String,
    }

    fn problems(body: &Value) -> Vec<String> {
        let problems = read_body::<Order>(body.to_string().as_bytes()).unwrap_err();
        problems
            .into_iter()
            .map(|FieldProblem { field, problem }| format!("{field}: {problem}"))
            .collect()
    }

    fn right() -> Value {
        json!({
            "name": "a", "count": 3, "lines": [{"text": "b"}],
            "shop": {"kind": "local", "key": {"secret": "hunter2"}},
        })
    }

    #[test]
    fn a_right_body_is_read() {
        assert!(read_body::<Order>(right().to_string().as_bytes()).is_ok());
    }

    #[test]
    fn every_problem_of_a_body_is_named_with_its_path_and_what_is_allowed() {
        let mut body = right();
        body["naem"] = json!("a");
        body["count"] = json!(300);
        body["lines"] = json!([{"text": "b"}, {"text": ["c"]}]);
        let found = problems(&body);
        assert_eq!(
            found,
            [
                "count: must be a whole number from 0 to 255, not this number; for example \"count\": 10",
                "lines[1].text: must be a text in quotes, not a list; for example \"text\": \"text\"",
                "naem: is no field here (did you mean name?); allowed are name, count, lines, shop",
            ]
        );
        assert_eq!(
            problems(&json!({"shop": right()["shop"], "lines": []})),
            ["name: is missing", "count: is missing"]
        );
    }

    #[test]
    fn a_field_inside_a_part_with_a_kind_is_found_and_no_value_is_shown() {
        let mut body = right();
        body["shop"]["key"]["scret"] = json!("hunter2");
        assert_eq!(
            problems(&body),
            ["shop.key.scret: is no field here (did you mean secret?); allowed are secret"]
        );
        for wrong in [json!("hunter2"), json!(["hunter2"]), json!({"hunter2": {}})] {
            let mut body = right();
            body["shop"]["key"]["secret"] = wrong.clone();
            body["count"] = json!("hunter2");
            body["shop"]["kind"] = if wrong.is_string() {
                json!("hunter2")
            } else {
                json!("local")
            };
            let text = problems(&body).join("\n");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_says_where() {
        let text = |body: &str| {
            let found = read_body::<Order>(body.as_bytes()).unwrap_err();
            format!("{}: {}", found[0].field, found[0].problem)
        };
        assert_eq!(text(" "), "body: is empty, but must be a JSON object");
        assert!(
            text("{\n\"a\" 1}").starts_with("body: is not valid JSON in line 2, column 5: expected `:`"),
            "{}",
            text("{\n\"a\" 1}")
        );
        assert_eq!(text("[]"), "body: must be an object, not a list; for example {}");
    }

    #[test]
    fn parameters_are_explained_without_words_of_the_parser() {
        for (text, expected) in [
            (
                "unknown field `tenannt`, expected `tenant` or `limit`",
                "tenannt: is no parameter of this address (did you mean tenant?); it takes tenant, limit",
            ),
            (
                "x: unknown field `x`, there are no fields",
                "x: is no parameter: this address takes none",
            ),
            ("missing field `limit`", "limit: is missing in the query"),
            (
                "limit: invalid digit found in string",
                "limit: must be a whole number",
            ),
            (
                "limit: number too large to fit in target type",
                "limit: is too large a number",
            ),
        ] {
            let FieldProblem { field, problem } = query_problem(text);
            assert_eq!(format!("{field}: {problem}"), expected);
        }
    }
}
