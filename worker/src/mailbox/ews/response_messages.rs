//! Response messages: one for each requested object, each a payload or an error, which becomes a failure here.

use std::fmt::Write as _;
use std::time::Duration;

use tasksync_common::error::{Code, ErrorClass, Failure, Scope};

use super::response_code::{self, Meaning};
use super::xml::{BadAnswer, Element, Parsed, Xml};
use crate::http::service::Intent;
use crate::http::{for_message, pause_in_milliseconds};

/// Response messages for which space is reserved in advance; no request expects more.
const MAXIMUM_MESSAGES: usize = 1_000;
/// Characters of a server's own words that a failure's detail shows.
const WORDS_SHOWN: usize = 200;

/// An error that a server reports: a fault, or the error of one response message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ServerError {
    /// Microsoft's `ResponseCode`.
    pub(super) code: String,
    /// The server's words, in any language.
    pub(super) text: String,
    /// `BackOffMilliseconds`; `None` if it is missing or 0, so that the caller's shortest pause applies.
    pub(super) back_off: Option<Duration>,
    /// The property or rule that caused the error, if the server names one.
    pub(super) about: Option<String>,
}

/// An error with the server's code, which decides about another access mode or a smaller batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EwsError {
    /// Microsoft's code; `None` if the error is not the server's.
    pub(super) code: Option<String>,
    /// The failure it means.
    pub(super) failure: Failure,
}

impl From<EwsError> for Failure {
    fn from(error: EwsError) -> Self {
        error.failure
    }
}

impl From<Failure> for EwsError {
    fn from(failure: Failure) -> Self {
        Self { code: None, failure }
    }
}

impl ServerError {
    /// Reads a `MessageXml` element.
    pub(super) fn message_xml(&mut self, xml: &mut Xml<'_>) -> Parsed<()> {
        while let Some(value) = xml.child()? {
            match value.name() {
                "Value" => {
                    let name = value.attribute("Name")?.unwrap_or_default().into_owned();
                    let text = xml.text()?;
                    match name.as_str() {
                        "BackOffMilliseconds" => {
                            self.back_off = pause_in_milliseconds(&text);
                        }
                        "Violation" | "Policy" | "Primary" => {
                            self.about = Some(format!("{name} {}", text.trim()));
                        }
                        _ => {}
                    }
                }
                "FieldURI" | "ExtendedFieldURI" | "IndexedFieldURI" => {
                    for name in ["FieldURI", "PropertyName", "PropertyTag"] {
                        if let Some(property) = value.attribute(name)? {
                            self.about = Some(property.into_owned());
                            break;
                        }
                    }
                    xml.skip()?;
                }
                _ => xml.skip()?,
            }
        }
        Ok(())
    }

    /// Returns what the error means for a request with this intent.
    pub(super) fn into_error(self, intent: Intent) -> EwsError {
        let writes = intent == Intent::Write;
        let words = for_message(&self.text, WORDS_SHOWN);
        let mut detail = for_message(&self.code, 80);
        if !words.is_empty() {
            detail.push_str(": ");
            detail.push_str(&words);
        }
        if let Some(about) = &self.about {
            let _ = write!(detail, " ({})", for_message(about, WORDS_SHOWN));
        }
        let meaning = response_code::meaning(&self.code);
        let (mut class, mut code) = meaning.class_and_code();
        if let ErrorClass::Throttled { retry_after } = &mut class {
            *retry_after = self.back_off;
        } else if let Some(pause) = self.back_off {
            // Any code may come with a pause, which takes precedence.
            (class, code) = (
                ErrorClass::Throttled {
                    retry_after: Some(pause),
                },
                Code::ExchangeBusy,
            );
        } else if writes && response_code::leaves_outcome_open(&self.code) {
            (class, code) = (ErrorClass::OutcomeUnknown, Code::ExchangeOutcomeUnknown);
        } else if !writes && meaning == Meaning::RequestRefused {
            // A read carries no task's values, so no task is refused.
            (class, code) = (ErrorClass::Transient, Code::ExchangeError);
        }
        // A failure while one item is written concerns the item, unless the code has a wider scope.
        let subject = if writes && !matches!(meaning, Meaning::ServerRefused(_)) {
            Scope::Item
        } else {
            meaning.subject()
        };
        EwsError {
            code: Some(self.code),
            failure: Failure::new(class, code, detail).about(subject),
        }
    }

    /// Returns the texts that came from the server.
    pub(super) fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        [&mut self.code, &mut self.text]
            .into_iter()
            .chain(&mut self.about)
    }

    /// Returns what the code means.
    pub(super) fn meaning(&self) -> Meaning {
        response_code::meaning(&self.code)
    }

    /// Returns whether the rest of a batch was not processed because of an earlier entry.
    pub(super) fn is_stop(&self) -> bool {
        self.code == "ErrorBatchProcessingStopped"
    }
}

/// The content of one response message.
pub(super) type ResponseMessage<T> = Result<T, ServerError>;

/// Reads the `ResponseMessages` of an opened response element. There must be `expected` messages named
/// `message`, one for each requested object. `payload` reads one element of a message and must consume it.
pub(super) fn read<'a, T: Default>(
    xml: &mut Xml<'a>,
    message: &str,
    expected: usize,
    mut payload: impl FnMut(&Element<'a>, &mut Xml<'a>, &mut T) -> Parsed<()>,
) -> Parsed<Vec<ResponseMessage<T>>> {
    let mut messages = Vec::with_capacity(expected.min(MAXIMUM_MESSAGES));
    while let Some(list) = xml.child()? {
        if list.name() != "ResponseMessages" {
            xml.skip()?;
            continue;
        }
        while let Some(element) = xml.child()? {
            if element.name() != message {
                return Err(BadAnswer(format!(
                    "{} where {message} was expected",
                    element.name()
                )));
            }
            if messages.len() == expected {
                return Err(BadAnswer(format!(
                    "more than the {expected} response messages requested"
                )));
            }
            messages.push(one(&element, xml, &mut payload)?);
        }
    }
    if messages.len() == expected {
        Ok(messages)
    } else {
        Err(BadAnswer(format!(
            "{} response messages where {expected} were requested",
            messages.len()
        )))
    }
}

fn one<'a, T: Default>(
    element: &Element<'a>,
    xml: &mut Xml<'a>,
    payload: &mut impl FnMut(&Element<'a>, &mut Xml<'a>, &mut T) -> Parsed<()>,
) -> Parsed<ResponseMessage<T>> {
    let succeeded = match element.attribute("ResponseClass")?.as_deref() {
        Some("Success") => Some(true),
        Some(_) => Some(false),
        None => None,
    };
    let mut error = ServerError::default();
    let mut value = T::default();
    let mut no_error = None;
    while let Some(part) = xml.child()? {
        match part.name() {
            "ResponseCode" => {
                let code = xml.text()?;
                let code = code.trim();
                no_error = Some(code == "NoError");
                if code != "NoError" {
                    code.clone_into(&mut error.code);
                }
            }
            "MessageText" => error.text = xml.text()?.into_owned(),
            "DescriptiveLinkKey" => xml.skip()?,
            "MessageXml" => error.message_xml(xml)?,
            // The payload of an error is an empty element.
            _ if succeeded == Some(false) && no_error != Some(true) => xml.skip()?,
            _ => payload(&part, xml, &mut value)?,
        }
    }
    match (no_error, succeeded) {
        (Some(true), _) | (None, Some(true)) => Ok(Ok(value)),
        (Some(false), _) => Ok(Err(error)),
        (None, Some(false)) => {
            "an error without ResponseCode".clone_into(&mut error.code);
            Ok(Err(error))
        }
        (None, None) => Err(BadAnswer(
            "a response message that says neither success nor error".to_owned(),
        )),
    }
}
