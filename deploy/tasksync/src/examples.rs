//! The command line with examples in the help of every command.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

use crate::cli::Cli;

/// The examples of one command: what each does, and the line to type.
type Examples = &'static [(&'static str, &'static str)];

/// The examples by command. A command that brings its own (`after_long_help`) needs no row.
const EXAMPLES: &[(&str, Examples)] = &[
    (
        "tasksync",
        &[
            (
                "Run everything on one machine:",
                "tasksync standalone --config settings.toml",
            ),
            (
                "Look at a service on another machine:",
                "tasksync --url https://tasksync.example status",
            ),
            ("Read what an error means:", "tasksync explain exchange-busy"),
        ],
    ),
    (
        "tasksync standalone",
        &[("", "tasksync standalone --config settings.toml")],
    ),
    (
        "tasksync scheduler",
        &[("", "tasksync scheduler --config distributed.toml")],
    ),
    (
        "tasksync worker",
        &[("", "tasksync worker --config distributed.toml")],
    ),
    (
        "tasksync health",
        &[
            (
                "Is the service on this machine ready?",
                "tasksync health --config settings.toml",
            ),
            ("Does it only have to be alive?", "tasksync health --live"),
        ],
    ),
    (
        "tasksync tenant",
        &[
            ("", "tasksync tenant add contoso.toml"),
            ("", "tasksync tenant list"),
        ],
    ),
    (
        "tasksync tenant add",
        &[
            (
                "Test both ends, store nothing:",
                "tasksync tenant add contoso.toml --test-mailbox ana@contoso.example --check-only",
            ),
            (
                "Test and store:",
                "tasksync tenant add contoso.toml --test-mailbox ana@contoso.example",
            ),
            (
                "From another program:",
                "cat contoso.toml | tasksync tenant add -",
            ),
        ],
    ),
    (
        "tasksync tenant edit",
        &[
            ("", "tasksync tenant edit contoso"),
            ("In another editor:", "EDITOR=nano tasksync tenant edit contoso"),
        ],
    ),
    (
        "tasksync tenant list",
        &[
            ("", "tasksync tenant list"),
            ("For a script:", "tasksync tenant list --json"),
        ],
    ),
    ("tasksync tenant show", &[("", "tasksync tenant show contoso")]),
    (
        "tasksync tenant remove",
        &[
            ("", "tasksync tenant remove contoso"),
            ("In a script:", "tasksync tenant remove contoso --yes"),
        ],
    ),
    (
        "tasksync tenant pauses",
        &[("", "tasksync tenant pauses contoso")],
    ),
    (
        "tasksync tenant end-pauses",
        &[
            ("All servers of the tenant:", "tasksync tenant end-pauses contoso"),
            (
                "Only one server:",
                "tasksync tenant end-pauses contoso --server mail.contoso.example:443",
            ),
        ],
    ),
    (
        "tasksync tenant enable",
        &[("", "tasksync tenant enable contoso")],
    ),
    (
        "tasksync tenant disable",
        &[("", "tasksync tenant disable contoso")],
    ),
    (
        "tasksync user",
        &[
            ("", "tasksync user list contoso"),
            ("", "tasksync user status contoso ana"),
        ],
    ),
    (
        "tasksync user opt-in",
        &[
            (
                "One person:",
                "tasksync user opt-in contoso ana --source-login 'i:0#.w|contoso\\ana' --mailbox ana@contoso.example",
            ),
            (
                "Many people from a file:",
                "tasksync user opt-in contoso --file people.csv",
            ),
        ],
    ),
    (
        "tasksync user opt-out",
        &[("", "tasksync user opt-out contoso ana")],
    ),
    ("tasksync user list", &[("", "tasksync user list contoso")]),
    (
        "tasksync user status",
        &[("", "tasksync user status contoso ana")],
    ),
    ("tasksync user plan", &[("", "tasksync user plan contoso ana")]),
    (
        "tasksync user allow-deletions",
        &[
            (
                "Whatever is held now:",
                "tasksync user allow-deletions contoso ana",
            ),
            (
                "Only the plan that was looked at:",
                "tasksync user allow-deletions contoso ana --plan 5f3a9c1e",
            ),
        ],
    ),
    (
        "tasksync user journal",
        &[("", "tasksync user journal contoso ana --limit 10")],
    ),
    (
        "tasksync sync-now",
        &[
            ("", "tasksync sync-now contoso ana"),
            (
                "Wait and show what it did:",
                "tasksync sync-now contoso ana --wait=90s",
            ),
        ],
    ),
    (
        "tasksync status",
        &[
            ("All tenants:", "tasksync status"),
            ("One tenant:", "tasksync status --tenant contoso"),
            ("Again every five seconds:", "tasksync status --watch=5s"),
            ("The slowest and the failing tenants:", "tasksync status --top"),
        ],
    ),
    (
        "tasksync doctor",
        &[
            ("Only the installation:", "tasksync doctor"),
            ("Also a tenant's servers:", "tasksync doctor --tenant contoso"),
        ],
    ),
    (
        "tasksync alerts",
        &[
            ("By cause:", "tasksync alerts"),
            (
                "Each one of the last two hours:",
                "tasksync alerts --tenant contoso --since 2h --list",
            ),
        ],
    ),
    ("tasksync dead-letters", &[("", "tasksync dead-letters list")]),
    (
        "tasksync dead-letters list",
        &[("", "tasksync dead-letters list --limit 10")],
    ),
    (
        "tasksync dead-letters replay",
        &[
            (
                "One:",
                "tasksync dead-letters replay 0198c2a1-7c3e-7000-8000-000000000001",
            ),
            ("The oldest:", "tasksync dead-letters replay --oldest 50"),
        ],
    ),
    (
        "tasksync dead-letters discard",
        &[
            (
                "One:",
                "tasksync dead-letters discard 0198c2a1-7c3e-7000-8000-000000000001",
            ),
            ("The oldest:", "tasksync dead-letters discard --oldest 50"),
        ],
    ),
    ("tasksync installation", &[("", "tasksync installation show")]),
    (
        "tasksync installation show",
        &[("", "tasksync installation show")],
    ),
    (
        "tasksync installation set",
        &[(
            "",
            "tasksync installation set 5b2f0d8e-6a51-4b7e-9d3c-2f4a1c0e8b77",
        )],
    ),
    ("tasksync config", &[("", "tasksync config check settings.toml")]),
    (
        "tasksync config check",
        &[
            ("", "tasksync config check settings.toml"),
            (
                "Also whether workers may use its stores:",
                "tasksync config check distributed.toml --role worker",
            ),
        ],
    ),
    (
        "tasksync config show",
        &[
            ("", "tasksync config show --config settings.toml"),
            (
                "Only what is not a default:",
                "tasksync config show --config settings.toml --changed",
            ),
        ],
    ),
    (
        "tasksync docs",
        &[
            ("A reference page:", "tasksync docs errors"),
            ("The man pages:", "tasksync docs man /usr/local/share/man/man1"),
        ],
    ),
    (
        "tasksync explain",
        &[
            ("", "tasksync explain exchange-mailbox-full"),
            ("List all codes:", "tasksync explain"),
        ],
    ),
    (
        "tasksync completions",
        &[
            (
                "Bash, for this user:",
                "tasksync completions bash > ~/.local/share/bash-completion/completions/tasksync",
            ),
            ("Zsh:", "tasksync completions zsh > ~/.zfunc/_tasksync"),
            (
                "Fish:",
                "tasksync completions fish > ~/.config/fish/completions/tasksync.fish",
            ),
        ],
    ),
];

/// Returns the command line, with examples in the help of every command.
pub(crate) fn command() -> Command {
    with_examples(Cli::command(), "tasksync")
}

fn with_examples(command: Command, path: &str) -> Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|inner| inner.get_name().to_owned())
        .collect();
    let row = EXAMPLES.iter().find(|(name, _)| *name == path);
    let command = match row {
        Some((_, examples)) if command.get_after_long_help().is_none() => {
            command.after_long_help(section(examples))
        }
        Some(_) | None => command,
    };
    names.into_iter().fold(command, |command, name| {
        let path = format!("{path} {name}");
        command.mut_subcommand(name, |inner| with_examples(inner, &path))
    })
}

fn section(examples: Examples) -> String {
    let mut text = String::from("Examples:");
    for (what, line) in examples {
        if !what.is_empty() {
            let _ = write!(text, "\n  {what}");
        }
        let indent = if what.is_empty() { "  " } else { "    " };
        let _ = write!(text, "\n{indent}{line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Calls `check` with every command and its path.
    fn every(command: &Command, path: &str, check: &mut impl FnMut(&Command, &str)) {
        check(command, path);
        for inner in command.get_subcommands() {
            every(inner, &format!("{path} {}", inner.get_name()), check);
        }
    }

    /// Returns the words of an example up to a redirection, a pipe or a comment.
    fn words(line: &str) -> Vec<String> {
        let words = shlex::split(line).unwrap_or_else(|| panic!("quotes do not match: {line}"));
        let is_end = |word: &String| matches!(word.as_str(), ">" | "|" | "<" | "&&" | "&" | "#");
        words.into_iter().take_while(|word| !is_end(word)).collect()
    }

    #[test]
    fn every_command_has_examples_and_each_of_them_can_be_typed() {
        let mut lines = 0;
        every(&command(), "tasksync", &mut |command, path| {
            let help = command.clone().render_long_help().to_string();
            let examples = help
                .split_once("Examples:\n")
                .map(|(_, examples)| examples.to_owned());
            let examples = examples.unwrap_or_else(|| panic!("`{path} --help` has no examples"));
            let typed: Vec<&str> = examples
                .lines()
                .map(|line| line.trim().trim_start_matches("$ "))
                .filter(|line| line.contains("tasksync "))
                .collect();
            assert!(!typed.is_empty(), "`{path} --help` has no example");
            assert!(
                typed.iter().any(|line| line.contains(path)) || path == "tasksync",
                "no example of `{path}` uses it: {typed:?}"
            );
            for line in typed {
                // Another program may stand before it, as in a pipe, and so may a variable.
                let parts = line
                    .split(" | ")
                    .filter_map(|part| part.get(part.find("tasksync ")?..));
                for part in parts {
                    lines += 1;
                    let parsed = super::command().try_get_matches_from(words(part));
                    assert!(parsed.is_ok(), "{part}\n{}", parsed.unwrap_err());
                }
            }
        });
        assert!(lines > 40, "only {lines} lines were found");
    }

    #[test]
    fn every_row_of_examples_belongs_to_a_command() {
        let mut paths = BTreeSet::new();
        every(&command(), "tasksync", &mut |_, path| {
            paths.insert(path.to_owned());
        });
        for (path, _) in EXAMPLES {
            assert!(paths.contains(*path), "there is no command `{path}`");
        }
    }

    #[test]
    fn every_command_takes_json() {
        every(&command(), "tasksync", &mut |inner, path| {
            let built = {
                let mut whole = command();
                whole.build();
                whole
            };
            let mut found = &built;
            for name in path.split(' ').skip(1) {
                found = found.find_subcommand(name).unwrap();
            }
            let takes = found.get_arguments().any(|argument| argument.get_id() == "json");
            assert!(takes || inner.get_name() == "help", "`{path}` takes no --json");
        });
    }
}
