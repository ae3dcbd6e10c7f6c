//! Scripts that complete commands and options in a shell.

use clap_complete::Shell;
use serde_json::json;

use crate::client::pretty;
use crate::examples;
use crate::exit::{CommandEnd, CommandError, print};

/// Prints the script for a shell.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn run(shell: Shell, json: bool) -> Result<CommandEnd, CommandError> {
    let script = script(shell);
    print(&if json {
        pretty(&json!({ "shell": shell.to_string(), "script": script }))
    } else {
        script
    })
}

fn script(shell: Shell) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut examples::command(), "tasksync", &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_completes_every_group_of_commands() {
        let shells = Shell::value_variants();
        assert!(shells.len() >= 5, "{shells:?}");
        for shell in shells {
            let script = script(*shell);
            for word in ["dead-letters", "opt-in", "explain", "source-login"] {
                assert!(script.contains(word), "{shell}: no {word}");
            }
        }
    }
}
