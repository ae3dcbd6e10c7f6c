//! Parses CAML, the `ViewXml` of `getitems`.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::errors::SpError;
use super::filter::{Cell, Comparison, MAXIMUM_DEPTH, Test};
use super::zones::{SiteZone, parse_instant};

/// Largest number of elements in a view.
const MAXIMUM_ELEMENTS: usize = 4000;
/// Largest number of values in an `In` condition (SharePoint's own limit).
const MAXIMUM_IN_VALUES: usize = 500;

/// A parsed view.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) test: Option<Test>,
    /// Names of the fields to sort by, and whether each is ascending.
    pub(crate) order: Vec<(String, bool)>,
    /// Field names in `ViewFields`.
    pub(crate) fields: Vec<String>,
    pub(crate) row_limit: Option<usize>,
}

#[derive(Debug, Default)]
struct CamlElement {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<CamlElement>,
}

impl CamlElement {
    fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str) -> bool {
        self.attribute(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

fn invalid() -> SpError {
    SpError::exception(
        400,
        -2_130_575_155,
        "Cannot complete this action: the query is not well formed.",
    )
}

/// Parses a view. An empty text selects everything. `me` is the caller's user id.
pub(crate) fn parse(xml: &str, zone: &SiteZone, me: i32) -> Result<View, SpError> {
    let mut view = View {
        test: None,
        order: Vec::new(),
        fields: Vec::new(),
        row_limit: None,
    };
    if xml.trim().is_empty() {
        return Ok(view);
    }
    let root = tree(xml).ok_or_else(invalid)?;
    if root.name != "View" {
        return Err(invalid());
    }
    if let Some(limit) = root.child("RowLimit") {
        view.row_limit = Some(limit.text.trim().parse().map_err(|_| invalid())?);
    }
    if let Some(fields) = root.child("ViewFields") {
        for field in &fields.children {
            view.fields
                .push(field.attribute("Name").ok_or_else(invalid)?.to_owned());
        }
    }
    let Some(query) = root.child("Query") else {
        return Ok(view);
    };
    if let Some(order) = query.child("OrderBy") {
        for field in &order.children {
            let name = field.attribute("Name").ok_or_else(invalid)?.to_owned();
            let ascending = !field
                .attribute("Ascending")
                .is_some_and(|value| value.eq_ignore_ascii_case("false"));
            view.order.push((name, ascending));
        }
    }
    if let Some(condition) = query.child("Where") {
        let [only] = condition.children.as_slice() else {
            return Err(invalid());
        };
        view.test = Some(test(only, zone, me)?);
    }
    Ok(view)
}

fn test(element: &CamlElement, zone: &SiteZone, me: i32) -> Result<Test, SpError> {
    let comparison = match element.name.as_str() {
        "And" | "Or" => {
            let [left, right] = element.children.as_slice() else {
                return Err(invalid());
            };
            let (left, right) = (Box::new(test(left, zone, me)?), Box::new(test(right, zone, me)?));
            return Ok(if element.name == "And" {
                Test::And(left, right)
            } else {
                Test::Or(left, right)
            });
        }
        // Membership in groups. The callers of this server belong to no group.
        "Membership" => return Ok(Test::Always(false)),
        "In" => {
            let values = element.child("Values").ok_or_else(invalid)?;
            if values.children.len() > MAXIMUM_IN_VALUES {
                return Err(invalid());
            }
            let values = values
                .children
                .iter()
                .map(|value| cell(value, zone, me))
                .collect::<Result<_, _>>()?;
            return Ok(Test::In(field(element)?, values));
        }
        "IsNull" => return Ok(Test::Compare(field(element)?, Comparison::Equal, Cell::Null)),
        "IsNotNull" => return Ok(Test::Compare(field(element)?, Comparison::NotEqual, Cell::Null)),
        "Contains" | "BeginsWith" => {
            let text = element.child("Value").ok_or_else(invalid)?.text.clone();
            let field = field(element)?;
            return Ok(if element.name == "Contains" {
                Test::Contains(field, text)
            } else {
                Test::StartsWith(field, text)
            });
        }
        "Eq" | "Includes" => Comparison::Equal,
        "Neq" | "NotIncludes" => Comparison::NotEqual,
        "Gt" => Comparison::Greater,
        "Geq" => Comparison::GreaterOrEqual,
        "Lt" => Comparison::Less,
        "Leq" => Comparison::LessOrEqual,
        _ => return Err(invalid()),
    };
    let value = cell(element.child("Value").ok_or_else(invalid)?, zone, me)?;
    Ok(Test::Compare(field(element)?, comparison, value))
}

/// Returns the field that a condition names. A person column compared by id is `Name/Id`, by name `Name/Title`.
fn field(element: &CamlElement) -> Result<String, SpError> {
    let reference = element.child("FieldRef").ok_or_else(invalid)?;
    let name = reference.attribute("Name").ok_or_else(invalid)?;
    let by_id = reference.flag("LookupId")
        || element
            .child("Value")
            .is_some_and(|value| value.child("UserID").is_some())
        || matches!(name, "Author" | "Editor")
            && element
                .child("Value")
                .is_some_and(|v| v.attribute("Type") == Some("Integer"));
    Ok(match name {
        "AssignedTo" | "Author" | "Editor" => format!("{name}/{}", if by_id { "Id" } else { "Title" }),
        _ => name.to_owned(),
    })
}

fn cell(value: &CamlElement, zone: &SiteZone, me: i32) -> Result<Cell, SpError> {
    if value.child("UserID").is_some() {
        return Ok(Cell::Number(f64::from(me)));
    }
    let text = value.text.trim();
    Ok(match value.attribute("Type").unwrap_or("Text") {
        "Integer" | "Number" | "Counter" | "User" | "UserMulti" | "Lookup" | "LookupMulti" | "Currency" => {
            text.parse()
                .map_or_else(|_| Cell::Text(text.to_owned()), Cell::Number)
        }
        "Boolean" => Cell::Flag(matches!(text, "1" | "TRUE" | "true")),
        "DateTime" => {
            let instant = parse_instant(text, zone).ok_or_else(invalid)?;
            // Without IncludeTimeValue only the dates are compared. The date columns of tasks contain midnights
            // anyway.
            let with_time = value.flag("IncludeTimeValue");
            Cell::Time(if with_time {
                instant
            } else {
                zone.truncate(instant)
            })
        }
        _ => Cell::Text(value.text.clone()),
    })
}

/// Parses XML into a tree. Returns `None` if it is not well formed, too deep, too long, or has a DTD.
fn tree(xml: &str) -> Option<CamlElement> {
    let mut reader = Reader::from_str(xml);
    let mut open: Vec<CamlElement> = Vec::new();
    let mut root = None;
    let mut count = 0;
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                count += 1;
                if root.is_some() || open.len() >= MAXIMUM_DEPTH || count > MAXIMUM_ELEMENTS {
                    return None;
                }
                open.push(element(&start)?);
            }
            Event::Empty(start) => {
                count += 1;
                if root.is_some() || count > MAXIMUM_ELEMENTS {
                    return None;
                }
                close(element(&start)?, &mut open, &mut root);
            }
            Event::End(_) => {
                let done = open.pop()?;
                close(done, &mut open, &mut root);
            }
            Event::Text(text) => push_text(&mut open, &text.xml10_content()),
            Event::CData(text) => push_text(&mut open, &text.xml10_content()),
            Event::GeneralRef(reference) => {
                if let Some(character) = reference.resolve_char_ref().ok()? {
                    push_text(&mut open, character.encode_utf8(&mut [0; 4]));
                } else {
                    let name = reference.xml10_content();
                    push_text(&mut open, quick_xml::escape::resolve_predefined_entity(&name)?);
                }
            }
            Event::DocType(_) => return None,
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => return if open.is_empty() { root } else { None },
        }
    }
}

fn close(done: CamlElement, open: &mut [CamlElement], root: &mut Option<CamlElement>) {
    match open.last_mut() {
        Some(parent) => parent.children.push(done),
        None => *root = Some(done),
    }
}

fn push_text(open: &mut [CamlElement], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn element(start: &BytesStart<'_>) -> Option<CamlElement> {
    let mut element = CamlElement {
        name: start.local_name().into_inner().to_owned(),
        ..CamlElement::default()
    };
    for attribute in start.attributes() {
        let attribute = attribute.ok()?;
        let value = attribute
            .normalized_value(quick_xml::XmlVersion::Implicit1_0)
            .ok()?
            .into_owned();
        element
            .attributes
            .push((attribute.key.local_name().into_inner().to_owned(), value));
    }
    Some(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(xml: &str) -> Result<View, SpError> {
        parse(xml, &SiteZone::by_iana("Europe/Berlin").unwrap(), 9)
    }

    #[test]
    fn a_view_by_assignee_is_read() {
        let view = view(
            "<View Scope='RecursiveAll'><Query><Where><And><Eq><FieldRef Name='AssignedTo' LookupId='TRUE'/><Value \
             Type='Integer'>12</Value></Eq><Gt><FieldRef Name='ID'/><Value Type='Counter'>5</Value></Gt></And></Where>\
             <OrderBy><FieldRef Name='ID' Ascending='FALSE'/></OrderBy></Query><ViewFields><FieldRef Name='Title'/>\
             </ViewFields><RowLimit Paged='TRUE'>200</RowLimit></View>",
        )
        .unwrap();
        assert_eq!(view.row_limit, Some(200));
        assert_eq!(view.order, [("ID".to_owned(), false)]);
        assert_eq!(view.fields, ["Title"]);
        let row = |name: &str| match name {
            "AssignedTo/Id" => Cell::Many(vec![Cell::Number(12.0)]),
            _ => Cell::Number(6.0),
        };
        assert!(view.test.unwrap().holds(&row));
    }

    #[test]
    fn entities_and_the_caller_are_understood() {
        let view = view(
            "<View><Query><Where><Or><Eq><FieldRef Name='AssignedTo'/><Value Type='Integer'><UserID/></Value></Eq><In>\
             <FieldRef Name='Title'/><Values><Value Type='Text'>a &amp; b</Value></Values></In></Or></Where></Query></View>",
        )
        .unwrap();
        let test = view.test.unwrap();
        assert!(test.holds(&|name| if name == "Title" {
            Cell::Text("A & B".into())
        } else {
            Cell::Null
        }));
        assert!(test.holds(&|name| if name == "AssignedTo/Id" {
            Cell::Number(9.0)
        } else {
            Cell::Null
        }));
    }

    #[test]
    fn broken_views_are_refused() {
        for xml in [
            "<View>",
            "<Query/>",
            "<!DOCTYPE View [<!ENTITY a 'b'>]><View/>",
            "<View><Query><Where></Where></Query></View>",
            "<View><Query><Where><Eq><FieldRef Name='ID'/></Eq></Where></Query></View>",
            "<View><Query><Where><Like><FieldRef Name='ID'/><Value>1</Value></Like></Where></Query></View>",
            "<View><RowLimit>many</RowLimit></View>",
        ] {
            assert_eq!(view(xml).unwrap_err().status, 400, "{xml}");
        }
    }
}
