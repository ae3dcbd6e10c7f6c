//! Identifiers as clients see them: opaque, long, case-sensitive Base64. Each one contains its mailbox.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::EwsError;

/// The kind of object that an identifier names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    Folder,
    Item,
}

/// The decoded identifier of a folder or an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectId {
    pub(crate) mailbox: u64,
    pub(crate) kind: ObjectKind,
    pub(crate) number: u64,
}

/// First bytes of every identifier. They give it the beginning of real ones (`AAMk`).
const MARK: [u8; 3] = [0x00, 0x03, 0x24];
/// Length of a real identifier in its usual form, in bytes; its text has 152 characters.
const LENGTH: usize = 114;
const FILLING: u8 = 0x46;

impl ObjectId {
    /// Returns the text of the identifier.
    pub(crate) fn encode(self) -> String {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend(MARK);
        bytes.push(match self.kind {
            ObjectKind::Folder => 0x01,
            ObjectKind::Item => 0x02,
        });
        bytes.extend(self.mailbox.to_be_bytes());
        bytes.resize(LENGTH - 16, FILLING);
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(check(&bytes).to_be_bytes());
        STANDARD.encode(bytes)
    }

    /// Parses an identifier.
    ///
    /// # Errors
    /// `ErrorInvalidIdEmpty` or `ErrorInvalidIdMalformed`.
    pub(crate) fn decode(text: &str) -> Result<Self, EwsError> {
        if text.is_empty() {
            return Err(EwsError::new("ErrorInvalidIdEmpty", "Id must be non-empty."));
        }
        let malformed = || EwsError::new("ErrorInvalidIdMalformed", "Id is malformed.");
        let bytes = STANDARD.decode(text).map_err(|_| malformed())?;
        let (body, sum) = bytes.split_last_chunk::<8>().ok_or_else(malformed)?;
        if bytes.len() != LENGTH || check(body) != u64::from_be_bytes(*sum) {
            return Err(malformed());
        }
        let kind = match body.strip_prefix(&MARK) {
            Some([0x01, ..]) => ObjectKind::Folder,
            Some([0x02, ..]) => ObjectKind::Item,
            Some(_) | None => return Err(malformed()),
        };
        Ok(Self {
            mailbox: number_at(body, 4),
            kind,
            number: number_at(body, LENGTH - 16),
        })
    }
}

/// Returns the change key of an object at a change number. Its beginning depends on the kind (`AQ…`, `EQ…`), as in
/// real ones.
pub(crate) fn change_key(kind: ObjectKind, change: u64) -> String {
    let mut bytes = Vec::with_capacity(24);
    bytes.push(match kind {
        ObjectKind::Folder => 0x01,
        ObjectKind::Item => 0x11,
    });
    bytes.extend([0, 0, 0, 0x16, 0, 0, 0]);
    bytes.extend(change.to_be_bytes());
    bytes.extend(check(&bytes).to_be_bytes());
    STANDARD.encode(bytes)
}

/// Returns the change number that a change key contains.
pub(crate) fn change_of_key(text: &str) -> Option<u64> {
    let bytes = STANDARD.decode(text).ok()?;
    let (body, sum) = bytes.split_last_chunk::<8>()?;
    (body.len() == 16 && check(body) == u64::from_be_bytes(*sum)).then(|| number_at(body, 8))
}

/// The decoded sync state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SyncState {
    /// `Folder` for a folder hierarchy, `Item` for the items of a folder.
    pub(crate) kind: ObjectKind,
    pub(crate) mailbox: u64,
    pub(crate) folder: u64,
    /// A state of an earlier epoch of the mailbox is invalid.
    pub(crate) epoch: u64,
    /// Changes up to this change number were delivered by earlier passes.
    pub(crate) base: u64,
    /// The change number up to which the current pass delivers.
    pub(crate) top: u64,
    /// 0: no pass is under way. 1 to 3: the pass delivers arrivals, updates or deletions.
    pub(crate) phase: u64,
    /// The last change number delivered in this phase.
    pub(crate) cursor: u64,
}

impl SyncState {
    /// Returns the text of the state.
    pub(crate) fn encode(self) -> String {
        let mut bytes = Vec::with_capacity(80);
        bytes.extend(b"H4sI");
        let kind = match self.kind {
            ObjectKind::Folder => 1,
            ObjectKind::Item => 2,
        };
        for number in [
            kind,
            self.mailbox,
            self.folder,
            self.epoch,
            self.base,
            self.top,
            self.phase,
            self.cursor,
        ] {
            bytes.extend(u64::to_be_bytes(number));
        }
        bytes.extend(check(&bytes).to_be_bytes());
        STANDARD.encode(bytes)
    }

    /// Parses a state. Returns `None` if this server did not create it.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.trim()).ok()?;
        let (body, sum) = bytes.split_last_chunk::<8>()?;
        if body.len() != 68 || check(body) != u64::from_be_bytes(*sum) {
            return None;
        }
        let part = |index: usize| number_at(body, 4 + index * 8);
        let kind = match part(0) {
            1 => ObjectKind::Folder,
            2 => ObjectKind::Item,
            _ => return None,
        };
        Some(Self {
            kind,
            mailbox: part(1),
            folder: part(2),
            epoch: part(3),
            base: part(4),
            top: part(5),
            phase: part(6),
            cursor: part(7),
        })
    }
}

fn number_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|part| part.try_into().ok())
        .map_or(0, u64::from_be_bytes)
}

/// Returns the FNV-1a hash over words of eight bytes. It only serves to detect damaged or invented identifiers.
fn check(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, |hash, chunk| {
        let word = chunk
            .iter()
            .fold(0, |word: u64, byte| word << 8 | u64::from(*byte));
        (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_come_back_and_damaged_ones_do_not() {
        let id = ObjectId {
            mailbox: 7,
            kind: ObjectKind::Item,
            number: 1234,
        };
        let text = id.encode();
        assert_eq!(text.len(), 152);
        assert!(text.starts_with("AAMk"));
        assert_eq!(ObjectId::decode(&text), Ok(id));
        assert_eq!(
            ObjectId::decode(&text.to_lowercase()).unwrap_err().code,
            "ErrorInvalidIdMalformed"
        );
        assert_eq!(ObjectId::decode("").unwrap_err().code, "ErrorInvalidIdEmpty");
        assert_eq!(
            ObjectId::decode("AAMkA=").unwrap_err().code,
            "ErrorInvalidIdMalformed"
        );
    }

    #[test]
    fn change_keys_and_states_come_back() {
        assert_eq!(change_of_key(&change_key(ObjectKind::Item, 99)), Some(99));
        assert_eq!(change_of_key("EwAA"), None);
        let state = SyncState {
            kind: ObjectKind::Item,
            mailbox: 1,
            folder: 4,
            epoch: 0,
            base: 5,
            top: 9,
            phase: 2,
            cursor: 7,
        };
        assert_eq!(SyncState::decode(&state.encode()), Some(state));
        assert_eq!(SyncState::decode("H4sIAAA="), None);
    }
}
