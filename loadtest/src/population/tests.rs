use super::*;
use crate::sharepoint::Settings;

#[test]
fn the_same_seed_makes_the_same_population() {
    let spec = PopulationSpec::default();
    let first = Population::generate(&spec);
    assert_eq!(first, Population::generate(&spec));
    assert_ne!(first, Population::generate(&PopulationSpec { seed: 2, ..spec }));
    assert_eq!(first.tenants[1].slug, "fabrikam-001");
    assert_eq!(first.mailboxes().count(), 30);
}

#[test]
fn skew_moves_people_but_keeps_their_number_and_the_mean_of_tasks() {
    let spec = PopulationSpec {
        tenants: 20,
        users_per_tenant: 50,
        skew: 1.0,
        tasks_per_user: 7.0,
        ..Default::default()
    };
    let population = Population::generate(&spec);
    let sizes: Vec<usize> = population
        .tenants
        .iter()
        .map(|tenant| tenant.people.len())
        .collect();
    assert!(sizes[0] > 4 * sizes[10], "{sizes:?}");
    let people: usize = sizes.iter().sum();
    assert!(people.abs_diff(1000) <= 20, "{people}");
    let tasks = population.tasks();
    assert!(
        (6 * people..8 * people).contains(&tasks),
        "{tasks} tasks of {people} people"
    );
}

#[test]
fn the_mean_of_tasks_holds_and_from_one_on_each_person_has_one() {
    for mean in [0.5, 1.0, 1.5, 2.0, 7.0] {
        let spec = PopulationSpec {
            tenants: 1,
            users_per_tenant: 4_000,
            tasks_per_user: mean,
            ..Default::default()
        };
        let population = Population::generate(&spec);
        let found = f64::from(u32::try_from(population.tasks()).unwrap()) / 4_000.0;
        assert!((found / mean - 1.0).abs() < 0.05, "{found} instead of {mean}");
        let mut owners: Vec<usize> = population.tenants[0]
            .lists
            .iter()
            .flat_map(|list| &list.tasks)
            .filter_map(|task| task.assigned_to.first().copied())
            .collect();
        owners.sort_unstable();
        owners.dedup();
        assert_eq!(
            owners.len() == 4_000,
            mean >= 1.0,
            "{mean}: {} have tasks",
            owners.len()
        );
    }
}

#[test]
fn a_population_is_applied_whole() {
    let population = Population::generate(&PopulationSpec::default());
    let sharepoint = SharePoint::new(Settings::default());
    let applied = population.apply_to_sharepoint(&sharepoint).unwrap();
    for (tenant, applied) in population.tenants.iter().zip(&applied) {
        for (list, (id, items)) in tenant.lists.iter().zip(&applied.lists) {
            let views = sharepoint.items(&tenant.site, *id).unwrap();
            assert_eq!(views.len(), items.len());
            for (task, view) in list.tasks.iter().zip(&views) {
                assert_eq!(
                    (&task.title, task.start, task.due),
                    (&view.title, view.start, view.due)
                );
                assert_eq!((task.status, task.priority), (view.status, view.priority));
                assert_eq!(task.assigned_to.len(), view.assigned_to.len());
            }
        }
    }
    assert!(
        population
            .apply_to_sharepoint(&sharepoint)
            .unwrap_err()
            .contains("already")
    );
}

#[test]
fn ten_thousand_sites_fit_into_one_server() {
    let spec = PopulationSpec {
        tenants: 10_000,
        users_per_tenant: 2,
        lists_per_tenant: 2,
        tasks_per_user: 1.0,
        ..PopulationSpec::default()
    };
    let population = Population::generate(&spec);
    let sharepoint = SharePoint::new(Settings::default());
    let applied = population.apply_to_sharepoint(&sharepoint).unwrap();
    let last = population.tenants.last().unwrap();
    assert_eq!(sharepoint.lists(&last.site).unwrap().len(), 2);
    let items: usize = applied
        .iter()
        .flat_map(|tenant| &tenant.lists)
        .map(|(_, items)| items.len())
        .sum();
    assert_eq!(items, population.tasks());
}
