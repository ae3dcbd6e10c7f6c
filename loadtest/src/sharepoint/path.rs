//! Parses addresses: the web before `/_api/`, the segments after it, and the `OData` query options.

use super::errors::SpError;

/// Longest address that is accepted, in bytes.
const MAXIMUM_ADDRESS: usize = 16 * 1024;
/// Largest number of segments after `_api`.
const MAXIMUM_SEGMENTS: usize = 12;

/// One segment of an address, such as `lists(guid'…')`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Name in lower case, without arguments.
    pub(crate) name: String,
    /// The text between the parentheses, unquoted; `None` without parentheses.
    pub(crate) argument: Option<String>,
}

/// A parsed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Server-relative path of the web, without a final slash; empty for the root.
    pub(crate) web: String,
    /// The segments after `_api`.
    pub(crate) segments: Vec<Segment>,
    /// The query options, decoded, in order.
    pub(crate) query: Vec<(String, String)>,
}

impl Address {
    /// Parses the path and query of a request.
    pub(crate) fn parse(path: &str, query: Option<&str>) -> Result<Self, SpError> {
        if path.len() + query.map_or(0, str::len) > MAXIMUM_ADDRESS {
            return Err(SpError::query("The request address is too long."));
        }
        let decoded = percent_decode(path);
        let lower = decoded.to_ascii_lowercase();
        let at = lower.find("/_api").ok_or_else(|| SpError::no_resource(path))?;
        let web = decoded
            .get(..at)
            .unwrap_or_default()
            .trim_end_matches('/')
            .to_owned();
        let rest = decoded.get(at + 5..).unwrap_or_default();
        let query = query
            .map(|text| {
                url::form_urlencoded::parse(text.as_bytes())
                    .into_owned()
                    .collect()
            })
            .unwrap_or_default();
        let mut address = Self {
            web,
            segments: Vec::new(),
            query,
        };
        for text in split_outside_quotes(rest, '/') {
            if text.is_empty() {
                continue;
            }
            if address.segments.len() == MAXIMUM_SEGMENTS {
                return Err(SpError::no_resource(path));
            }
            let segment = address.segment(text)?;
            address.segments.push(segment);
        }
        // `_api/Web/Lists` and `_api/SP.Web/…` mean the same as `_api/web/lists`.
        if let Some(first) = address.segments.first_mut()
            && let Some(name) = first.name.strip_prefix("sp.")
        {
            first.name = name.to_owned();
        }
        Ok(address)
    }

    fn segment(&self, text: &str) -> Result<Segment, SpError> {
        let Some(open) = text.find('(') else {
            return Ok(Segment {
                name: text.to_ascii_lowercase(),
                argument: None,
            });
        };
        let inside = text
            .get(open + 1..)
            .and_then(|rest| rest.strip_suffix(')'))
            .ok_or_else(|| SpError::query(format!("The expression \"{text}\" is not valid.")))?;
        let name = text.get(..open).unwrap_or_default().to_ascii_lowercase();
        let inside = match inside.split_once('=') {
            // A named argument: getbyid(id=7).
            Some((key, value)) if key.chars().all(|c| c.is_ascii_alphanumeric()) => value,
            _ => inside,
        };
        let value = match inside.strip_prefix('@') {
            Some(alias) => {
                let value = self.option(&format!("@{alias}"));
                value
                    .ok_or_else(|| SpError::query(format!("The parameter alias '@{alias}' has no value.")))?
            }
            None => inside,
        };
        Ok(Segment {
            name,
            argument: Some(unquote(value)),
        })
    }

    /// Returns the value of one query option. Names are compared ignoring case.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Returns the names in a comma-separated query option.
    pub(crate) fn names(&self, option: &str) -> Vec<String> {
        self.option(option)
            .map(|text| {
                text.split(',')
                    .map(str::trim)
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned)
                    .collect()
            })
            .unwrap_or_default()
    }

    /// Returns the names of the segments, for matching.
    pub(crate) fn steps(&self) -> Vec<&str> {
        self.segments
            .iter()
            .map(|segment| segment.name.as_str())
            .collect()
    }
}

/// Removes the wrapping of `'it''s'`, `guid'…'` and `datetime'…'`. Bare words stay as they are.
fn unquote(text: &str) -> String {
    let text = text.trim();
    let quoted = text
        .strip_prefix("guid")
        .or_else(|| text.strip_prefix("datetime"))
        .unwrap_or(text)
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''));
    quoted.map_or_else(|| text.to_owned(), |inner| inner.replace("''", "'"))
}

/// Splits at `separator`, except inside single quotes.
pub(crate) fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut quoted = false;
    for (at, character) in text.char_indices() {
        if character == '\'' {
            quoted = !quoted;
        } else if character == separator && !quoted {
            parts.push(text.get(start..at).unwrap_or_default());
            start = at + character.len_utf8();
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

/// Decodes percent-encoding. Bytes that are not UTF-8 become replacement characters.
pub(crate) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let decoded = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| {
                let digits = std::str::from_utf8(digits).ok()?;
                u8::from_str_radix(digits, 16).ok()
            });
        if let Some(byte) = decoded {
            bytes.push(byte);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Percent-encodes every character except letters, digits and `-_.~`.
pub(crate) fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_split_into_web_segments_and_options() {
        let address = Address::parse(
            "/sites/a/_api/Web/Lists/GetByTitle('it''s%20a/b')/items(17)",
            Some("$top=5"),
        )
        .unwrap();
        assert_eq!(address.web, "/sites/a");
        assert_eq!(address.steps(), ["web", "lists", "getbytitle", "items"]);
        assert_eq!(address.segments[2].argument.as_deref(), Some("it's a/b"));
        assert_eq!(address.segments[3].argument.as_deref(), Some("17"));
        assert_eq!(address.option("$TOP"), Some("5"));
    }

    #[test]
    fn an_alias_is_resolved_and_a_missing_one_refused() {
        let good = Address::parse(
            "/_api/web/getusereffectivepermissions(@u)",
            Some("@u='i%3A0%23.w%7Ccontoso%5Cana'"),
        )
        .unwrap();
        assert_eq!(good.web, "");
        assert_eq!(good.segments[1].argument.as_deref(), Some("i:0#.w|contoso\\ana"));
        assert_eq!(
            Address::parse("/_api/web/getusereffectivepermissions(@u)", None)
                .unwrap_err()
                .status,
            400
        );
    }

    #[test]
    fn a_path_without_api_is_no_resource() {
        assert_eq!(Address::parse("/sites/a/Lists", None).unwrap_err().status, 404);
        assert_eq!(
            Address::parse("/_api/web/lists(guid'1'", None)
                .unwrap_err()
                .status,
            400
        );
    }
}
