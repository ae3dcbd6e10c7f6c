//! Extended properties: our own, and the two tags that show cheaply whether a folder changed.

use std::borrow::Cow;

use super::xml::{Element, Parsed, Xml, element};
use crate::http::for_message;
use crate::mailbox::MarkedFor;

/// The property set of everything that tasksync writes. This is a stored format and never changes.
const OUR_SET: &str = "7d0c8f4e-53b1-4b6e-9f0a-2c5a1e8b9d41";

/// A property that tasksync reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Property {
    /// On folders: the key of their location.
    Location,
    /// On items: the key of their source task.
    SourceKey,
    /// On items and folders: the owner for whom the marker was written.
    Owner,
    /// On items: the address of the source task's page.
    WebLink,
    /// On items: the id of tasksync's last write.
    WriteId,
    /// Tag 0x670A: the time of the latest commit in a folder.
    LatestCommit,
    /// Tag 0x670B: the number of deletions in a folder so far.
    Deletions,
}

impl Property {
    /// Appends the `t:ExtendedFieldURI` that names it.
    pub(super) fn write_uri(self, out: &mut String) {
        out.push_str(match self {
            Self::Location => concat!(
                "<t:ExtendedFieldURI PropertySetId=\"7d0c8f4e-53b1-4b6e-9f0a-2c5a1e8b9d41\"",
                " PropertyName=\"TaskSyncLocation\" PropertyType=\"String\"/>"
            ),
            Self::SourceKey => concat!(
                "<t:ExtendedFieldURI PropertySetId=\"7d0c8f4e-53b1-4b6e-9f0a-2c5a1e8b9d41\"",
                " PropertyName=\"TaskSyncSourceKey\" PropertyType=\"String\"/>"
            ),
            Self::Owner => concat!(
                "<t:ExtendedFieldURI PropertySetId=\"7d0c8f4e-53b1-4b6e-9f0a-2c5a1e8b9d41\"",
                " PropertyName=\"TaskSyncOwner\" PropertyType=\"String\"/>"
            ),
            Self::WebLink => concat!(
                "<t:ExtendedFieldURI PropertySetId=\"7d0c8f4e-53b1-4b6e-9f0a-2c5a1e8b9d41\"",
                " PropertyName=\"TaskSyncWebLink\" PropertyType=\"String\"/>"
            ),
            Self::WriteId => concat!(
                "<t:ExtendedFieldURI PropertySetId=\"7d0c8f4e-53b1-4b6e-9f0a-2c5a1e8b9d41\"",
                " PropertyName=\"TaskSyncWriteId\" PropertyType=\"String\"/>"
            ),
            Self::LatestCommit => "<t:ExtendedFieldURI PropertyTag=\"0x670A\" PropertyType=\"SystemTime\"/>",
            Self::Deletions => "<t:ExtendedFieldURI PropertyTag=\"0x670B\" PropertyType=\"Integer\"/>",
        });
    }

    /// Appends a whole `t:ExtendedProperty`.
    pub(super) fn write(self, out: &mut String, value: &str) {
        out.push_str("<t:ExtendedProperty>");
        self.write_uri(out);
        element(out, "t:Value", value);
        out.push_str("</t:ExtendedProperty>");
    }

    fn of(uri: &Element<'_>) -> Parsed<Option<Self>> {
        let [tag, set, name] = uri.attributes(["PropertyTag", "PropertySetId", "PropertyName"])?;
        if let Some(tag) = tag {
            let tag = tag.trim();
            let number = match tag.strip_prefix("0x").or_else(|| tag.strip_prefix("0X")) {
                Some(digits) => u16::from_str_radix(digits, 16).ok(),
                None => tag.parse().ok(),
            };
            return Ok(match number {
                Some(0x670A) => Some(Self::LatestCommit),
                Some(0x670B) => Some(Self::Deletions),
                _ => None,
            });
        }
        let is_ours = set.is_some_and(|set| set.trim().eq_ignore_ascii_case(OUR_SET));
        if !is_ours {
            return Ok(None);
        }
        Ok(match name.as_deref() {
            Some("TaskSyncLocation") => Some(Self::Location),
            Some("TaskSyncSourceKey") => Some(Self::SourceKey),
            Some("TaskSyncOwner") => Some(Self::Owner),
            Some("TaskSyncWebLink") => Some(Self::WebLink),
            Some("TaskSyncWriteId") => Some(Self::WriteId),
            _ => None,
        })
    }
}

/// Returns the owner of a marker, from the text of [`Property::Owner`].
pub(super) fn marked_for(owner: Option<&str>) -> MarkedFor {
    match owner {
        None => MarkedFor::Unnamed,
        Some(text) => match text.parse() {
            Ok(owner) => MarkedFor::Owner(owner),
            Err(_) => MarkedFor::Unreadable(for_message(text, 80)),
        },
    }
}

/// Reads an opened `t:ExtendedProperty`. Returns `None` for a property that is not ours or has no single
/// value.
pub(super) fn read<'a>(xml: &mut Xml<'a>) -> Parsed<Option<(Property, Cow<'a, str>)>> {
    let (mut property, mut value) = (None, None);
    while let Some(part) = xml.child()? {
        match part.name() {
            "ExtendedFieldURI" => {
                property = Property::of(&part)?;
                xml.skip()?;
            }
            "Value" => value = Some(xml.text()?),
            _ => xml.skip()?,
        }
    }
    Ok(property.zip(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_is_recognised_in_what_it_writes() {
        for property in [
            Property::Location,
            Property::SourceKey,
            Property::Owner,
            Property::WebLink,
            Property::WriteId,
            Property::LatestCommit,
            Property::Deletions,
        ] {
            let mut out = String::new();
            property.write(&mut out, "a<b");
            let mut xml = Xml::new(out.as_bytes()).unwrap();
            xml.root().unwrap();
            let (found, value) = read(&mut xml).unwrap().unwrap();
            assert_eq!((found, value.as_ref()), (property, "a<b"));
            assert!(!out.contains("PropertySetId") || out.contains(OUR_SET));
        }
    }

    #[test]
    fn foreign_properties_are_left_alone() {
        let foreign = [
            "<p><Value>1</Value><ExtendedFieldURI PropertyTag='0x0001' PropertyType='Integer'/></p>",
            "<p><ExtendedFieldURI PropertySetId='00000000-0000-0000-0000-000000000000' PropertyName='TaskSyncSourceKey'/><Value>1</Value></p>",
            "<p><ExtendedFieldURI PropertyTag='0x670a'/></p>",
            "<p/>",
        ];
        for text in foreign {
            let mut xml = Xml::new(text.as_bytes()).unwrap();
            xml.root().unwrap();
            assert_eq!(read(&mut xml).unwrap(), None, "{text}");
        }
        let text = "<p><Value>7</Value><ExtendedFieldURI PropertyTag='26378' PropertyType='SystemTime'/></p>";
        let mut xml = Xml::new(text.as_bytes()).unwrap();
        xml.root().unwrap();
        assert_eq!(
            read(&mut xml).unwrap(),
            Some((Property::LatestCommit, Cow::Borrowed("7")))
        );
    }
}
