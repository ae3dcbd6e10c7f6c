//! Reading and writing the XML of EWS, in one pass over events, without a tree, and with explicit limits.
//!
//! Elements are matched by local name, because servers and proxies choose their own prefixes. The caller that
//! opens an element with [`Xml::child`] must consume it: by reading its children until `None`, by
//! [`Xml::text`] or by [`Xml::skip`].

use std::borrow::Cow;

use quick_xml::events::attributes::Attribute;
use quick_xml::events::{BytesEnd, BytesStart, Event};
use quick_xml::name::QName;
use quick_xml::reader::Reader;

use crate::http::for_message;

/// The deepest nesting that is read.
pub(super) const MAXIMUM_DEPTH: usize = 128;
/// The most attributes of one element.
pub(super) const MAXIMUM_ATTRIBUTES: usize = 256;
/// Bytes of the longest id or version that is read. Microsoft's clients reserve 512; real ids have fewer than
/// 250.
const LONGEST_ID: usize = 2_048;
/// Bytes of the shortest attribute (` a=""`); shorter attribute lists need not be counted.
const BYTES_OF_SHORTEST_ATTRIBUTE: usize = 5;

/// The reason why an answer cannot be read, as text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadAnswer(pub(super) String);

/// The result of reading.
pub(super) type Parsed<T> = Result<T, BadAnswer>;

/// A reader over one whole answer.
pub(super) struct Xml<'a> {
    reader: Reader<&'a [u8]>,
    depth: usize,
    /// Whether an element without content was opened, whose end is the next event.
    ends: bool,
}

/// An opened element.
pub(super) struct Element<'a> {
    start: BytesStart<'a>,
    /// Bytes of the name's prefix, including the colon.
    prefix: usize,
}

impl<'a> From<BytesStart<'a>> for Element<'a> {
    fn from(start: BytesStart<'a>) -> Self {
        // Names are short: checking each byte is faster than a vectorised search.
        let colon = start.name().into_inner().bytes().position(|byte| byte == b':');
        Self {
            start,
            prefix: colon.map_or(0, |colon| colon + 1),
        }
    }
}

impl Element<'_> {
    /// Returns its name without prefix.
    pub(super) fn name(&self) -> &str {
        self.start
            .name()
            .into_inner()
            .get(self.prefix..)
            .unwrap_or_default()
    }

    /// Returns the value of an attribute by its name without prefix.
    pub(super) fn attribute(&self, name: &str) -> Parsed<Option<Cow<'_, str>>> {
        let [value] = self.attributes([name])?;
        Ok(value)
    }

    /// Returns the values of attributes by their names without prefix, in one pass that ends when all are
    /// found.
    pub(super) fn attributes<const N: usize>(&self, names: [&str; N]) -> Parsed<[Option<Cow<'_, str>>; N]> {
        let mut values = [const { None }; N];
        let mut missing = N;
        let mut rest = self.start.attributes_raw();
        while missing > 0 {
            let Some((name, value, after)) = next_attribute(rest)? else {
                break;
            };
            rest = after;
            for (wanted, found) in names.iter().zip(&mut values) {
                if *wanted == name && found.is_none() {
                    *found = Some(normal(value)?);
                    missing -= 1;
                }
            }
        }
        Ok(values)
    }

    /// Returns the id in the attribute `name`; fails if it is missing.
    pub(super) fn required(&self, name: &str) -> Parsed<String> {
        let value = self.attribute(name)?;
        self.present(name, value)
    }

    /// Returns the id in the attribute `name`; fails if it is missing, empty or longer than [`LONGEST_ID`].
    pub(super) fn present(&self, name: &str, value: Option<Cow<'_, str>>) -> Parsed<String> {
        match self.short(name, value)? {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(BadAnswer(format!("{} without {name}", self.name()))),
        }
    }

    /// Returns the id or version in the attribute `name`; fails if it is longer than [`LONGEST_ID`].
    pub(super) fn short(&self, name: &str, value: Option<Cow<'_, str>>) -> Parsed<Option<String>> {
        match value {
            Some(value) if value.len() > LONGEST_ID => Err(BadAnswer(format!(
                "{} with {name} of {} bytes, where at most {LONGEST_ID} are read",
                self.name(),
                value.len()
            ))),
            value => Ok(value.map(Cow::into_owned)),
        }
    }
}

/// Splits the first attribute off a list. Returns its name without prefix, its value as written, and the
/// rest. The library's own iterator checks every byte of a value separately, and Exchange's ids are long.
fn next_attribute(list: &str) -> Parsed<Option<(&str, &str, &str)>> {
    let list = list.trim_ascii_start();
    if list.is_empty() {
        return Ok(None);
    }
    let malformed = || BadAnswer(format!("a malformed attribute: {}", for_message(list, 40)));
    // Names are short, so each byte is checked separately.
    let end = list.bytes().position(|byte| byte == b'=').ok_or_else(malformed)?;
    let (name, value) = (list[..end].trim_ascii_end(), &list[end + 1..]);
    let strange = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'<' | b'>');
    if name.is_empty() || name.bytes().any(strange) {
        return Err(malformed());
    }
    let value = value.trim_ascii_start();
    let quoted = |quote| value.strip_prefix(quote)?.split_once(quote);
    let (value, after) = quoted('"').or_else(|| quoted('\'')).ok_or_else(malformed)?;
    let name = name.rsplit_once(':').map_or(name, |(_, local)| local);
    Ok(Some((name, value, after)))
}

/// Returns an attribute's value as XML defines it: references resolved, line breaks replaced by spaces.
fn normal(value: &str) -> Parsed<Cow<'_, str>> {
    // The loop has no early end, so that the compiler can check many bytes at once.
    let special = value.bytes().fold(false, |special, byte| {
        special | matches!(byte, b'&' | b'\t' | b'\n' | b'\r')
    });
    if !special {
        return Ok(Cow::Borrowed(value));
    }
    Attribute {
        key: QName(""),
        value: Cow::Borrowed(value),
    }
    .normalized_value(quick_xml::XmlVersion::Implicit1_0)
    .map_err(|error| BadAnswer(format!("a malformed attribute: {error}")))
}

impl<'a> Xml<'a> {
    /// Returns a reader over `body`, which must be UTF-8.
    pub(super) fn new(body: &'a [u8]) -> Parsed<Self> {
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        let text = std::str::from_utf8(body).map_err(|error| BadAnswer(format!("not UTF-8: {error}")))?;
        Ok(Self {
            reader: Reader::from_str(text),
            depth: 0,
            ends: false,
        })
    }

    /// Returns the next event. An element without content gives a start and an end. (The library can do the
    /// same, but allocates the name of each.)
    fn event(&mut self) -> Parsed<Event<'a>> {
        if std::mem::take(&mut self.ends) {
            self.depth = self.depth.saturating_sub(1);
            return Ok(Event::End(BytesEnd::new("")));
        }
        let mut event = self.reader.read_event().map_err(|error| {
            BadAnswer(format!(
                "not well-formed at byte {}: {error}",
                self.reader.error_position()
            ))
        })?;
        if let Event::Empty(start) = event {
            self.ends = true;
            event = Event::Start(start);
        }
        match &event {
            Event::Start(start) => {
                self.depth += 1;
                if self.depth > MAXIMUM_DEPTH {
                    return Err(BadAnswer(format!("nested deeper than {MAXIMUM_DEPTH}")));
                }
                let attributes = start.attributes_raw();
                if attributes.len() >= MAXIMUM_ATTRIBUTES * BYTES_OF_SHORTEST_ATTRIBUTE
                    && start.attributes().with_checks(false).count() > MAXIMUM_ATTRIBUTES
                {
                    return Err(BadAnswer(format!(
                        "an element with more than {MAXIMUM_ATTRIBUTES} attributes"
                    )));
                }
            }
            Event::End(_) => self.depth = self.depth.saturating_sub(1),
            Event::DocType(_) => {
                return Err(BadAnswer(
                    "a document type definition, which is not read".to_owned(),
                ));
            }
            Event::Eof => return Err(BadAnswer("cut off: it ends inside an element".to_owned())),
            Event::Empty(_)
            | Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::GeneralRef(_) => {}
        }
        Ok(event)
    }

    /// Opens the root element.
    pub(super) fn root(&mut self) -> Parsed<Element<'a>> {
        loop {
            match self.event() {
                Ok(Event::Start(start)) => return Ok(start.into()),
                Ok(Event::Text(text)) if !text.trim().is_empty() => {
                    return Err(BadAnswer("not XML".to_owned()));
                }
                Ok(Event::CData(_) | Event::GeneralRef(_)) => return Err(BadAnswer("not XML".to_owned())),
                Ok(_) => {}
                Err(error) if self.depth == 0 && error.0.starts_with("cut off") => {
                    return Err(BadAnswer("no XML element in it".to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens the next child of the current element. Returns `None` if the current element ends here, and
    /// closes it.
    pub(super) fn child(&mut self) -> Parsed<Option<Element<'a>>> {
        loop {
            match self.event()? {
                Event::Start(start) => return Ok(Some(start.into())),
                Event::End(_) => return Ok(None),
                Event::Empty(_)
                | Event::Text(_)
                | Event::CData(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_)
                | Event::DocType(_)
                | Event::GeneralRef(_)
                | Event::Eof => {}
            }
        }
    }

    /// Returns the text of the current element up to its end, without the elements inside.
    pub(super) fn text(&mut self) -> Parsed<Cow<'a, str>> {
        let mut content: Cow<'a, str> = Cow::Borrowed("");
        let mut add = |part: Cow<'a, str>| {
            if content.is_empty() {
                content = part;
            } else {
                content.to_mut().push_str(&part);
            }
        };
        loop {
            match self.event()? {
                Event::Text(text) => add(text.xml10_content()),
                Event::CData(text) => add(text.xml10_content()),
                Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                    // Exchange is known to send references to characters that XML does not allow; they are
                    // dropped.
                    Ok(Some(character)) if !is_xml_character(character) => {}
                    Ok(Some(character)) => add(Cow::Owned(character.to_string())),
                    Ok(None) => match quick_xml::escape::resolve_predefined_entity(&reference) {
                        Some(text) => add(Cow::Borrowed(text)),
                        None => return Err(BadAnswer("an entity that XML does not define".to_owned())),
                    },
                    Err(_) => {}
                },
                Event::Start(_) => self.skip()?,
                Event::End(_) => return Ok(content),
                Event::Empty(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_)
                | Event::DocType(_)
                | Event::Eof => {}
            }
        }
    }

    /// Skips the rest of the current element.
    pub(super) fn skip(&mut self) -> Parsed<()> {
        let outside = self.depth.saturating_sub(1);
        while self.depth > outside {
            self.event()?;
        }
        Ok(())
    }
}

/// Reads a Boolean value of XML.
pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text.trim() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(BadAnswer(
            "a truth value that is neither true nor false".to_owned(),
        )),
    }
}

/// Returns whether XML 1.0 allows the character at all, escaped or not.
fn is_xml_character(character: char) -> bool {
    matches!(character,
        '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

/// Appends `text` escaped, for element content and for attribute values in double quotes. Characters that XML
/// does not allow are dropped. Line breaks and tabs are written as references, so that they survive
/// normalisation.
pub(super) fn escape(out: &mut String, text: &str) {
    // Most texts are plain, ids above all. The loop has no early end, so that the compiler can check many
    // bytes at once.
    let plain = text.bytes().fold(true, |plain, byte| {
        plain & matches!(byte, b' '..=b'~') & !matches!(byte, b'&' | b'<' | b'>' | b'"')
    });
    if plain {
        out.push_str(text);
        return;
    }
    let mut clean_from = 0;
    for (at, character) in text.char_indices() {
        let replacement = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            '\r' => "&#13;",
            '\n' => "&#10;",
            '\t' => "&#9;",
            other if !is_xml_character(other) => "",
            _ => continue,
        };
        out.push_str(&text[clean_from..at]);
        out.push_str(replacement);
        clean_from = at + character.len_utf8();
    }
    out.push_str(&text[clean_from..]);
}

/// Appends `<name>text</name>`.
pub(super) fn element(out: &mut String, name: &str, text: &str) {
    out.push('<');
    out.push_str(name);
    out.push('>');
    escape(out, text);
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_text(xml: &str) -> Parsed<String> {
        let mut reader = Xml::new(xml.as_bytes())?;
        reader.root()?;
        reader.text().map(Cow::into_owned)
    }

    #[test]
    fn text_joins_its_parts() {
        assert_eq!(
            first_text("<a>1 &lt; 2 &amp; <!--x--><b>no</b><![CDATA[<3>]]> &#x41;&#1;</a>").unwrap(),
            "1 < 2 & <3> A"
        );
        assert_eq!(first_text("\u{FEFF}<?xml version=\"1.0\"?>\n<a/>").unwrap(), "");
        assert!(first_text("<a>&unknown;</a>").is_err());
    }

    #[test]
    fn limits_are_kept() {
        let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(first_text(&nested(MAXIMUM_DEPTH)).is_ok());
        assert!(
            first_text(&nested(MAXIMUM_DEPTH + 1))
                .unwrap_err()
                .0
                .contains("deeper")
        );
        let attributes = |count: usize| {
            let list = (0..count)
                .map(|number| format!(" a{number}=\"\""))
                .collect::<Vec<_>>()
                .concat();
            format!("<a{list}/>")
        };
        assert!(first_text(&attributes(MAXIMUM_ATTRIBUTES)).is_ok());
        assert!(first_text(&attributes(MAXIMUM_ATTRIBUTES + 1)).is_err());
        assert!(
            first_text("<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>")
                .unwrap_err()
                .0
                .contains("definition")
        );
        for wrong in ["", "  ", "plain", "<a>", "<a></b>", "<a", "<a>&", "\u{0}"] {
            assert!(first_text(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn attributes_are_found_in_any_form_and_refused_when_malformed() {
        fn values(xml: &str) -> Parsed<[Option<String>; 2]> {
            let mut reader = Xml::new(xml.as_bytes())?;
            let root = reader.root()?;
            let values = root.attributes(["Id", "Key"])?;
            Ok(values.map(|value| value.map(Cow::into_owned)))
        }
        let both = |id: &str, key: &str| Ok([Some(id.to_owned()), Some(key.to_owned())]);
        assert_eq!(values("<a Id=\"1\" Key=\"2\"/>"), both("1", "2"));
        assert_eq!(
            values("<a x='\"' \n Key = '=>' t:Id\t=\n\"'\" />"),
            both("'", "=>")
        );
        assert_eq!(values("<a Id='&lt;&#65;\t\n' Key=''/>"), both("<A  ", ""));
        // If two attributes have the same local name, the first counts.
        assert_eq!(values("<a p:Id='1' Id='2' Key='3'/>"), both("1", "3"));
        assert_eq!(values("<a Id2='1' id='2'>"), Ok([None, None]));
        for wrong in [
            "Id",
            "Id=",
            "Id=1",
            "=\"1\"",
            "x Id='1'",
            "x='1' Id",
            "Id='&nix;'",
            "Id='&'",
            "'Id'='1'",
        ] {
            assert!(values(&format!("<a {wrong}/>")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_empty_element_opens_and_closes() {
        let mut reader = Xml::new(b"<a><b/><c><d/></c>t</a>").unwrap();
        reader.root().unwrap();
        for name in ["b", "c"] {
            assert_eq!(reader.child().unwrap().unwrap().name(), name);
            reader.skip().unwrap();
        }
        assert_eq!(reader.text().unwrap(), "t");
    }

    #[test]
    fn what_is_written_can_be_read_back() {
        let nasty = "a\r\n\t<b c=\"d\">&amp;]]>'\u{1F600}é";
        let mut out = String::new();
        element(&mut out, "x", &format!("{nasty}\u{0}\u{1}\u{FFFF}"));
        assert_eq!(first_text(&out).unwrap(), nasty);
    }
}
