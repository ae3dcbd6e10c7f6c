//! By whom a tenant's servers are checked: a sample of the people who opted in, or else the person whom the tenant's
//! settings name for tests, or else by signing in alone.

use futures::StreamExt as _;
use jiff::Timestamp;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::facts::{MailboxKind, PersonLookup};
use tasksync_common::model::{MailboxAddress, UserKey};
use tasksync_common::registry::{Enrolment, EnrolmentState, Tenant, TestPerson};

use super::catalogue::tenant as check;
use super::mailboxes::{MailboxChecks, judge_sample};
use super::{CheckResult, DoctorFinding, StoreProblem, ask_store, servers};
use crate::checks::UserCheck;
use crate::parts::ServiceParts;

/// Users of the sample.
const SAMPLE: u32 = 3;
/// A mailbox that cannot exist: no address ends in `.invalid` (RFC 2606). A server that looks for it has accepted the
/// sign-in.
const NO_MAILBOX: &str = "tasksync-sign-in-test@tasksync.invalid";
/// The user name under which tests call the servers. It is never stored.
const TEST_USER: &str = "tasksync-test";

/// A user of the sample, and what the servers answered about the user.
pub(super) struct SampledUser {
    pub(super) user: Enrolment,
    pub(super) found: UserCheck,
    pub(super) kind: MailboxKind,
}

/// What the servers answered.
pub(super) enum TenantSample {
    /// About people who opted in; never empty.
    Users(Vec<SampledUser>),
    /// About the test person, or about signing in if there is none.
    Test(TestAnswers),
}

/// What the servers answered about the test person.
pub(super) struct TestAnswers {
    /// The sign-in name at the source and whether the source knows it; `None` if the settings name none.
    person: Option<(String, Result<(), Failure>)>,
    mailbox: MailboxAnswer,
}

enum MailboxAnswer {
    /// The test mailbox.
    Opened(Box<SampledUser>),
    /// No test mailbox is named: whether the server accepts the service account.
    SignIn(Result<(), Failure>),
}

impl TenantSample {
    /// Returns the people of the sample whose mailboxes were opened or refused.
    pub(super) fn users(&self) -> &[SampledUser] {
        match self {
            Self::Users(users) => users,
            Self::Test(answers) => match &answers.mailbox {
                MailboxAnswer::Opened(user) => std::slice::from_ref(user),
                MailboxAnswer::SignIn(_) => &[],
            },
        }
    }
}

impl TenantSample {
    /// Returns what the answers say about the mailbox server itself.
    pub(super) fn answer(&self) -> servers::MailboxServerAnswer<'_> {
        let mailboxes = self.users().iter().map(|one| one.found.mailbox.as_ref());
        let (opened, failures): (Vec<_>, Vec<_>) = mailboxes.partition(Result::is_ok);
        let refused = match self {
            Self::Test(TestAnswers {
                mailbox: MailboxAnswer::SignIn(Err(failure)),
                ..
            }) => Some(failure),
            Self::Test(_) | Self::Users(_) => None,
        };
        let accepted = matches!(
            self,
            Self::Test(TestAnswers {
                mailbox: MailboxAnswer::SignIn(Ok(())),
                ..
            })
        );
        servers::MailboxServerAnswer {
            signed_in: accepted || !opened.is_empty(),
            opened: opened.into_iter().flatten().collect(),
            failure: failures.into_iter().find_map(Result::err).or(refused),
        }
    }
}

/// Asks the servers about the sample.
///
/// # Errors
/// The registry does not say who opted in.
pub(super) async fn ask(parts: &ServiceParts, tenant: &Tenant) -> Result<TenantSample, StoreProblem> {
    let users = ask_store(parts.registry.enrolments(&tenant.id, None, SAMPLE)).await?;
    if users.is_empty() {
        return Ok(TenantSample::Test(ask_for_test(parts, tenant).await));
    }
    let sampled = futures::stream::iter(users)
        .map(|user| async move {
            let (found, kind) = futures::join!(
                parts.checks.check_user(tenant, &user, PersonLookup::Read),
                ask_for_kind(parts, tenant, &user)
            );
            SampledUser { user, found, kind }
        })
        .buffered(SAMPLE as usize)
        .collect()
        .await;
    Ok(TenantSample::Users(sampled))
}

async fn ask_for_test(parts: &ServiceParts, tenant: &Tenant) -> TestAnswers {
    let TestPerson {
        mailbox,
        source_login,
    } = tenant.test.clone().unwrap_or_default();
    let (person, mailbox) = futures::join!(
        ask_for_person(parts, tenant, source_login),
        ask_for_mailbox(parts, tenant, mailbox)
    );
    TestAnswers {
        person,
        mailbox: mailbox.unwrap_or_else(|failure| MailboxAnswer::SignIn(Err(failure))),
    }
}

async fn ask_for_person(
    parts: &ServiceParts,
    tenant: &Tenant,
    login: Option<String>,
) -> Option<(String, Result<(), Failure>)> {
    let login = login?;
    let known = parts
        .checks
        .check_person(tenant, &login, PersonLookup::Read)
        .await;
    Some((login, known))
}

async fn ask_for_mailbox(
    parts: &ServiceParts,
    tenant: &Tenant,
    mailbox: Option<MailboxAddress>,
) -> Result<MailboxAnswer, Failure> {
    let Some(mailbox) = mailbox else {
        let nowhere = NO_MAILBOX.parse().map_err(|_| no_test_user())?;
        let user = test_user(tenant, nowhere)?;
        let answer = parts.checks.check_mailbox(tenant, &user).await;
        return Ok(MailboxAnswer::SignIn(sign_in_of(answer.map(|_| ()))));
    };
    let user = test_user(tenant, mailbox)?;
    let (mailbox, kind) = futures::join!(
        parts.checks.check_mailbox(tenant, &user),
        ask_for_kind(parts, tenant, &user)
    );
    let found = UserCheck {
        person: Ok(()),
        mailbox,
    };
    Ok(MailboxAnswer::Opened(Box::new(SampledUser { user, found, kind })))
}

/// Returns what the directory says about the user's address. A failure to ask is unknown, too: the mailbox itself shows
/// what is wrong.
async fn ask_for_kind(parts: &ServiceParts, tenant: &Tenant, user: &Enrolment) -> MailboxKind {
    let kind = parts.checks.mailbox_kind(tenant, user).await;
    kind.unwrap_or(MailboxKind::Unknown)
}

/// Returns whether the server accepted the sign-in, from its answer about a mailbox that cannot exist.
fn sign_in_of(answer: Result<(), Failure>) -> Result<(), Failure> {
    match answer {
        // It looked for the mailbox, which comes after the sign-in.
        Err(failure)
            if matches!(
                failure.code,
                Code::ExchangeMailboxMissing
                    | Code::ExchangeMailboxDenied
                    | Code::ExchangeImpersonationDenied
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn test_user(tenant: &Tenant, mailbox: MailboxAddress) -> Result<Enrolment, Failure> {
    Ok(Enrolment {
        key: UserKey::new(tenant.id.clone(), TEST_USER.parse().map_err(|_| no_test_user())?),
        source_login: String::new(),
        mailbox,
        time_zone: None,
        opted_in_at: Timestamp::UNIX_EPOCH,
        state: EnrolmentState::Enabled,
    })
}

fn no_test_user() -> Failure {
    Failure::new(
        ErrorClass::Refused,
        Code::Panic,
        "the name or mailbox of the test user is refused by this build",
    )
}

/// Judges what the servers answered about people and mailboxes.
pub(super) fn judge(subject: &str, checks: &MailboxChecks, sample: &TenantSample) -> Vec<DoctorFinding> {
    let answers = match sample {
        TenantSample::Users(users) => return judge_sample(subject, checks, users),
        TenantSample::Test(answers) => answers,
    };
    let mut found = vec![judge_test_person(subject, answers.person.as_ref())];
    match &answers.mailbox {
        MailboxAnswer::Opened(user) => {
            let of_mailbox = judge_sample(subject, checks, std::slice::from_ref(user));
            // The test person replaces the people of the sample.
            found.extend(
                of_mailbox
                    .into_iter()
                    .filter(|finding| finding.id != check::PEOPLE.id),
            );
        }
        MailboxAnswer::SignIn(Err(failure)) => {
            found.push(DoctorFinding::of_failure(checks.server, subject, failure));
            let reason = "cannot be known while the server refuses the sign-in";
            found.extend(checks.not_applicable(subject, reason));
            found.push(checks.kind_not_applicable(subject, reason));
        }
        MailboxAnswer::SignIn(Ok(())) => {
            found.push(DoctorFinding {
                solution: "Name a mailbox for tests: `tasksync tenant add FILE --test-mailbox ADDRESS`, or `mailbox` \
                    below [test] in the tenant's file. Or opt a person in."
                    .to_owned(),
                ..DoctorFinding::new(
                    checks.server,
                    subject,
                    CheckResult::Warning,
                    "the server accepts the service account; whether it opens a mailbox was NOT tested, because no \
                     person is opted in and no mailbox is named for tests",
                )
            });
            let reason = "not tested: no mailbox is named for tests";
            found.extend(checks.not_applicable(subject, reason));
            found.push(checks.kind_not_applicable(subject, reason));
        }
    }
    found
}

fn judge_test_person(subject: &str, person: Option<&(String, Result<(), Failure>)>) -> DoctorFinding {
    match person {
        None => DoctorFinding::new(
            &check::PEOPLE,
            subject,
            CheckResult::NotApplicable,
            "not tested: no person is opted in, and no sign-in name is given for tests (`--test-login`)",
        ),
        Some((login, Ok(()))) => DoctorFinding::new(
            &check::PEOPLE,
            subject,
            CheckResult::Ok,
            format!("the test person {login} is known"),
        ),
        Some((login, Err(failure))) => DoctorFinding::of_failure(&check::PEOPLE, subject, failure)
            .with_information([format!("the test person is {login}")]),
    }
}

#[cfg(test)]
mod tests {
    use tasksync_common::facts::MailboxFacts;

    use super::super::mailboxes::EXCHANGE;
    use super::*;

    fn refused(code: Code) -> Failure {
        Failure::new(ErrorClass::Refused, code, "as the test set it")
    }

    fn judged(
        person: Option<Result<(), Failure>>,
        mailbox: MailboxAnswer,
    ) -> Vec<(&'static str, CheckResult)> {
        let sample = TenantSample::Test(TestAnswers {
            person: person.map(|known| ("contoso\\test".to_owned(), known)),
            mailbox,
        });
        judge("tenant contoso", &EXCHANGE, &sample)
            .iter()
            .map(|finding| (finding.id, finding.result))
            .collect()
    }

    fn opened(mailbox: Result<MailboxFacts, Failure>) -> MailboxAnswer {
        MailboxAnswer::Opened(Box::new(SampledUser {
            user: Enrolment {
                key: UserKey::new("contoso".parse().unwrap(), TEST_USER.parse().unwrap()),
                source_login: String::new(),
                mailbox: "test@contoso.example".parse().unwrap(),
                time_zone: None,
                opted_in_at: Timestamp::UNIX_EPOCH,
                state: EnrolmentState::Enabled,
            },
            found: UserCheck {
                person: Ok(()),
                mailbox,
            },
            kind: MailboxKind::Mailbox,
        }))
    }

    fn facts() -> MailboxFacts {
        MailboxFacts {
            version: "Exchange 15.2".to_owned(),
            access: "delegate".to_owned(),
            shares_requests: true,
            clock_offset: None,
            idle_check: true,
            ..MailboxFacts::default()
        }
    }

    #[test]
    fn a_mailbox_that_was_not_opened_is_never_ok() {
        use CheckResult::{Failed, NotApplicable, Ok as Good, Warning};
        let (person, server, access) = ("people-known", "mailbox-server", "mailbox-access");
        let found = judged(None, MailboxAnswer::SignIn(Ok(())));
        assert_eq!(
            found[..3],
            [
                (person, NotApplicable),
                (server, Warning),
                (access, NotApplicable)
            ]
        );
        let found = judged(
            None,
            MailboxAnswer::SignIn(Err(refused(Code::ExchangeSignInRefused))),
        );
        assert_eq!(
            found[..3],
            [(person, NotApplicable), (server, Failed), (access, NotApplicable)]
        );
        let found = judged(Some(Ok(())), opened(Ok(facts())));
        assert_eq!(found[..3], [(person, Good), (server, Good), (access, Good)]);
        let found = judged(
            Some(Err(refused(Code::SharePointUserUnknown))),
            opened(Err(refused(Code::ExchangeMailboxDenied))),
        );
        assert_eq!(
            found[..3],
            [(person, Failed), (server, Failed), (access, NotApplicable)]
        );
    }

    #[test]
    fn a_server_that_looks_for_a_mailbox_has_accepted_the_sign_in() {
        for (code, accepted) in [
            (Code::ExchangeMailboxMissing, true),
            (Code::ExchangeMailboxDenied, true),
            (Code::ExchangeImpersonationDenied, true),
            (Code::ExchangeSignInRefused, false),
            (Code::ExchangeUnreachable, false),
            (Code::SecretNotAllowed, false),
            (Code::ExchangeForbidden, false),
        ] {
            assert_eq!(sign_in_of(Err(refused(code))).is_ok(), accepted, "{code}");
        }
        assert!(NO_MAILBOX.parse::<MailboxAddress>().is_ok());
    }
}
