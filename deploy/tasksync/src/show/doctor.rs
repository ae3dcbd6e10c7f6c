//! Shows what the doctor found.

use std::fmt::Write as _;

use serde_json::Value;

use super::{cell, entries, plain};

/// Most checks of one subject that were not made and have a line each.
const NOT_MADE: usize = 5;

/// Returns the findings by subject, the worst of each first. Many checks that were not made are only named.
pub(crate) fn doctor(answer: &Value) -> String {
    let checks = entries(answer, "checks");
    let mut text = String::new();
    for of_subject in checks.chunk_by(|one, other| one["subject"] == other["subject"]) {
        if let Some(first) = of_subject.first() {
            let gap = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(
                text,
                "{gap}{}",
                plain(first["subject"].as_str().unwrap_or_default())
            );
        }
        for (result, mark) in [
            ("failed", "FAILED  "),
            ("warning", "WARNING "),
            ("ok", "ok      "),
        ] {
            for check in of_subject.iter().filter(|check| check["result"] == result) {
                finding(&mut text, mark, check);
            }
        }
        let not_made: Vec<&Value> = of_subject
            .iter()
            .filter(|check| !matches!(check["result"].as_str(), Some("failed" | "warning" | "ok")))
            .collect();
        if not_made.len() > NOT_MADE {
            let names: Vec<String> = not_made.iter().map(|check| cell(&check["id"])).collect();
            let _ = writeln!(
                text,
                "  n/a     {} checks do not apply or could not be made (--json says why): {}",
                names.len(),
                names.join(", ")
            );
        } else {
            for check in not_made {
                finding(&mut text, "n/a     ", check);
            }
        }
    }
    let count = |result: &str| checks.iter().filter(|check| check["result"] == result).count();
    let _ = writeln!(
        text,
        "\n{} ok, {} warnings, {} failed, {} not applicable",
        count("ok"),
        count("warning"),
        count("failed"),
        count("not_applicable")
    );
    text
}

fn finding(text: &mut String, mark: &str, check: &Value) {
    let _ = writeln!(
        text,
        "  {mark}{}: {}",
        cell(&check["what"]),
        cell(&check["explanation"])
    );
    if matches!(check["result"].as_str(), Some("warning" | "failed")) {
        let _ = writeln!(text, "          What to do: {}", cell(&check["solution"]));
        for line in entries(check, "additional_information") {
            let _ = writeln!(text, "          {}", cell(line));
        }
        let _ = writeln!(text, "          See {}", cell(&check["reference"]));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(subject: &str, result: &str) -> Value {
        json!({ "id": format!("{result}-id"), "subject": subject, "what": result, "result": result })
    }

    #[test]
    fn the_worst_checks_of_a_subject_come_first() {
        let text = doctor(&json!({ "checks": [
            check("installation", "ok"), check("installation", "not_applicable"), check("installation", "failed"),
            check("tenant a", "ok"), check("tenant a", "warning"),
        ] }));
        let places: Vec<usize> = ["installation", "FAILED", "ok  ", "n/a ", "tenant a", "WARNING"]
            .iter()
            .map(|part| text.find(part).unwrap())
            .collect();
        assert!(places.is_sorted(), "{text}");
        assert!(text.rfind("ok  ") > text.find("WARNING"), "{text}");
    }

    #[test]
    fn many_checks_that_were_not_made_are_one_line() {
        let checks = vec![check("tenant a", "not_applicable"); NOT_MADE + 1];
        let text = doctor(&json!({ "checks": checks }));
        assert_eq!(text.matches("n/a ").count(), 1, "{text}");
        assert!(
            text.contains("6 checks") && text.contains("not_applicable-id"),
            "{text}"
        );
    }
}
