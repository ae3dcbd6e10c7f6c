//! Conditions on rows, used by `OData` `$filter` and by CAML, and the parser of `$filter`.

use std::cmp::Ordering;

use jiff::Timestamp;

use super::errors::SpError;

/// Largest nesting depth of a condition.
pub(crate) const MAXIMUM_DEPTH: usize = 64;
/// Largest length of a `$filter` in bytes.
const MAXIMUM_LENGTH: usize = 8 * 1024;

/// A value of a row or of a condition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Null,
    Flag(bool),
    Number(f64),
    Text(String),
    Time(Timestamp),
    Many(Vec<Cell>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    Always(bool),
    And(Box<Test>, Box<Test>),
    Or(Box<Test>, Box<Test>),
    Not(Box<Test>),
    Compare(String, Comparison, Cell),
    In(String, Vec<Cell>),
    Contains(String, String),
    StartsWith(String, String),
}

impl Test {
    /// Returns whether a row satisfies the condition. The row is a look-up from field name to value.
    pub(crate) fn holds(&self, row: &dyn Fn(&str) -> Cell) -> bool {
        match self {
            Self::Always(answer) => *answer,
            Self::And(left, right) => left.holds(row) && right.holds(row),
            Self::Or(left, right) => left.holds(row) || right.holds(row),
            Self::Not(inner) => !inner.holds(row),
            Self::Compare(field, comparison, wanted) => compare(&row(field), *comparison, wanted),
            Self::In(field, wanted) => {
                let cell = row(field);
                wanted
                    .iter()
                    .any(|wanted| compare(&cell, Comparison::Equal, wanted))
            }
            Self::Contains(field, part) => {
                text_of(&row(field)).is_some_and(|text| text.contains(&part.to_lowercase()))
            }
            Self::StartsWith(field, part) => {
                text_of(&row(field)).is_some_and(|text| text.starts_with(&part.to_lowercase()))
            }
        }
    }

    /// Calls `visit` for every field that the condition names.
    pub(crate) fn fields(&self, visit: &mut dyn FnMut(&str)) {
        match self {
            Self::Always(_) => {}
            Self::And(left, right) | Self::Or(left, right) => {
                left.fields(visit);
                right.fields(visit);
            }
            Self::Not(inner) => inner.fields(visit),
            Self::Compare(field, ..)
            | Self::In(field, _)
            | Self::Contains(field, _)
            | Self::StartsWith(field, _) => {
                visit(field);
            }
        }
    }

    /// Returns whether the indexed fields suffice to find every row that satisfies the condition.
    pub(crate) fn uses_index(&self, indexed: &dyn Fn(&str) -> bool) -> bool {
        match self {
            Self::Always(answer) => !answer,
            Self::And(left, right) => left.uses_index(indexed) || right.uses_index(indexed),
            Self::Or(left, right) => left.uses_index(indexed) && right.uses_index(indexed),
            Self::Not(_) | Self::Contains(..) | Self::StartsWith(..) => false,
            Self::Compare(field, comparison, _) => *comparison != Comparison::NotEqual && indexed(field),
            Self::In(field, _) => indexed(field),
        }
    }
}

fn text_of(cell: &Cell) -> Option<String> {
    if let Cell::Text(text) = cell {
        Some(text.to_lowercase())
    } else {
        None
    }
}

/// Compares two values as SharePoint's database does: text ignoring case, and null first.
pub(crate) fn order(left: &Cell, right: &Cell) -> Option<Ordering> {
    match (left, right) {
        (Cell::Null, Cell::Null) => Some(Ordering::Equal),
        (Cell::Null, _) => Some(Ordering::Less),
        (_, Cell::Null) => Some(Ordering::Greater),
        (Cell::Number(left), Cell::Number(right)) => left.partial_cmp(right),
        (Cell::Flag(left), Cell::Flag(right)) => Some(left.cmp(right)),
        (Cell::Flag(flag), Cell::Number(number)) => f64::from(u8::from(*flag)).partial_cmp(number),
        (Cell::Time(left), Cell::Time(right)) => Some(left.cmp(right)),
        (Cell::Time(left), Cell::Text(right)) => {
            right.parse::<Timestamp>().ok().map(|right| left.cmp(&right))
        }
        (Cell::Number(left), Cell::Text(right)) => right
            .parse::<f64>()
            .ok()
            .and_then(|right| left.partial_cmp(&right)),
        (Cell::Text(left), Cell::Text(right)) => Some(left.to_lowercase().cmp(&right.to_lowercase())),
        (Cell::Text(left), Cell::Number(right)) => {
            left.parse::<f64>().ok().and_then(|left| left.partial_cmp(right))
        }
        _ => None,
    }
}

fn compare(cell: &Cell, comparison: Comparison, wanted: &Cell) -> bool {
    if let Cell::Many(cells) = cell {
        return match comparison {
            Comparison::NotEqual => cells
                .iter()
                .all(|cell| compare(cell, Comparison::NotEqual, wanted)),
            Comparison::Equal if *wanted == Cell::Null => cells.is_empty(),
            Comparison::Equal
            | Comparison::Greater
            | Comparison::GreaterOrEqual
            | Comparison::Less
            | Comparison::LessOrEqual => cells.iter().any(|cell| compare(cell, comparison, wanted)),
        };
    }
    // Null is equal only to null, and neither greater nor less than any value, as in SQL.
    if matches!(cell, Cell::Null) != matches!(wanted, Cell::Null) {
        return comparison == Comparison::NotEqual;
    }
    let Some(order) = order(cell, wanted) else {
        return comparison == Comparison::NotEqual;
    };
    match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Word {
    Open,
    Close,
    Comma,
    Name(String),
    Literal(Cell),
}

/// Parses an `OData` `$filter`.
pub(crate) fn parse(text: &str) -> Result<Test, SpError> {
    let invalid = || SpError::query(format!("The expression \"{text}\" is not valid."));
    if text.len() > MAXIMUM_LENGTH {
        return Err(SpError::query("The filter expression is too long."));
    }
    let words = words(text).ok_or_else(invalid)?;
    let mut parser = Parser { words: &words, at: 0 };
    let condition = parser.either(0).ok_or_else(invalid)?;
    if parser.at == words.len() {
        Ok(condition)
    } else {
        Err(invalid())
    }
}

struct Parser<'a> {
    words: &'a [Word],
    at: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<Word> {
        let word = self.words.get(self.at).cloned();
        self.at += 1;
        word
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let hit =
            matches!(self.words.get(self.at), Some(Word::Name(name)) if name.eq_ignore_ascii_case(keyword));
        self.at += usize::from(hit);
        hit
    }

    fn expect(&mut self, word: &Word) -> Option<()> {
        (self.next().as_ref() == Some(word)).then_some(())
    }

    fn either(&mut self, depth: usize) -> Option<Test> {
        let mut left = self.both(depth)?;
        while self.keyword("or") {
            left = Test::Or(Box::new(left), Box::new(self.both(depth)?));
        }
        Some(left)
    }

    fn both(&mut self, depth: usize) -> Option<Test> {
        let mut left = self.single(depth)?;
        while self.keyword("and") {
            left = Test::And(Box::new(left), Box::new(self.single(depth)?));
        }
        Some(left)
    }

    fn single(&mut self, depth: usize) -> Option<Test> {
        if depth > MAXIMUM_DEPTH {
            return None;
        }
        if self.keyword("not") {
            return Some(Test::Not(Box::new(self.single(depth + 1)?)));
        }
        match self.next()? {
            Word::Open => {
                let inner = self.either(depth + 1)?;
                self.expect(&Word::Close)?;
                Some(inner)
            }
            Word::Name(name) if self.words.get(self.at) == Some(&Word::Open) => self.function(&name),
            Word::Name(name) => {
                let Some(Word::Name(operator)) = self.next() else {
                    return None;
                };
                let comparison = match operator.to_ascii_lowercase().as_str() {
                    "eq" => Comparison::Equal,
                    "ne" => Comparison::NotEqual,
                    "gt" => Comparison::Greater,
                    "ge" => Comparison::GreaterOrEqual,
                    "lt" => Comparison::Less,
                    "le" => Comparison::LessOrEqual,
                    _ => return None,
                };
                let Some(Word::Literal(value)) = self.next() else {
                    return None;
                };
                Some(Test::Compare(name, comparison, value))
            }
            Word::Close | Word::Comma | Word::Literal(_) => None,
        }
    }

    fn function(&mut self, name: &str) -> Option<Test> {
        self.expect(&Word::Open)?;
        let first = self.next()?;
        self.expect(&Word::Comma)?;
        let second = self.next()?;
        self.expect(&Word::Close)?;
        // `substringof('a',Title) eq true` means the same as the call without `eq true`.
        if self.keyword("eq") {
            self.expect(&Word::Literal(Cell::Flag(true)))?;
        }
        match (name.to_ascii_lowercase().as_str(), first, second) {
            ("startswith", Word::Name(field), Word::Literal(Cell::Text(part))) => {
                Some(Test::StartsWith(field, part))
            }
            ("substringof", Word::Literal(Cell::Text(part)), Word::Name(field)) => {
                Some(Test::Contains(field, part))
            }
            _ => None,
        }
    }
}

fn words(text: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        match first {
            '(' | ')' | ',' => {
                words.push(match first {
                    '(' => Word::Open,
                    ')' => Word::Close,
                    _ => Word::Comma,
                });
                rest = rest.get(1..)?;
            }
            '\'' => {
                let (value, tail) = quoted(rest)?;
                words.push(Word::Literal(Cell::Text(value)));
                rest = tail;
            }
            _ => {
                let end = rest
                    .find(|c: char| c.is_whitespace() || "(),'".contains(c))
                    .unwrap_or(rest.len());
                let (word, tail) = rest.split_at_checked(end)?;
                if tail.starts_with('\'') && matches!(word, "guid" | "datetime") {
                    let (value, tail) = quoted(tail)?;
                    words.push(Word::Literal(match word {
                        "guid" => Cell::Text(value.to_lowercase()),
                        _ => Cell::Time(time_literal(&value)?),
                    }));
                    rest = tail;
                } else {
                    words.push(bare(word)?);
                    rest = tail;
                }
            }
        }
        rest = rest.trim_start();
    }
    Some(words)
}

fn time_literal(value: &str) -> Option<Timestamp> {
    let civil = || {
        value
            .parse::<jiff::civil::DateTime>()
            .ok()?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
    };
    value
        .parse::<Timestamp>()
        .ok()
        .or_else(|| civil().map(|zoned| zoned.timestamp()))
}

fn bare(word: &str) -> Option<Word> {
    if word.is_empty() {
        return None;
    }
    Some(match word {
        "true" => Word::Literal(Cell::Flag(true)),
        "false" => Word::Literal(Cell::Flag(false)),
        "null" => Word::Literal(Cell::Null),
        _ => match word.parse::<f64>() {
            Ok(number) if number.is_finite() => Word::Literal(Cell::Number(number)),
            _ => Word::Name(word.to_owned()),
        },
    })
}

/// Parses a quoted text, in which two quotes stand for one. Returns it with the rest of the input.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character != '\'' {
            value.push(character);
        } else if characters.peek().is_some_and(|(_, next)| *next == '\'') {
            value.push('\'');
            characters.next();
        } else {
            return Some((value, text.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> Cell {
        match name {
            "BaseTemplate" => Cell::Number(171.0),
            "Hidden" => Cell::Flag(false),
            "Title" => Cell::Text("Ana's Tasks".to_owned()),
            "Modified" => Cell::Time("2026-11-22T14:00:00Z".parse().unwrap()),
            "AssignedTo/Id" => Cell::Many(vec![Cell::Number(12.0), Cell::Number(13.0)]),
            _ => Cell::Null,
        }
    }

    #[test]
    fn conditions_hold_or_do_not() {
        let holds = |text: &str| parse(text).unwrap().holds(&row);
        assert!(holds(
            "(BaseTemplate eq 171 or BaseTemplate eq 107) and Hidden eq false"
        ));
        assert!(!holds("BaseTemplate eq 107 and Hidden eq false"));
        assert!(holds("Title eq 'ana''s tasks'"));
        assert!(holds(
            "startswith(Title,'Ana') and substringof('task',Title) eq true"
        ));
        assert!(holds(
            "Modified ge datetime'2026-11-22T14:00:00Z' and not (Modified gt '2026-11-22T14:00:00Z')"
        ));
        assert!(holds("AssignedTo/Id eq 13"));
        assert!(!holds("AssignedTo/Id ne 13"));
        assert!(holds("DueDate eq null"));
        assert!(!holds("DueDate lt 5"));
    }

    #[test]
    fn broken_conditions_are_refused() {
        for text in [
            "",
            "Title",
            "Title eq",
            "Title is 'a'",
            "(Title eq 'a'",
            "Title eq 'a",
            "Title eq 'a' 'b'",
            "foo(1,2)",
        ] {
            assert_eq!(parse(text).unwrap_err().status, 400, "{text}");
        }
        let deep = format!("{}Title eq 'a'{}", "(".repeat(200), ")".repeat(200));
        assert_eq!(parse(&deep).unwrap_err().status, 400);
    }
}
