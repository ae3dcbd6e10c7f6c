//! The values tasksync works with, free of any protocol: names of tenants and users, tasks, keys and calendar dates.

mod ids;
mod keys;
mod task;

pub use ids::{MailboxAddress, NameError, TenantId, UserId, UserKey};
pub use keys::{LocationKey, SourceKey};
pub use task::{Body, BodyKind, Field, FieldSet, Importance, Percent, Status, Task};
