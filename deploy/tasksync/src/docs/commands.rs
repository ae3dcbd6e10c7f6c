//! One page with the help of every command.

use std::fmt::Write as _;

use clap::Command;

use crate::examples;

pub(super) fn markdown() -> String {
    let mut page =
        String::from("# Commands\n\nGenerated from the code (`tasksync docs commands`); do not edit.\n");
    let mut command = examples::command().term_width(100);
    command.build();
    describe(&mut command, "tasksync", &mut page);
    page
}

fn describe(command: &mut Command, name: &str, page: &mut String) {
    let help = command.render_long_help().to_string();
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    let _ = writeln!(
        page,
        "\n## {name}\n\n```text\n{}\n```",
        help.join("\n").trim_end()
    );
    for inner in command.get_subcommands_mut() {
        if inner.get_name() != "help" {
            let inner_name = format!("{name} {}", inner.get_name());
            describe(inner, &inner_name, page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(command: &Command, check: &mut impl FnMut(&Command)) {
        check(command);
        for inner in command.get_subcommands() {
            every(inner, check);
        }
    }

    #[test]
    fn every_command_and_argument_has_help() {
        examples::command().debug_assert();
        every(&examples::command(), &mut |command| {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
        });
    }
}
