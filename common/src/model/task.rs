//! The canonical task: the values that both sides agree on, in terms of neither protocol.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// The five states of a task, with Microsoft's own names (EWS `t:Status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Status {
    /// Not begun; percent is 0.
    #[default]
    NotStarted,
    /// Work has begun.
    InProgress,
    /// Done; percent is 100.
    Completed,
    /// Another person has to act first; any percent below 100.
    WaitingOnOthers,
    /// Put off; any percent below 100.
    Deferred,
}

/// How urgent a task is, with Microsoft's own names (EWS `t:Importance`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Importance {
    /// Below normal.
    Low,
    /// As usual.
    #[default]
    Normal,
    /// Above normal.
    High,
}

/// The completed part of a task in hundredths of a percent: 0 to 10,000. Both sides store it as a binary
/// fraction. A whole number of hundredths compares equal after any round trip, whereas 1/3 would be written
/// back and forth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Percent(u16);

impl Percent {
    /// 0 %.
    pub const ZERO: Self = Self(0);
    /// 1 %.
    pub const ONE: Self = Self(100);
    /// 100 %.
    pub const DONE: Self = Self(10_000);

    /// Returns the value of a percentage, 0.0 to 100.0 (EWS `task:PercentComplete`). Values out of range are
    /// clamped; NaN becomes 0.
    #[must_use]
    pub fn from_percent(percent: f64) -> Self {
        let hundredths = (percent * 100.0).round();
        // NaN fails every comparison and becomes 0.
        let clamped = if hundredths >= 10_000.0 {
            10_000.0
        } else if hundredths > 0.0 {
            hundredths
        } else {
            0.0
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0..=10000 above"
        )]
        Self(clamped as u16)
    }

    /// Returns the value of a fraction, 0.0 to 1.0 (SharePoint `PercentComplete`).
    #[must_use]
    pub fn from_fraction(fraction: f64) -> Self {
        Self::from_percent(fraction * 100.0)
    }

    /// Returns the percentage, 0.0 to 100.0.
    #[must_use]
    pub fn as_percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// Returns the fraction, 0.0 to 1.0, exact to four digits.
    #[must_use]
    pub fn as_fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// Returns the hundredths of a percent, 0 to 10,000.
    #[must_use]
    pub fn hundredths(self) -> u16 {
        self.0
    }
}

/// The format of a body's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BodyKind {
    /// Plain text.
    Text,
    /// HTML without active content.
    Html,
}

/// A task's description.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Body {
    /// Text or HTML.
    pub kind: BodyKind,
    /// The content, sanitised if it came from outside.
    pub content: String,
}

/// One task as both sides see it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Task {
    /// Title, at most 255 characters on both sides.
    pub title: String,
    /// Description, if there is one.
    pub body: Option<Body>,
    /// First day, a calendar date without time or zone.
    pub start: Option<Date>,
    /// Last day, a calendar date without time or zone.
    pub due: Option<Date>,
    /// State.
    pub status: Status,
    /// The completed part.
    pub percent: Percent,
    /// Time of completion. The server that saw the completion sets it; tasksync never writes it to Exchange.
    pub completed_at: Option<Timestamp>,
    /// Urgency.
    pub importance: Importance,
    /// Minutes worked so far.
    pub actual_work: Option<i32>,
    /// Minutes planned in total.
    pub total_work: Option<i32>,
    /// Labels that the person gave the task in the mailbox.
    pub categories: BTreeSet<String>,
}

/// Declares [`Field`], its names, and the two constants that hold all of its variants.
macro_rules! fields {
    ($($(#[$doc:meta])+ $variant:ident = $bit:literal, $name:literal;)+) => {
        /// A field of a task that is compared and written as one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[repr(u16)]
        pub enum Field {
            $($(#[$doc])+ $variant = $bit,)+
        }

        impl Field {
            /// Every field, in display order.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Returns the field's name in plans, journal and settings.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl FieldSet {
            /// Every field.
            pub const ALL: Self = Self($($bit)|+);
        }
    };
}

fields! {
    /// [`Task::title`].
    Title = 1, "title";
    /// [`Task::body`].
    Body = 2, "body";
    /// [`Task::start`].
    Start = 4, "start";
    /// [`Task::due`].
    Due = 8, "due";
    /// [`Task::status`], [`Task::percent`] and [`Task::completed_at`]: they imply each other and are written
    /// together.
    Progress = 16, "progress";
    /// [`Task::importance`].
    Importance = 32, "importance";
    /// [`Task::actual_work`].
    ActualWork = 64, "actual_work";
    /// [`Task::total_work`].
    TotalWork = 128, "total_work";
    /// [`Task::categories`].
    Categories = 256, "categories";
}

/// A set of fields, for example those that a side can hold, or those that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FieldSet(u16);

impl FieldSet {
    /// No field.
    pub const EMPTY: Self = Self(0);

    /// Returns the fields that are not in `other`.
    #[must_use]
    pub const fn except(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns the set of these fields.
    #[must_use]
    pub fn of(fields: &[Field]) -> Self {
        fields.iter().fold(Self::EMPTY, |set, &field| set.with(field))
    }

    /// Returns the set with `field` added.
    #[must_use]
    pub const fn with(self, field: Field) -> Self {
        Self(self.0 | field as u16)
    }

    /// Returns the set with `field` removed.
    #[must_use]
    pub fn without(self, field: Field) -> Self {
        Self(self.0 & !(field as u16))
    }

    /// Returns whether `field` is in the set.
    #[must_use]
    pub fn contains(self, field: Field) -> bool {
        self.0 & field as u16 != 0
    }

    /// Returns the fields that are in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the fields that are in either set.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Returns the fields in the set, in the order of [`Field::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Field> {
        Field::ALL.into_iter().filter(move |&field| self.contains(field))
    }
}

impl Task {
    /// Replaces the fields in `fields` by those of `other`.
    pub fn take(&mut self, other: &Self, fields: FieldSet) {
        for field in fields.iter() {
            match field {
                Field::Title => self.title.clone_from(&other.title),
                Field::Body => self.body.clone_from(&other.body),
                Field::Start => self.start = other.start,
                Field::Due => self.due = other.due,
                Field::Progress => {
                    self.status = other.status;
                    self.percent = other.percent;
                    self.completed_at = other.completed_at;
                }
                Field::Importance => self.importance = other.importance,
                Field::ActualWork => self.actual_work = other.actual_work,
                Field::TotalWork => self.total_work = other.total_work,
                Field::Categories => self.categories.clone_from(&other.categories),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_survives_both_forms() {
        for hundredths in 0..=10_000_u16 {
            let percent = Percent(hundredths);
            assert_eq!(Percent::from_percent(percent.as_percent()), percent);
            assert_eq!(Percent::from_fraction(percent.as_fraction()), percent);
        }
        assert_eq!(Percent::from_fraction(1.0 / 3.0).hundredths(), 3333);
        assert_eq!(Percent::from_percent(f64::NAN), Percent::ZERO);
        assert_eq!(Percent::from_percent(-5.0), Percent::ZERO);
        assert_eq!(Percent::from_percent(1e300), Percent::DONE);
    }

    #[test]
    fn field_sets_name_every_field_once() {
        let all = FieldSet::of(&Field::ALL);
        assert_eq!(all, FieldSet::ALL);
        assert_eq!(all.iter().count(), Field::ALL.len());
        assert!(!all.without(Field::Due).contains(Field::Due));
        assert!(
            FieldSet::of(&[Field::Due])
                .and(FieldSet::of(&[Field::Title]))
                .is_empty()
        );
    }

    #[test]
    fn take_moves_only_the_named_fields() {
        let mut task = Task {
            title: "a".into(),
            importance: Importance::High,
            ..Task::default()
        };
        let other = Task {
            title: "b".into(),
            status: Status::Deferred,
            ..Task::default()
        };
        task.take(&other, FieldSet::of(&[Field::Title]));
        assert_eq!(
            (task.title.as_str(), task.status, task.importance),
            ("b", Status::NotStarted, Importance::High)
        );
    }
}
