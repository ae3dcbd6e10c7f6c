//! What `tasksync init` has to know about the first tenant, and how a person at a terminal is asked for it.

use secrecy::{ExposeSecret as _, SecretString};
use tasksync_common::model::{MailboxAddress, TenantId, zone_named};
use url::Url;

use crate::exit::CommandError;
use crate::terminal;

/// One fact about the tenant.
struct Fact {
    /// The option that gives it.
    flag: &'static str,
    question: &'static str,
    /// What an empty answer means; `None` if there has to be an answer.
    default: Option<&'static str>,
    check: fn(&str) -> Result<(), String>,
}

/// Number of facts.
const COUNT: usize = 8;

/// What is known of each fact.
pub(super) type Facts = [Option<String>; COUNT];

/// The facts that connect a tenant with passwords, in the order in which they are asked for.
const FACTS: [Fact; COUNT] = [
    Fact {
        flag: "--tenant",
        question: "Short name of the organisation (a to z, 0 to 9 and -), such as contoso",
        default: None,
        check: |text| {
            text.parse::<TenantId>()
                .map(drop)
                .map_err(|error| error.to_string())
        },
    },
    Fact {
        flag: "--name",
        question: "Its name for people",
        default: Some(""),
        check: |_| Ok(()),
    },
    Fact {
        flag: "--time-zone",
        question: "Time zone of its people, such as Europe/Berlin; dates depend on it",
        default: None,
        check: zone,
    },
    Fact {
        flag: "--site",
        question: "Address of a SharePoint site with task lists; several are separated by blanks",
        default: None,
        check: |text| text.split_whitespace().try_for_each(address),
    },
    Fact {
        flag: "--ews-url",
        question: "Address of Exchange's EWS, such as https://mail.contoso.example/EWS/Exchange.asmx",
        default: None,
        check: address,
    },
    Fact {
        flag: "--account",
        question: r"Service account with access to both, such as contoso\svc-tasksync",
        default: None,
        check: |text| {
            if text.contains(':') {
                Err("a colon ends the name in Basic authentication; name an account without one".to_owned())
            } else {
                Ok(())
            }
        },
    },
    Fact {
        flag: "--mailbox",
        question: "Mailbox of a person by whom Exchange is tested (empty: Exchange is tested without a mailbox)",
        default: Some(""),
        check: |text| match text {
            "" => Ok(()),
            text => text
                .parse::<MailboxAddress>()
                .map(drop)
                .map_err(|error| error.to_string()),
        },
    },
    Fact {
        flag: "--source-login",
        question: r"That person's sign-in name at SharePoint, such as i:0#.w|contoso\ana (empty: it is not tested)",
        default: Some(""),
        check: |_| Ok(()),
    },
];

/// Who answers questions: a person at a terminal, or a test.
pub(super) trait Respondent {
    /// Returns the answer to a question, without blanks at its ends.
    ///
    /// # Errors
    /// The terminal cannot be read.
    fn ask(&mut self, question: &str) -> Result<String, CommandError>;
    /// Returns the answer to a question, which is not shown while it is typed.
    ///
    /// # Errors
    /// The terminal cannot be read.
    fn ask_secretly(&mut self, question: &str) -> Result<SecretString, CommandError>;
}

/// The person at the terminal.
pub(super) struct Terminal(());

impl Terminal {
    /// Returns the terminal, if standard input is one.
    pub(super) fn find() -> Option<Self> {
        terminal::has_person().then_some(Self(()))
    }
}

impl Respondent for Terminal {
    fn ask(&mut self, question: &str) -> Result<String, CommandError> {
        terminal::ask(question)?.ok_or_else(ended)
    }

    fn ask_secretly(&mut self, question: &str) -> Result<SecretString, CommandError> {
        terminal::ask_secretly(question)?.ok_or_else(ended)
    }
}

fn ended() -> CommandError {
    CommandError::settings("ended by the person; nothing was written")
}

/// Returns the facts: those that were given, those that the person answers, and for the others what an earlier run
/// `stored`, or their defaults. The person is shown the stored ones and may keep each.
///
/// # Errors
/// A given fact is refused; or facts are missing and no person can be asked. All of them are named.
pub(super) fn complete(
    given: Facts,
    stored: &Facts,
    person: &mut Option<&mut dyn Respondent>,
) -> Result<[String; COUNT], CommandError> {
    let mut problems = Vec::new();
    let mut missing = Vec::new();
    let mut found: [String; COUNT] = Default::default();
    for (((fact, given), stored), found) in FACTS.iter().zip(given).zip(stored).zip(&mut found) {
        let default = stored.as_deref().or(fact.default);
        let answer = match (given, person.as_mut()) {
            (Some(text), _) => match (fact.check)(&text) {
                Ok(()) => Some(text),
                Err(problem) => {
                    // The value is not repeated: it may be a misplaced password.
                    problems.push(format!("{}: {problem}", fact.flag));
                    None
                }
            },
            (None, Some(person)) => Some(answer(fact, default, &mut **person)?),
            (None, None) => {
                if default.is_none() {
                    missing.push(fact.flag);
                }
                default.map(str::to_owned)
            }
        };
        *found = answer.unwrap_or_default();
    }
    if !missing.is_empty() {
        problems.push(format!(
            "missing: {}. Give them, or run the command in a terminal, where it asks",
            missing.join(", ")
        ));
    }
    if problems.is_empty() {
        Ok(found)
    } else {
        Err(CommandError::settings(problems.join("\n  ")))
    }
}

/// Returns the tenant's short name: the one that was given, or the person's answer.
///
/// # Errors
/// The given one is refused, or there is none and no person can be asked.
pub(super) fn tenant_id(
    given: Option<String>,
    stored: Option<&str>,
    person: &mut Option<&mut dyn Respondent>,
) -> Result<String, CommandError> {
    let [fact, ..] = &FACTS;
    match (given, person) {
        (Some(id), _) => match (fact.check)(&id) {
            Ok(()) => Ok(id),
            Err(problem) => Err(CommandError::settings(format!("{}: {problem}", fact.flag))),
        },
        (None, Some(person)) => answer(fact, stored, &mut **person),
        (None, None) => Err(CommandError::settings(format!("missing: {}", fact.flag))),
    }
}

/// Asks until the answer is right.
fn answer(fact: &Fact, default: Option<&str>, person: &mut dyn Respondent) -> Result<String, CommandError> {
    let question = match default {
        Some("") | None => format!("{}: ", fact.question),
        Some(default) => format!("{} [{default}]: ", fact.question),
    };
    let mut remark = String::new();
    loop {
        let text = person.ask(&format!("{remark}{question}"))?;
        let text = match (text.as_str(), default) {
            ("", Some(default)) => default.to_owned(),
            ("", None) => {
                "  An answer is needed; Ctrl-C ends the command, and nothing is written.\n"
                    .clone_into(&mut remark);
                continue;
            }
            (_, _) => text,
        };
        match (fact.check)(&text) {
            Ok(()) => return Ok(text),
            Err(problem) => remark = format!("  {problem}\n"),
        }
    }
}

/// Returns the password that the person types; `None` if there `is_stored` one and the person keeps it.
///
/// # Errors
/// The terminal cannot be read.
pub(super) fn password(
    account: &str,
    is_stored: bool,
    person: &mut dyn Respondent,
) -> Result<Option<SecretString>, CommandError> {
    let remark = if is_stored {
        "it is not shown; empty keeps the stored one"
    } else {
        "it is not shown"
    };
    loop {
        let password = person.ask_secretly(&format!("Password of {account} ({remark}): "))?;
        match password.expose_secret().is_empty() {
            false => return Ok(Some(password)),
            true if is_stored => return Ok(None),
            true => {}
        }
    }
}

fn address(text: &str) -> Result<(), String> {
    let url: Url = text
        .parse()
        .map_err(|_| "is no address; write https://HOST/PATH".to_owned())?;
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
        return Err("is neither https nor http".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or password; give the account with --account".to_owned());
    }
    Ok(())
}

fn zone(text: &str) -> Result<(), String> {
    zone_named(text)
        .map(drop)
        .ok_or_else(|| "is no time zone; write an IANA name such as Europe/Berlin".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers in this order, and keeps the questions.
    struct Script {
        answers: Vec<&'static str>,
        asked: Vec<String>,
    }

    impl Respondent for Script {
        fn ask(&mut self, question: &str) -> Result<String, CommandError> {
            self.asked.push(question.to_owned());
            Ok(self.answers.remove(0).to_owned())
        }

        fn ask_secretly(&mut self, question: &str) -> Result<SecretString, CommandError> {
            self.ask(question).map(SecretString::from)
        }
    }

    #[test]
    fn what_is_missing_is_asked_for_until_the_answer_is_right() {
        let mut given = Facts::default();
        given[0] = Some("contoso".to_owned());
        let mut script = Script {
            answers: vec![
                "Contoso Ltd.",
                "Mars/Olympus",
                "Europe/Berlin",
                "",
                "https://sp.contoso.example/a https://sp.contoso.example/b",
                "ftp://mail",
                "https://mail.contoso.example/EWS/Exchange.asmx",
                r"contoso\svc",
                "",
                "",
            ],
            asked: Vec::new(),
        };
        let found = complete(given, &Facts::default(), &mut Some(&mut script)).unwrap();
        assert_eq!(
            found,
            [
                "contoso",
                "Contoso Ltd.",
                "Europe/Berlin",
                "https://sp.contoso.example/a https://sp.contoso.example/b",
                "https://mail.contoso.example/EWS/Exchange.asmx",
                r"contoso\svc",
                "",
                "",
            ]
        );
        assert!(
            script.asked[2].starts_with("  is no time zone"),
            "{:?}",
            script.asked
        );
        assert!(
            script.asked[4].starts_with("  An answer is needed"),
            "{:?}",
            script.asked
        );
        assert!(!script.asked[0].contains("Short name"), "{:?}", script.asked);
    }

    #[test]
    fn without_a_person_all_that_is_missing_or_wrong_is_named_at_once() {
        let mut given = Facts::default();
        given[0] = Some("Contoso".to_owned());
        given[4] = Some("https://svc:geheim@mail.contoso.example".to_owned());
        let Err(CommandError::Settings(text)) = complete(given, &Facts::default(), &mut None) else {
            panic!("wrong facts were taken")
        };
        for part in [
            "--tenant: ",
            "--ews-url: ",
            "missing: --time-zone, --site, --account",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("geheim"), "{text}");
    }

    #[test]
    fn what_an_earlier_run_stored_is_kept_with_an_empty_answer_and_without_a_person() {
        let stored = [
            "contoso",
            "Contoso",
            "Europe/Berlin",
            "https://sp",
            "https://mail",
            "svc",
            "a@b.example",
            "",
        ]
        .map(|text| Some(text.to_owned()));
        let mut given = Facts::default();
        given[2] = Some("Europe/Paris".to_owned());
        let mut script = Script {
            answers: vec!["", "", "https://other", "", "", "", ""],
            asked: Vec::new(),
        };
        let asked = complete(given.clone(), &stored, &mut Some(&mut script)).unwrap();
        let kept = complete(given, &stored, &mut None).unwrap();
        assert_eq!(
            [&asked[1], &asked[2], &asked[3]],
            ["Contoso", "Europe/Paris", "https://other"]
        );
        assert_eq!(
            [&kept[1], &kept[2], &kept[3]],
            ["Contoso", "Europe/Paris", "https://sp"]
        );
        assert!(script.asked[1].ends_with("[Contoso]: "), "{:?}", script.asked);
    }

    #[test]
    fn an_empty_password_keeps_the_stored_one_and_is_asked_for_again_if_there_is_none() {
        let mut script = Script {
            answers: vec!["", "geheim", ""],
            asked: Vec::new(),
        };
        let typed = password("svc", false, &mut script).unwrap().unwrap();
        assert_eq!(typed.expose_secret(), "geheim");
        assert!(password("svc", true, &mut script).unwrap().is_none());
    }
}
