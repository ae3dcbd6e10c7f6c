//! The scenarios that come with the program.

macro_rules! shipped {
    ($($name:literal,)*) => {
        /// Names and texts of the scenarios that come with the program.
        pub const SHIPPED: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../scenarios/", $name, ".toml"))),)*
        ];
    };
}

shipped! {
    "smoke",
    "skew",
    "slow-tenant",
    "split-tenant",
    "outage",
    "scale-1-8",
    "million",
    "calamity",
    "small-calamity",
    "liars",
    "liars30",
    "small-liars",
    "upgrade",
}

/// Returns the text of a shipped scenario.
#[must_use]
pub fn find(name: &str) -> Option<&'static str> {
    SHIPPED
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::super::Scenario;
    use super::*;

    #[test]
    fn every_shipped_scenario_can_be_read_and_has_its_own_name() {
        for (name, text) in SHIPPED {
            let scenario = Scenario::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(scenario.name, *name);
            assert!(!scenario.expect.is_empty(), "{name} expects nothing");
        }
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(
            files,
            SHIPPED.len(),
            "a scenario in the folder is not in the list"
        );
        assert!(find("smoke").is_some() && find("no").is_none());
    }
}

#[cfg(test)]
mod page {
    use super::super::expect::Metric;
    use super::SHIPPED;

    const PAGE: &str = include_str!("../../../docs/scenarios.md");
    const FILE: &str = include_str!("file.rs");

    #[test]
    fn the_page_has_every_scenario_and_every_figure() {
        for (name, _) in SHIPPED {
            assert!(PAGE.contains(&format!("\n| `{name}` |")), "{name} is missing");
        }
        let rows: String = Metric::ALL
            .iter()
            .map(|metric| {
                let what: Vec<_> = metric.what().split_whitespace().collect();
                format!("| `{}` | {} |\n", metric.name(), what.join(" "))
            })
            .collect::<Vec<_>>()
            .concat();
        assert!(PAGE.ends_with(&rows), "the table of figures must be:\n{rows}");
    }

    #[test]
    fn the_page_has_every_kind_of_wrong_answer() {
        for kind in crate::wrong_answers::WrongAnswerKind::ALL {
            let row = format!("| `{}` | {} |\n", kind.name(), kind.what());
            assert!(
                PAGE.contains(&row),
                "the table of wrong answers must have:\n{row}"
            );
        }
    }

    #[test]
    fn the_page_has_every_key() {
        let keys = FILE
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub "))
            .filter(|line| !line.starts_with("struct") && !line.starts_with("enum"))
            .filter_map(|line| line.split_once(':'))
            .map(|(key, _)| key);
        for key in keys {
            let named = PAGE.contains(&format!(".{key}` |")) || PAGE.contains(&format!("| `{key}` |"));
            let table = [
                "phases",
                "tenants",
                "edits",
                "steps",
                "kills",
                "baseline",
                "lies",
                "faults",
                "exchange",
                "sharepoint",
                "requests",
            ];
            assert!(named || table.contains(&key), "{key} is missing");
        }
    }
}
