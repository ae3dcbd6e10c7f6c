//! Runs the registry's contract for the registry in memory, as far as the loops need it.

use std::sync::Arc;

use tasksync_common::contract::RegistryBench;
use tasksync_common::registry::Registry;

use crate::support::MemoryRegistry;

struct Bench(Arc<MemoryRegistry>);

impl RegistryBench for Bench {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::clone(&self.0) as Arc<dyn Registry>
    }
}

tasksync_common::registry_contract!(loops std::future::ready(Bench(Arc::default())));
