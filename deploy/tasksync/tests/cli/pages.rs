//! Reference pages and examples agree with the program.

use tasksync_common::registry::JournalKind;
use tasksync_loadtest::scenario::{SHIPPED, Scenario};

use crate::harness::{example, root, run, tasksync};

#[test]
fn the_pages_in_the_repository_are_up_to_date() {
    for page in [
        "errors", "settings", "tenant", "api", "doctor", "commands", "metrics",
    ] {
        let printed = run(tasksync().args(["docs", page]));
        assert_eq!(printed.code, 0, "{printed:?}");
        let kept = std::fs::read_to_string(root().join(format!("docs/{page}.md"))).unwrap_or_default();
        assert!(
            printed.out == kept,
            "docs/{page}.md is out of date; write it again with: tasksync docs {page} > docs/{page}.md"
        );
    }
}

#[test]
fn the_page_about_policies_has_the_kinds_of_journal_entries_and_no_others() {
    let page = std::fs::read_to_string(root().join("docs/policies.md")).unwrap();
    let (_, journal) = page.split_once("## The journal").unwrap();
    let described: Vec<_> = journal
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let kinds: Vec<_> = JournalKind::ALL.iter().map(JournalKind::name).collect();
    assert_eq!(described, kinds);
}

#[test]
fn the_examples_are_right() {
    // The registry's folder is on the machine that will use the file.
    let checked = run(tasksync()
        .args(["config", "check", "--skip-files"])
        .arg(example("settings.toml")));
    assert_eq!(checked.code, 0, "{checked:?}");
    let distributed = example("distributed.toml");
    for role in ["scheduler", "worker", "standalone"] {
        let checked = run(tasksync()
            .args(["config", "check", "--skip-files", "--role", role])
            .arg(&distributed));
        assert_eq!(checked.code, 0, "{checked:?}");
    }
    let text = std::fs::read_to_string(example("tenant.toml")).unwrap();
    let tenant: tasksync_common::registry::Tenant = toml::from_str(&text).unwrap();
    assert_eq!(tenant.id.as_str(), "contoso");
}

#[test]
fn the_settings_of_every_shipped_scenario_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let distributed = std::fs::read_to_string(example("distributed.toml")).unwrap();
    let distributed: toml::Table = toml::from_str(&distributed).unwrap();
    for (name, text) in SHIPPED {
        let mut settings = Scenario::parse(text).unwrap().settings;
        // The run chooses these addresses.
        for store in ["registry", "schedule", "queue"] {
            let url = distributed[store]["url"].clone();
            let section = settings.entry(store).or_insert_with(|| toml::Table::new().into());
            section.as_table_mut().unwrap().insert("url".to_owned(), url);
        }
        let file = folder.path().join(format!("{name}.toml"));
        std::fs::write(&file, toml::to_string(&settings).unwrap()).unwrap();
        for role in ["scheduler", "worker"] {
            let checked = run(tasksync().args(["config", "check", "--role", role]).arg(&file));
            assert_eq!(checked.code, 0, "{name}: {checked:?}");
        }
    }
}

#[test]
fn a_wrong_settings_file_is_refused_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    std::fs::write(&file, "[worker]\nuser_at_once = 3\n").unwrap();
    let checked = run(tasksync().args(["config", "check", file.to_str().unwrap()]));
    assert_eq!(checked.code, 2);
    assert!(checked.err.contains("user_at_once"), "{checked:?}");
}
