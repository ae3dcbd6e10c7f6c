//! Replaces the names of people and of service accounts in what a support bundle shows.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;

/// Fields whose text is the name of a person, in the service's answers.
const PERSON_FIELDS: [&str; 4] = ["user", "users", "mailbox", "source_login"];
/// The object in which `user` is a service account.
const CREDENTIALS: &str = "credentials";
/// Fields with the content of tasks, or with what may hold it.
const TASK_FIELDS: [&str; 6] = ["title", "list", "before", "after", "evidence", "task"];
/// Fields of free text, which may name a person that is not known here.
const FREE_TEXT: [&str; 5] = ["detail", "explanation", "additional_information", "why", "reason"];
/// Shortest name, in characters, that is replaced inside of longer text.
const SHORTEST: usize = 3;
/// Stands for text that was left out.
const LEFT_OUT: &str = "(left out)";

/// Whom a name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Person,
    /// The account with which tasksync signs in at a tenant's server.
    Account,
}

impl Named {
    const ALL: [Self; 2] = [Self::Person, Self::Account];

    fn word(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Account => "account",
        }
    }
}

/// What stands for a name: a kind, and a number that counts within the kind.
type Alias = (Named, usize);

/// The names of people and of service accounts, each with a number. The same name has the same number in the whole
/// bundle, and the bundle does not say which name it was.
#[derive(Debug, Default)]
pub(super) struct KnownNames {
    aliases: HashMap<String, Alias>,
    people: usize,
    accounts: usize,
}

impl KnownNames {
    /// Learns a person by all names that an enrolment has.
    pub(super) fn learn_person(&mut self, enrolment: &Value) {
        let names = PERSON_FIELDS
            .iter()
            .filter_map(|field| enrolment.get(field).and_then(Value::as_str));
        self.learn(Named::Person, &names.collect::<Vec<_>>());
    }

    /// Learns the accounts with which a tenant's settings sign in.
    pub(super) fn learn_accounts(&mut self, tenant: &Value) {
        for side in ["source", "mailbox"] {
            let user = tenant
                .pointer(&format!("/{side}/{CREDENTIALS}/user"))
                .and_then(Value::as_str);
            if let Some(user) = user {
                self.learn(Named::Account, &[user]);
            }
        }
    }

    /// Learns one person or account by its names. What is known already keeps its number.
    fn learn(&mut self, named: Named, all: &[&str]) {
        let known = all
            .iter()
            .find_map(|name| self.aliases.get(&folded(name)).copied());
        let alias = known.unwrap_or_else(|| self.next(named));
        for name in all {
            self.aliases.insert(folded(name), alias);
            // The last part of a sign-in name, such as `ana` of `i:0#.w|contoso\ana`.
            if let Some((_, last)) = name.rsplit_once(['|', '\\']) {
                self.aliases.entry(folded(last)).or_insert(alias);
            }
        }
    }

    fn next(&mut self, named: Named) -> Alias {
        let count = match named {
            Named::Person => &mut self.people,
            Named::Account => &mut self.accounts,
        };
        *count += 1;
        (named, *count)
    }

    /// Returns what stands for a name; `named` counts only if the name is new. The domain of an address stays: it is an
    /// organisation's.
    fn replaced(&mut self, named: Named, name: &str) -> String {
        let known = self.aliases.get(&folded(name)).copied();
        let alias = known.unwrap_or_else(|| {
            let alias = self.next(named);
            self.aliases.insert(folded(name), alias);
            alias
        });
        let (word, number) = (alias.0.word(), alias.1);
        match name.rsplit_once('@') {
            Some((_, domain)) => format!("{word}-{number}@{domain}"),
            None => format!("{word}-{number}"),
        }
    }
}

/// What is replaced in a bundle.
pub(super) enum Privacy {
    /// People's names stay, free text too.
    WithNames,
    /// The names of people and accounts are replaced.
    WithoutNames {
        names: KnownNames,
        /// Finds the known names in text; `None` if the search cannot be made.
        search: Option<AhoCorasick>,
        /// False if not every person's name is known, or names cannot be found in text. Free text is then left out.
        complete: bool,
    },
}

/// Returns the search for all known names that are not too short, and not only digits: those stand for numbers as
/// well. `None` if there are more than a search can have.
fn search_of(names: &KnownNames) -> Option<AhoCorasick> {
    let mut names: Vec<&String> = names
        .aliases
        .keys()
        .filter(|name| name.chars().count() >= SHORTEST && !name.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    names.sort();
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::LeftmostLongest)
        .build(&names)
        .ok()
}

impl Privacy {
    /// Returns a privacy that replaces these names. `all_known` tells whether every person's name is among them.
    pub(super) fn without_names(names: KnownNames, all_known: bool) -> Self {
        let search = search_of(&names);
        Self::with_search(names, search, all_known)
    }

    fn with_search(names: KnownNames, search: Option<AhoCorasick>, all_known: bool) -> Self {
        Self::WithoutNames {
            complete: all_known && search.is_some(),
            names,
            search,
        }
    }

    /// Returns an answer as it may leave the company: without content of tasks, and without people's names unless they
    /// were asked for.
    pub(super) fn cleaned(&mut self, mut answer: Value) -> Value {
        self.clean(&mut answer, None, None);
        answer
    }

    /// Returns text without people's names, unless they were asked for.
    pub(super) fn cleaned_text(&mut self, text: &str) -> String {
        match self {
            Self::WithNames => text.to_owned(),
            Self::WithoutNames { names, search, .. } => without_names(text, names, search.as_ref()),
        }
    }

    /// `field` is the name of the field that has the value as its text or list, and `owner` that of the object around
    /// it.
    fn clean(&mut self, value: &mut Value, owner: Option<&str>, field: Option<&str>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let is_text = value.is_string() || value.is_array();
                    if TASK_FIELDS.contains(&name.as_str()) && !value.is_null() {
                        *value = LEFT_OUT.into();
                    } else if is_text {
                        self.clean(value, owner, Some(name));
                    } else {
                        self.clean(value, Some(name), None);
                    }
                }
            }
            Value::Array(values) => {
                for value in values {
                    self.clean(value, owner, field);
                }
            }
            Value::String(text) => match self {
                Self::WithNames => {}
                Self::WithoutNames { complete: false, .. }
                    if field.is_some_and(|field| FREE_TEXT.contains(&field)) =>
                {
                    LEFT_OUT.clone_into(text);
                }
                Self::WithoutNames { names, search, .. } => {
                    *text = if field.is_some_and(|field| PERSON_FIELDS.contains(&field)) && !text.is_empty() {
                        let named = match owner {
                            Some(CREDENTIALS) => Named::Account,
                            Some(_) | None => Named::Person,
                        };
                        names.replaced(named, text)
                    } else {
                        without_names(text, names, search.as_ref())
                    };
                }
            },
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Returns the text with every known name, and every mail address, replaced.
fn without_names(text: &str, names: &mut KnownNames, search: Option<&AhoCorasick>) -> String {
    let mut known = String::with_capacity(text.len());
    let mut end = 0;
    for found in search.into_iter().flat_map(|search| search.find_iter(text)) {
        let inside_a_word =
            text[..found.start()].ends_with(is_of_a_word) || text[found.end()..].starts_with(is_of_a_word);
        if inside_a_word {
            continue;
        }
        known.push_str(&text[end..found.start()]);
        known.push_str(&names.replaced(Named::Person, &text[found.range()]));
        end = found.end();
    }
    known.push_str(&text[end..]);
    without_addresses(&known, names)
}

fn without_addresses(text: &str, names: &mut KnownNames) -> String {
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
            clean.push_str(&names.replaced(Named::Person, trimmed));
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
    local.split_once('-').is_some_and(|(word, number)| {
        let is_word = Named::ALL.iter().any(|named| named.word() == word);
        is_word && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
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
        let mut names = KnownNames::default();
        names.learn_person(&json!({
            "user": "ana", "mailbox": "Ana.Silva@contoso.example", "source_login": r"i:0#.w|contoso\asilva",
        }));
        names.learn_person(&json!({ "user": "b1", "mailbox": "ben@contoso.example", "source_login": "ben" }));
        names.learn_accounts(&tenant());
        Privacy::without_names(names, complete)
    }

    fn tenant() -> Value {
        json!({
            "id": "contoso",
            "source": { "credentials": { "user": r"contoso\svc-tasksync", "password": "file:sp" } },
            "mailbox": { "credentials": { "user": "svc@contoso.example", "password": "file:ews" } },
        })
    }

    #[test]
    fn a_service_account_is_no_person_and_has_one_number_in_settings_and_in_text() {
        let mut privacy = privacy(true);
        let cleaned = privacy.cleaned(json!({
            "tenants": [tenant()],
            "detail": r"contoso\svc-tasksync is refused, and so is SVC@contoso.example; ana is well",
        }));
        assert_eq!(
            cleaned,
            json!({
                "tenants": [{
                    "id": "contoso",
                    "source": { "credentials": { "user": "account-1", "password": "file:sp" } },
                    "mailbox": { "credentials": { "user": "account-2@contoso.example", "password": "file:ews" } },
                }],
                "detail": "account-1 is refused, and so is account-2@contoso.example; person-1 is well",
            })
        );
        // One that was not learned before.
        let other = privacy.cleaned(json!({ "credentials": { "user": "svc-2" }, "user": "zoe" }));
        assert_eq!(
            other,
            json!({ "credentials": { "user": "account-3" }, "user": "person-3" })
        );
    }

    #[test]
    fn without_a_search_for_names_free_text_is_left_out() {
        let mut privacy = Privacy::with_search(KnownNames::default(), None, true);
        let cleaned = privacy.cleaned(json!({ "detail": "zoe is refused", "user": "zoe" }));
        assert_eq!(cleaned, json!({ "detail": LEFT_OUT, "user": "person-1" }));
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
