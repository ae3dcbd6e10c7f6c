//! Wrong answers over real HTTP, between a simple client and both simulated servers.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::population::PopulationSpec;
use crate::trial::{Farm, FarmSpec};

struct Bench {
    farm: Farm,
    wrong_answers: Arc<WrongAnswers>,
    client: reqwest::Client,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

fn spec(kinds: &[WrongAnswerKind]) -> WrongAnswerSpec {
    WrongAnswerSpec {
        per_mille: 1000,
        answers: 0,
        kinds: kinds.to_vec(),
        groups: Vec::new(),
        late: Duration::from_millis(1),
        seed: 7,
        only: None,
    }
}

impl Bench {
    async fn start(spec: WrongAnswerSpec) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("lies.jsonl");
        let wrong_answers = WrongAnswers::new(spec, Some(&log)).unwrap();
        let farm = Farm::start(FarmSpec {
            population: PopulationSpec {
                tenants: 2,
                users_per_tenant: 2,
                tasks_per_user: 2.0,
                ..PopulationSpec::default()
            },
            wrong_answers: Some(Arc::clone(&wrong_answers)),
            ..FarmSpec::default()
        })
        .await
        .unwrap();
        Self {
            farm,
            wrong_answers,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            log,
            _folder: folder,
        }
    }

    fn smtp(&self, tenant: usize) -> String {
        self.farm.population.tenants[tenant].people[0].smtp.clone()
    }

    /// Sends an EWS operation about a person's tasks. Returns the text of the answer, or `None` if the connection was
    /// closed.
    #[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
    async fn ews(&self, tenant: usize, body: &str) -> Option<String> {
        let smtp = self.smtp(tenant);
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\" xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\"><s:Header><t:RequestServerVersion Version=\"Exchange2013_SP1\"/><t:ExchangeImpersonation><t:ConnectingSID><t:PrimarySmtpAddress>{smtp}</t:PrimarySmtpAddress></t:ConnectingSID></t:ExchangeImpersonation></s:Header><s:Body>{body}</s:Body></s:Envelope>"
        );
        let request = self
            .client
            .post(self.farm.ews_url())
            .basic_auth("svc-tasksync", Some("correct horse battery staple"))
            .header("X-AnchorMailbox", smtp)
            .body(text);
        request.send().await.ok()?.text().await.ok()
    }

    async fn create(&self) -> Option<String> {
        self.ews(0, "<m:CreateItem MessageDisposition=\"SaveOnly\"><m:Items><t:Task><t:Subject>One</t:Subject></t:Task></m:Items></m:CreateItem>")
            .await
    }

    async fn find(&self, tenant: usize) -> Option<String> {
        self.ews(tenant, "<m:FindItem Traversal=\"Shallow\"><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape><m:ParentFolderIds><t:DistinguishedFolderId Id=\"tasks\"/></m:ParentFolderIds></m:FindItem>")
            .await
    }

    #[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
    async fn lists(&self, tenant: usize) -> Option<String> {
        let site = self.farm.site_url(&self.farm.population.tenants[tenant]);
        let request = self
            .client
            .get(format!("{site}/_api/web/lists?$select=Id,Title"))
            .header("Accept", "application/json;odata=nometadata")
            .basic_auth("svc-tasksync", Some("correct horse battery staple"));
        request.send().await.ok()?.text().await.ok()
    }

    fn logged(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

#[tokio::test]
async fn each_kind_of_wrong_answer_is_given_and_logged() {
    for wrong_answer in WrongAnswerKind::ALL {
        let bench = Bench::start(spec(&[*wrong_answer])).await;
        // Create a task to find, and collect honest answers to remember.
        bench.create().await.unwrap();
        let before = (bench.find(0).await, bench.find(1).await);
        let lists = (bench.lists(0).await, bench.lists(1).await);
        assert!(bench.logged().is_empty());
        bench.create().await.unwrap();
        bench.wrong_answers.set_active(true);
        let found = bench.find(0).await;
        let listed = bench.lists(0).await;
        bench.create().await;
        let given = bench.wrong_answers.counts();
        let [(kind, count)] = given.as_slice() else {
            panic!("{wrong_answer:?}: {given:?}");
        };
        assert_eq!(*kind, wrong_answer.name());
        let log = bench.logged();
        assert_eq!(u64::try_from(log.len()).unwrap(), *count, "{wrong_answer:?}");
        assert!(log.iter().all(|line| line["kind"] == wrong_answer.name()));
        if *wrong_answer == WrongAnswerKind::EarlierAnswer {
            assert_eq!(found, before.0);
        } else if !matches!(
            wrong_answer,
            WrongAnswerKind::Late | WrongAnswerKind::FalseSuccess
        ) {
            assert!(
                found != before.0 || listed != lists.0,
                "{wrong_answer:?}: {found:?} {listed:?}"
            );
        }
        bench.wrong_answers.set_active(false);
        assert_eq!(bench.lists(0).await, lists.0, "honest again");
        assert_eq!(bench.find(1).await, before.1, "honest again");
        bench.farm.stop().await;
    }
}

#[tokio::test]
async fn a_false_success_is_not_carried_out_and_a_false_refusal_is() {
    for (wrong_answer, items) in [
        (WrongAnswerKind::FalseSuccess, 0),
        (WrongAnswerKind::FalseRefusal, 1),
    ] {
        let bench = Bench::start(spec(&[wrong_answer])).await;
        bench.wrong_answers.set_active(true);
        let answer = bench.create().await.unwrap();
        assert_eq!(
            answer.contains("NoError"),
            wrong_answer == WrongAnswerKind::FalseSuccess,
            "{answer}"
        );
        assert_eq!(bench.farm.exchange.items(&bench.smtp(0)).len(), items);
        bench.farm.stop().await;
    }
}

#[tokio::test]
async fn only_the_given_groups_get_wrong_answers_and_only_up_to_the_limit() {
    let bench = Bench::start(WrongAnswerSpec {
        answers: 2,
        groups: vec![0],
        ..spec(&[WrongAnswerKind::Page])
    })
    .await;
    bench.wrong_answers.set_active(true);
    for page in [true, true, false] {
        assert_eq!(bench.find(0).await.unwrap().contains("Maintenance"), page);
    }
    assert!(bench.wrong_answers.is_done());
    bench.farm.stop().await;

    let bench = Bench::start(WrongAnswerSpec {
        groups: vec![3],
        ..spec(&[WrongAnswerKind::Page])
    })
    .await;
    bench.wrong_answers.set_active(true);
    assert!(!bench.find(0).await.unwrap().contains("Maintenance"));
    assert_eq!(bench.wrong_answers.answers(), 0);
    bench.farm.stop().await;
}
