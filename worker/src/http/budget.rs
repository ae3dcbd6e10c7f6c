//! How many bytes a piece of work may be sent in all.

use std::cell::Cell;

tokio::task_local! {
    static LEFT: Cell<usize>;
}

/// Runs `work`, whose answers may have `bytes` bytes together. Tasks that it spawns have no budget.
pub(crate) async fn of_bytes<F: Future>(bytes: usize, work: F) -> F::Output {
    LEFT.scope(Cell::new(bytes), work).await
}

/// Takes `bytes` from what is left; whether that was enough. Work without a budget may be sent anything.
pub(super) fn take(bytes: usize) -> bool {
    LEFT.try_with(|left| match left.get().checked_sub(bytes) {
        Some(rest) => {
            left.set(rest);
            true
        }
        None => false,
    })
    .unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_budget_is_used_up_and_work_without_one_is_free() {
        assert!(take(usize::MAX));
        of_bytes(10, async {
            assert!(take(6) && !take(5) && take(4) && !take(1));
        })
        .await;
    }
}
