//! A generated population: tenants with their people, lists and tasks, the same for the same seed.

mod words;

use jiff::ToSpan as _;
use jiff::civil::{Date, date};
use uuid::Uuid;

use self::words::{COMPANIES, FAMILY, GIVEN, LISTS, OBJECTS, VERBS, ZONES};
use crate::sharepoint::people::{ItemId, ListItemEdit, ListSpec, SiteSpec, UserId};
use crate::sharepoint::{Language, SharePoint};
use crate::sim::conditions::GroupId;
use crate::sim::dice::{Dice, mix};

/// How large a population is to be.
#[derive(Debug, Clone)]
pub struct PopulationSpec {
    /// Number of tenants.
    pub tenants: usize,
    /// Mean number of people per tenant.
    pub users_per_tenant: usize,
    /// 0 gives every tenant the same number of people; 1 gives tenants 1, 1/2, 1/3, … of the largest one's number.
    pub skew: f64,
    /// Task lists of each tenant.
    pub lists_per_tenant: usize,
    /// Mean number of tasks per person. From 1 on each person has at least one; below 1, some people have none.
    pub tasks_per_user: f64,
    /// The seed; the same seed gives the same population.
    pub seed: u64,
    /// First part of the tenants' names; a company's name when empty.
    pub prefix: String,
    /// Group that the tenants belong to.
    pub group: GroupId,
}

impl Default for PopulationSpec {
    fn default() -> Self {
        Self {
            tenants: 3,
            users_per_tenant: 10,
            skew: 0.0,
            lists_per_tenant: 2,
            tasks_per_user: 5.0,
            seed: 1,
            prefix: String::new(),
            group: 0,
        }
    }
}

/// A tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    /// Short name such as `contoso-003`.
    pub slug: String,
    /// Mail domain.
    pub domain: String,
    /// Path of its SharePoint site.
    pub site: String,
    /// IANA time zone of the site.
    pub time_zone: &'static str,
    /// Language of the site.
    pub language: Language,
    /// Its people.
    pub people: Vec<Person>,
    /// Its task lists.
    pub lists: Vec<TaskList>,
    /// Group that it belongs to.
    pub group: GroupId,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Number in the tenant, from 0.
    pub id: usize,
    /// Display name.
    pub name: String,
    /// Claims login on SharePoint.
    pub login: String,
    /// Mailbox address.
    pub smtp: String,
    /// IANA time zone of the mailbox.
    pub time_zone: &'static str,
}

/// A task list with its tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskList {
    /// Title.
    pub title: String,
    /// Base template.
    pub template: u16,
    /// Tasks in the order they are created.
    pub tasks: Vec<Task>,
}

/// A task.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Title.
    pub title: String,
    /// Body as HTML; may be empty.
    pub body: String,
    /// Start date.
    pub start: Option<Date>,
    /// Due date.
    pub due: Option<Date>,
    /// Status, 1 (not started) to 5 (waiting).
    pub status: u8,
    /// Part done, 0 to 1.
    pub percent: f64,
    /// Priority, 1 (high) to 3 (low).
    pub priority: u8,
    /// Numbers of the people it is assigned to.
    pub assigned_to: Vec<usize>,
}

/// A generated population.
#[derive(Debug, Clone, PartialEq)]
pub struct Population {
    /// The tenants.
    pub tenants: Vec<Tenant>,
}

/// A tenant as it was created on SharePoint.
#[derive(Debug, Clone)]
pub struct AppliedTenant {
    /// User ids on the site, by person number.
    pub users: Vec<UserId>,
    /// Ids of the lists, in order, each with the ids of its items.
    pub lists: Vec<(Uuid, Vec<ItemId>)>,
}

impl Population {
    /// Generates a population; a pure function of `spec`.
    #[must_use]
    pub fn generate(spec: &PopulationSpec) -> Self {
        let shares = shares(spec);
        let tenants = shares
            .into_iter()
            .enumerate()
            .map(|(at, people)| tenant(spec, at, people))
            .collect();
        Self { tenants }
    }

    /// Generates a population of several groups of tenants. Their prefixes must differ.
    #[must_use]
    pub fn of_groups(specs: &[PopulationSpec]) -> Self {
        Self {
            tenants: specs
                .iter()
                .flat_map(|spec| Self::generate(spec).tenants)
                .collect(),
        }
    }

    /// Frees the memory of the tasks once they are on the server. The lists keep their titles.
    pub fn forget_tasks(&mut self) {
        for list in self.tenants.iter_mut().flat_map(|tenant| &mut tenant.lists) {
            list.tasks = Vec::new();
        }
    }

    /// Returns every person with the slug of their tenant, in order.
    pub fn mailboxes(&self) -> impl Iterator<Item = (&str, &Person)> {
        self.tenants
            .iter()
            .flat_map(|tenant| tenant.people.iter().map(|person| (tenant.slug.as_str(), person)))
    }

    /// Returns the number of tasks in all lists.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tenants
            .iter()
            .flat_map(|tenant| &tenant.lists)
            .map(|list| list.tasks.len())
            .sum()
    }

    /// Creates the sites, people, lists and tasks. Returns what was created, in the order of the tenants.
    ///
    /// # Errors
    /// Names what SharePoint refused, for instance a site that exists already.
    pub fn apply_to_sharepoint(&self, sharepoint: &SharePoint) -> Result<Vec<AppliedTenant>, String> {
        self.tenants
            .iter()
            .map(|tenant| apply(tenant, sharepoint))
            .collect()
    }
}

/// Returns the number of people of each tenant: equal shares, or falling ones. The sum is the same up to rounding, and
/// each tenant has at least one person.
fn shares(spec: &PopulationSpec) -> Vec<usize> {
    let weights: Vec<f64> = (1..=spec.tenants)
        .map(|rank| f64::from(u32::try_from(rank).unwrap_or(u32::MAX)).powf(-spec.skew.max(0.0)))
        .collect();
    let sum: f64 = weights.iter().sum();
    let people = u32::try_from(spec.users_per_tenant.saturating_mul(spec.tenants)).unwrap_or(u32::MAX);
    let share = |weight: &f64| round(f64::from(people) * weight / sum).max(1);
    weights.iter().map(share).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range before the cast"
)]
fn round(value: f64) -> usize {
    value.round().clamp(0.0, 1e9) as usize
}

fn tenant(spec: &PopulationSpec, at: usize, people: usize) -> Tenant {
    let mut dice = Dice::new(mix(spec.seed ^ mix(u64::try_from(at).unwrap_or_default())));
    let company = COMPANIES.get(at % COMPANIES.len()).copied().unwrap_or("contoso");
    let slug = if spec.prefix.is_empty() {
        format!("{company}-{at:03}")
    } else {
        format!("{}-{at:03}", spec.prefix)
    };
    let domain = format!("{slug}.example");
    let time_zone = dice.word(ZONES);
    let people: Vec<Person> = (0..people)
        .map(|id| {
            let name = format!("{} {}", dice.word(GIVEN), dice.word(FAMILY));
            let account = format!("user{id:04}");
            // Some people work in another time zone than that of the site.
            let time_zone = if dice.chance(20) {
                dice.word(ZONES)
            } else {
                time_zone
            };
            let smtp = format!("{account}@{domain}");
            Person {
                id,
                name,
                login: format!("i:0#.f|membership|{smtp}"),
                smtp,
                time_zone,
            }
        })
        .collect();
    let mut lists: Vec<TaskList> = (0..spec.lists_per_tenant)
        .map(|number| {
            let name = LISTS.get(number % LISTS.len()).copied().unwrap_or("Tasks");
            let title = match number / LISTS.len() {
                0 => name.to_owned(),
                round => format!("{name} {}", round + 1),
            };
            TaskList {
                title,
                template: if number % 3 == 2 { 107 } else { 171 },
                tasks: Vec::new(),
            }
        })
        .collect();
    let mean = round(spec.tasks_per_user * 1000.0);
    for person in &people {
        let count = tasks_of_one(&mut dice, mean);
        for _ in 0..count {
            let at = dice.below(lists.len());
            if let Some(list) = lists.get_mut(at) {
                let task = task(&mut dice, person.id, people.len(), list.template == 171);
                list.tasks.push(task);
            }
        }
    }
    let language = if dice.chance(30) {
        Language::German
    } else {
        Language::English
    };
    Tenant {
        site: format!("/sites/{slug}"),
        slug,
        domain,
        time_zone,
        language,
        people,
        lists,
        group: spec.group,
    }
}

/// Returns how many tasks one person has. `mean` is in thousandths of a task. The number is up to half of the mean
/// more or less, but at least one where the mean is one or more: the syncs of a person without tasks cannot be
/// observed.
fn tasks_of_one(dice: &mut Dice, mean: usize) -> usize {
    let spread = (mean / 2).min(mean.saturating_sub(1000));
    let wanted = mean - spread + dice.below(2 * spread + 1);
    // Round up with the probability of the fraction, so that the mean holds.
    (wanted + dice.below(1000)) / 1000
}

fn task(dice: &mut Dice, owner: usize, people: usize, multi: bool) -> Task {
    let title = format!(
        "{} {} #{}",
        dice.word(VERBS),
        dice.word(OBJECTS),
        dice.below(10_000)
    );
    let body = match dice.below(3) {
        0 => String::new(),
        1 => format!(
            "<p>{} {}.</p>",
            dice.word(VERBS),
            dice.word(&["soon", "with care", "before noon"])
        ),
        _ => format!(
            "<p>See <b>page {}</b></p><ul><li>first</li><li>second</li></ul>",
            dice.below(90) + 1
        ),
    };
    let day = i64::try_from(dice.below(120)).unwrap_or(0);
    let start = dice.chance(60).then(|| {
        date(2026, 10, 1)
            .checked_add(day.days())
            .unwrap_or(date(2026, 10, 1))
    });
    let length = i64::try_from(dice.below(30)).unwrap_or(0);
    let due = match start {
        Some(start) => Some(start.checked_add(length.days()).unwrap_or(start)),
        None => dice.chance(40).then(|| {
            date(2026, 11, 1)
                .checked_add(day.days())
                .unwrap_or(date(2026, 11, 1))
        }),
    };
    let (status, percent) = match dice.below(10) {
        0..=3 => (1, 0.0),
        4..=6 => (2, dice.pick(&[0.1, 0.25, 0.5, 0.75, 0.9]).unwrap_or(0.5)),
        7 => (3, 1.0),
        8 => (4, 0.0),
        _ => (5, 0.25),
    };
    let mut assigned_to = vec![owner];
    if multi && people > 1 && dice.chance(15) {
        let other = dice.below(people);
        if other != owner {
            assigned_to.push(other);
        }
    }
    let priority = dice.pick(&[1, 2, 2, 2, 3]).unwrap_or(2);
    Task {
        title,
        body,
        start,
        due,
        status,
        percent,
        priority,
        assigned_to,
    }
}

fn apply(tenant: &Tenant, sharepoint: &SharePoint) -> Result<AppliedTenant, String> {
    sharepoint.add_site(&SiteSpec {
        path: tenant.site.clone(),
        title: tenant.slug.clone(),
        time_zone: tenant.time_zone.to_owned(),
        language: tenant.language,
    })?;
    sharepoint.set_group(&tenant.site, tenant.group)?;
    let users = tenant
        .people
        .iter()
        .map(|person| sharepoint.add_user(&tenant.site, &person.login, &person.name, &person.smtp))
        .collect::<Result<Vec<_>, _>>()?;
    let mut lists = Vec::with_capacity(tenant.lists.len());
    for list in &tenant.lists {
        let id = sharepoint.add_list(&tenant.site, &ListSpec::new(&list.title, list.template))?;
        let mut items = Vec::with_capacity(list.tasks.len());
        for task in &list.tasks {
            let assigned: Vec<UserId> = task
                .assigned_to
                .iter()
                .filter_map(|at| users.get(*at))
                .copied()
                .collect();
            let by = assigned.first().copied().unwrap_or_default();
            let edit = ListItemEdit {
                title: Some(task.title.clone()),
                body: Some(task.body.clone()),
                start: Some(task.start),
                due: Some(task.due),
                status: Some(task.status),
                percent: Some(task.percent),
                priority: Some(task.priority),
                assigned_to: Some(assigned),
                ..ListItemEdit::default()
            };
            items.push(sharepoint.person_creates(&tenant.site, id, edit, by)?);
        }
        lists.push((id, items));
    }
    Ok(AppliedTenant { users, lists })
}

#[cfg(test)]
mod tests;
