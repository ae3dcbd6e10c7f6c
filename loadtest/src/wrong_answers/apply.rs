//! Makes a wrong answer from an honest one.

use super::change::{self, ElementChange};
use super::multipart::BatchParts;
use super::request::{ParsedRequest, RequestKind, TargetServer};
use super::{WrongAnswerKind, WrongAnswers, forge};
use crate::sim::answers::Answer;
use crate::sim::dice::Dice;
use crate::sim::http::Reply;

/// Returns the wrong answer and a description of the change; `None` if this kind does not fit the request or its
/// answer.
pub(super) fn apply_kind(
    wrong_answers: &WrongAnswers,
    kind: WrongAnswerKind,
    request: &ParsedRequest,
    true_answer: &Answer,
    dice: &mut Dice,
) -> Option<(Reply, String)> {
    let send = |(answer, description): (Answer, String)| (Reply::Answer(answer.into_response()), description);
    match kind {
        WrongAnswerKind::OthersAnswer => wrong_answers
            .choose_remembered(request, true_answer, false, dice)
            .map(|(answer, owner)| send((answer, format!("the answer for {owner}")))),
        WrongAnswerKind::EarlierAnswer => wrong_answers
            .choose_remembered(request, true_answer, true, dice)
            .map(|(answer, _)| send((answer, "an earlier answer".to_owned()))),
        WrongAnswerKind::Dropped => change_answer(request, true_answer, ElementChange::Drop, dice).map(send),
        WrongAnswerKind::Doubled => {
            change_answer(request, true_answer, ElementChange::Double, dice).map(send)
        }
        WrongAnswerKind::Altered => change_answer(request, true_answer, ElementChange::Alter, dice).map(send),
        WrongAnswerKind::Cut => {
            let keep = dice.below(true_answer.body.len());
            let description = format!("closed after {keep} of {} bytes", true_answer.body.len());
            let response = true_answer.clone().into_response();
            Some((Reply::Partial { response, keep }, description))
        }
        WrongAnswerKind::Half => {
            let keep = dice.below(true_answer.body.len());
            (keep > 0).then(|| {
                let description = format!("{keep} of {} bytes", true_answer.body.len());
                send((
                    true_answer.clone().with_body(true_answer.body.slice(..keep)),
                    description,
                ))
            })
        }
        // The proxy handles these two itself.
        WrongAnswerKind::FalseSuccess | WrongAnswerKind::Late => None,
        WrongAnswerKind::FalseRefusal => refuse_answer(request, true_answer, dice, forge::refusal).map(send),
        WrongAnswerKind::NotFound => refuse_answer(request, true_answer, dice, forge::not_found).map(send),
        WrongAnswerKind::Empty => empty_answer(request, true_answer, dice).map(send),
        WrongAnswerKind::Page => {
            let page = "<h1>Maintenance</h1><p>The service is back soon.</p>";
            Some(send((Answer::html(200, page), "a page of HTML".to_owned())))
        }
    }
}

fn text(answer: &Answer) -> Option<&str> {
    std::str::from_utf8(&answer.body)
        .ok()
        .filter(|text| !text.is_empty())
}

fn change_answer(
    request: &ParsedRequest,
    true_answer: &Answer,
    change: ElementChange,
    dice: &mut Dice,
) -> Option<(Answer, String)> {
    if true_answer.status >= 300 {
        return None;
    }
    if request.kind == RequestKind::Batch {
        let mut parts = BatchParts::read(true_answer)?;
        // One change in four concerns whole parts.
        let part_change = dice.chance(25).then(|| match change {
            ElementChange::Drop => Some(parts.drop_one(dice)),
            ElementChange::Double => parts.double_one(dice),
            ElementChange::Alter => parts.swap(dice),
        });
        let description = match part_change.flatten() {
            Some(description) => description,
            None => parts.change(dice, |body, dice| change::json(body, change, dice))?,
        };
        return Some((true_answer.clone().with_body(parts.write()), description));
    }
    let text = text(true_answer)?;
    let (body, description) = match request.server {
        TargetServer::Exchange => change::xml(text, change, dice)?,
        TargetServer::Sharepoint => change::json(text, change, dice)?,
    };
    Some((true_answer.clone().with_body(body), description))
}

fn refuse_answer(
    request: &ParsedRequest,
    true_answer: &Answer,
    dice: &mut Dice,
    forge: impl Fn(&ParsedRequest, &Answer, &mut Dice) -> (Answer, String),
) -> Option<(Answer, String)> {
    let (answer, description) = forge(request, true_answer, dice);
    if request.kind != RequestKind::Batch {
        return (true_answer.status < 300).then_some((answer, description));
    }
    let mut parts = BatchParts::read(true_answer)?;
    let position = parts.replace(dice, &answer)?;
    Some((
        true_answer.clone().with_body(parts.write()),
        format!("{position}: {description}"),
    ))
}

fn empty_answer(request: &ParsedRequest, true_answer: &Answer, dice: &mut Dice) -> Option<(Answer, String)> {
    let description = "no entry".to_owned();
    match request.kind {
        RequestKind::List => {
            let body = forge::without_entries(request.server, text(true_answer)?)?;
            Some((true_answer.clone().with_body(body), description))
        }
        RequestKind::Batch => {
            let mut parts = BatchParts::read(true_answer)?;
            let description = parts.change(dice, |body, _| {
                forge::without_entries(request.server, body).map(|body| (body, description.clone()))
            })?;
            Some((true_answer.clone().with_body(parts.write()), description))
        }
        RequestKind::Read | RequestKind::Write | RequestKind::Other => None,
    }
}
