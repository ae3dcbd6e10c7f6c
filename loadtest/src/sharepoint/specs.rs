//! Plain data types: the input of people's actions, and an observer's view.

use jiff::Timestamp;
use jiff::civil::Date;
use uuid::Uuid;

use super::fields::Language;

/// Id of a person on a site collection.
pub type UserId = i32;
/// Id of a list.
pub type ListId = Uuid;
/// Id of an item in its list.
pub type ItemId = i32;

/// A new site collection.
#[derive(Debug, Clone)]
pub struct SiteSpec {
    /// Server-relative path, such as `/sites/contoso`; empty for the root.
    pub path: String,
    /// Title of its root web.
    pub title: String,
    /// IANA name of its time zone.
    pub time_zone: String,
    /// Language of its choice texts.
    pub language: Language,
}

/// A new list.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "real lists combine these properties freely"
)]
pub struct ListSpec {
    /// Title. The list's address and type name are derived from it.
    pub title: String,
    /// Base template: 171 (tasks with timeline), 107 (tasks), 150 (Gantt tasks) or 100 (custom).
    pub template: u16,
    /// Whether the list has the Task content type and its columns.
    pub task_content_type: bool,
    /// Whether another content type comes before Task, so that Task is not the default.
    pub task_not_default: bool,
    /// Whether a task can be assigned to several people.
    pub multi_person: bool,
    /// Whether the list is hidden.
    pub hidden: bool,
    /// Whether status and due date are called `TaskStatus` and `TaskDueDate`, with the same GUIDs.
    pub renamed_columns: bool,
    /// Whether there are columns for actual and total work.
    pub with_work: bool,
    /// Whether there is a column for the date completed.
    pub with_date_completed: bool,
    /// Whether the schema of choice columns has `MAPPINGS`.
    pub with_mappings: bool,
    /// Whether the person column is indexed, which lets it be queried beyond the list view threshold.
    pub index_assigned_to: bool,
}

impl ListSpec {
    /// Returns a list with the template's defaults. A custom list (100) gets the Task content type.
    #[must_use]
    pub fn new(title: &str, template: u16) -> Self {
        Self {
            title: title.to_owned(),
            template,
            task_content_type: true,
            task_not_default: false,
            multi_person: template == 171,
            hidden: false,
            renamed_columns: false,
            with_work: false,
            with_date_completed: false,
            with_mappings: true,
            index_assigned_to: false,
        }
    }
}

/// A person's change of a task. `None` leaves a value as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ListItemEdit {
    /// Title, at most 255 characters.
    pub title: Option<String>,
    /// Body as HTML.
    pub body: Option<String>,
    /// New start date; `Some(None)` removes it.
    pub start: Option<Option<Date>>,
    /// New due date; `Some(None)` removes it.
    pub due: Option<Option<Date>>,
    /// Status, 1 (not started) to 5 (waiting).
    pub status: Option<u8>,
    /// Fraction complete, 0 to 1.
    pub percent: Option<f64>,
    /// Priority, 1 (high) to 3 (low).
    pub priority: Option<u8>,
    /// People the task is assigned to.
    pub assigned_to: Option<Vec<UserId>>,
    /// New actual work in minutes; `Some(None)` removes it.
    pub actual_work: Option<Option<f64>>,
    /// New total work in minutes; `Some(None)` removes it.
    pub total_work: Option<Option<f64>>,
    /// New completion date; `Some(None)` removes it.
    pub date_completed: Option<Option<Date>>,
}

/// A task as an observer sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ListItemView {
    /// Id in the list.
    pub id: ItemId,
    /// Id that is unique in the farm.
    pub unique_id: Uuid,
    /// Version, counted from 1. It is the number in the `ETag`.
    pub version: u32,
    /// Title.
    pub title: String,
    /// Body as stored, wrapper included.
    pub body: String,
    /// Start date in the site's time zone.
    pub start: Option<Date>,
    /// Due date in the site's time zone.
    pub due: Option<Date>,
    /// Status, 1 (not started) to 5 (waiting); 0 for none or for a text that is not a choice.
    pub status: u8,
    /// Fraction complete, 0 to 1.
    pub percent: f64,
    /// Priority, 1 (high) to 3 (low); 0 for none or for a text that is not a choice.
    pub priority: u8,
    /// People the task is assigned to.
    pub assigned_to: Vec<UserId>,
    /// Actual work in minutes.
    pub actual_work: Option<f64>,
    /// Total work in minutes.
    pub total_work: Option<f64>,
    /// Date completed in the site's time zone.
    pub date_completed: Option<Date>,
    /// Time of creation, to the second.
    pub created: Timestamp,
    /// Time of the last change, to the second.
    pub modified: Timestamp,
    /// Person who made the last change.
    pub editor: UserId,
    /// Whether it is in the recycle bin.
    pub recycled: bool,
}

/// A list as an observer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListView {
    /// Id.
    pub id: ListId,
    /// Title.
    pub title: String,
    /// Base template.
    pub template: u16,
    /// Path of the web it is in.
    pub web: String,
    /// Number of items that are not in the recycle bin.
    pub items: usize,
}

/// The object on which rights are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RightsTarget {
    /// A whole list.
    List(ListId),
    /// One item, which then has its own rights.
    Item(ListId, ItemId),
}
