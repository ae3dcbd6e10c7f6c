//! Changes, omits, duplicates or swaps parts of a `$batch` answer. Pure.

use crate::sim::answers::Answer;
use crate::sim::dice::Dice;

/// A batch answer split into its parts.
pub(super) struct BatchParts {
    boundary: String,
    /// Head (with the HTTP status line) and body of each part, in order.
    parts: Vec<(String, String)>,
}

impl BatchParts {
    /// Parses an answer. Returns `None` if it is not a flat batch.
    pub(super) fn read(answer: &Answer) -> Option<Self> {
        let kind = answer.header("content-type")?;
        let (_, boundary) = kind.split_once("boundary=")?;
        let boundary = boundary.trim_matches('"').to_owned();
        let text = std::str::from_utf8(&answer.body).ok()?;
        let (text, _) = text.split_once(&format!("--{boundary}--"))?;
        let parts = text
            .split(&format!("--{boundary}\r\n"))
            .skip(1)
            .map(|part| {
                let http = part.find("HTTP/1.1 ")?;
                let end = part.get(http..)?.find("\r\n\r\n")? + http + 4;
                Some((part.get(..end)?.to_owned(), part.get(end..)?.to_owned()))
            })
            .collect::<Option<Vec<_>>>()?;
        (!parts.is_empty()).then_some(Self { boundary, parts })
    }

    /// Changes the body of one part with `change`, which returns the new body and a description. Returns the
    /// description.
    pub(super) fn change(
        &mut self,
        dice: &mut Dice,
        change: impl Fn(&str, &mut Dice) -> Option<(String, String)>,
    ) -> Option<String> {
        let first = dice.below(self.parts.len());
        let count = self.parts.len();
        for at in (0..count).map(|step| (first + step) % count) {
            let (_, body) = self.parts.get_mut(at)?;
            if let Some((changed, description)) = change(body.trim_end(), dice) {
                *body = format!("{changed}\r\n");
                return Some(format!("part {at} of {count}: {description}"));
            }
        }
        None
    }

    /// Replaces one part by another answer.
    pub(super) fn replace(&mut self, dice: &mut Dice, answer: &Answer) -> Option<String> {
        let at = dice.below(self.parts.len());
        let count = self.parts.len();
        let (head, body) = self.parts.get_mut(at)?;
        let kind = answer.header("content-type").unwrap_or("text/plain");
        *head = format!(
            "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nHTTP/1.1 {} Answer\r\nCONTENT-TYPE: {kind}\r\n\r\n",
            answer.status
        );
        *body = format!("{}\r\n", answer.text());
        Some(format!("part {at} of {count}"))
    }

    /// Swaps two parts that differ. Returns `None` if all are equal.
    pub(super) fn swap(&mut self, dice: &mut Dice) -> Option<String> {
        let one = dice.below(self.parts.len());
        let differs = |at: &usize| self.parts.get(*at) != self.parts.get(one);
        let other = (0..self.parts.len()).find(differs)?;
        self.parts.swap(one, other);
        Some(format!("parts {one} and {other} swapped"))
    }

    /// Omits one part.
    pub(super) fn drop_one(&mut self, dice: &mut Dice) -> String {
        let at = dice.below(self.parts.len());
        self.parts.remove(at);
        format!("part {at} left out")
    }

    /// Duplicates one part.
    pub(super) fn double_one(&mut self, dice: &mut Dice) -> Option<String> {
        let at = dice.below(self.parts.len());
        let part = self.parts.get(at)?.clone();
        self.parts.insert(at, part);
        Some(format!("part {at} doubled"))
    }

    /// Returns the body of the changed answer.
    pub(super) fn write(&self) -> String {
        let boundary = &self.boundary;
        let parts = self.parts.iter();
        let parts = parts.map(|(head, body)| format!("--{boundary}\r\n{head}{body}"));
        format!("{}--{boundary}--\r\n", parts.collect::<Vec<_>>().concat())
    }
}
