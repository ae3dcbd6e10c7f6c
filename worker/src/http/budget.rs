//! A budget of bytes for all answers to one piece of work.

use std::cell::Cell;

tokio::task_local! {
    static LEFT: Cell<usize>;
}

/// Runs `work`, whose answers may have `bytes` bytes in total. Tasks that it spawns have no budget.
pub(crate) async fn with_byte_budget<F: Future>(bytes: usize, work: F) -> F::Output {
    LEFT.scope(Cell::new(bytes), work).await
}

/// Takes `bytes` from the budget. Returns whether enough was left. Work without a budget has no limit.
pub(super) fn spend(bytes: usize) -> bool {
    LEFT.try_with(|left| match left.get().checked_sub(bytes) {
        Some(rest) => {
            left.set(rest);
            true
        }
        None => false,
    })
    .unwrap_or(true)
}

/// Returns the bytes left in the current budget; `None` outside a budget.
#[cfg(test)]
pub(crate) fn remaining() -> Option<usize> {
    LEFT.try_with(Cell::get).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use tasksync_common::clock::SystemClock;
    use tasksync_common::error::{Code, ErrorClass};
    use tasksync_common::metrics::record::Server;
    use tasksync_common::settings::OutboundSettings;
    use tasksync_common::tasks::spawn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::http::header::HeaderMap;
    use crate::http::service::{self, Intent};
    use crate::http::{Http, HttpRequest, Method};

    #[tokio::test]
    async fn an_answer_beyond_the_budget_is_a_failure_that_may_pass_and_names_the_server() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = spawn(async move {
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n{}",
                "x".repeat(600)
            );
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let settings = OutboundSettings {
            allowed_networks: vec!["127.0.0.0/8".to_owned()],
            allow_plain_http: true,
            ..OutboundSettings::default()
        };
        let http = Http::new(settings, Arc::new(SystemClock)).unwrap();
        let call = HttpRequest {
            method: Method::GET,
            url: format!("http://{address}/").parse().unwrap(),
            server: Server::Ews,
            payer: "contoso".into(),
            operation: "GetItem",
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: Duration::from_secs(20),
            sign_in: None,
        };
        let error = with_byte_budget(1_000, async {
            assert_eq!(http.send(call.clone()).await.unwrap().body.len(), 600);
            http.send(call.clone()).await.unwrap_err()
        })
        .await;
        let failure = service::no_answer(Server::Ews, &error, Intent::Read);
        assert_eq!(
            (failure.class, failure.code),
            (ErrorClass::Transient, Code::BudgetExhausted)
        );
        assert!(
            failure.detail.contains(&address.to_string()),
            "{}",
            failure.detail
        );
        // The write was carried out even though its answer is too long.
        assert!(error.may_have_happened());
        // Later work has no budget.
        assert_eq!(http.send(call).await.unwrap().body.len(), 600);
        serving.abort();
    }

    #[tokio::test]
    async fn a_budget_is_used_up_and_work_without_one_is_free() {
        assert!(spend(usize::MAX));
        with_byte_budget(10, async {
            assert!(spend(6) && !spend(5) && spend(4) && !spend(1));
        })
        .await;
    }
}
