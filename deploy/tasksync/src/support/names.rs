//! Replaces people's names in what a support bundle shows.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;

/// Fields whose text is the name of a person, in the service's answers.
const PERSON_FIELDS: [&str; 4] = ["user", "users", "mailbox", "source_login"];
/// Fields with the content of tasks, or with what may hold it.
const TASK_FIELDS: [&str; 6] = ["title", "list", "before", "after", "evidence", "task"];
/// Fields of free text, which may name a person that is not known here.
const FREE_TEXT: [&str; 5] = ["detail", "explanation", "additional_information", "why", "reason"];
/// Shortest name, in characters, that is replaced inside of longer text.
const SHORTEST: usize = 3;
/// Stands for text that was left out.
const LEFT_OUT: &str = "(left out)";

/// The people's names, each with a number. The same name has the same number in the whole bundle, and the bundle does
/// not say which name it was.
#[derive(Debug, Default)]
pub(super) struct PeopleNames {
    numbers: HashMap<String, usize>,
    people: usize,
}

impl PeopleNames {
    /// Learns a person by all names that an enrolment has.
    pub(super) fn learn(&mut self, enrolment: &Value) {
        let names: Vec<&str> = PERSON_FIELDS
            .iter()
            .filter_map(|field| enrolment.get(field).and_then(Value::as_str))
            .collect();
        let known = names
            .iter()
            .find_map(|name| self.numbers.get(&folded(name)).copied());
        let number = known.unwrap_or_else(|| self.next());
        for name in names {
            self.numbers.insert(folded(name), number);
            // The last part of a sign-in name, such as `ana` of `i:0#.w|contoso\ana`.
            if let Some((_, last)) = name.rsplit_once(['|', '\\']) {
                self.numbers.entry(folded(last)).or_insert(number);
            }
        }
    }

    fn next(&mut self) -> usize {
        self.people += 1;
        self.people
    }

    fn number_of(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(&folded(name)) {
            return *number;
        }
        let number = self.next();
        self.numbers.insert(folded(name), number);
        number
    }

    /// Returns what stands for a person's name. The domain of an address stays: it is an organisation's.
    fn replaced(&mut self, name: &str) -> String {
        let number = self.number_of(name);
        match name.rsplit_once('@') {
            Some((_, domain)) => format!("person-{number}@{domain}"),
            None => format!("person-{number}"),
        }
    }
}

/// What is replaced in a bundle.
pub(super) enum Privacy {
    /// People's names stay, free text too.
    WithNames,
    /// People's names are replaced.
    WithoutNames {
        people: PeopleNames,
        search: NameSearch,
        /// False if not every person's name is known. Free text is then left out.
        complete: bool,
    },
}

/// Finds known names in text.
pub(super) struct NameSearch(Option<AhoCorasick>);

impl NameSearch {
    /// Returns the search for all known names that are not too short, and not only digits: those stand for numbers as
    /// well.
    pub(super) fn of(people: &PeopleNames) -> Self {
        let mut names: Vec<&String> = people
            .numbers
            .keys()
            .filter(|name| {
                name.chars().count() >= SHORTEST && !name.bytes().all(|byte| byte.is_ascii_digit())
            })
            .collect();
        names.sort();
        // Names are short and few enough for the automaton's limits.
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .build(&names)
            .ok();
        Self(automaton)
    }
}

impl Privacy {
    /// Returns an answer as it may leave the company: without content of tasks, and without people's names unless they
    /// were asked for.
    pub(super) fn cleaned(&mut self, mut answer: Value) -> Value {
        self.clean(&mut answer, None);
        answer
    }

    /// Returns text without people's names, unless they were asked for.
    pub(super) fn cleaned_text(&mut self, text: &str) -> String {
        match self {
            Self::WithNames => text.to_owned(),
            Self::WithoutNames { people, search, .. } => without_names(text, people, search),
        }
    }

    fn clean(&mut self, value: &mut Value, field: Option<&str>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let is_text = value.is_string() || value.is_array();
                    if TASK_FIELDS.contains(&name.as_str()) && !value.is_null() {
                        *value = LEFT_OUT.into();
                    } else {
                        self.clean(value, is_text.then_some(name.as_str()));
                    }
                }
            }
            Value::Array(values) => {
                for value in values {
                    self.clean(value, field);
                }
            }
            Value::String(text) => match self {
                Self::WithNames => {}
                Self::WithoutNames { complete: false, .. }
                    if field.is_some_and(|field| FREE_TEXT.contains(&field)) =>
                {
                    LEFT_OUT.clone_into(text);
                }
                Self::WithoutNames { people, search, .. } => {
                    *text = if field.is_some_and(|field| PERSON_FIELDS.contains(&field)) && !text.is_empty() {
                        people.replaced(text)
                    } else {
                        without_names(text, people, search)
                    };
                }
            },
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Returns the text with every known name, and every mail address, replaced.
fn without_names(text: &str, people: &mut PeopleNames, search: &NameSearch) -> String {
    let mut known = String::with_capacity(text.len());
    let mut end = 0;
    for found in search.0.iter().flat_map(|automaton| automaton.find_iter(text)) {
        let inside_a_word =
            text[..found.start()].ends_with(is_of_a_word) || text[found.end()..].starts_with(is_of_a_word);
        if inside_a_word {
            continue;
        }
        known.push_str(&text[end..found.start()]);
        known.push_str(&people.replaced(&text[found.range()]));
        end = found.end();
    }
    known.push_str(&text[end..]);
    without_addresses(&known, people)
}

fn without_addresses(text: &str, people: &mut PeopleNames) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let local = rest[..at]
            .char_indices()
            .rev()
            .take_while(|(_, sign)| is_of_a_word(*sign) || "._%+'-".contains(*sign))
            .last()
            .map_or(at, |(start, _)| start);
        let domain = rest[at + 1..]
            .find(|sign| !(is_of_a_word(sign) || ".-".contains(sign)))
            .map_or(rest.len(), |length| at + 1 + length);
        // Signs before a name, such as a quotation mark, belong to the sentence.
        let address = rest[local..domain].trim_start_matches(|sign| !is_of_a_word(sign) && sign != '@');
        let before = domain - address.len();
        clean.push_str(&rest[..before]);
        if before >= at || domain == at + 1 || is_replaced(address) {
            clean.push_str(address);
        } else {
            let trimmed = address.trim_end_matches(['.', '-']);
            clean.push_str(&people.replaced(trimmed));
            clean.push_str(&address[trimmed.len()..]);
        }
        rest = &rest[domain..];
    }
    clean.push_str(rest);
    clean
}

/// Returns whether a mail address is one that stands for a name already.
fn is_replaced(address: &str) -> bool {
    let local = address.split('@').next().unwrap_or_default();
    local
        .strip_prefix("person-")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_of_a_word(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

fn folded(name: &str) -> String {
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn privacy(complete: bool) -> Privacy {
        let mut people = PeopleNames::default();
        people.learn(&json!({
            "user": "ana", "mailbox": "Ana.Silva@contoso.example", "source_login": r"i:0#.w|contoso\asilva",
        }));
        people.learn(&json!({ "user": "b1", "mailbox": "ben@contoso.example", "source_login": "ben" }));
        let search = NameSearch::of(&people);
        Privacy::WithoutNames {
            people,
            search,
            complete,
        }
    }

    #[test]
    fn a_person_has_one_number_under_all_names_and_a_domain_stays() {
        let cleaned = privacy(true).cleaned(json!({
            "user": "ANA",
            "users": ["b1", "ana"],
            "mailbox": { "url": "https://mail.contoso.example/EWS" },
            "detail": r"ana.silva@contoso.example is refused; contoso\asilva has no access. The manager of ana, ben.",
            "count": 2,
        }));
        assert_eq!(
            cleaned,
            json!({
                "user": "person-1",
                "users": ["person-2", "person-1"],
                "mailbox": { "url": "https://mail.contoso.example/EWS" },
                "detail": r"person-1@contoso.example is refused; contoso\person-1 has no access. The manager of person-1, person-2.",
                "count": 2,
            })
        );
    }

    #[test]
    fn an_address_that_nobody_enrolled_is_replaced_and_its_sentence_stays() {
        let text = privacy(true)
            .cleaned_text("Sent to carl@fabrikam.example. Twice: carl@fabrikam.example, and @home.");
        assert_eq!(
            text,
            "Sent to person-3@fabrikam.example. Twice: person-3@fabrikam.example, and @home."
        );
    }

    #[test]
    fn a_quoted_address_is_the_same_person_in_its_quotation_marks() {
        let text = privacy(true)
            .cleaned_text("ben@contoso.example: the address 'ben@contoso.example' has no mailbox");
        assert_eq!(
            text,
            "person-2@contoso.example: the address 'person-2@contoso.example' has no mailbox"
        );
    }

    #[test]
    fn text_about_people_who_are_not_all_known_is_left_out() {
        let cleaned = privacy(false).cleaned(json!({ "detail": "zoe is refused", "code": "exchange-busy",
            "additional_information": ["zoe"] }));
        assert_eq!(
            cleaned,
            json!({ "detail": LEFT_OUT, "code": "exchange-busy", "additional_information": [LEFT_OUT] })
        );
    }

    #[test]
    fn content_of_tasks_is_left_out_with_names_and_without() {
        for mut privacy in [privacy(true), Privacy::WithNames] {
            let cleaned = privacy.cleaned(
                json!({ "alerts": [{ "title": "Buy milk", "evidence": { "held": ["Buy milk"] },
                "before": "Buy milk", "after": null }] }),
            );
            assert!(!cleaned.to_string().contains("milk"), "{cleaned}");
        }
    }
}
