//! Recording a batch's syncs in metrics and traces.

use std::sync::Arc;
use std::time::Duration;

use tasksync_common::error::Failure;
use tasksync_common::metrics::record;
use tasksync_common::telemetry::spans;

use super::SyncReport;
use super::catch_panic::Interruption;
use super::group::SurveyAnswers;
use super::metrics::WorkMetrics;

/// Returns the code of a survey's first failure, for its span.
pub(super) fn survey_error<W>(answers: &Result<SurveyAnswers<W>, Interruption>) -> Option<&'static str> {
    match answers {
        Ok(answers) => answers
            .iter()
            .find_map(|answer| answer.as_ref().err())
            .map(|failure| failure.code.as_str()),
        Err(stopped) => Some(stopped.name()),
    }
}

/// Records how a sync ended, in the metrics and in its span.
pub(super) fn record_sync(result: &Result<Result<SyncReport, Failure>, Interruption>, took: Duration) {
    let span = tracing::Span::current();
    let report = match result {
        Ok(Ok(report)) => *report,
        Ok(Err(failure)) => {
            spans::mark_failed(&span, failure.code.as_str());
            SyncReport::default()
        }
        Err(stopped) => {
            spans::mark_failed(&span, stopped.name());
            SyncReport::default()
        }
    };
    span.record("tasksync.source_writes", i64::from(report.source_writes));
    span.record("tasksync.mailbox_writes", i64::from(report.mailbox_writes));
    record::sync(took, report.source_writes, report.mailbox_writes);
}

/// Counts a running user until it is dropped.
pub(super) struct RunningUser(Arc<WorkMetrics>);

impl RunningUser {
    pub(super) fn begin(metrics: &Arc<WorkMetrics>) -> Self {
        metrics.users_running.add_one();
        Self(Arc::clone(metrics))
    }
}

impl Drop for RunningUser {
    fn drop(&mut self) {
        self.0.users_running.take_one();
    }
}
