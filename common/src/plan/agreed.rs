//! The last agreed values, and what counts as a change against them.

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::decide::Canonical;
use super::visible_text::visible_text;
use crate::model::{Body, BodyKind, Field, FieldSet, Importance, Percent, Status, Task, digest};

/// Status and percent. In a mailbox they imply each other; at a source they are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Status.
    pub status: Status,
    /// Percent.
    pub percent: Percent,
}

/// The values both sides agreed on. Of the description it holds only a digest of the visible text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Agreed {
    title: String,
    body: u64,
    start: Option<Date>,
    due: Option<Date>,
    progress: Progress,
    importance: Importance,
    actual_work: Option<i32>,
    total_work: Option<i32>,
    categories: BTreeSet<String>,
}

impl Agreed {
    /// Returns the agreed form of a task.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        Self {
            title: task.title.trim().to_owned(),
            body: body_digest(task.body.as_ref()),
            start: task.start,
            due: task.due,
            progress: Progress {
                status: task.status,
                percent: task.percent,
            },
            importance: task.importance,
            actual_work: task.actual_work,
            total_work: task.total_work,
            categories: task.categories.clone(),
        }
    }

    /// Replaces the fields in `fields` by those of `task`.
    pub fn take(&mut self, task: &Task, fields: FieldSet) {
        self.take_agreed(&Self::of(task), fields);
    }

    /// Replaces the fields in `fields` by those of `other`.
    pub fn take_agreed(&mut self, other: &Self, fields: FieldSet) {
        for field in fields.iter() {
            match field {
                Field::Title => self.title.clone_from(&other.title),
                Field::Body => self.body = other.body,
                Field::Start => self.start = other.start,
                Field::Due => self.due = other.due,
                Field::Progress => self.progress = other.progress,
                Field::Importance => self.importance = other.importance,
                Field::ActualWork => self.actual_work = other.actual_work,
                Field::TotalWork => self.total_work = other.total_work,
                Field::Categories => self.categories.clone_from(&other.categories),
            }
        }
    }

    /// Returns the values as a task without a description, because only its digest is stored.
    #[must_use]
    pub fn values(&self) -> Task {
        Task {
            title: self.title.clone(),
            body: None,
            start: self.start,
            due: self.due,
            status: self.progress.status,
            percent: self.progress.percent,
            completed_at: None,
            importance: self.importance,
            actual_work: self.actual_work,
            total_work: self.total_work,
            categories: self.categories.clone(),
        }
    }

    /// Returns the agreed title.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Returns the agreed status and percent.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Returns these values as the mailbox shows them. `own_start` is the item's start where the source
    /// cannot hold one.
    #[must_use]
    pub fn in_mailbox(&self, own_start: Option<Date>, canonical: Canonical<'_>) -> Self {
        let dates = canonical(
            &Task {
                start: self.start,
                due: self.due,
                ..Task::default()
            },
            own_start,
        );
        Self {
            start: dates.start,
            due: dates.due,
            ..self.clone()
        }
    }
}

/// Returns the fields of `holds` in which `task` differs from the agreed values.
#[must_use]
pub fn changed_fields(agreed: &Agreed, task: &Task, holds: FieldSet) -> FieldSet {
    let now = Agreed::of(task);
    holds.iter().fold(FieldSet::EMPTY, |set, field| {
        let same = match field {
            Field::Title => agreed.title == now.title,
            Field::Body => agreed.body == now.body,
            Field::Start => agreed.start == now.start,
            Field::Due => agreed.due == now.due,
            Field::Progress => same_progress(agreed.progress, now.progress),
            Field::Importance => agreed.importance == now.importance,
            Field::ActualWork => agreed.actual_work.unwrap_or(0) == now.actual_work.unwrap_or(0),
            Field::TotalWork => agreed.total_work.unwrap_or(0) == now.total_work.unwrap_or(0),
            Field::Categories => agreed.categories == now.categories,
        };
        if same { set } else { set.with(field) }
    })
}

/// Returns whether both mean the same progress. Mailboxes require 0 < percent < 100 for work in progress and
/// may hold 1 % where a source holds 0 %.
fn same_progress(one: Progress, other: Progress) -> bool {
    let barely_begun =
        |progress: Progress| progress.status == Status::InProgress && progress.percent.hundredths() <= 100;
    one == other || (barely_begun(one) && barely_begun(other))
}

/// Returns what status and percent mean together, given what the source held before.
///
/// At a source, people can change one of the two and leave the other as it was. So the changed one outranks
/// the unchanged one. Without earlier values, either 100 % or `Completed` means done.
#[must_use]
pub fn progress_of(now: Progress, before: Option<Progress>) -> Progress {
    let status_changed = before.is_some_and(|before| before.status != now.status);
    let percent_changed = before.is_some_and(|before| before.percent != now.percent);
    let done = Progress {
        status: Status::Completed,
        percent: Percent::DONE,
    };
    match (now.status, now.percent) {
        // The percent of a completed task was lowered and its status left as it was.
        (Status::Completed, percent) if percent < Percent::DONE && percent_changed && !status_changed => {
            Progress {
                status: if percent == Percent::ZERO {
                    Status::NotStarted
                } else {
                    Status::InProgress
                },
                percent,
            }
        }
        (Status::Completed, _) => done,
        // The task was reopened by its status; its percent was left at 100.
        (status, Percent::DONE) if status_changed && !percent_changed => Progress {
            status,
            percent: Percent::ZERO,
        },
        (_, Percent::DONE) => done,
        // The status was set back and the percent left as it was.
        (Status::NotStarted, _) if status_changed && !percent_changed => Progress {
            status: Status::NotStarted,
            percent: Percent::ZERO,
        },
        (Status::NotStarted, percent) if percent > Percent::ZERO => Progress {
            status: Status::InProgress,
            percent,
        },
        (Status::NotStarted | Status::InProgress | Status::WaitingOnOthers | Status::Deferred, _) => now,
    }
}

/// Returns a digest of a description's visible text, or 0 if it has none. Only the text is compared, because
/// both servers rewrite HTML.
fn body_digest(body: Option<&Body>) -> u64 {
    let Some(body) = body else { return 0 };
    let text = match body.kind {
        BodyKind::Text => squeeze(body.content.chars()),
        BodyKind::Html => squeeze(visible_text(&body.content).chars()),
    };
    if text.is_empty() {
        return 0;
    }
    digest(text.bytes()).max(1)
}

/// Returns the text without any kind of blank: servers add and drop blanks freely around tags.
fn squeeze(characters: impl Iterator<Item = char>) -> String {
    characters
        .filter(|c| !c.is_whitespace() && !matches!(c, '\u{200b}' | '\u{feff}' | '\u{a0}'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(content: &str) -> Body {
        Body {
            kind: BodyKind::Html,
            content: content.to_owned(),
        }
    }

    #[test]
    fn a_description_is_compared_by_its_visible_text() {
        let plain = body_digest(Some(&Body {
            kind: BodyKind::Text,
            content: "Order  parts\r\n & bolts".into(),
        }));
        for same in [
            "<p>Order parts &amp; bolts</p>",
            "<html><head><style>p { color: red }</style></head><body><div class=\"ExternalClass1\">Order&nbsp;parts<br>&#38; <b>bolts</b></div></body></html>",
            "<!-- x > y -->Order parts &amp; bolts",
        ] {
            assert_eq!(body_digest(Some(&html(same))), plain, "{same}");
        }
        assert_ne!(body_digest(Some(&html("<p>Order part</p>"))), plain);
        for empty in ["", "<p> </p>", "<div><br></div>", "&nbsp;"] {
            assert_eq!(body_digest(Some(&html(empty))), 0, "{empty}");
        }
        assert_eq!(body_digest(None), 0);
        // Digests are stored for ever, so that of a given text must not change between builds.
        assert_eq!(
            body_digest(Some(&Body {
                kind: BodyKind::Text,
                content: "a".into()
            })),
            0xaf63_dc4c_8601_ec8c
        );
    }

    #[test]
    fn odd_markup_never_panics() {
        for odd in [
            "<",
            "&",
            "&#xZZ;",
            "<!--",
            "<style",
            "<style>é",
            "&#1114112;",
            "<ſcript>",
            "&éééééééééééééé;",
        ] {
            body_digest(Some(&html(odd)));
        }
    }

    #[test]
    fn what_was_changed_outranks_what_was_not() {
        use Status::{Completed, Deferred, InProgress, NotStarted};
        let progress = |status, percent| Progress {
            status,
            percent: Percent::from_percent(percent),
        };
        for (before, now, expected, why) in [
            (
                None,
                progress(Completed, 40.0),
                progress(Completed, 100.0),
                "completed means done",
            ),
            (
                None,
                progress(InProgress, 100.0),
                progress(Completed, 100.0),
                "100 % means done",
            ),
            (
                None,
                progress(NotStarted, 30.0),
                progress(InProgress, 30.0),
                "percent tells more",
            ),
            (
                Some(progress(Completed, 100.0)),
                progress(Completed, 50.0),
                progress(InProgress, 50.0),
                "the percent was lowered",
            ),
            (
                Some(progress(InProgress, 50.0)),
                progress(Completed, 50.0),
                progress(Completed, 100.0),
                "the status was set",
            ),
            (
                Some(progress(Completed, 100.0)),
                progress(InProgress, 100.0),
                progress(InProgress, 0.0),
                "re-opened by its status",
            ),
            (
                Some(progress(InProgress, 50.0)),
                progress(NotStarted, 50.0),
                progress(NotStarted, 0.0),
                "set back by its status",
            ),
            (
                Some(progress(InProgress, 50.0)),
                progress(Deferred, 50.0),
                progress(Deferred, 50.0),
                "deferred keeps it",
            ),
        ] {
            assert_eq!(progress_of(now, before), expected, "{why}");
        }
    }

    #[test]
    fn a_mailbox_may_add_one_percent() {
        let task = |status, percent| Task {
            status,
            percent: Percent::from_percent(percent),
            ..Task::default()
        };
        let agreed = Agreed::of(&task(Status::InProgress, 0.0));
        assert!(changed_fields(&agreed, &task(Status::InProgress, 1.0), FieldSet::ALL).is_empty());
        assert!(
            changed_fields(&agreed, &task(Status::NotStarted, 0.0), FieldSet::ALL).contains(Field::Progress)
        );
        assert!(
            changed_fields(&agreed, &task(Status::InProgress, 2.0), FieldSet::ALL).contains(Field::Progress)
        );
    }
}
