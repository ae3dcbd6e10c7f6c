//! The people of the benchmark: in the registry, and in the schedule with stamps that are old and far apart.

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::registry::{
    Access, Credentials, Enrolment, EnrolmentState, MailboxConnection, Registry, SharePointConnection,
    SourceConnection, Tenant,
};
use tasksync_common::schedule::Schedule;

use crate::{REHEARSAL, text};

/// Number of people and of tenants. The first tenant has half of all people.
pub(crate) const PEOPLE: usize = if REHEARSAL { 2_000 } else { 100_000 };
pub(crate) const TENANTS: usize = if REHEARSAL { 20 } else { 1_000 };

/// Every stamp is older than this, so that every user is due.
const AGE: SignedDuration = SignedDuration::from_hours(24);
/// Least distance of two stamps. Equal stamps are slow to keep in order and do not occur in service.
const STAMP_SPACING_MICROSECONDS: u64 = 500;
/// Enrolments per transaction, and calls to the schedule in flight.
const ENROLLED_AT_ONCE: usize = 1_000;
const CALLS_AT_ONCE: usize = 256;

/// How a tenant's people are distributed in the order of waiting time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// In groups of up to 100 neighbours, as the batches they were synced in leave them.
    Batches,
    /// At random: only people of the large tenant wait next to a colleague.
    Scattered,
}

impl Shape {
    /// Returns the name in the output.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Batches => "as batches leave them",
            Self::Scattered => "scattered",
        }
    }
}

fn tenant_id(number: usize) -> Result<TenantId, String> {
    format!("tenant-{number:04}").parse().map_err(text)
}

fn person(number: usize) -> Result<UserKey, String> {
    // Every other person is of the large tenant.
    let tenant = if number.is_multiple_of(2) {
        0
    } else {
        1 + number / 2 % (TENANTS - 1)
    };
    let user: UserId = format!("user{number:06}@contoso.example").parse().map_err(text)?;
    Ok(UserKey::new(tenant_id(tenant)?, user))
}

/// Adds all tenants and all people to the registry.
///
/// # Errors
/// The registry's failure.
pub(crate) async fn enrol(registry: &dyn Registry) -> Result<(), String> {
    for number in 0..TENANTS {
        registry.put_tenant(&tenant(number)?).await.map_err(text)?;
    }
    for first in (0..PEOPLE).step_by(ENROLLED_AT_ONCE) {
        let enrolments: Vec<Enrolment> = (first..PEOPLE.min(first + ENROLLED_AT_ONCE))
            .map(|number| {
                Ok::<_, String>(Enrolment {
                    key: person(number)?,
                    source_login: format!("i:0#.w|contoso\\user{number:06}"),
                    mailbox: format!("user{number:06}@contoso.example").parse().map_err(text)?,
                    time_zone: None,
                    opted_in_at: Timestamp::UNIX_EPOCH,
                    state: EnrolmentState::Enabled,
                })
            })
            .collect::<Result<_, _>>()?;
        registry.enrol_many(&enrolments).await.map_err(text)?;
    }
    Ok(())
}

fn tenant(number: usize) -> Result<Tenant, String> {
    let credentials = Credentials::Basic {
        user: "contoso\\svc-tasksync".to_owned(),
        password: "env:PASSWORD".parse().map_err(text)?,
    };
    Ok(Tenant {
        id: tenant_id(number)?,
        display_name: format!("Tenant {number}"),
        enabled: true,
        time_zone: "Europe/Berlin".to_owned(),
        source: SourceConnection::SharePoint(SharePointConnection {
            sites: vec![
                format!("https://sharepoint-{number}.example")
                    .parse()
                    .map_err(text)?,
            ],
            credentials: credentials.clone(),
        }),
        mailbox: MailboxConnection::Ews {
            url: "https://exchange.example/EWS/Exchange.asmx"
                .parse()
                .map_err(text)?,
            credentials,
            access: Access::Auto,
        },
        policy: tasksync_common::plan::Policy::default(),
        test: None,
    })
}

/// Adds all people to the schedule.
///
/// # Errors
/// The schedule's failure.
pub(crate) async fn order(schedule: &dyn Schedule, shape: Shape) -> Result<(), String> {
    let newest = schedule.now().await.map_err(text)? - AGE;
    let mut people = (0..PEOPLE).map(person).collect::<Result<Vec<_>, _>>()?;
    match shape {
        Shape::Scattered => shuffle(&mut people),
        Shape::Batches => {
            people.sort_by(|one, other| one.tenant.cmp(&other.tenant));
            let mut batches: Vec<Vec<UserKey>> = people
                .chunk_by(|one, other| one.tenant == other.tenant)
                .flat_map(|colleagues| colleagues.chunks(100))
                .map(<[UserKey]>::to_vec)
                .collect();
            shuffle(&mut batches);
            people = batches.into_iter().flatten().collect();
        }
    }
    let span = STAMP_SPACING_MICROSECONDS * PEOPLE as u64;
    futures::stream::iter(people.into_iter().enumerate())
        .map(|(index, user)| async move {
            let back = i64::try_from(span - STAMP_SPACING_MICROSECONDS * index as u64).unwrap_or(0);
            let stamp = newest - SignedDuration::from_micros(back);
            schedule.enrol(&user, stamp, Some(stamp)).await.map_err(text)
        })
        .buffer_unordered(CALLS_AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await
}

/// The Fisher-Yates shuffle with an xorshift generator of Marsaglia's: the same order in every run.
fn shuffle<T>(list: &mut [T]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..list.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let other = usize::try_from(state % (last as u64 + 1)).unwrap_or(0);
        list.swap(last, other);
    }
}
