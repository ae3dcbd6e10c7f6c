//! Recording a batch's syncs in metrics and traces.

use std::sync::Arc;
use std::time::Duration;

use tasksync_common::error::Failure;
use tasksync_common::metrics::record;
use tasksync_common::telemetry::spans;

use super::SyncReport;
use super::contained::Stopped;
use super::group::Answers;
use super::metrics::WorkMetrics;

/// Returns the code of a survey's first failure, for its span.
pub(super) fn survey_error<W>(answers: &Result<Answers<W>, Stopped>) -> Option<&'static str> {
    match answers {
        Ok(answers) => answers
            .iter()
            .find_map(|answer| answer.as_ref().err())
            .map(|failure| failure.code.as_str()),
        Err(stopped) => Some(stopped.name()),
    }
}

/// Records how a sync ended, in the metrics and in its span.
pub(super) fn told(result: &Result<Result<SyncReport, Failure>, Stopped>, took: Duration) {
    let span = tracing::Span::current();
    let report = match result {
        Ok(Ok(report)) => *report,
        Ok(Err(failure)) => {
            spans::failed(&span, failure.code.as_str());
            SyncReport::default()
        }
        Err(stopped) => {
            spans::failed(&span, stopped.name());
            SyncReport::default()
        }
    };
    span.record("tasksync.source_writes", i64::from(report.source_writes));
    span.record("tasksync.mailbox_writes", i64::from(report.mailbox_writes));
    record::sync(took, report.source_writes, report.mailbox_writes);
}

/// Counts a running user until it is dropped.
pub(super) struct Running(Arc<WorkMetrics>);

impl Running {
    pub(super) fn begin(metrics: &Arc<WorkMetrics>) -> Self {
        metrics.users_running.add_one();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.users_running.take_one();
    }
}
