//! Reads JSON answers into bounded memory: only named properties are kept, everything else is skipped. Pure.
//!
//! `serde_json::Value` takes up to 130 bytes of memory for each byte of an answer such as `[{"":0},…]`. A
//! [`Cell`] keeps at most [`NODES`] values, and each list at most the number of entries that the caller
//! allows.

use std::borrow::Cow;
use std::cell::Cell as Counter;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A value of an answer, with the properties that its reader named.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// A list inside an entry, with more entries than the caller allows. None is kept, and the other entries
    /// stay readable.
    Overlong,
    /// An object: its named properties, each once.
    Record(Vec<(Box<str>, Self)>),
}

impl Cell {
    /// Returns the property `name` of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Record(properties) => properties
                .iter()
                .find(|(property, _)| &**property == name)
                .map(|(_, value)| value),
            Self::Null
            | Self::Bool(_)
            | Self::Integer(_)
            | Self::Number(_)
            | Self::Text(_)
            | Self::List(_)
            | Self::Overlong => None,
        }
    }

    /// Takes the property `name` out of an object.
    pub(super) fn take(&mut self, name: &str) -> Option<Self> {
        match self {
            Self::Record(properties) => properties
                .iter()
                .position(|(property, _)| &**property == name)
                .map(|at| properties.swap_remove(at).1),
            Self::Null
            | Self::Bool(_)
            | Self::Integer(_)
            | Self::Number(_)
            | Self::Text(_)
            | Self::List(_)
            | Self::Overlong => None,
        }
    }

    /// Returns the text, if the value is one.
    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null
            | Self::Bool(_)
            | Self::Integer(_)
            | Self::Number(_)
            | Self::List(_)
            | Self::Overlong
            | Self::Record(_) => None,
        }
    }

    /// Returns the list, if the value is one.
    pub(super) fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            Self::Null
            | Self::Bool(_)
            | Self::Integer(_)
            | Self::Number(_)
            | Self::Text(_)
            | Self::Overlong
            | Self::Record(_) => None,
        }
    }

    /// Returns whether it is `null`.
    pub(super) fn is_null(&self) -> bool {
        *self == Self::Null
    }
}

/// Properties that contain other properties, and properties that identify an entry; they are kept in every
/// answer.
const ENVELOPE: [&str; 20] = [
    "d",
    "value",
    "results",
    "__next",
    "odata.nextLink",
    "@odata.nextLink",
    "__metadata",
    "etag",
    "uri",
    "odata.etag",
    "@odata.etag",
    "odata.id",
    "@odata.id",
    "odata.editLink",
    "@odata.editLink",
    "GetItems",
    "GetChanges",
    "EnsureUser",
    "GetContextWebInformation",
    "GetUserEffectivePermissions",
];
/// The most values kept of one answer: 5,000 items with 50 values each.
const NODES: usize = 250_000;
/// The deepest nesting of values that is kept; deeper answers are refused.
const DEPTH: usize = 8;

/// Reads the properties `names` of an answer, and the envelope around them. A list may have at most `entries`
/// entries. A longer list inside an entry becomes [`Cell::Overlong`], so that one item does not make its page
/// unreadable.
///
/// Half a surrogate pair (`\ud83d` alone), a byte that is not UTF-8 and a control character inside a text are
/// read as U+FFFD.
///
/// # Errors
/// The reason why the answer cannot be read.
pub(super) fn read(body: &[u8], names: &[&str], entries: usize) -> Result<Cell, String> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let body = replace_invalid_text(body);
    let nodes = Counter::new(NODES);
    let mut deserializer = serde_json::Deserializer::from_slice(&body);
    let reader = Reader {
        names,
        entries,
        nodes: &nodes,
        depth: DEPTH,
        inside_entry: false,
    };
    let cell = reader
        .deserialize(&mut deserializer)
        .map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(cell)
}

/// Returns the answer with U+FFFD in place of everything that a text cannot contain.
fn replace_invalid_text(body: &[u8]) -> Cow<'_, [u8]> {
    let body = match String::from_utf8_lossy(body) {
        Cow::Borrowed(_) => Cow::Borrowed(body),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    // SharePoint's own answers consist of one line, so a control character is suspicious.
    let suspicious = body.iter().any(|byte| *byte < 0x20)
        || body
            .windows(3)
            .any(|window| matches!(window, [b'\\', b'u', b'd' | b'D']));
    if !suspicious {
        return body;
    }
    match replaced_text(&body) {
        Some(replaced) => Cow::Owned(replaced),
        None => body,
    }
}

/// Does the work of [`replace_invalid_text`]. Returns `None` if nothing had to be replaced.
fn replaced_text(body: &[u8]) -> Option<Vec<u8>> {
    const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
    let mut out: Vec<u8> = Vec::new();
    let mut copied = 0;
    let mut replace = |from: usize, to: usize, copied: &mut usize| {
        out.extend_from_slice(body.get(*copied..from).unwrap_or_default());
        out.extend_from_slice(REPLACEMENT);
        *copied = to;
    };
    let mut inside = false;
    let mut at = 0;
    while let Some(byte) = body.get(at) {
        at += match byte {
            b'"' => {
                inside = !inside;
                1
            }
            b'\\' if inside => match unit_at(body, at) {
                None => 2,
                Some(0xd800..=0xdbff) if matches!(unit_at(body, at + 6), Some(0xdc00..=0xdfff)) => 12,
                Some(0xd800..=0xdfff) => {
                    replace(at, at + 6, &mut copied);
                    6
                }
                Some(_) => 6,
            },
            0..=0x1f if inside => {
                replace(at, at + 1, &mut copied);
                1
            }
            _ => 1,
        };
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(body.get(copied..).unwrap_or_default());
    Some(out)
}

/// Returns the UTF-16 unit of the escape `\uXXXX` that begins at `at`.
fn unit_at(body: &[u8], at: usize) -> Option<u16> {
    let digits = body.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    names: &'a [&'a str],
    entries: usize,
    nodes: &'a Counter<usize>,
    depth: usize,
    inside_entry: bool,
}

impl Reader<'_> {
    /// Counts one more value.
    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let left = self
            .nodes
            .get()
            .checked_sub(1)
            .ok_or_else(|| E::custom(format!("the answer has more than {NODES} values")))?;
        self.nodes.set(left);
        Ok(())
    }

    fn deeper<E: serde::de::Error>(mut self) -> Result<Self, E> {
        self.depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| E::custom(format!("the answer is nested deeper than {DEPTH} levels")))?;
        Ok(self)
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Cell;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cell, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Cell;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Cell, E> {
        Ok(Cell::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Cell, E> {
        Ok(Cell::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Cell, E> {
        Ok(Cell::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Cell, E> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "beyond i64 only as a number that is out of range"
        )]
        Ok(i64::try_from(value).map_or(Cell::Number(value as f64), Cell::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Cell, E> {
        Ok(Cell::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Cell, E> {
        Ok(Cell::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Cell, E> {
        Ok(Cell::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Cell, A::Error> {
        let entry = Self {
            inside_entry: true,
            ..self.deeper()?
        };
        let mut entries = Vec::new();
        while let Some(cell) = list.next_element_seed(entry)? {
            if entries.len() >= self.entries && self.inside_entry {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Cell::Overlong);
            }
            if entries.len() >= self.entries {
                return Err(A::Error::custom(format!(
                    "a list has more than {} entries",
                    self.entries
                )));
            }
            entries.push(cell);
        }
        Ok(Cell::List(entries))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Cell, A::Error> {
        let value = self.deeper()?;
        let mut properties: Vec<(Box<str>, Cell)> = Vec::new();
        while let Some(name) = object.next_key_seed(Name(self.names))? {
            match name {
                None => {
                    object.next_value::<IgnoredAny>()?;
                }
                Some(name) if properties.iter().any(|(known, _)| *known == name) => {
                    return Err(A::Error::custom(format!("the property {name} comes twice")));
                }
                Some(name) => properties.push((name, object.next_value_seed(value)?)),
            }
        }
        Ok(Cell::Record(properties))
    }
}

/// Reads a property's name. Returns `None` if the property is not kept.
struct Name<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<Box<str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<Box<str>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a property's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok((self.0.contains(&name) || ENVELOPE.contains(&name)).then(|| name.into()))
    }
}

#[cfg(test)]
impl From<serde_json::Value> for Cell {
    /// Keeps every property.
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(flag),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => Self::Integer(integer),
                None => Self::Number(number.as_f64().unwrap()),
            },
            Value::String(text) => Self::Text(text),
            Value::Array(list) => Self::List(list.into_iter().map(Self::from).collect()),
            Value::Object(map) => Self::Record(
                map.into_iter()
                    .map(|(name, value)| (name.into(), Self::from(value)))
                    .collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn title(body: &[u8]) -> Option<String> {
        let cell = read(body, &["Title"], 10).unwrap();
        cell.get("Title").and_then(Cell::as_str).map(str::to_owned)
    }

    #[test]
    fn only_named_properties_are_kept() {
        let body = br#"{"d":{"__next":"n","results":[{"Id":1,"Huge":[[[[{"a":[1,2,3]}]]]],"Title":"t"}]}}"#;
        let kept = json!({"d": {"results": [{"Id": 1, "Title": "t"}], "__next": "n"}});
        assert_eq!(read(body, &["Id", "Title"], 10).unwrap(), Cell::from(kept));
    }

    #[test]
    fn what_no_text_can_hold_is_read_as_a_replacement_character() {
        for (body, text) in [
            (&br#"{"Title":"emoji cut \ud83d"}"#[..], "emoji cut \u{fffd}"),
            (br#"{"Title":"\ud83d\ud83d\ude00"}"#, "\u{fffd}\u{1f600}"),
            (br#"{"Title":"\udE00 tail"}"#, "\u{fffd} tail"),
            (br#"{"Title":"\\ud83d \"\ud83d\""}"#, "\\ud83d \"\u{fffd}\""),
            (b"{\"Title\":\"a\xffb\"}", "a\u{fffd}b"),
            (b"{\"Title\":\"a\x0bb\nc\"}", "a\u{fffd}b\u{fffd}c"),
            (
                b"\xef\xbb\xbf{\n\t\"Title\": \"\\ud83d\\ude00\"\r\n}",
                "\u{1f600}",
            ),
        ] {
            assert_eq!(title(body).as_deref(), Some(text));
        }
    }

    #[test]
    fn an_answer_that_is_large_in_memory_is_refused() {
        let bomb = format!("{{\"value\":[{}{{}}]}}", "{\"\":0},".repeat(100_000));
        assert!(read(bomb.as_bytes(), &[], 5_000).unwrap_err().contains("5000"));
        let nested = format!("[{}[]]", format!("[{}[]],", "[],".repeat(900)).repeat(900));
        assert!(
            read(nested.as_bytes(), &[], 1_000)
                .unwrap_err()
                .contains("250000")
        );
        let deep = "[".repeat(100_000);
        assert!(read(deep.as_bytes(), &[], 10).unwrap_err().contains("deeper"));
        // Skipped properties cost nothing, however deep.
        let skipped = format!("{{\"x\":{}{}}}", "[".repeat(100), "]".repeat(100));
        assert_eq!(
            read(skipped.as_bytes(), &[], 10).unwrap(),
            Cell::Record(Vec::new())
        );
    }

    #[test]
    fn an_overlong_list_of_one_entry_leaves_the_others_readable() {
        let people = "1,".repeat(1_000);
        let page =
            format!("{{\"value\":[{{\"Id\":1,\"People\":[{people}1]}},{{\"Id\":2,\"People\":[{people}]}}]}}")
                .replace(",]", "]");
        let cell = read(page.as_bytes(), &["Id", "People"], 1_000).unwrap();
        let entries = cell.get("value").and_then(Cell::as_list).unwrap();
        assert_eq!(entries[0].get("People"), Some(&Cell::Overlong));
        assert_eq!(entries[0].get("Id"), Some(&Cell::Integer(1)));
        let people = entries[1].get("People").and_then(Cell::as_list).unwrap();
        assert_eq!(people.len(), 1_000);
    }

    #[test]
    fn a_doubled_property_and_a_cut_answer_are_refused() {
        assert!(read(br#"{"Id":1,"Id":2}"#, &["Id"], 10).is_err());
        assert!(read(br#"{"Id":1"#, &["Id"], 10).is_err());
        assert!(read(br#"{"Id":1}{"Id":1}"#, &["Id"], 10).is_err());
        assert!(read(b"<html>", &[], 10).is_err());
    }

    proptest! {
        #[test]
        fn no_answer_panics(body in proptest::collection::vec(any::<u8>(), 0..200), text in r#"(\{|\}|"|\\u[dD][89abcdef]00|\\|\[|:|,|a|[0-9]|é){0,40}"#) {
            let _ = read(&body, &["a"], 10);
            let _ = read(text.as_bytes(), &["a"], 10);
        }

        #[test]
        fn texts_survive(text in any::<String>()) {
            let body = json!({"Title": text}).to_string();
            prop_assert_eq!(title(body.as_bytes()), Some(text));
        }
    }
}
