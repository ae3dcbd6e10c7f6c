//! `CreateFolder`: a task folder with our marker.

use bytes::Bytes;
use tasksync_common::model::LocationKey;

use super::envelope::Header;
use super::folders::{self, ReadFolder};
use super::operation::{Operation, operation};
use super::properties::Property;
use super::response_messages::ResponseMessage;
use super::xml::{Parsed, Xml, element};

pub(super) const OPERATION: Operation = operation!("CreateFolder", writes: true);

/// Characters of the longest folder name.
const MAXIMUM_NAME: usize = 200;

/// Returns the request that creates a folder of this name below the mailbox's task folder, marked for
/// `owner`.
pub(super) fn request(header: &Header<'_>, name: &str, location: &LocationKey, owner: &str) -> Bytes {
    header.envelope(1_000 + name.len() + location.as_str().len(), |out| {
        out.push_str("<m:CreateFolder><m:ParentFolderId>");
        folders::write_tasks_folder(out, header);
        out.push_str("</m:ParentFolderId><m:Folders><t:TasksFolder>");
        element(out, "t:DisplayName", name);
        Property::Location.write(out, location.as_str());
        Property::Owner.write(out, owner);
        out.push_str("</t:TasksFolder></m:Folders></m:CreateFolder>");
    })
}

/// Reads the new folder.
pub(super) fn read(xml: &mut Xml<'_>) -> Parsed<Vec<ResponseMessage<Option<ReadFolder>>>> {
    folders::read_messages(xml, &OPERATION, 1)
}

/// Returns a name that Exchange accepts: one line without control characters, not empty, at most 200
/// characters. From the second attempt on a number is appended.
pub(super) fn folder_name(name: &str, attempt: u32) -> String {
    let mut clean: String = name
        .split(|character: char| character.is_control() || character.is_whitespace() || character == '\\')
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    if let Some((cut, _)) = clean.char_indices().nth(MAXIMUM_NAME) {
        clean.truncate(cut);
    }
    if clean.is_empty() {
        clean.push_str("Tasks");
    }
    if attempt > 1 {
        clean = format!("{clean} ({attempt})");
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_acceptable_and_numbered() {
        assert_eq!(folder_name(" Team\tsite \u{0} - Tasks ", 1), "Team site - Tasks");
        assert_eq!(folder_name("", 2), "Tasks (2)");
        assert_eq!(folder_name("a\\b", 20), "a b (20)");
        assert_eq!(folder_name(&"é".repeat(500), 1).chars().count(), MAXIMUM_NAME);
    }
}
