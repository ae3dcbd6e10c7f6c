//! The mark of the schedule.

use std::sync::Arc;

use crate::registry::Registry;
use crate::schedule::Mark;

/// There is one mark. The next one replaces it, whatever its number.
pub async fn a_mark_is_remembered_and_replaced(registry: Arc<dyn Registry>) {
    assert_eq!(registry.mark().await.unwrap(), None);
    for (id, number) in [("a", 7), ("a", 1_800_000_000_000_000), ("b", 1)] {
        let mark = Mark {
            id: id.to_owned(),
            number,
        };
        registry.save_mark(&mark).await.unwrap();
        assert_eq!(registry.mark().await.unwrap(), Some(mark));
    }
}
