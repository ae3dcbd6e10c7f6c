//! A small document tree for requests, and the escaping of text for answers.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

/// Largest nesting depth of a request.
const MAXIMUM_DEPTH: usize = 128;
/// Largest number of attributes of one element.
const MAXIMUM_ATTRIBUTES: usize = 256;
/// Largest number of elements in one document.
const MAXIMUM_ELEMENTS: usize = 200_000;

/// The namespaces that a request may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ns {
    Soap,
    Types,
    Messages,
    Other,
}

impl Ns {
    /// Returns the URI of the namespace.
    pub(crate) fn uri(self) -> &'static str {
        match self {
            Self::Soap => "http://schemas.xmlsoap.org/soap/envelope/",
            Self::Types => "http://schemas.microsoft.com/exchange/services/2006/types",
            Self::Messages => "http://schemas.microsoft.com/exchange/services/2006/messages",
            Self::Other => "",
        }
    }
}

/// An element with its namespace, attributes, children and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) ns: Ns,
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) children: Vec<Element>,
    pub(crate) text: String,
    /// Byte offset after the start tag, for the positions in schema errors.
    pub(crate) offset: usize,
}

impl Element {
    /// Returns the attribute with this name that has no namespace.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the first child with this name.
    pub(crate) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// Returns the text of the first child with this name.
    pub(crate) fn child_text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }
}

/// Parses a document.
///
/// # Errors
/// Describes the problem: the document is not well-formed, has a document type, or exceeds one of the limits.
pub(crate) fn parse(text: &str) -> Result<Element, String> {
    let mut reader = NsReader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut elements = 0usize;
    loop {
        let (resolved, event) = reader.read_resolved_event().map_err(|error| error.to_string())?;
        match event {
            Event::Start(_) | Event::Empty(_) if root.is_some() => {
                return Err("more than one root element".to_owned());
            }
            Event::Start(start) => {
                elements += 1;
                if open.len() >= MAXIMUM_DEPTH || elements > MAXIMUM_ELEMENTS {
                    return Err("the document is nested too deeply or too large".to_owned());
                }
                let ns = namespace(&resolved);
                open.push(element(ns, &start, reader.buffer_position())?);
            }
            Event::Empty(start) => {
                elements += 1;
                if elements > MAXIMUM_ELEMENTS {
                    return Err("the document is too large".to_owned());
                }
                let ns = namespace(&resolved);
                let done = element(ns, &start, reader.buffer_position())?;
                close(&mut open, &mut root, done);
            }
            Event::End(_) => {
                if let Some(done) = open.pop() {
                    close(&mut open, &mut root, done);
                }
            }
            Event::Text(text) => {
                if let Some(parent) = open.last_mut() {
                    parent.text.push_str(&text.xml_content(XmlVersion::Implicit1_0));
                }
            }
            Event::CData(data) => {
                if let Some(parent) = open.last_mut() {
                    parent.text.push_str(&data.xml_content(XmlVersion::Implicit1_0));
                }
            }
            Event::GeneralRef(reference) => {
                let character = resolve(&reference)?;
                if let Some(parent) = open.last_mut() {
                    parent.text.push(character);
                }
            }
            Event::DocType(_) => {
                return Err("For security reasons DTD is prohibited in this XML document.".to_owned());
            }
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => break,
        }
    }
    if !open.is_empty() {
        return Err("unexpected end of file".to_owned());
    }
    root.ok_or_else(|| "Root element is missing.".to_owned())
}

fn close(open: &mut [Element], root: &mut Option<Element>, done: Element) {
    match open.last_mut() {
        Some(parent) => parent.children.push(done),
        None => *root = Some(done),
    }
}

fn namespace(resolved: &ResolveResult<'_>) -> Ns {
    let ResolveResult::Bound(namespace) = resolved else {
        return Ns::Other;
    };
    [Ns::Types, Ns::Messages, Ns::Soap]
        .into_iter()
        .find(|ns| ns.uri() == namespace.0)
        .unwrap_or(Ns::Other)
}

fn element(ns: Ns, start: &BytesStart<'_>, offset: u64) -> Result<Element, String> {
    let name = start.local_name().as_ref().to_owned();
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let key = attribute.key.0;
        // Namespace declarations and attributes of other namespaces (xsi:type, soap:mustUnderstand) have no meaning
        // here.
        if key == "xmlns" || key.contains(':') {
            continue;
        }
        if attributes.len() >= MAXIMUM_ATTRIBUTES {
            return Err("too many attributes".to_owned());
        }
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| error.to_string())?;
        attributes.push((key.to_owned(), value.into_owned()));
    }
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    Ok(Element {
        ns,
        name,
        attributes,
        children: Vec::new(),
        text: String::new(),
        offset,
    })
}

fn resolve(reference: &BytesRef<'_>) -> Result<char, String> {
    if let Some(character) = reference.resolve_char_ref().map_err(|error| error.to_string())? {
        return Ok(character);
    }
    match reference.xml_content(XmlVersion::Implicit1_0).as_ref() {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        name => Err(format!("Reference to undeclared entity '{name}'.")),
    }
}

/// Returns line and column of a byte offset, both counted from 1.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let bytes = text.as_bytes();
    let before = bytes.get(..offset).unwrap_or(bytes);
    let mut lines = before.rsplit(|byte| *byte == b'\n');
    let column = lines.next().map_or(0, <[u8]>::len) + 1;
    let line = lines.count() + 1;
    (line, column)
}

/// Appends text with XML's special characters escaped. Characters that XML cannot contain become `?`.
pub(crate) fn escape_into(out: &mut String, text: &str) {
    // Fast path: identifiers and dates, the bulk of every answer, need no escaping.
    let needs_no_escape =
        |byte: u8| (b' '..0x7f).contains(&byte) && !matches!(byte, b'&' | b'<' | b'>' | b'"');
    if text.bytes().all(needs_no_escape) {
        out.push_str(text);
        return;
    }
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // A carriage return would be read back as a line feed.
            '\r' => out.push_str("&#xD;"),
            '\t' | '\n' => out.push(character),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('?'),
            _ => out.push(character),
        }
    }
}

/// Appends `<t:name>text</t:name>` with the text escaped.
pub(crate) fn leaf(out: &mut String, name: &str, text: &str) {
    out.push_str("<t:");
    out.push_str(name);
    out.push('>');
    escape_into(out, text);
    out.push_str("</t:");
    out.push_str(name);
    out.push('>');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_namespaces_attributes_entities_and_cdata() {
        let text = "<a xmlns='http://schemas.microsoft.com/exchange/services/2006/types' b='1 &amp; 2'>x&lt;&#65;<![CDATA[<y>]]><c/></a>";
        let root = parse(text).unwrap();
        assert_eq!(
            (root.ns, root.name.as_str(), root.text.as_str()),
            (Ns::Types, "a", "x<A<y>")
        );
        assert_eq!(root.attribute("b"), Some("1 & 2"));
        assert_eq!(root.children[0].ns, Ns::Types);
    }

    #[test]
    fn refuses_documents_beyond_the_limits() {
        let deep = format!("{}{}", "<a>".repeat(200), "</a>".repeat(200));
        assert!(parse(&deep).is_err());
        assert!(parse("<!DOCTYPE a [<!ENTITY b 'c'>]><a/>").is_err());
        assert!(parse("<a>&b;</a>").is_err());
        assert!(parse("<a><b></a>").is_err());
        assert!(parse("<a><b/>").is_err());
        assert!(parse("").is_err());
        assert!(parse("<a/><b/>").is_err());
    }

    #[test]
    fn escapes_what_xml_cannot_hold() {
        let mut out = String::new();
        escape_into(&mut out, "a<b>&\"\u{1}\r\nä");
        assert_eq!(out, "a&lt;b&gt;&amp;&quot;?&#xD;\nä");
    }
}
