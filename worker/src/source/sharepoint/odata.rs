//! Tolerant readers of OData answers: `verbose`, `minimalmetadata` and `nometadata` are understood alike.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// The object or collection inside the `d` of a verbose answer; other answers as they are.
pub(super) fn unwrap(mut value: Value) -> Value {
    match value.get_mut("d") {
        Some(inner) => inner.take(),
        None => value,
    }
}

/// The result of a function call, which verbose answers put under the function's name.
pub(super) fn result_of<'a>(value: &'a Value, function: &str) -> &'a Value {
    value.get(function).unwrap_or(value)
}

/// The entries of a collection; `None` when it is no collection.
pub(super) fn entries(value: &Value) -> Option<&Vec<Value>> {
    value
        .get("value")
        .or_else(|| value.get("results"))
        .unwrap_or(value)
        .as_array()
}

/// The address of the next page.
pub(super) fn next_page(value: &Value) -> Option<&str> {
    ["odata.nextLink", "@odata.nextLink", "__next"]
        .iter()
        .find_map(|name| value.get(*name))
        .and_then(Value::as_str)
        .filter(|link| !link.is_empty())
}

/// A text property; numbers are shown as text.
pub(super) fn text(value: &Value, name: &str) -> Option<String> {
    match value.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A whole number, also when written as text or as `12.0`.
pub(super) fn integer(value: &Value, name: &str) -> Option<i64> {
    whole(value.get(name)?)
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(rounded)),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The nearest whole number, when it fits well inside 53 bits.
pub(super) fn rounded(number: f64) -> Option<i64> {
    let number = number.round();
    #[expect(clippy::cast_possible_truncation, reason = "checked to be inside ±2^52")]
    (number.abs() < 4_503_599_627_370_496.0).then_some(number as i64)
}

/// A number, also when written as text.
pub(super) fn number(value: &Value, name: &str) -> Option<f64> {
    match value.get(name)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
    .filter(|number| number.is_finite())
}

/// Yes or no, also when written as text or number.
pub(super) fn boolean(value: &Value, name: &str) -> Option<bool> {
    match value.get(name)? {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => number.as_i64().map(|number| number != 0),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Ids of people or lookups: one number, a list, or a verbose `{"results": […]}`. Nobody (`null`, negative) is empty.
pub(super) fn ids(value: &Value, name: &str) -> Vec<i64> {
    let Some(value) = value.get(name) else {
        return Vec::new();
    };
    match entries(value) {
        Some(list) => list.iter().filter_map(whole).filter(|id| *id > 0).collect(),
        None => whole(value).filter(|id| *id > 0).into_iter().collect(),
    }
}

/// The strings of a list.
pub(super) fn texts(value: &Value, name: &str) -> Vec<String> {
    value
        .get(name)
        .and_then(entries)
        .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default()
}

/// An instant: ISO 8601 (without a zone it is UTC) or the old `/Date(ms)/`.
pub(super) fn instant(value: &Value, name: &str) -> Option<Timestamp> {
    parse_instant(value.get(name)?.as_str()?)
}

/// See [`instant`].
pub(super) fn parse_instant(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant);
    }
    if let Some(rest) = text.strip_prefix("/Date(") {
        let end = rest.find(')')?;
        let digits = rest.get(..end)?;
        let zone = digits
            .get(1..)?
            .find(['+', '-'])
            .map_or(digits.len(), |at| at + 1);
        return Timestamp::from_millisecond(digits.get(..zone)?.parse().ok()?).ok();
    }
    let local = text.parse::<jiff::civil::DateTime>().ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(local).ok()
}

/// A GUID in any spelling.
pub(super) fn guid(value: &Value, name: &str) -> Option<uuid::Uuid> {
    uuid::Uuid::parse_str(value.get(name)?.as_str()?.trim()).ok()
}

/// The version inside an entry (`odata.etag`, or verbose `__metadata.etag`), as [`version_of`] writes it.
pub(super) fn version(value: &Value) -> Option<String> {
    ["odata.etag", "@odata.etag"]
        .iter()
        .find_map(|name| value.get(*name))
        .or_else(|| value.get("__metadata").and_then(|metadata| metadata.get("etag")))
        .and_then(Value::as_str)
        .and_then(version_of)
}

/// The opaque text inside an entity tag, without quotes and weakness mark: the same version compares equal whether it
/// came in a header or in a body.
pub(super) fn version_of(etag: &str) -> Option<String> {
    let etag = etag.trim();
    let inner = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
    (!inner.is_empty() && inner.len() <= 200 && !inner.contains(['"', '\r', '\n'])).then(|| inner.to_owned())
}

/// The entity tag of a version, for `IF-MATCH`.
pub(super) fn etag_of(version: &str) -> String {
    format!("\"{version}\"")
}

/// Text as the inside of a quoted OData literal, percent-encoded for a query.
pub(super) fn quoted(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    let encoded: String = url::form_urlencoded::byte_serialize(doubled.as_bytes()).collect();
    // Form encoding writes blanks as '+', which OData takes literally.
    format!("'{}'", encoded.replace('+', "%20"))
}

/// An instant as SharePoint writes it, in whole seconds.
pub(super) fn instant_text(instant: Timestamp) -> String {
    let whole = Timestamp::from_second(instant.as_second()).unwrap_or(instant);
    whole.to_string()
}

/// `.NET` ticks of an instant (100 ns since year 1), as change tokens hold them.
pub(super) fn ticks_of(instant: Timestamp) -> i64 {
    instant
        .as_millisecond()
        .saturating_mul(10_000)
        .saturating_add(EPOCH_TICKS)
}

/// The instant of `.NET` ticks.
pub(super) fn instant_of_ticks(ticks: i64) -> Option<Timestamp> {
    let millis = ticks.checked_sub(EPOCH_TICKS)?.div_euclid(10_000);
    Timestamp::UNIX_EPOCH
        .checked_add(SignedDuration::from_millis(millis))
        .ok()
}

const EPOCH_TICKS: i64 = 621_355_968_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn all_three_shapes_read_alike() {
        for (answer, next) in [
            (json!({"d": {"results": [{"Id": 1}], "__next": "n"}}), Some("n")),
            (json!({"value": [{"Id": 1}], "odata.nextLink": "n"}), Some("n")),
            (json!({"d": [{"Id": "1"}]}), None),
        ] {
            let inner = unwrap(answer);
            let list = entries(&inner).unwrap();
            assert_eq!(integer(&list[0], "Id"), Some(1));
            assert_eq!(next_page(&inner), next);
        }
        for people in [
            json!({"A": 12}),
            json!({"A": [12, -1]}),
            json!({"A": {"results": [12]}}),
        ] {
            assert_eq!(ids(&people, "A"), [12]);
        }
        assert!(ids(&json!({"A": null}), "A").is_empty());
        for tagged in [
            json!({"odata.etag": "\"5\""}),
            json!({"__metadata": {"etag": "W/\"5\""}}),
        ] {
            assert_eq!(version(&tagged).as_deref(), Some("5"));
        }
    }

    #[test]
    fn instants_in_every_spelling() {
        for text in [
            "2026-12-03T23:00:00Z",
            "2026-12-03T23:00:00",
            "/Date(1796338800000)/",
            "/Date(1796338800000+0100)/",
        ] {
            assert_eq!(
                parse_instant(text).map(|instant| instant.to_string()).as_deref(),
                Some("2026-12-03T23:00:00Z"),
                "{text}"
            );
        }
        let known = Timestamp::from_second(1_795_356_000).unwrap();
        assert_eq!(ticks_of(known), 639_309_528_000_000_000);
        assert_eq!(instant_of_ticks(639_309_528_000_000_000), Some(known));
        assert_eq!(instant_text(known), "2026-11-22T14:00:00Z");
    }

    #[test]
    fn a_login_fits_into_a_query() {
        assert_eq!(quoted("i:0#.w|c\\o'b"), "'i%3A0%23.w%7Cc%5Co%27%27b'");
    }

    proptest! {
        #[test]
        fn readers_never_panic(text in ".{0,60}", number in any::<i64>()) {
            let _ = parse_instant(&text);
            let _ = parse_instant(&format!("/Date({text}"));
            let _ = version_of(&text);
            let _ = instant_of_ticks(number);
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                let value = unwrap(value);
                let _ = (entries(&value), ids(&value, "A"), version(&value), next_page(&value));
            }
        }
    }
}
