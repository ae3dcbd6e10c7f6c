//! Validates requests against the element order, attributes and simple types of the EWS schema.
//!
//! The tables are in [`super::schema_tables`]. They contain what a request about task folders and tasks may contain.
//! Anything else is a violation, as unknown elements are on a real server.

use jiff::{Timestamp, civil::DateTime};

use super::xml::{Element, Ns};

/// The type of an element.
pub(crate) struct Type {
    pub(crate) attributes: &'static [Attribute],
    pub(crate) content: Content,
}

/// An attribute that an element may or must have.
pub(crate) struct Attribute {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) kind: Simple,
}

/// The content between start tag and end tag.
pub(crate) enum Content {
    /// Child elements in the order of the particles.
    Elements(&'static [Particle]),
    /// Text of a simple type.
    Text(Simple),
    /// Nothing.
    Empty,
    /// Any content; the value is stored as it is.
    Any,
}

/// One position in a sequence: a choice of elements, and how often one of them may occur.
pub(crate) struct Particle {
    pub(crate) choice: &'static [(Ns, &'static str, &'static Type)],
    pub(crate) min: u32,
    pub(crate) max: u32,
}

/// Simple types.
#[derive(Clone, Copy)]
pub(crate) enum Simple {
    String,
    NonEmpty,
    Int,
    /// An integer from the first to the last value.
    Range(i64, i64),
    Double,
    Boolean,
    DateTime,
    Guid,
    PropertyTag,
    FieldUri,
    OneOf(&'static [&'static str]),
}

/// A request that violates the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Byte offset of the violation.
    pub(crate) offset: usize,
    /// Description in the words of an XML validator.
    pub(crate) text: String,
}

/// Validates an element and everything inside it.
///
/// # Errors
/// The first violation in document order.
pub(crate) fn check(element: &Element, kind: &Type) -> Result<(), Violation> {
    for (name, value) in &element.attributes {
        let Some(attribute) = kind.attributes.iter().find(|attribute| attribute.name == name) else {
            return Err(violation(
                element,
                format!("The '{name}' attribute is not declared."),
            ));
        };
        if let Err(reason) = simple(value, attribute.kind) {
            let text = format!(
                "The '{name}' attribute is invalid - The value '{value}' is invalid according to its datatype - {reason}"
            );
            return Err(violation(element, text));
        }
    }
    if let Some(missing) = kind
        .attributes
        .iter()
        .find(|attribute| attribute.required && element.attribute(attribute.name).is_none())
    {
        return Err(violation(
            element,
            format!("The required attribute '{}' is missing.", missing.name),
        ));
    }
    match (&kind.content, element.children.first()) {
        (Content::Any, _) => Ok(()),
        (Content::Empty | Content::Text(_), Some(child)) => {
            Err(violation(child, unexpected(element, child, &[])))
        }
        (Content::Empty, None) => blank(element),
        (Content::Text(kind), None) => simple(&element.text, *kind).map_err(|reason| {
            let text = format!(
                "The '{}' element is invalid - The value '{}' is invalid according to its datatype - {reason}",
                qualified(element.ns, &element.name),
                element.text
            );
            violation(element, text)
        }),
        (Content::Elements(particles), _) => {
            blank(element)?;
            sequence(element, particles)
        }
    }
}

fn sequence(element: &Element, particles: &[Particle]) -> Result<(), Violation> {
    let mut position = 0;
    let mut seen = 0;
    for child in &element.children {
        let mut at = position;
        let mut count = seen;
        let found = loop {
            let Some(particle) = particles.get(at) else {
                break None;
            };
            let matching = particle
                .choice
                .iter()
                .find(|(ns, name, _)| *ns == child.ns && *name == child.name);
            if let Some((_, _, kind)) = matching
                && count < particle.max
            {
                break Some(*kind);
            }
            if count < particle.min {
                break None;
            }
            at += 1;
            count = 0;
        };
        let Some(kind) = found else {
            return Err(violation(
                child,
                unexpected(element, child, particles.get(position..).unwrap_or_default()),
            ));
        };
        check(child, kind)?;
        position = at;
        seen = count + 1;
    }
    let mut rest = particles.iter().skip(position).enumerate();
    if rest.any(|(index, particle)| particle.min > if index == 0 { seen } else { 0 }) {
        let text = format!(
            "The element '{}' has incomplete content.",
            qualified(element.ns, &element.name)
        );
        return Err(violation(element, text));
    }
    Ok(())
}

fn blank(element: &Element) -> Result<(), Violation> {
    if element.text.trim().is_empty() {
        return Ok(());
    }
    let text = format!(
        "The element '{}' cannot contain text.",
        qualified(element.ns, &element.name)
    );
    Err(violation(element, text))
}

fn qualified(ns: Ns, name: &str) -> String {
    format!("{}:{name}", ns.uri())
}

fn unexpected(parent: &Element, child: &Element, left: &[Particle]) -> String {
    let mut expected: Vec<&str> = Vec::new();
    for particle in left.iter().take(12) {
        expected.extend(particle.choice.iter().map(|(_, name, _)| *name));
    }
    format!(
        "The element '{}' in namespace '{}' has invalid child element '{}' in namespace '{}'. List of possible elements expected: '{}'.",
        parent.name,
        parent.ns.uri(),
        child.name,
        child.ns.uri(),
        expected.join(", ")
    )
}

fn violation(element: &Element, text: String) -> Violation {
    Violation {
        offset: element.offset,
        text,
    }
}

fn simple(value: &str, kind: Simple) -> Result<(), String> {
    let trimmed = value.trim();
    let good = match kind {
        Simple::String => true,
        Simple::NonEmpty => !value.is_empty(),
        Simple::Int => trimmed.parse::<i32>().is_ok(),
        Simple::Range(low, high) => trimmed
            .parse::<i64>()
            .is_ok_and(|number| (low..=high).contains(&number)),
        Simple::Double => trimmed.parse::<f64>().is_ok(),
        Simple::Boolean => matches!(trimmed, "true" | "false" | "1" | "0"),
        Simple::DateTime => date_time(trimmed).is_some(),
        Simple::Guid => value.len() == 36 && uuid::Uuid::try_parse(value).is_ok(),
        Simple::PropertyTag => property_tag(value).is_some(),
        Simple::FieldUri => super::field_uris::is_known(value),
        Simple::OneOf(values) => {
            if values.contains(&value) {
                return Ok(());
            }
            return Err("The Enumeration constraint failed.".to_owned());
        }
    };
    if good {
        Ok(())
    } else {
        Err("The string is not a valid value of its type.".to_owned())
    }
}

/// An `xs:dateTime`. With a time zone it is an instant, without one a local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum XsDateTime {
    Instant(Timestamp),
    Local(DateTime),
}

/// Parses an `xs:dateTime`.
pub(crate) fn date_time(text: &str) -> Option<XsDateTime> {
    let text = text.trim();
    let time = text.find('T')?;
    let zoned = text[time..].ends_with('Z') || text[time..].contains('+') || text[time..].contains('-');
    if zoned {
        text.parse().ok().map(XsDateTime::Instant)
    } else {
        text.parse().ok().map(XsDateTime::Local)
    }
}

/// Parses a property tag, hexadecimal (`0x670A`) or decimal.
pub(crate) fn property_tag(text: &str) -> Option<u16> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if (1..=4).contains(&hex.len()) => u16::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema_tables::operation;
    use super::super::xml::parse;
    use super::*;

    const NAMESPACES: &str = "xmlns='http://schemas.microsoft.com/exchange/services/2006/messages' xmlns:t='http://schemas.microsoft.com/exchange/services/2006/types'";

    fn verdict(name: &str, attributes: &str, inner: &str) -> Result<(), Violation> {
        let text = format!("<{name} {NAMESPACES} {attributes}>{inner}</{name}>");
        check(&parse(&text).unwrap(), operation(name).unwrap())
    }

    #[test]
    fn the_order_of_a_tasks_elements_is_enforced() {
        let item = |inner: &str| {
            verdict(
                "CreateItem",
                "",
                &format!("<Items><t:Task>{inner}</t:Task></Items>"),
            )
        };
        assert_eq!(
            item(
                "<t:Subject>a</t:Subject><t:DueDate>2026-01-01T00:00:00</t:DueDate><t:StartDate>2026-01-01T00:00:00Z</t:StartDate>"
            ),
            Ok(())
        );
        let wrong =
            item("<t:StartDate>2026-01-01T00:00:00</t:StartDate><t:DueDate>2026-01-01T00:00:00</t:DueDate>");
        assert!(
            wrong
                .unwrap_err()
                .text
                .contains("invalid child element 'DueDate'")
        );
        assert!(item("<t:Subject>a</t:Subject><t:Subject>b</t:Subject>").is_err());
        assert!(item("<t:Status>Done</t:Status>").is_err());
        assert!(item("<t:PercentComplete>much</t:PercentComplete>").is_err());
        assert!(item("<t:Colour>red</t:Colour>").is_err());
    }

    #[test]
    fn attributes_and_missing_elements_are_enforced() {
        let ids = "<ItemIds><t:ItemId Id='a'/></ItemIds>";
        assert_eq!(verdict("DeleteItem", "DeleteType='HardDelete'", ids), Ok(()));
        assert!(
            verdict("DeleteItem", "", ids)
                .unwrap_err()
                .text
                .contains("'DeleteType' is missing")
        );
        assert!(verdict("DeleteItem", "DeleteType='Burn'", ids).is_err());
        assert!(
            verdict("DeleteItem", "DeleteType='HardDelete'", "<ItemIds/>")
                .unwrap_err()
                .text
                .contains("incomplete")
        );
        assert!(verdict("DeleteItem", "DeleteType='HardDelete' Now='1'", ids).is_err());
        assert!(
            verdict("GetItem", "", ids)
                .unwrap_err()
                .text
                .contains("invalid child element 'ItemIds'")
        );
    }

    #[test]
    fn dates_are_distinguished_by_their_zone() {
        assert!(matches!(
            date_time("2026-01-01T00:00:00"),
            Some(XsDateTime::Local(_))
        ));
        assert!(matches!(
            date_time("2026-01-01T00:00:00Z"),
            Some(XsDateTime::Instant(_))
        ));
        assert!(matches!(
            date_time("2026-01-01T00:00:00-05:00"),
            Some(XsDateTime::Instant(_))
        ));
        assert_eq!(date_time("tomorrow"), None);
    }
}
