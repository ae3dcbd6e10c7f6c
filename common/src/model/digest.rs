//! Digests and lengths of texts, computed alike for both sides and for every store.

/// Returns the 64-bit FNV-1a digest of these bytes. Digests are stored, so the function must be the same in
/// every build and on every machine. It does not withstand an attacker.
#[must_use]
pub fn digest(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Returns the longest prefix of `text` that has at most `units` UTF-16 units and ends between two
/// characters.
#[must_use]
pub fn cut_utf16(text: &str, units: usize) -> &str {
    let mut taken = 0;
    for (at, character) in text.char_indices() {
        taken += character.len_utf16();
        if taken > units {
            return text.get(..at).unwrap_or_default();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_digest_never_changes() {
        assert_eq!(digest([]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(digest(*b"a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut_utf16("abc", 2), "ab");
        assert_eq!(cut_utf16("a\u{1f600}b", 2), "a");
        assert_eq!(cut_utf16("a\u{1f600}b", 3), "a\u{1f600}");
        assert_eq!(cut_utf16("", 0), "");
    }
}
