//! Changes one element of an answer. XML and JSON stay well formed. Pure.

use quick_xml::events::Event;
use quick_xml::reader::Reader;
use serde_json::Value;

use crate::sim::dice::Dice;

/// A change of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ElementChange {
    /// It is left out.
    Drop,
    /// It is duplicated.
    Double,
    /// Its value is replaced by another.
    Alter,
}

impl ElementChange {
    fn name(self) -> &'static str {
        match self {
            Self::Drop => "dropped",
            Self::Double => "doubled",
            Self::Alter => "altered",
        }
    }
}

/// Elements at a smaller depth belong to the envelope.
const ENVELOPE_DEPTH: usize = 3;
/// Longest piece of an answer in the log, in characters.
const SHOWN: usize = 120;

struct Span {
    start: usize,
    end: usize,
    name: String,
    leaf: bool,
}

/// Changes one element inside the body of a SOAP answer. Returns the new text and a description of the change, or
/// `None` if there is no such element.
pub(crate) fn xml(text: &str, change: ElementChange, dice: &mut Dice) -> Option<(String, String)> {
    let spans: Vec<Span> = spans(text)?
        .into_iter()
        .filter(|span| change != ElementChange::Alter || span.leaf)
        .collect();
    let span = spans.get(dice.below(spans.len()))?;
    let (before, element, after) = (
        text.get(..span.start)?,
        text.get(span.start..span.end)?,
        text.get(span.end..)?,
    );
    let changed = match change {
        ElementChange::Drop => String::new(),
        ElementChange::Double => format!("{element}{element}"),
        ElementChange::Alter => altered_element(element, dice)?,
    };
    let description = format!("{} {}: {}", change.name(), span.name, shown(element));
    Some((format!("{before}{changed}{after}"), description))
}

fn spans(text: &str) -> Option<Vec<Span>> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<(usize, String, bool)> = Vec::new();
    let mut spans = Vec::new();
    let position = |reader: &Reader<&[u8]>| usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
    loop {
        let start = position(&reader);
        let event = reader.read_event().ok()?;
        let end = position(&reader);
        match event {
            Event::Start(element) => {
                if let Some(parent) = open.last_mut() {
                    parent.2 = false;
                }
                let name = element.name().as_ref().to_owned();
                open.push((start, name, true));
            }
            Event::Empty(element) => {
                if let Some(parent) = open.last_mut() {
                    parent.2 = false;
                }
                if open.len() >= ENVELOPE_DEPTH {
                    let name = element.name().as_ref().to_owned();
                    spans.push(Span {
                        start,
                        end,
                        name,
                        leaf: true,
                    });
                }
            }
            Event::End(_) => {
                let (start, name, leaf) = open.pop()?;
                if open.len() >= ENVELOPE_DEPTH {
                    spans.push(Span {
                        start,
                        end,
                        name,
                        leaf,
                    });
                }
            }
            Event::Eof => return open.is_empty().then_some(spans),
            Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::GeneralRef(_) => {}
        }
    }
}

/// Returns the leaf with another text, or with another value of its last attribute if it has no text.
fn altered_element(element: &str, dice: &mut Dice) -> Option<String> {
    let head_end = element.find('>')?;
    let inside = element
        .get(head_end + 1..)
        .and_then(|rest| rest.rfind("</").map(|at| (rest, at)));
    if let Some((rest, at)) = inside
        && at > 0
    {
        let (text, tail) = rest.split_at_checked(at)?;
        return Some(format!(
            "{}{}{tail}",
            element.get(..=head_end)?,
            altered(text, dice)
        ));
    }
    let head = element.get(..head_end)?;
    let values: Vec<(usize, usize)> = head
        .match_indices("=\"")
        .filter_map(|(at, _)| {
            let start = at + 2;
            head.get(start..)?.find('"').map(|length| (start, start + length))
        })
        .collect();
    let (start, end) = *values.get(dice.below(values.len()))?;
    Some(format!(
        "{}{}{}",
        element.get(..start)?,
        altered(element.get(start..end)?, dice),
        element.get(end..)?
    ))
}

/// Returns the text with one letter or digit replaced by another of its kind, or with one character more if it has
/// none.
pub(crate) fn altered(text: &str, dice: &mut Dice) -> String {
    // Characters of an entity stay as they are, so that the XML stays well formed.
    let mut in_entity = false;
    let positions: Vec<usize> = text
        .char_indices()
        .filter(|(_, character)| {
            match character {
                '&' => in_entity = true,
                ';' => in_entity = false,
                _ => {}
            }
            character.is_ascii_alphanumeric() && !in_entity
        })
        .map(|(at, _)| at)
        .collect();
    let Some(at) = positions.get(dice.below(positions.len())).copied() else {
        return format!("{text}7");
    };
    let old = text.as_bytes().get(at).copied().unwrap_or(b'a');
    let (first, count) = match old {
        b'0'..=b'9' => (b'0', 10),
        b'a'..=b'z' => (b'a', 26),
        _ => (b'A', 26),
    };
    let step = u8::try_from(1 + dice.below(usize::from(count) - 1)).unwrap_or(1);
    let new = first + (old.saturating_sub(first) + step) % count;
    let mut changed = text.to_owned();
    changed.replace_range(at..=at, &char::from(new).to_string());
    changed
}

/// Changes one value below the root of a JSON answer. Returns the new text and a description of the change.
pub(crate) fn json(text: &str, change: ElementChange, dice: &mut Dice) -> Option<(String, String)> {
    let mut root: Value = serde_json::from_str(text).ok()?;
    let mut paths = Vec::new();
    collect(&root, "", change, &mut paths);
    let path = paths.get(dice.below(paths.len()))?.clone();
    let description = format!(
        "{} {path}: {}",
        change.name(),
        shown(&root.pointer(&path)?.to_string())
    );
    let (parent, name) = path.rsplit_once('/')?;
    let name = name.replace("~1", "/").replace("~0", "~");
    match change {
        ElementChange::Alter => {
            let value = root.pointer_mut(&path)?;
            *value = match &*value {
                Value::String(text) => altered(text, dice).into(),
                Value::Number(number) => match number.as_i64() {
                    Some(number) => (number ^ (1 << dice.below(4))).into(),
                    None => 0.25.into(),
                },
                Value::Bool(flag) => (!flag).into(),
                Value::Null | Value::Array(_) | Value::Object(_) => "changed".into(),
            };
        }
        ElementChange::Drop => match root.pointer_mut(parent)? {
            Value::Object(object) => {
                object.remove(&name)?;
            }
            Value::Array(array) => {
                let at = name.parse::<usize>().ok().filter(|at| *at < array.len())?;
                array.remove(at);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
        },
        ElementChange::Double => {
            let array = root.pointer_mut(parent)?.as_array_mut()?;
            let at = name.parse::<usize>().ok()?;
            let value = array.get(at)?.clone();
            array.insert(at, value);
        }
    }
    Some((root.to_string(), description))
}

fn collect(value: &Value, path: &str, change: ElementChange, paths: &mut Vec<String>) {
    let fits = |child: &Value, in_array: bool| match change {
        ElementChange::Drop => true,
        ElementChange::Double => in_array,
        ElementChange::Alter => !child.is_array() && !child.is_object(),
    };
    let mut visit = |name: String, child: &Value, in_array: bool| {
        let path = format!("{path}/{name}");
        if fits(child, in_array) {
            paths.push(path.clone());
        }
        collect(child, &path, change, paths);
    };
    match value {
        Value::Array(array) => {
            for (at, child) in array.iter().enumerate() {
                visit(at.to_string(), child, true);
            }
        }
        Value::Object(object) => {
            for (name, child) in object {
                visit(name.replace('~', "~0").replace('/', "~1"), child, false);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOAP: &str = "<?xml version=\"1.0\"?><s:Envelope><s:Body><m:R><m:M><t:Task><t:ItemId Id=\"AAA\" ChangeKey=\"B1\"/><t:Subject>A &amp; B</t:Subject></t:Task></m:M></m:R></s:Body></s:Envelope>";

    #[test]
    fn changed_xml_stays_well_formed_and_differs() {
        for change in [ElementChange::Drop, ElementChange::Double, ElementChange::Alter] {
            for seed in 0..200 {
                let (text, description) = xml(SOAP, change, &mut Dice::new(seed)).unwrap();
                assert!(spans(&text).is_some(), "{description}: {text}");
                assert_ne!(text, SOAP, "{description}");
                assert!(text.starts_with("<?xml version=\"1.0\"?><s:Envelope><s:Body><m:R>"));
            }
        }
    }

    #[test]
    fn changed_json_stays_json_and_differs() {
        let text = "{\"value\":[{\"Id\":7,\"Title\":\"a/b\",\"AssignedTo\":[3,4],\"Due\":null},{\"Id\":8}],\"odata.nextLink\":\"x\"}";
        let before: Value = serde_json::from_str(text).unwrap();
        for change in [ElementChange::Drop, ElementChange::Double, ElementChange::Alter] {
            for seed in 0..200 {
                let (text, description) = json(text, change, &mut Dice::new(seed)).unwrap();
                let after: Value = serde_json::from_str(&text).unwrap();
                assert_ne!(before, after, "{description}");
            }
        }
    }
}
