//! Makes a wrong answer from an honest one.

use super::ask::{Action, Ask, Side};
use super::change::{self, Change};
use super::multipart::Parts;
use super::{Liar, Lie, forge};
use crate::sim::answers::Answer;
use crate::sim::dice::Dice;
use crate::sim::http::Reply;

/// Returns the wrong answer and a description of the change; `None` if this kind does not fit the request or its
/// answer.
pub(super) fn tell(
    liar: &Liar,
    lie: Lie,
    ask: &Ask,
    honest: &Answer,
    dice: &mut Dice,
) -> Option<(Reply, String)> {
    let send = |(answer, told): (Answer, String)| (Reply::Answer(answer.into_response()), told);
    match lie {
        Lie::OthersAnswer => liar
            .remembered(ask, honest, false, dice)
            .map(|(answer, owner)| send((answer, format!("the answer for {owner}")))),
        Lie::EarlierAnswer => liar
            .remembered(ask, honest, true, dice)
            .map(|(answer, _)| send((answer, "an earlier answer".to_owned()))),
        Lie::Dropped => changed(ask, honest, Change::Drop, dice).map(send),
        Lie::Doubled => changed(ask, honest, Change::Double, dice).map(send),
        Lie::Altered => changed(ask, honest, Change::Alter, dice).map(send),
        Lie::Cut => {
            let keep = dice.below(honest.body.len());
            let told = format!("closed after {keep} of {} bytes", honest.body.len());
            let response = honest.clone().into_response();
            Some((Reply::Partial { response, keep }, told))
        }
        Lie::Half => {
            let keep = dice.below(honest.body.len());
            (keep > 0).then(|| {
                let told = format!("{keep} of {} bytes", honest.body.len());
                send((honest.clone().with_body(honest.body.slice(..keep)), told))
            })
        }
        // The proxy handles these two itself.
        Lie::FalseSuccess | Lie::Late => None,
        Lie::FalseRefusal => refused(ask, honest, dice, forge::refusal).map(send),
        Lie::NotFound => refused(ask, honest, dice, forge::denial).map(send),
        Lie::Empty => emptied(ask, honest, dice).map(send),
        Lie::Page => {
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

fn changed(ask: &Ask, honest: &Answer, change: Change, dice: &mut Dice) -> Option<(Answer, String)> {
    if honest.status >= 300 {
        return None;
    }
    if ask.action == Action::Batch {
        let mut parts = Parts::read(honest)?;
        // One change in four concerns whole parts.
        let whole = dice.chance(25).then(|| match change {
            Change::Drop => parts.drop_one(dice),
            Change::Double => parts.double_one(dice),
            Change::Alter => parts.swap(dice),
        });
        let told = match whole.flatten() {
            Some(told) => told,
            None => parts.change(dice, |body, dice| change::json(body, change, dice))?,
        };
        return Some((honest.clone().with_body(parts.write()), told));
    }
    let text = text(honest)?;
    let (body, told) = match ask.side {
        Side::Exchange => change::xml(text, change, dice)?,
        Side::Sharepoint => change::json(text, change, dice)?,
    };
    Some((honest.clone().with_body(body), told))
}

fn refused(
    ask: &Ask,
    honest: &Answer,
    dice: &mut Dice,
    forge: impl Fn(&Ask, &Answer, &mut Dice) -> (Answer, String),
) -> Option<(Answer, String)> {
    let (answer, told) = forge(ask, honest, dice);
    if ask.action != Action::Batch {
        return (honest.status < 300).then_some((answer, told));
    }
    let mut parts = Parts::read(honest)?;
    let place = parts.replace(dice, &answer)?;
    Some((
        honest.clone().with_body(parts.write()),
        format!("{place}: {told}"),
    ))
}

fn emptied(ask: &Ask, honest: &Answer, dice: &mut Dice) -> Option<(Answer, String)> {
    let told = "no entry".to_owned();
    match ask.action {
        Action::List => {
            let body = forge::emptied(ask.side, text(honest)?)?;
            Some((honest.clone().with_body(body), told))
        }
        Action::Batch => {
            let mut parts = Parts::read(honest)?;
            let told = parts.change(dice, |body, _| {
                forge::emptied(ask.side, body).map(|body| (body, told.clone()))
            })?;
            Some((honest.clone().with_body(parts.write()), told))
        }
        Action::Read | Action::Write | Action::Other => None,
    }
}
