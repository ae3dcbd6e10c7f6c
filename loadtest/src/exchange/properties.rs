//! Extended (MAPI) properties: their paths, types and values.

use std::fmt::Write as _;

use super::error::EwsError;
use super::schema::{date_time, property_tag};
use super::xml::{Element, escape_into, leaf};
use crate::sim::vec_map::VecMap;

/// `PidTagLocalCommitTimeMax`: time of the latest commit in a folder.
pub(crate) const LOCAL_COMMIT_TIME_MAX: PropertyKey = PropertyKey::Tag(0x670A);
/// `PidTagDeletedCountTotal`: number of deletions in a folder so far.
pub(crate) const DELETED_COUNT_TOTAL: PropertyKey = PropertyKey::Tag(0x670B);

/// Longest value that is accepted, in bytes.
const MAXIMUM_VALUE_BYTES: usize = 1024 * 1024;

/// The identity of a property.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PropertyKey {
    /// By property set (lower-case GUID) and name.
    Named(String, String),
    /// By property set (lower-case GUID) and number.
    Numbered(String, i32),
    /// By tag.
    Tag(u16),
}

/// A property with the type in which it is requested or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PropertyPath {
    pub(crate) key: PropertyKey,
    /// A value of `MapiPropertyTypeType`.
    pub(crate) kind: String,
}

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PropertyValue {
    pub(crate) kind: String,
    /// The value, or all values of an array type.
    pub(crate) values: Vec<String>,
}

/// Properties of a folder or an item.
pub(crate) type Properties = VecMap<PropertyKey, PropertyValue>;

/// GUIDs of the property sets that have a distinguished name.
const DISTINGUISHED_SETS: &[(&str, &str)] = &[
    ("Meeting", "6ed8da90-450b-101b-98da-00aa003f1305"),
    ("Appointment", "00062002-0000-0000-c000-000000000046"),
    ("Common", "00062008-0000-0000-c000-000000000046"),
    ("PublicStrings", "00020329-0000-0000-c000-000000000046"),
    ("Address", "00062004-0000-0000-c000-000000000046"),
    ("InternetHeaders", "00020386-0000-0000-c000-000000000046"),
    ("CalendarAssistant", "11000e07-b51b-40d6-af21-caa85edab1d0"),
    ("UnifiedMessaging", "4442858e-a9e3-4e80-b900-317a210cc15b"),
    ("Task", "00062003-0000-0000-c000-000000000046"),
    ("Sharing", "00062040-0000-0000-c000-000000000046"),
];

/// Returns the paths that a shape names in addition to its base shape.
pub(crate) fn additional_properties(shape: Option<&Element>) -> impl Iterator<Item = &Element> {
    shape
        .and_then(|shape| shape.child("AdditionalProperties"))
        .into_iter()
        .flat_map(|list| &list.children)
}

impl PropertyPath {
    /// Parses an `ExtendedFieldURI`.
    ///
    /// # Errors
    /// `ErrorInvalidExtendedProperty` for a combination of attributes that identifies no property.
    pub(crate) fn read(element: &Element) -> Result<Self, EwsError> {
        let invalid = |text: &str| EwsError::new("ErrorInvalidExtendedProperty", text);
        let kind = element.attribute("PropertyType").unwrap_or_default().to_owned();
        let name = element.attribute("PropertyName");
        let number = element
            .attribute("PropertyId")
            .and_then(|id| id.trim().parse().ok());
        let distinguished = element.attribute("DistinguishedPropertySetId");
        let guid = element.attribute("PropertySetId");
        if let Some(tag) = element.attribute("PropertyTag") {
            if name.is_some() || number.is_some() || distinguished.is_some() || guid.is_some() {
                return Err(invalid(
                    "PropertyTag cannot be combined with other attributes than PropertyType.",
                ));
            }
            let tag = property_tag(tag).ok_or_else(|| invalid("PropertyTag is malformed."))?;
            if tag >= 0x8000 {
                return Err(invalid("Property tags of named properties cannot be used."));
            }
            return Ok(Self {
                key: PropertyKey::Tag(tag),
                kind,
            });
        }
        let set = match (distinguished, guid) {
            (Some(distinguished), None) => DISTINGUISHED_SETS
                .iter()
                .find(|(label, _)| *label == distinguished)
                .map(|(_, guid)| *guid),
            (None, Some(guid)) => Some(guid),
            (None, None) | (Some(_), Some(_)) => None,
        };
        let set = set
            .ok_or_else(|| invalid("Exactly one property set must be named."))?
            .to_ascii_lowercase();
        let key = match (name, number) {
            (Some(name), None) if !name.is_empty() => PropertyKey::Named(set, name.to_owned()),
            (None, Some(number)) => PropertyKey::Numbered(set, number),
            _ => {
                return Err(invalid(
                    "Exactly one of PropertyName and PropertyId must be given.",
                ));
            }
        };
        Ok(Self { key, kind })
    }

    /// Writes the path in the server's form: GUIDs and tags in lower case, whatever the request contained.
    pub(crate) fn write(&self, out: &mut String) {
        out.push_str("<t:ExtendedFieldURI ");
        let set = |out: &mut String, guid: &str| match DISTINGUISHED_SETS
            .iter()
            .find(|(_, known)| *known == guid)
        {
            Some((label, _)) => {
                let _ = write!(out, "DistinguishedPropertySetId=\"{label}\" ");
            }
            None => {
                let _ = write!(out, "PropertySetId=\"{guid}\" ");
            }
        };
        match &self.key {
            PropertyKey::Named(guid, name) => {
                set(out, guid);
                out.push_str("PropertyName=\"");
                escape_into(out, name);
                out.push_str("\" ");
            }
            PropertyKey::Numbered(guid, number) => {
                set(out, guid);
                let _ = write!(out, "PropertyId=\"{number}\" ");
            }
            PropertyKey::Tag(tag) => {
                let _ = write!(out, "PropertyTag=\"0x{tag:x}\" ");
            }
        }
        out.push_str("PropertyType=\"");
        escape_into(out, &self.kind);
        out.push_str("\"/>");
    }

    /// Returns the path as text, for error details.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }
}

/// Writes `t:ExtendedProperty`.
pub(crate) fn write_property(out: &mut String, path: &PropertyPath, values: &[String]) {
    out.push_str("<t:ExtendedProperty>");
    path.write(out);
    if path.kind.ends_with("Array") {
        out.push_str("<t:Values>");
        for value in values {
            leaf(out, "Value", value);
        }
        out.push_str("</t:Values>");
    } else {
        leaf(out, "Value", values.first().map_or("", String::as_str));
    }
    out.push_str("</t:ExtendedProperty>");
}

/// Parses the `t:ExtendedProperty` of a request.
///
/// # Errors
/// `ErrorInvalidExtendedProperty` or `ErrorInvalidExtendedPropertyValue`.
pub(crate) fn read_property(element: &Element) -> Result<(PropertyPath, PropertyValue), EwsError> {
    let path = element
        .child("ExtendedFieldURI")
        .ok_or_else(|| EwsError::new("ErrorInvalidExtendedProperty", "The property has no path."))
        .and_then(PropertyPath::read)?;
    if path.key == LOCAL_COMMIT_TIME_MAX || path.key == DELETED_COUNT_TOTAL {
        return Err(
            EwsError::new("ErrorInvalidPropertySet", "The property is read-only.").path(&path.text()),
        );
    }
    let wrong = |text: &str| EwsError::new("ErrorInvalidExtendedPropertyValue", text).path(&path.text());
    let values = match (element.child("Value"), element.child("Values")) {
        (Some(value), None) if !path.kind.ends_with("Array") => vec![value.text.clone()],
        (None, Some(list)) if path.kind.ends_with("Array") => {
            list.children.iter().map(|value| value.text.clone()).collect()
        }
        _ => return Err(wrong("An array type takes Values, any other type takes Value.")),
    };
    let single = path.kind.trim_end_matches("Array");
    if !values
        .iter()
        .all(|value| value.len() <= MAXIMUM_VALUE_BYTES && fits(single, value))
    {
        return Err(wrong("The value does not fit the type of the property."));
    }
    let value = PropertyValue {
        kind: path.kind.clone(),
        values,
    };
    Ok((path, value))
}

fn fits(kind: &str, value: &str) -> bool {
    use base64::Engine as _;
    match kind {
        "String" => true,
        "Integer" => value.trim().parse::<i32>().is_ok(),
        "Short" => value.trim().parse::<i16>().is_ok(),
        "Long" | "Currency" => value.trim().parse::<i64>().is_ok(),
        "Double" | "Float" | "ApplicationTime" => value.trim().parse::<f64>().is_ok(),
        "Boolean" => matches!(value.trim(), "true" | "false" | "1" | "0"),
        "SystemTime" => date_time(value).is_some(),
        "CLSID" => uuid::Uuid::try_parse(value.trim()).is_ok(),
        "Binary" => base64::engine::general_purpose::STANDARD
            .decode(value.trim())
            .is_ok(),
        _ => false,
    }
}

/// Returns the name of a property in views: its own name, `set/number`, or the tag.
pub(crate) fn label(key: &PropertyKey) -> String {
    match key {
        PropertyKey::Named(_, name) => name.clone(),
        PropertyKey::Numbered(set, number) => format!("{set}/{number}"),
        PropertyKey::Tag(tag) => format!("0x{tag:04x}"),
    }
}
