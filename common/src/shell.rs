//! Commands that texts propose to an operator.

use std::path::Path;

/// Returns a path as one word of a shell.
#[must_use]
pub fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = text
        .chars()
        .all(|sign| sign.is_ascii_alphanumeric() || "/._-".contains(sign));
    if is_plain {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        for (path, word) in [
            ("/etc/tasksync/token", "/etc/tasksync/token"),
            ("/tmp/a b", "'/tmp/a b'"),
            ("/tmp/a'b", r"'/tmp/a'\''b'"),
        ] {
            assert_eq!(shell_word(Path::new(path)), word);
        }
    }
}
