//! Entry points for benchmarks: they read whole answers with the same code as [`super::client`], without a
//! server.

use jiff::tz::TimeZone;

use super::operation::only;
use super::response_messages::ResponseMessage;
use super::xml::{BadAnswer, Parsed, Xml};
use super::{envelope, get_folder, get_item, sync_folder_items};
use crate::mailbox::{ChangePage, MailboxItem, Signs};

fn read<'a, T>(
    answer: &'a [u8],
    response: &str,
    body: impl FnOnce(&mut Xml<'a>) -> Parsed<Vec<ResponseMessage<T>>>,
) -> Parsed<Vec<T>> {
    envelope::read(answer, response, body)?
        .outcome
        .map_err(|fault| BadAnswer(fault.code))?
        .into_iter()
        .map(|message| message.map_err(|error| BadAnswer(error.code)))
        .collect()
}

/// Reads an answer to `SyncFolderItems`.
///
/// # Errors
/// The reason why the answer cannot be read.
pub fn parse_sync_folder_items(answer: &[u8]) -> Result<ChangePage, String> {
    read(
        answer,
        sync_folder_items::OPERATION.response,
        sync_folder_items::read,
    )
    .and_then(only)
    .and_then(sync_folder_items::ReadPage::into_page)
    .map_err(|error| error.0)
}

/// Reads an answer to `GetItem` about these ids, with dates in `zone`.
///
/// # Errors
/// The reason why the answer cannot be read.
pub fn parse_get_item(answer: &[u8], ids: &[&str], zone: &TimeZone) -> Result<Vec<MailboxItem>, String> {
    let items = read(answer, get_item::OPERATION.response, |xml| {
        let messages = get_item::read(xml, ids.len(), zone)?;
        if get_item::is_foreign(&messages, ids) {
            return Err(BadAnswer("another item".to_owned()));
        }
        Ok(messages)
    });
    items
        .map_err(|error| error.0)?
        .into_iter()
        .map(|item| {
            item.ok_or_else(|| "a success without item".to_owned())?
                .into_item()
                .map_err(|failure| failure.to_string())
        })
        .collect()
}

/// Reads the folders' signs from an answer to the survey's `GetFolder`.
///
/// # Errors
/// The reason why the answer cannot be read.
pub fn parse_get_folder(answer: &[u8], ids: &[&str]) -> Result<Vec<Option<Signs>>, String> {
    let folders = read(answer, get_folder::OPERATION.response, |xml| {
        let messages = get_folder::read(xml, ids.len())?;
        if get_folder::is_foreign(&messages, ids) {
            return Err(BadAnswer("another folder".to_owned()));
        }
        Ok(messages)
    });
    let signs = |folders: Vec<Option<super::folders::ReadFolder>>| {
        folders
            .into_iter()
            .map(|folder| folder.and_then(|folder| folder.signs()))
            .collect()
    };
    folders.map(signs).map_err(|error| error.0)
}
