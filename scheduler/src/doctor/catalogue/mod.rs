//! All checks of the doctor, and the page about them.

use std::fmt::Write as _;

/// What one check is about, and what to do when it fails.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) id: &'static str,
    pub(super) what: &'static str,
    pub(super) solution: &'static str,
    pub(super) applies_to: &'static str,
}

macro_rules! definitions {
    ($($name:ident $id:literal $applies:literal $what:literal $solution:literal;)*) => {
        $(pub(in crate::doctor) const $name: Definition = Definition {
            id: $id, what: $what, solution: $solution, applies_to: $applies,
        };)*
        // Does not use the constants above, so that the compiler reports one that no finding uses.
        pub(super) const ALL: &[Definition] = &[$(Definition {
            id: $id, what: $what, solution: $solution, applies_to: $applies,
        }),*];
    };
}

pub(super) mod installation;
pub(super) mod tenant;

/// Returns every check, those of the installation first.
fn all() -> impl Iterator<Item = &'static Definition> {
    installation::ALL.iter().chain(tenant::ALL)
}

/// Returns the checks as a Markdown page.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# What the doctor checks\n\nGenerated from the code (`tasksync docs doctor`); do not edit.\n\n\
         `tasksync doctor` only reads. Every check ends as `ok`, `warning`, `failed` or `not_applicable`. The last one means \
         that the check was not made; it is never a silent pass.\n",
    );
    for definition in all() {
        let _ = writeln!(
            page,
            "\n## {}\n\n{}.\n\n- Applies to: {}\n- If not: {}",
            definition.id, definition.what, definition.applies_to, definition.solution
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_check_has_its_own_name_and_a_solution() {
        let names: BTreeSet<_> = all().map(|definition| definition.id).collect();
        assert_eq!(names.len(), all().count());
        for definition in all() {
            assert!(
                definition.solution.ends_with('.') && !definition.what.ends_with('.'),
                "{}",
                definition.id
            );
        }
    }
}
