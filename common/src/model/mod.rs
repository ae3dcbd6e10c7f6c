//! The values tasksync works with, independent of any protocol: names of tenants and users, tasks, keys and
//! calendar dates.

mod digest;
mod ids;
mod keys;
mod owner;
mod task;
mod text;
mod zone;

pub use digest::{cut_utf16, digest};
pub use ids::{MailboxAddress, NameError, TenantId, UserId, UserKey};
pub use keys::{LocationKey, SourceKey};
pub use owner::{InstallationId, MarkerOwner, OwnerError};
pub use task::{Body, BodyKind, Field, FieldSet, Importance, Percent, Status, Task};
pub use text::normal_text;
pub(crate) use text::stored_as_text;
pub use zone::{zone_named, zone_of_windows};
