//! Tolerant readers of `OData` answers: `verbose`, `minimalmetadata` and `nometadata` give the same result.

use jiff::{SignedDuration, Timestamp};

use super::json::Cell;

/// Returns the object or collection inside the `d` of a verbose answer; other answers unchanged.
pub(super) fn unwrap(mut answer: Cell) -> Cell {
    match answer.take("d") {
        Some(inner) => inner,
        None => answer,
    }
}

/// Returns the result of a function call, which verbose answers put under the function's name.
pub(super) fn result_of<'a>(answer: &'a Cell, function: &str) -> &'a Cell {
    answer.get(function).unwrap_or(answer)
}

/// Returns the entries of a collection; `None` if the answer is not a collection.
pub(super) fn entries(answer: &Cell) -> Option<&[Cell]> {
    answer
        .get("value")
        .or_else(|| answer.get("results"))
        .unwrap_or(answer)
        .as_list()
}

/// Returns the address of the next page.
pub(super) fn next_page(answer: &Cell) -> Option<&str> {
    ["odata.nextLink", "@odata.nextLink", "__next"]
        .iter()
        .find_map(|name| answer.get(name))
        .and_then(Cell::as_str)
        .filter(|link| !link.is_empty())
}

/// Returns a text property; numbers are returned as text.
pub(super) fn text(entry: &Cell, name: &str) -> Option<String> {
    match entry.get(name)? {
        Cell::Text(text) => Some(text.clone()),
        Cell::Integer(number) => Some(number.to_string()),
        Cell::Number(number) => Some(number.to_string()),
        Cell::Null | Cell::Bool(_) | Cell::List(_) | Cell::Overlong | Cell::Record(_) => None,
    }
}

/// Returns a whole number, also if it is written as text or as `12.0`.
pub(super) fn integer(entry: &Cell, name: &str) -> Option<i64> {
    integer_of(entry.get(name)?)
}

fn integer_of(cell: &Cell) -> Option<i64> {
    match cell {
        Cell::Integer(number) => Some(*number),
        Cell::Number(number) => rounded(*number),
        Cell::Text(text) => text.trim().parse().ok(),
        Cell::Null | Cell::Bool(_) | Cell::List(_) | Cell::Overlong | Cell::Record(_) => None,
    }
}

/// Returns a column of an item.
///
/// # Errors
/// The answer has no such property: SharePoint answers every selected column, an empty one with `null`.
fn column<'a>(item: &'a Cell, name: &str) -> Result<&'a Cell, String> {
    item.get(name)
        .ok_or_else(|| format!("the answer has no column {name}"))
}

/// Returns the text of a column; `None` if the column is empty.
///
/// # Errors
/// The column has a value of another type.
pub(super) fn text_column(item: &Cell, name: &str) -> Result<Option<String>, String> {
    match column(item, name)? {
        Cell::Null => Ok(None),
        Cell::Text(text) => Ok(Some(text.clone())),
        Cell::Integer(number) => Ok(Some(number.to_string())),
        Cell::Number(number) => Ok(Some(number.to_string())),
        Cell::Bool(_) | Cell::List(_) | Cell::Overlong | Cell::Record(_) => Err(format!("{name} is no text")),
    }
}

/// Returns the number in a column, also if it is written as text; `None` if the column is empty.
///
/// # Errors
/// The column has a value of another type.
pub(super) fn number_column(item: &Cell, name: &str) -> Result<Option<f64>, String> {
    let number = match column(item, name)? {
        Cell::Null => return Ok(None),
        #[expect(clippy::cast_precision_loss, reason = "columns hold far smaller numbers")]
        Cell::Integer(number) => Some(*number as f64),
        Cell::Number(number) => Some(*number),
        Cell::Text(text) if text.trim().is_empty() => return Ok(None),
        Cell::Text(text) => text.trim().parse().ok(),
        Cell::Bool(_) | Cell::List(_) | Cell::Overlong | Cell::Record(_) => None,
    };
    match number.filter(|number| number.is_finite()) {
        Some(number) => Ok(Some(number)),
        None => Err(format!("{name} is no number")),
    }
}

/// Returns whether a property has the value that was written.
pub(super) fn is_value(cell: &Cell, written: &serde_json::Value) -> bool {
    use serde_json::Value;
    match (written, cell) {
        (Value::Null, Cell::Null) => true,
        (Value::Null, Cell::Text(text)) => text.is_empty(),
        (Value::Number(number), Cell::Integer(_) | Cell::Number(_) | Cell::Text(_)) => {
            let there = match cell {
                Cell::Text(text) => text.trim().parse().ok(),
                Cell::Number(number) => Some(*number),
                #[expect(clippy::cast_precision_loss, reason = "columns hold far smaller numbers")]
                Cell::Integer(number) => Some(*number as f64),
                Cell::Null | Cell::Bool(_) | Cell::List(_) | Cell::Overlong | Cell::Record(_) => None,
            };
            number
                .as_f64()
                .zip(there)
                .is_some_and(|(number, there): (f64, f64)| (number - there).abs() < 1e-6)
        }
        (Value::String(written), Cell::Text(text)) => {
            written.trim() == text.trim()
                || parse_instant(written).is_some_and(|instant| Some(instant) == parse_instant(text))
        }
        (Value::Bool(written), Cell::Bool(flag)) => written == flag,
        _ => false,
    }
}

/// Returns the instant in a column; `None` if the column is empty.
///
/// # Errors
/// The column has a value of another type.
pub(super) fn instant_column(item: &Cell, name: &str) -> Result<Option<Timestamp>, String> {
    match column(item, name)? {
        Cell::Null => Ok(None),
        Cell::Text(text) if text.trim().is_empty() => Ok(None),
        Cell::Text(text) => match parse_instant(text) {
            Some(instant) => Ok(Some(instant)),
            None => Err(format!("{name} is no date")),
        },
        Cell::Bool(_)
        | Cell::Integer(_)
        | Cell::Number(_)
        | Cell::List(_)
        | Cell::Overlong
        | Cell::Record(_) => Err(format!("{name} is no date")),
    }
}

/// Returns the ids in a column of people or lookups: one number, a list, or a verbose `{"results": […]}`. An
/// empty column (`null`, negative) has none.
///
/// # Errors
/// The column has a value of another type.
pub(super) fn ids_column(item: &Cell, name: &str) -> Result<Vec<i64>, String> {
    let cell = column(item, name)?;
    if cell.is_null() {
        return Ok(Vec::new());
    }
    let unreadable = || format!("{name} holds no ids");
    let ids: Option<Vec<i64>> = match entries(cell) {
        Some(list) => list.iter().map(integer_of).collect(),
        None => integer_of(cell).map(|id| vec![id]),
    };
    let mut ids = ids.ok_or_else(unreadable)?;
    ids.retain(|id| *id > 0);
    Ok(ids)
}

/// Returns the nearest whole number, if it clearly fits into 53 bits.
pub(super) fn rounded(number: f64) -> Option<i64> {
    let number = number.round();
    #[expect(clippy::cast_possible_truncation, reason = "checked to be inside ±2^52")]
    (number.abs() < 4_503_599_627_370_496.0).then_some(number as i64)
}

/// Returns a Boolean value, also if it is written as text or number.
pub(super) fn boolean(entry: &Cell, name: &str) -> Option<bool> {
    match entry.get(name)? {
        Cell::Bool(flag) => Some(*flag),
        Cell::Integer(number) => Some(*number != 0),
        Cell::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        Cell::Null | Cell::Number(_) | Cell::List(_) | Cell::Overlong | Cell::Record(_) => None,
    }
}

/// Returns the strings of a list.
pub(super) fn texts(entry: &Cell, name: &str) -> Vec<String> {
    entry
        .get(name)
        .and_then(entries)
        .map(|list| list.iter().filter_map(Cell::as_str).map(str::to_owned).collect())
        .unwrap_or_default()
}

/// Returns an instant in ISO 8601 (UTC if it has no zone) or in the old form `/Date(ms)/`.
pub(super) fn instant(entry: &Cell, name: &str) -> Option<Timestamp> {
    parse_instant(entry.get(name)?.as_str()?)
}

/// Reads an instant as [`instant`] does, from its text.
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

/// Returns a GUID in any notation.
pub(super) fn guid(entry: &Cell, name: &str) -> Option<uuid::Uuid> {
    uuid::Uuid::parse_str(entry.get(name)?.as_str()?.trim()).ok()
}

/// Returns the version inside an entry (`odata.etag`, or verbose `__metadata.etag`), in the form of
/// [`version_of`].
pub(super) fn version(entry: &Cell) -> Option<String> {
    ["odata.etag", "@odata.etag"]
        .iter()
        .find_map(|name| entry.get(name))
        .or_else(|| entry.get("__metadata").and_then(|metadata| metadata.get("etag")))
        .and_then(Cell::as_str)
        .and_then(version_of)
}

/// Returns the list and item that an entry names as its own (`odata.editLink`, `odata.id`, verbose
/// `__metadata.uri`); `None` if it names none.
pub(super) fn identity(entry: &Cell) -> Option<(uuid::Uuid, i64)> {
    let link = ["odata.editLink", "@odata.editLink", "odata.id", "@odata.id"]
        .iter()
        .find_map(|name| entry.get(name))
        .or_else(|| entry.get("__metadata").and_then(|metadata| metadata.get("uri")))
        .and_then(Cell::as_str)?
        .to_ascii_lowercase();
    let (_, rest) = link.split_once("lists(guid'")?;
    let (list, rest) = rest.split_once("')/items(")?;
    let (item, _) = rest.split_once(')')?;
    Some((uuid::Uuid::parse_str(list).ok()?, item.parse().ok()?))
}

/// Returns the opaque text inside an entity tag, without quotes and weakness mark, so that the same version
/// compares equal whether it came in a header or in a body.
pub(super) fn version_of(etag: &str) -> Option<String> {
    let etag = etag.trim();
    let inner = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
    (!inner.is_empty() && inner.len() <= 200 && !inner.contains(['"', '\r', '\n'])).then(|| inner.to_owned())
}

/// Returns the entity tag of a version, for `IF-MATCH`.
pub(super) fn etag_of(version: &str) -> String {
    format!("\"{version}\"")
}

/// Returns a quoted `OData` literal of the text, percent-encoded for a query.
pub(super) fn quoted(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    let encoded: String = url::form_urlencoded::byte_serialize(doubled.as_bytes()).collect();
    // Form encoding writes spaces as '+', which OData takes literally.
    format!("'{}'", encoded.replace('+', "%20"))
}

/// Returns an instant as SharePoint writes it, in whole seconds.
pub(super) fn instant_text(instant: Timestamp) -> String {
    let whole_second = Timestamp::from_second(instant.as_second()).unwrap_or(instant);
    whole_second.to_string()
}

/// Returns the `.NET` ticks of an instant (100 ns since year 1), as change tokens contain them.
pub(super) fn ticks_of(instant: Timestamp) -> i64 {
    instant
        .as_millisecond()
        .saturating_mul(10_000)
        .saturating_add(EPOCH_TICKS)
}

/// Returns the instant of `.NET` ticks.
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
            let inner = unwrap(answer.into());
            let list = entries(&inner).unwrap();
            assert_eq!(integer(&list[0], "Id"), Some(1));
            assert_eq!(next_page(&inner), next);
        }
        for people in [
            json!({"A": 12}),
            json!({"A": [12, -1]}),
            json!({"A": {"results": [12]}}),
        ] {
            assert_eq!(ids_column(&people.into(), "A").unwrap(), [12]);
        }
        assert!(ids_column(&json!({"A": null}).into(), "A").unwrap().is_empty());
        for tagged in [
            json!({"odata.etag": "\"5\""}),
            json!({"__metadata": {"etag": "W/\"5\""}}),
        ] {
            assert_eq!(version(&tagged.into()).as_deref(), Some("5"));
        }
    }

    #[test]
    fn a_column_that_cannot_be_read_is_never_an_empty_one() {
        let item = Cell::from(json!({
            "Empty": null, "Text": "x", "Comma": "12,5", "Date": "soon", "People": ["ana"], "Flag": true,
        }));
        assert_eq!(number_column(&item, "Empty"), Ok(None));
        assert_eq!(instant_column(&item, "Empty"), Ok(None));
        assert_eq!(text_column(&item, "Empty"), Ok(None));
        assert!(number_column(&item, "Comma").is_err() && instant_column(&item, "Date").is_err());
        assert!(ids_column(&item, "People").is_err() && text_column(&item, "Flag").is_err());
        for missing in [
            text_column(&item, "Missing").map(drop),
            number_column(&item, "Missing").map(drop),
            instant_column(&item, "Missing").map(drop),
            ids_column(&item, "Missing").map(drop),
        ] {
            assert!(missing.unwrap_err().contains("Missing"));
        }
    }

    #[test]
    fn an_entry_says_which_list_and_item_it_is() {
        let list = "3f1c2f0e-0000-4000-8000-000000000001";
        for entry in [
            json!({"odata.editLink": format!("Web/Lists(guid'{list}')/Items(17)")}),
            json!({"__metadata": {"uri": format!("https://h/s/_api/Web/Lists(guid'{list}')/Items(17)")}}),
        ] {
            assert_eq!(identity(&entry.into()), Some((list.parse().unwrap(), 17)));
        }
        assert_eq!(identity(&json!({"odata.id": "x"}).into()), None);
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
            if let Ok(cell) = super::super::json::read(text.as_bytes(), &["A"], 10) {
                let cell = unwrap(cell);
                let _ = (entries(&cell), ids_column(&cell, "A"), version(&cell), identity(&cell), next_page(&cell));
            }
        }
    }
}
