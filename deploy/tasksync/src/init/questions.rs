//! What `tasksync init` has to know about the first tenant, and how a person at a terminal is asked for it.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use secrecy::{ExposeSecret as _, SecretString};
use tasksync_common::model::{MailboxAddress, TenantId, zone_named};
use url::Url;

use crate::exit::CommandError;

/// One fact about the tenant.
pub(super) struct Fact {
    /// The option that gives it.
    pub(super) flag: &'static str,
    question: &'static str,
    /// What an empty answer means; `None` if there has to be an answer.
    default: Option<&'static str>,
    check: fn(&str) -> Result<(), String>,
}

/// The facts that connect a tenant with passwords, in the order in which they are asked for.
pub(super) const FACTS: [Fact; 8] = [
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
        std::io::stdin().is_terminal().then_some(Self(()))
    }
}

impl Respondent for Terminal {
    fn ask(&mut self, question: &str) -> Result<String, CommandError> {
        let mut out = std::io::stderr().lock();
        out.write_all(question.as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| terminal_error(&error))?;
        let mut answer = String::new();
        match std::io::stdin().lock().read_line(&mut answer) {
            Ok(0) => Err(CommandError::settings("ended by the person; nothing was written")),
            Ok(_) => Ok(answer.trim().to_owned()),
            Err(error) => Err(terminal_error(&error)),
        }
    }

    fn ask_secretly(&mut self, question: &str) -> Result<SecretString, CommandError> {
        rpassword::prompt_password(question)
            .map(SecretString::from)
            .map_err(|error| terminal_error(&error))
    }
}

fn terminal_error(error: &std::io::Error) -> CommandError {
    CommandError::settings(format!("the terminal: {error}"))
}

/// Returns the facts: those that were given, those that the person answers, and the defaults of the others.
///
/// # Errors
/// A given fact is refused; or facts are missing and no person can be asked. All of them are named.
pub(super) fn complete(
    given: [Option<String>; FACTS.len()],
    person: &mut Option<&mut dyn Respondent>,
) -> Result<[String; FACTS.len()], CommandError> {
    let mut problems = Vec::new();
    let mut missing = Vec::new();
    let mut found: [String; FACTS.len()] = Default::default();
    for ((fact, given), found) in FACTS.iter().zip(given).zip(&mut found) {
        let answer = match (given, person.as_mut()) {
            (Some(text), _) => match (fact.check)(&text) {
                Ok(()) => Some(text),
                Err(problem) => {
                    // The value is not repeated: it may be a misplaced password.
                    problems.push(format!("{}: {problem}", fact.flag));
                    None
                }
            },
            (None, Some(person)) => Some(answer(fact, &mut **person)?),
            (None, None) => {
                if fact.default.is_none() {
                    missing.push(fact.flag);
                }
                fact.default.map(str::to_owned)
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

/// Asks until the answer is right.
fn answer(fact: &Fact, person: &mut dyn Respondent) -> Result<String, CommandError> {
    let question = match fact.default {
        Some("") | None => format!("{}: ", fact.question),
        Some(default) => format!("{} [{default}]: ", fact.question),
    };
    let mut remark = String::new();
    loop {
        let text = person.ask(&format!("{remark}{question}"))?;
        let text = match (text.as_str(), fact.default) {
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

/// Asks for the password until there is one.
pub(super) fn password(account: &str, person: &mut dyn Respondent) -> Result<SecretString, CommandError> {
    loop {
        let password = person.ask_secretly(&format!("Password of {account} (it is not shown): "))?;
        if !password.expose_secret().is_empty() {
            return Ok(password);
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
        let mut given: [Option<String>; FACTS.len()] = Default::default();
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
        let found = complete(given, &mut Some(&mut script)).unwrap();
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
        let mut given: [Option<String>; FACTS.len()] = Default::default();
        given[0] = Some("Contoso".to_owned());
        given[4] = Some("https://svc:geheim@mail.contoso.example".to_owned());
        let Err(CommandError::Settings(text)) = complete(given, &mut None) else {
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
    fn an_empty_password_is_asked_for_again() {
        let mut script = Script {
            answers: vec!["", "geheim"],
            asked: Vec::new(),
        };
        assert_eq!(password("svc", &mut script).unwrap().expose_secret(), "geheim");
    }
}
